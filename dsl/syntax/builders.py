"""What each alternative of the grammar builds. A method's name is the alternative's name there.

The parser hands over the values of the alternative's symbols: tokens, nodes, or lists of nodes.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TypeAlias, TypeVar

from danetc.dsl.diagnostics.diagnostic import Diagnostic, Label
from danetc.dsl.diagnostics.fixes import Edit, Fix, Hint
from danetc.dsl.record import record
from danetc.dsl.syntax import tree as syntax
from danetc.dsl.syntax.source import SourceFile, Span, shorten
from danetc.dsl.syntax.tokens import Token
from danetc.dsl.syntax.words import OF_CALL, OF_PARAMETER

_STATE = re.compile(r"state[ \t]+[A-Za-z_]\w*[ \t]*=(?!=)")
MAX_DEPTH = 200  # of an expression's tree: what reads a tree may then recurse

Expr: TypeAlias = syntax.Expr


@record
class Parens:
    """An expression in parentheses: gone from the tree, but outer spans count its extent."""

    inner: Expr
    span: Span


Operand: TypeAlias = Expr | Parens
Item = TypeVar("Item")


def bare(operand: Operand) -> Expr:
    """The expression without the parentheses around it."""
    return operand.inner if type(operand) is Parens else operand  # type: ignore[return-value]


class Builders:
    """Builds the nodes of one file; ``errors`` holds what no grammar rule says."""

    def __init__(self, source: SourceFile) -> None:
        self.source = source
        self.errors: list[Diagnostic] = []

    def _span(self, first: Token | Operand, last: Token | Operand | BracedStatements) -> Span:
        """From the start of a token or node to the end of another."""
        start = first.start if isinstance(first, Token) else first.span.start
        end = last.end if isinstance(last, Token) else last.span.end
        return Span(self.source, start, end)

    def _at(self, token: Token) -> Span:
        return Span(self.source, token.start, token.end)

    # Lists

    def nothing(self) -> list[Item]:
        return []

    def empty_list(self, opening: Token, closing: Token) -> list[Item]:
        return []

    def bracketed(self, opening: Token, items: list[Item], closing: Token) -> list[Item]:
        return items

    def first(self, item: Item) -> list[Item]:
        return [item]

    def append(self, items: list[Item], item: Item, separator: Token | None = None) -> list[Item]:
        items.append(item)
        return items

    def append_after(self, items: list[Item], separator: Token, item: Item) -> list[Item]:
        items.append(item)
        return items

    # Files and declarations

    def program(self, items: list[syntax.Use | syntax.Declaration]) -> syntax.Program:
        return syntax.Program(tuple(items), span=Span(self.source, 0, len(self.source.text)))

    def use_all(self, word: Token, module: Token) -> syntax.Use:
        return self._use(module, None, self._span(word, module))

    def use_some(
        self,
        word: Token,
        module: Token,
        opening: Token,
        names: list[syntax.UseName],
        closing: Token,
    ) -> syntax.Use:
        return self._use(module, tuple(names), self._span(word, closing))

    def _use(
        self, module: Token, names: tuple[syntax.UseName, ...] | None, span: Span
    ) -> syntax.Use:
        is_path = module.type == "STRING"
        return syntax.Use(module.text[1:-1] if is_path else module.text, is_path, names, span=span)

    def module_name(self, name: Token) -> Token:
        return name

    def module_path(self, path: Token) -> Token:
        return path

    def use_name(self, name: Token) -> syntax.UseName:
        return syntax.UseName(name.text, span=self._at(name))

    def declare_body(
        self, kind: Token, name: Token, params: list[syntax.Param], body: BracedStatements
    ) -> syntax.Declaration:
        return self._declare(kind, name, params, None, body, body)

    def declare_value(
        self, kind: Token, name: Token, params: list[syntax.Param], equal: Token, value: Operand
    ) -> syntax.Declaration:
        return self._declare(kind, name, params, value, None, value)

    def declare_variant(
        self,
        kind: Token,
        name: Token,
        params: list[syntax.Param],
        equal: Token,
        value: Operand,
        body: BracedStatements,
    ) -> syntax.Declaration:
        return self._declare(kind, name, params, value, body, body)

    def _declare(
        self,
        kind: Token,
        name: Token,
        params: list[syntax.Param],
        value: Operand | None,
        body: BracedStatements | None,
        last: Operand | BracedStatements,
    ) -> syntax.Declaration:
        return syntax.Declaration(
            kind.text,
            name.text,
            tuple(params),
            None if value is None else self._value(value),
            None if body is None else body.statements,
            span=self._span(kind, last),
            name_span=self._at(name),
        )

    def param(self, name: Token) -> syntax.Param:
        return syntax.Param(name.text, None, span=self._at(name), name_span=self._at(name))

    def param_default(self, name: Token, equal: Token, value: Operand) -> syntax.Param:
        return syntax.Param(
            name.text, self._value(value), span=self._span(name, value), name_span=self._at(name)
        )

    # Statements

    def body(
        self, opening: Token, statements: list[syntax.Stmt], closing: Token
    ) -> BracedStatements:
        return BracedStatements(tuple(statements), self._span(opening, closing))

    def _no_state_follows(self, value: Operand) -> None:
        """Report a value that is missing, so that the `state` of the next line was read as it."""
        text, start = self.source.text, value.span.end - len("state")
        if not text.endswith("state", 0, value.span.end):
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
                        Label(Span(self.source, start, value.span.end), "the next one begins here"),
                    ),
                )
            )

    def define(self, name: Token, equal: Token, value: Operand) -> syntax.Define:
        self._no_state_follows(value)
        return syntax.Define(
            name.text,
            None,
            self._value(value),
            span=self._span(name, value),
            name_span=self._at(name),
        )

    def define_indexed(
        self,
        name: Token,
        opening: Token,
        index: Operand,
        closing: Token,
        equal: Token,
        value: Operand,
    ) -> syntax.Define:
        return syntax.Define(
            name.text,
            self._value(index),
            self._value(value),
            span=self._span(name, value),
            name_span=self._at(name),
        )

    def state(self, word: Token, name: Token, equal: Token, value: Operand) -> syntax.State:
        self._no_state_follows(value)
        return syntax.State(
            name.text, self._value(value), span=self._span(word, value), name_span=self._at(name)
        )

    def group(self, kind: Token, body: BracedStatements) -> syntax.Group:
        return syntax.Group(
            kind.text, None, body.statements, span=self._span(kind, body), name_span=self._at(kind)
        )

    def named_group(self, kind: Token, name: Token, body: BracedStatements) -> syntax.Group:
        return syntax.Group(
            kind.text,
            name.text,
            body.statements,
            span=self._span(kind, body),
            name_span=self._at(name),
        )

    # Expressions

    def steps(self, step: Operand, arrow: Token, following: Operand) -> list[Operand]:
        return [step, following]

    def flow(self, steps: list[Operand]) -> syntax.Flow:
        for step in steps:
            self._check_step(step)
        return syntax.Flow(
            tuple(bare(step) for step in steps), span=self._span(steps[0], steps[-1])
        )

    def _check_step(self, step: Operand) -> None:
        """A step is a name, a call, a selection or stands in parentheses."""
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
        self.errors.append(
            Diagnostic(
                "E0109",
                f"put {what} in parentheses: `->` takes names, calls or parentheses",
                step.span,
                label="reads as one step of the flow",
                hint=Hint(
                    f"write `({shorten(step.span.text)}) -> ...`, "
                    "or give a part of it a name of its own",
                    Fix(
                        "put it in parentheses",
                        (Edit(at_start, "("), Edit(at_end, ")")),
                    ),
                ),
            )
        )

    def if_else(
        self, then: Operand, word: Token, condition: Operand, other: Token, otherwise: Operand
    ) -> syntax.IfElse:
        return syntax.IfElse(
            bare(then), bare(condition), bare(otherwise), span=self._span(then, otherwise)
        )

    def binary(self, left: Operand, op: Token, right: Operand) -> syntax.Binary:
        return syntax.Binary(op.text, bare(left), bare(right), span=self._span(left, right))

    def unary(self, op: Token, operand: Operand) -> syntax.Unary:
        return syntax.Unary(op.text, bare(operand), span=self._span(op, operand))

    def via(self, subject: Operand, word: Token, connection: Operand) -> syntax.Via:
        return syntax.Via(bare(subject), bare(connection), span=self._span(subject, connection))

    def by(self, subject: Operand, word: Token, rule: Operand) -> syntax.By:
        return syntax.By(bare(subject), bare(rule), span=self._span(subject, rule))

    def with_settings(
        self,
        subject: Operand,
        word: Token,
        opening: Token,
        settings: list[syntax.Arg],
        closing: Token,
    ) -> syntax.With:
        return syntax.With(bare(subject), tuple(settings), span=self._span(subject, closing))

    def call_empty(self, name: Token, opening: Token, closing: Token) -> syntax.Call:
        return syntax.Call(self.name(name), (), span=self._span(name, closing))

    def call(
        self, name: Token, opening: Token, args: list[syntax.Arg], closing: Token
    ) -> syntax.Call:
        words = OF_CALL.get(name.text)
        if words is not None:
            args = [
                arg if arg.name else replace(arg, value=_word(arg.value, words)) for arg in args
            ]
        return syntax.Call(self.name(name), tuple(args), span=self._span(name, closing))

    def at(
        self, base: Operand, opening: Token, indices: list[Operand], closing: Token
    ) -> syntax.At:
        return syntax.At(
            bare(base), tuple(bare(index) for index in indices), span=self._span(base, closing)
        )

    def range(self, low: Operand, dots: Token, high: Operand) -> syntax.Range:
        return syntax.Range(bare(low), bare(high), span=self._span(low, high))

    def arg(self, value: Operand) -> syntax.Arg:
        return syntax.Arg(None, bare(value), span=value.span)

    def setting(self, name: Token, equal: Token, value: Operand) -> syntax.Arg:
        given = _word(bare(value), OF_PARAMETER.get(name.text, ()))
        return syntax.Arg(name.text, given, span=self._span(name, value))

    def each(
        self,
        value: Operand,
        word: Token,
        variable: Token,
        within: Token,
        low: Operand,
        dots: Token,
        high: Operand,
        if_word: Token | None = None,
        condition: Operand | None = None,
    ) -> syntax.Arg:
        span = self._span(value, high if condition is None else condition)
        each = syntax.Each(
            bare(value),
            variable.text,
            bare(low),
            bare(high),
            None if condition is None else bare(condition),
            span=span,
            name_span=self._at(variable),
        )
        return syntax.Arg(None, each, span=span)

    def name(self, name: Token) -> syntax.Name:
        return syntax.Name(name.text, span=self._at(name))

    def number(self, number: Token) -> syntax.Number:
        return syntax.Number(number.text, span=self._at(number))

    def string(self, string: Token) -> syntax.String:
        return syntax.String(string.text[1:-1], span=self._at(string))

    def parens(self, opening: Token, value: Operand, closing: Token) -> Parens:
        return Parens(bare(value), self._span(opening, closing))

    def _value(self, operand: Operand) -> Expr:
        """A finished value, refused if it is nested deeper than a reader could recurse."""
        value = bare(operand)
        # A tree is never deeper than its text has characters, so that most need no walk.
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
                            hint="give its parts names of their own",
                        )
                    )
                    return syntax.Name("too_deep", span=value.span)
                stack += [(child, depth + 1) for child in syntax.children(node)]
        return value


@record
class BracedStatements:
    """The statements between braces, with the braces' extent."""

    statements: tuple[syntax.Stmt, ...]
    span: Span


def _word(value: syntax.Expr, words: tuple[str, ...]) -> syntax.Expr:
    """A name of the list as a word."""
    if isinstance(value, syntax.Name) and value.id in words:
        return syntax.Word(value.id, span=value.span)
    return value
