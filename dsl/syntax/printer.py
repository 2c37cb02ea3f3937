"""Formatter: the tree to canonical text.

A body that is on one line stays on one line if it fits. In other bodies, each statement is on its own
line and ``=`` is aligned. Single blank lines between statements are kept. Comments on their own line stay
before the same item, and comments at the end of a line stay there; a comment inside
of an expression is moved before its statement.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import replace

from danetc.dsl.diagnostics.diagnostic import Diagnostic, Reporter, SpecError
from danetc.dsl.record import record
from danetc.dsl.syntax import tree as syntax
from danetc.dsl.syntax.layout import (
    INDENT,
    STEP,
    WIDTH,
    Doc,
    Text,
    bracketed,
    chain,
    document,
    index,
    print_expr,
    render,
)
from danetc.dsl.syntax.parser import parse
from danetc.dsl.syntax.source import NOWHERE, SourceFile, Span

__all__ = ["format_source", "print_expr", "print_program"]

_LONGEST_ALIGNED = 20  # maximum length of the names that are aligned


def format_source(program: syntax.Program) -> str:
    """Return the canonical text, with comments, of a program that was parsed without errors.

    Parses the result again, and raises SpecError if it has an error (if it is too long, for
    example), because it must not replace the file.
    """
    text = _Formatter(program).run()
    reporter = Reporter()
    parse(SourceFile(program.span.source.name, text), reporter)
    if reporter.diagnostics:
        found = reporter.diagnostics[0]
        message = f"the canonical text of this file has an error: {found.message}"
        raise SpecError([Diagnostic(found.code, message, _head(program.span), hint=found.hint)])
    return text


def _head(span: Span) -> Span:
    return Span(span.source, span.start, span.start)


def print_program(program: syntax.Program) -> str:
    """Return the text of a program without its comments, in which no body is on one line.

    Does not use spans, so programs need not come from text.
    """
    return _Formatter(replace(program, comments=(), span=NOWHERE)).run()


@record(frozen=False)
class _Line:
    text: str
    comment: str = ""


class _Formatter:
    def __init__(self, program: syntax.Program) -> None:
        self.program = program
        self.text = program.span.source.text
        self.was_text = program.span.source is not NOWHERE.source
        self.comments = sorted(program.comments, key=_start)
        self.next = 0  # index of the next comment
        self.between: list[syntax.Comment] = []  # comments between the steps of the next flow
        self.lines: list[_Line] = []
        self.block = 0  # first line of the innermost body

    def run(self) -> str:
        was_long = False
        for number, item in enumerate(self.program.items):
            first = len(self.lines)
            spaced = self.leading(item, 0)
            head = len(self.lines)
            if isinstance(item, syntax.Use):
                self.put(render(_use(item), 0, 0), 0)
            else:
                self.declaration(item)
            self.trailing(item.span.end)
            is_long = len(self.lines) - head > 1
            if number > 0 and (is_long or was_long) and not spaced:
                self.lines.insert(first, _Line(""))
            was_long = is_long
            self.block = 0
        self.own_lines(self.taken(len(self.text)), 0)
        return "".join(f"{line}\n" for line in _aligned_comments(self.lines))

    def put(self, text: str, indent: int) -> None:
        first, *rest = text.split("\n")
        self.lines.append(_Line(" " * indent + first))
        self.lines += [_Line(line) for line in rest]

    # Comments and blank lines

    def taken(self, end: int) -> list[syntax.Comment]:
        """Take the remaining comments that begin before an offset."""
        first = self.next
        while self.next < len(self.comments) and self.comments[self.next].span.start < end:
            self.next += 1
        return self.comments[first : self.next]

    def leading(self, item: syntax.Use | syntax.Declaration | syntax.Stmt, indent: int) -> bool:
        """Print the comments that precede an item. Return True if the first line is blank."""
        first = len(self.lines)
        self.own_lines(self.taken(item.span.start), indent)
        self.blank_line(item.span.start)
        inside = self.taken(self.head_end(item))
        self.between = [comment for comment in inside if _is_between_steps(item, comment)]
        others = [comment for comment in inside if not _is_between_steps(item, comment)]
        self.own_lines(others, indent)
        return len(self.lines) > first and self.lines[first].text == ""

    def own_lines(self, comments: Sequence[syntax.Comment], indent: int) -> None:
        for comment in comments:
            self.blank_line(comment.span.start)
            self.lines.append(_Line(" " * indent + comment.text))

    def trailing(self, end: int) -> None:
        """Append the comment after an offset, if it is on the same line, to the last line of the output."""
        if self.next < len(self.comments):
            comment = self.comments[self.next]
            if not self.text[end : comment.span.start].strip(" \t;"):
                self.next += 1
                self.lines[-1].comment = comment.text

    def ends_line(self, comment: syntax.Comment) -> bool:
        """True if a comment is not alone on its line."""
        start = self.text.rfind("\n", 0, comment.span.start) + 1
        return bool(self.text[start : comment.span.start].strip())

    def blank_line(self, offset: int) -> None:
        """Keep a blank line before an offset, except at the start of a body."""
        may_be = len(self.lines) > self.block and self.lines[-1].text != ""
        if may_be and self.has_blank_line(offset):
            self.lines.append(_Line(""))

    def has_blank_line(self, offset: int) -> bool:
        if not self.was_text:
            return False
        start = offset
        while start > 0 and self.text[start - 1].isspace():
            start -= 1
        return self.text.count("\n", start, offset) > 1

    def head_end(self, item: syntax.Use | syntax.Declaration | syntax.Stmt) -> int:
        """Return the offset of the end of an item, or of the start of its body."""
        if isinstance(item, syntax.Declaration | syntax.Group) and item.body is not None:
            return self.brace(item)
        return item.span.end

    def brace(self, item: syntax.Declaration | syntax.Group) -> int:
        """Return the offset of the opening brace of a body; 0 without text."""
        if not self.was_text:
            return 0
        found = _BRACE.search(self.text, item.name_span.end)
        while found is not None and found.group() != "{":
            found = _BRACE.search(self.text, found.end())
        return item.span.end if found is None else found.start()

    # Declarations and statements

    def declaration(self, item: syntax.Declaration) -> None:
        params = [_param(param) for param in item.params]
        name = f"{item.kind} {item.name}"
        head = bracketed(f"{name}(", params, ")") if params else Text(name)
        reserve = 2 if item.body is not None else 0  # for " {"
        if item.value is None:
            text = render(head, 0, 0, reserve=2)
        else:
            value = document(item.value)
            text = f"{head.flat} = {value.flat}"
            if self.between:
                self.put(f"{render(head, 0, 0, reserve=2)} =", 0)
                self.flow(item.value, "", INDENT, INDENT)
                return
            if len(text) + reserve > WIDTH:
                text = render(head, 0, 0, reserve=2)
                text += f" =\n{' ' * INDENT}{render(value, INDENT, 0, reserve)}"
        if item.body is None:
            self.put(text, 0)
        else:
            self.body(item, item.body, text, 0)

    def body(
        self,
        item: syntax.Declaration | syntax.Group,
        body: tuple[syntax.Stmt, ...],
        head: str,
        indent: int,
    ) -> None:
        """Print ``head { ... }``."""
        brace = self.brace(item)
        if self.was_text and "\n" not in self.text[brace : item.span.end]:
            line = f"{head} {_one_line_body(body)}"
            if "\n" not in line and indent + len(line) <= WIDTH:
                self.put(line, indent)
                return
        if not body and not self.comments_before(item.span.end):
            self.put(f"{head} {{}}", indent)
            return
        self.put(f"{head} {{", indent)
        self.trailing(brace + 1)
        self.block = len(self.lines)
        inner = indent + INDENT
        for statement, width in zip(body, self.target_widths(body), strict=True):
            self.leading(statement, inner)
            self.statement(statement, inner, width)
            self.trailing(statement.span.end)
        self.own_lines(self.taken(item.span.end), inner)
        self.put("}", indent)

    def comments_before(self, end: int) -> bool:
        return self.next < len(self.comments) and self.comments[self.next].span.start < end

    def statement(self, item: syntax.Stmt, indent: int, width: int) -> None:
        if isinstance(item, syntax.Group):
            self.body(item, item.body, _group_head(item), indent)
            return
        prefix = f"{_target(item).ljust(width)} = "
        if self.between:
            self.flow(item.value, prefix, indent, indent + INDENT)
        else:
            self.put(prefix + render(document(item.value), indent + len(prefix), indent), indent)

    def flow(self, value: syntax.Expr, prefix: str, indent: int, following: int) -> None:
        """Print a flow that has comments between its steps, with one step on each line."""
        assert isinstance(value, syntax.Flow)
        comments, self.between = self.between, []
        for number, step in enumerate(value.steps):
            start = prefix if number == 0 else "-> "
            column = indent if number == 0 else following
            text = render(document(step, STEP), column + len(start), column)
            self.put(start + text, column)
            line = self.lines[-1]
            end = value.steps[number + 1].span.start if number + 1 < len(value.steps) else 0
            while comments and comments[0].span.start < end:
                comment = comments.pop(0)
                if not line.comment and self.ends_line(comment):
                    line.comment = comment.text
                else:
                    self.lines.append(_Line(" " * following + comment.text))

    def target_widths(self, body: tuple[syntax.Stmt, ...]) -> Iterator[int]:
        """Yield the width to which the target of each statement is padded."""
        run: list[syntax.Stmt] = []
        for statement in body:
            if run and not self.are_neighbours(run[-1], statement):
                yield from _widths(run)
                run = []
            run.append(statement)
        yield from _widths(run)

    def are_neighbours(self, left: syntax.Stmt, right: syntax.Stmt) -> bool:
        """True if two statements are on adjacent lines of the output, with their ``=`` aligned."""
        if not (isinstance(left, syntax.Define) and isinstance(right, syntax.Define)):
            return False
        if self.has_blank_line(right.span.start):
            return False
        for comment in self.comments[bisect_left(self.comments, left.span.end, key=_start) :]:
            if comment.span.start >= right.span.end:
                break
            is_behind = not self.text[left.span.end : comment.span.start].strip(" \t;")
            if not is_behind and not _is_between_steps(right, comment):
                return False
        return True


_BRACE = re.compile(r"#[^\n]*|\"[^\"\n]*\"|\{")  # outside comments and strings


def _start(comment: syntax.Comment) -> int:
    return comment.span.start


def _is_between_steps(
    item: syntax.Use | syntax.Declaration | syntax.Stmt, comment: syntax.Comment
) -> bool:
    """True if a comment is between two steps of the flow that is the item's value."""
    if isinstance(item, syntax.Use | syntax.Group) or not isinstance(item.value, syntax.Flow):
        return False
    if isinstance(item, syntax.Declaration) and item.body is not None:
        return False
    steps = item.value.steps
    at = comment.span.start
    if not steps[0].span.end <= at < steps[-1].span.start:
        return False
    return not any(step.span.start <= at < step.span.end for step in steps)


