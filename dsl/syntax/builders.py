"""Builders of the syntax tree, one for each alternative of the grammar.

A method is named after its alternative. The parser passes the span of the matched text and the
values of the symbols other than keywords and punctuation: tokens, nodes, or lists of nodes.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TypeVar

from danetc.dsl.diagnostics.diagnostic import Diagnostic, Label
from danetc.dsl.diagnostics.fixes import Edit, Fix, Hint
from danetc.dsl.syntax import tree as syntax
from danetc.dsl.syntax.source import SourceFile, Span, shorten
from danetc.dsl.syntax.tokens import Token
from danetc.dsl.syntax.tree import Expr
from danetc.dsl.syntax.words import OF_CALL, OF_PARAMETER

_STATE = re.compile(r"state[ \t]+[A-Za-z_]\w*[ \t]*=(?!=)")
MAX_DEPTH = 100  # of an expression tree, so that functions can recurse over it

Item = TypeVar("Item")


class Builders:
    """Builds the nodes of one file; ``errors`` collects errors that the grammar cannot detect."""

    def __init__(self, source: SourceFile) -> None:
        self.source = source
        self.errors: list[Diagnostic] = []
        self._parenthesized: dict[int, Expr] = {}  # by identity

    def _at(self, token: Token) -> Span:
        return Span(self.source, token.start, token.end)

    # Lists

    def nothing(self, span: Span) -> list[Item]:
        return []

    def first(self, span: Span, item: Item) -> list[Item]:
        return [item]

    def append(self, span: Span, items: list[Item], item: Item) -> list[Item]:
        items.append(item)
        return items

    # Files and declarations

    def program(self, span: Span, items: list[syntax.Use | syntax.Declaration]) -> syntax.Program:
        return syntax.Program(tuple(items), span=Span(self.source, 0, len(self.source.text)))

    def use(
        self, span: Span, module: Token, names: list[syntax.UseName] | None = None
    ) -> syntax.Use:
        is_path = module.type == "STRING"
        return syntax.Use(
            module.text[1:-1] if is_path else module.text,
            is_path,
            None if names is None else tuple(names),
            span=span,
        )

    def use_name(self, span: Span, name: Token) -> syntax.UseName:
        return syntax.UseName(name.text, span=span)

    def declare(
        self,
        span: Span,
        kind: Token,
        name: Token,
        params: list[syntax.Param],
        value: Expr | None = None,
        body: list[syntax.Stmt] | None = None,
    ) -> syntax.Declaration:
        return syntax.Declaration(
            kind.text,
            name.text,
            tuple(params),
            None if value is None else self._shallow(value),
            None if body is None else tuple(body),
            span=span,
            name_span=self._at(name),
        )

    def declare_body(
        self,
        span: Span,
        kind: Token,
        name: Token,
        params: list[syntax.Param],
        body: list[syntax.Stmt],
    ) -> syntax.Declaration:
        return self.declare(span, kind, name, params, body=body)

    def param(self, span: Span, name: Token, default: Expr | None = None) -> syntax.Param:
        value = None if default is None else self._shallow(default)
        return syntax.Param(name.text, value, span=span, name_span=self._at(name))

    # Statements

    def define(
        self, span: Span, name: Token, value: Expr, index: Expr | None = None
    ) -> syntax.Define:
        self._report_missing_value(span.end)
        return syntax.Define(
            name.text,
            None if index is None else self._shallow(index),
            self._shallow(value),
            span=span,
            name_span=self._at(name),
        )

    def define_indexed(self, span: Span, name: Token, index: Expr, value: Expr) -> syntax.Define:
        return self.define(span, name, value, index)

    def state(self, span: Span, word: Token, name: Token, value: Expr) -> syntax.State:
        self._report_missing_value(span.end)
        return syntax.State(name.text, self._shallow(value), span=span, name_span=self._at(name))

    def _report_missing_value(self, end: int) -> None:
        """Report a missing value if the keyword `state` of the next line was read as the value."""
        text, start = self.source.text, end - len("state")
        if not text.endswith("state", 0, end):
            return
        around = text[max(0, start - 1000) : start]
        before = start - len(around) + len(around.rstrip())
        if "\n" in text[before:start] and before > 0 and _STATE.match(text, start):
            self.errors.append(
                Diagnostic(
                    "E0119",
                    f"`{text[before - 1]}` has no value after it",
                    Span(self.source, before - 1, before),
                    labels=(
                        Label(Span(self.source, start, end), "the next statement begins here"),
                    ),
                )
            )

    def group(self, span: Span, kind: Token, body: list[syntax.Stmt]) -> syntax.Group:
        return syntax.Group(kind.text, None, tuple(body), span=span, name_span=self._at(kind))

    def named_group(
        self, span: Span, kind: Token, name: Token, body: list[syntax.Stmt]
    ) -> syntax.Group:
        return syntax.Group(kind.text, name.text, tuple(body), span=span, name_span=self._at(name))

    # Expressions

    def steps(self, span: Span, step: Expr, following: Expr) -> list[Expr]:
        return [step, following]

    def flow(self, span: Span, steps: list[Expr]) -> syntax.Flow:
        for step in steps:
            if id(step) not in self._parenthesized:
                self._check_step(step)
        return syntax.Flow(tuple(steps), span=span)

    def _check_step(self, step: Expr) -> None:
        """Report a step of a flow that needs parentheses."""
        match step:
            case syntax.Binary(op=op):
                what = f"the operands of `{op}`"
            case syntax.Unary(op=op):
                what = f"the operand of `{op}`"
            case syntax.IfElse():
                what = "the choice"
            case _:
                return
        at_start = Span(self.source, step.span.start, step.span.start)
        at_end = Span(self.source, step.span.end, step.span.end)
        hint = f"write `({shorten(step.span.text)}) -> ...`, or give a part of it its own name"
        fix = Fix("put it in parentheses", (Edit(at_start, "("), Edit(at_end, ")")))
        self.errors.append(
            Diagnostic(
                "E0109",
                f"put {what} in parentheses: `->` takes names, calls or parentheses",
                step.span,
                label="reads as one step of the flow",
                hint=Hint(hint, fix),
            )
        )

    def if_else(self, span: Span, then: Expr, condition: Expr, otherwise: Expr) -> syntax.IfElse:
        return syntax.IfElse(then, condition, otherwise, span=span)

    def binary(self, span: Span, left: Expr, op: Token, right: Expr) -> syntax.Binary:
        return syntax.Binary(op.text, left, right, span=span)

    def unary(self, span: Span, op: Token, operand: Expr) -> syntax.Unary:
        return syntax.Unary(op.text, operand, span=span)

    def via(self, span: Span, subject: Expr, connection: Expr) -> syntax.Via:
        return syntax.Via(subject, connection, span=span)

    def by(self, span: Span, subject: Expr, rule: Expr) -> syntax.By:
        return syntax.By(subject, rule, span=span)

    def with_settings(self, span: Span, subject: Expr, settings: list[syntax.Arg]) -> syntax.With:
        return syntax.With(subject, tuple(settings), span=span)

    def call(self, span: Span, name: Token, args: list[syntax.Arg] | None = None) -> syntax.Call:
        given = tuple(args or ())
        if words := OF_CALL.get(name.text):
            given = tuple(
                arg if arg.name else replace(arg, value=_word(arg.value, words)) for arg in given
            )
        return syntax.Call(self.name(self._at(name), name), given, span=span)

    def at(self, span: Span, base: Expr, indices: list[Expr]) -> syntax.At:
        return syntax.At(base, tuple(indices), span=span)

    def range(self, span: Span, low: Expr, high: Expr) -> syntax.Range:
        return syntax.Range(low, high, span=span)

    def arg(self, span: Span, value: Expr) -> syntax.Arg:
        return syntax.Arg(None, value, span=span)

    def setting(self, span: Span, name: Token, value: Expr) -> syntax.Arg:
        return syntax.Arg(name.text, _word(value, OF_PARAMETER.get(name.text, ())), span=span)

    def each(
        self,
        span: Span,
        value: Expr,
        variable: Token,
        word: Token,
        low: Expr,
        high: Expr,
        condition: Expr | None = None,
    ) -> syntax.Arg:
        name_span = self._at(variable)
        each = syntax.Each(
            value, variable.text, low, high, condition, span=span, name_span=name_span
        )
        return syntax.Arg(None, each, span=span)

    def name(self, span: Span, name: Token) -> syntax.Name:
        return syntax.Name(name.text, span=span)

    def number(self, span: Span, number: Token) -> syntax.Number:
        return syntax.Number(number.text, span=span)

    def string(self, span: Span, string: Token) -> syntax.String:
        return syntax.String(string.text[1:-1], span=span)

    def parens(self, span: Span, value: Expr) -> Expr:
        self._parenthesized[id(value)] = value
        return value

    def _shallow(self, value: Expr) -> Expr:
        """Return the value; report one that is nested too deeply and return a name in its place."""
        # the depth of a tree is at most the length of its text
        if value.span.end - value.span.start > MAX_DEPTH:
            stack: list[tuple[syntax.Node, int]] = [(value, 1)]
            while stack:
                node, depth = stack.pop()
                if depth > MAX_DEPTH:
                    self.errors.append(
                        Diagnostic(
                            "E0902",
                            f"this expression is nested deeper than {MAX_DEPTH} levels",
                            value.span,
                            hint="give names to its parts",
                        )
                    )
                    return syntax.Name("too_deep", span=value.span)
                stack += [(child, depth + 1) for child in syntax.children(node)]
        return value


def _word(value: Expr, words: tuple[str, ...]) -> Expr:
    """Return a name as a ``Word`` if it is one of the words; other values are unchanged."""
    if isinstance(value, syntax.Name) and value.id in words:
        return syntax.Word(value.id, span=value.span)
    return value
