"""The context of the cursor.

An incomplete line usually cannot be parsed. Therefore the position of the cursor is determined from the
tokens. Then the declaration is parsed up to the cursor, with ``HERE`` in place of the word at the cursor
and with all brackets closed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from danetc.compiler.lowering.environment import Want, wants
from danetc.dsl.diagnostics.diagnostic import Reporter
from danetc.dsl.syntax import tree as s
from danetc.dsl.syntax.parser import parse
from danetc.dsl.syntax.source import SourceFile, Span
from danetc.dsl.syntax.tokens import Token, first_on_line, starts_declaration
from danetc.editor.analysis import Analysis
from danetc.editor.meanings import MeaningReader, Names

ENDS = frozenset(("NAME", "NUMBER", "STRING", "RPAR", "RSQB", "KIND", "IN", "STATE"))
"""Tokens that may end a value."""
CLOSING = {"LPAR": ")", "LSQB": "]", "LBRACE": "}"}
"""Closing brackets by the opening tokens."""
CLOSING_TYPES = ("RPAR", "RSQB", "RBRACE")
HERE = "_the_word_at_the_cursor_"


@dataclass(frozen=True)
class EnclosingCall:
    """A call around the cursor, the argument at the cursor, and what the call must be."""

    node: s.Call
    argument: s.Arg
    want: Want


@dataclass(frozen=True)
class Place:
    """A value at the cursor: the name of its line, what is expected, and the innermost call."""

    line: str
    want: Want
    call: EnclosingCall | None


@dataclass(frozen=True)
class Cursor:
    """Context of the cursor.

    ``span`` is the word at the cursor, ``last`` the token before it. ``head`` is the first token of
    the declaration around it, and ``opened`` are the open brackets.
    """

    analysis: Analysis
    span: Span
    last: Token | None
    head: int | None
    opened: tuple[int, ...]

    @property
    def tokens(self) -> Sequence[Token]:
        return self.analysis.scanned.tokens

    @property
    def kind(self) -> str:
        """Kind of the declaration around the cursor."""
        return "" if self.head is None else self.tokens[self.head].text

    @property
    def in_body(self) -> bool:
        return any(self.tokens[i].type == "LBRACE" for i in self.opened)

    @property
    def in_parentheses(self) -> bool:
        return bool(self.opened) and self.tokens[self.opened[-1]].type == "LPAR"

    @property
    def on_new_line(self) -> bool:
        return self.last is None or "\n" in self.analysis.text[self.last.end : self.span.start]

    @cached_property
    def declaration(self) -> s.Declaration | None:
        """The declaration around the cursor up to it, with ``HERE`` there."""
        if self.head is None:
            return None
        text = self.analysis.text[self.tokens[self.head].start : self.span.start]
        closing = "".join(
            f"{' else 0' * count}{bracket}" for bracket, count in reversed(self._unclosed())
        )
        if self.opened[-1:] == (self.head + 2,):
            closing += " {}"  # a default value
        program = parse(SourceFile("", f"{text}{HERE}{closing}\n"), Reporter())
        return next(iter(program.declarations), None)

    def _unclosed(self) -> list[tuple[str, int]]:
        """Return what closes each open bracket of the declaration, and how many `if` in it lack their `else`.

        The first item is for the declaration itself, which no bracket closes.
        """
        found = [("", 0)]
        for token in self.tokens[self.head :]:
            if token.start >= self.span.start:
                break
            bracket, count = found[-1]
            if token.type in CLOSING:
                found.append((CLOSING[token.type], 0))
            elif token.type in CLOSING_TYPES and bracket:
                found.pop()
            elif token.type in ("IF", "ELSE"):
                found[-1] = bracket, max(0, count + (1 if token.type == "IF" else -1))
        return found

    @cached_property
    def names(self) -> Names:
        """The names in scope, including the names of lines after the cursor."""
        module, item = self.analysis.module, self.declaration
        if module is None or item is None:
            return Names("", {})
        reader = MeaningReader(module)
        found = reader.scope(item)
        whole = next((each for each in module.program.declarations if each.name == item.name), item)
        later = {} if item.kind == "recipe" else dict(reader.lines(whole))
        return Names(found.what, found.local, {**later, **found.lines})

    @cached_property
    def place(self) -> Place | None:
        """The value at the cursor, or None if no value is expected. Always None in recipes."""
        module, item = self.analysis.module, self.declaration
        if module is None or item is None:
            return None
        for line, root, want in MeaningReader(module).expressions(item):
            nodes = list(wants(root, want))
            around = [
                EnclosingCall(node, arg, wanted)
                for node, wanted in nodes
                if isinstance(node, s.Call)
                for arg in node.args
                if any(map(is_here, s.walk(arg)))
            ]
            for node, wanted in nodes:
                if is_here(node):
                    return Place(line, wanted, around[-1] if around else None)
        return None


def is_here(node: object) -> bool:
    """True for the name at the cursor."""
    return isinstance(node, s.Name) and node.id == HERE


def read_cursor(analysis: Analysis, offset: int) -> Cursor:
    """Return the context of an offset, without the word at the offset."""
    tokens, text = analysis.scanned.tokens, analysis.text
    start = end = offset
    while start and (text[start - 1].isalnum() or text[start - 1] == "_"):
        start -= 1
    while end < len(text) and (text[end].isalnum() or text[end] == "_"):
        end += 1
    last: Token | None = None
    head: int | None = None
    opened: list[int] = []
    for i, token in enumerate(tokens):
        if token.start >= start or token.type == "$END":
            break
        last = token
        first = starts_declaration(tokens, i)
        if first and (not opened or first_on_line(analysis.source, tokens, i)):
            head, opened = i, []  # ends an unclosed body
        if token.type in CLOSING:
            opened.append(i)
        elif token.type in CLOSING_TYPES and opened:
            opened.pop()
            if token.type == "RBRACE" and not opened:
                head = None
    return Cursor(analysis, Span(analysis.source, start, end), last, head, tuple(opened))
