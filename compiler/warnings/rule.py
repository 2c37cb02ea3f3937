"""Parts of a warning: rules and findings, and the text they point into with its allowing comments."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from danetc.dsl.diagnostics.diagnostic import Label, Reporter
from danetc.dsl.record import record
from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.parser import parse
from danetc.dsl.syntax.source import SourceFile, Span

Subject = TypeVar("Subject", contravariant=True)


@record
class Finding:
    """A diagnostic without its code."""

    span: Span
    message: str
    label: str = ""
    labels: tuple[Label, ...] = ()
    hint: str | None = None


@record
class Rule(Generic[Subject]):
    """A code and the function that finds it.

    ``find`` yields certain cases only.
    """

    code: str
    find: Callable[[Subject], Iterator[Finding]]


_ALLOW = re.compile(r"#+ *allow +(W\d{4}(?:[, ]+W\d{4})*)(?!\w)")


@record
class Allowing:
    """A comment that allows warnings. ``alone`` is True if the line contains only the comment."""

    line: int
    alone: bool
    codes: frozenset[str]


class Trees:
    """Syntax trees of sources, parsed once."""

    def __init__(self, program: s.Program) -> None:
        self._programs: dict[SourceFile, s.Program] = {program.span.source: program}
        self._calls: dict[SourceFile, dict[tuple[int, int], s.Call]] = {}
        self._comments: dict[SourceFile, list[Allowing]] = {}

    def program(self, source: SourceFile) -> s.Program:
        """Return the tree of a source without errors."""
        if source not in self._programs:
            self._programs[source] = parse(source, Reporter())
        return self._programs[source]

    def call(self, span: Span) -> s.Call | None:
        """Return the call that a span covers, or None."""
        if span.source not in self._calls:
            nodes = s.walk(self.program(span.source))
            self._calls[span.source] = {
                (node.span.start, node.span.end): node for node in nodes if isinstance(node, s.Call)
            }
        return self._calls[span.source].get((span.start, span.end))

    def allows(self, code: str, span: Span) -> bool:
        """True if a comment ``# allow CODE`` is at the statement of a span.

        It is on one of the statement's lines, or alone on the line above.
        """
        known = self._allowing(span.source)
        if not known:
            return False
        first, last = _lines(self.program(span.source), span)
        return any(
            code in item.codes
            and (first <= item.line <= last or (item.alone and item.line == first - 1))
            for item in known
        )

    def _allowing(self, source: SourceFile) -> list[Allowing]:
        """Return the comments of a source that allow warnings, in order."""
        if source not in self._comments:
            found = self._comments[source] = []
            comments = self.program(source).comments if "allow" in source.text else ()
            for comment in comments:
                match = _ALLOW.match(comment.text)
                if match is not None:
                    line = comment.span.line
                    alone = not source.line(line)[: comment.span.column - 1].strip()
                    codes = frozenset(match[1].replace(",", " ").split())
                    found.append(Allowing(line, alone, codes))
        return self._comments[source]


def _lines(program: s.Program, span: Span) -> tuple[int, int]:
    """Return the lines of the innermost statement around a span; the head's lines if it has a body."""
    first, last = span.line, span.source.position(span.end)[0]
    for node in _around(program, span):
        end = node.span.end
        body = getattr(node, "body", None)
        if body:
            end = min(end, body[0].span.start)
        if span.end <= end:
            first, last = node.span.line, span.source.position(end)[0]
            if body and body[0].span.line == last > first:
                last -= 1
                while last > first and span.source.line(last).lstrip()[:1] in ("", "#"):
                    last -= 1  # comments before the next statement belong to that statement
    return first, last


def _around(program: s.Program, span: Span) -> Iterator[s.Use | s.Declaration | s.Stmt]:
    """Yield the statements that contain a span, the outermost first."""
    items: tuple[s.Use | s.Declaration | s.Stmt, ...] = program.items
    while items:
        index = bisect_right(items, span.start, key=lambda item: item.span.start) - 1
        if index < 0 or span.end > items[index].span.end:
            return
        yield items[index]
        items = getattr(items[index], "body", None) or ()