def _widths(run: Sequence[syntax.Stmt]) -> list[int]:
    lengths = [len(_target(item)) if isinstance(item, syntax.Define) else 0 for item in run]
    longest = max(lengths, default=0)
    return [longest if longest <= _LONGEST_ALIGNED else 0] * len(run)


def _target(item: syntax.Define | syntax.State) -> str:
    if isinstance(item, syntax.State):
        return f"state {item.name}"
    if item.index is None:
        return item.name
    return f"{item.name}[{index(item.index).flat}]"


def _group_head(item: syntax.Group) -> str:
    return item.kind if item.name is None else f"{item.kind} {item.name}"


def _one_line_body(body: tuple[syntax.Stmt, ...]) -> str:
    texts = [
        f"{_group_head(item)} {_one_line_body(item.body)}"
        if isinstance(item, syntax.Group)
        else f"{_target(item)} = {print_expr(item.value)}"
        for item in body
    ]
    return f"{{ {';  '.join(texts)} }}" if texts else "{}"


def _param(param: syntax.Param) -> Doc:
    if param.default is None:
        return Text(param.name)
    return chain((f"{param.name} = ", document(param.default)))


def _use(item: syntax.Use) -> Doc:
    head = f'use "{item.module}"' if item.is_path else f"use {item.module}"
    if item.names is None:
        return Text(head)
    return bracketed(f"{head} (", [Text(name.id) for name in item.names], ")")


def _aligned_comments(lines: Sequence[_Line]) -> Iterator[str]:
    """Yield the lines with their comments, which are aligned with those of adjacent lines if they fit."""
    run: list[_Line] = []
    for line in [*lines, None]:
        if line is not None and line.comment:
            run.append(line)
            continue
        column = max((len(item.text) for item in run), default=0)
        fits = all(column + 2 + len(item.comment) <= WIDTH for item in run)
        for item in run:
            yield f"{item.text.ljust(column if fits else 0)}  {item.comment}"
        run = []
        if line is not None:
            yield line.text
