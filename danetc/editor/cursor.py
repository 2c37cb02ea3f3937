"""Context before the cursor, from tokens, because an incomplete line rarely parses."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from danetc.compiler.lowering.environment import WANTED, Want
from danetc.dsl.syntax.source import Span
from danetc.dsl.syntax.tokens import (
    NAME_LIKE,
    Token,
    first_on_line,
    starts_declaration,
    starts_statement,
)
from danetc.editor.analysis import Analysis
from danetc.editor.meanings import Meaning

ENDS = frozenset(("NAME", "NUMBER", "STRING", "RPAR", "RSQB", "KIND", "IN", "STATE"))
"""Tokens that may end a value."""
WANTS_NAME = frozenset(("ARROW", "EQUAL", "VIA", "BY", "COMMA", "LPAR", "USE"))
"""Tokens that a name must follow."""
OPENING = {"RPAR": "LPAR", "RSQB": "LSQB", "RBRACE": "LBRACE"}
"""Opening brackets by the closing ones."""


@dataclass(frozen=True)
class Cursor:
    """Context of the cursor.

    ``head`` is the first token of the declaration around it, ``opened`` are the open brackets, and
    ``before`` is the token before the word at the cursor.
    """

    analysis: Analysis
    offset: int
    tokens: Sequence[Token]
    span: Span
    before: int
    head: int | None
    opened: tuple[int, ...]

    @property
    def last(self) -> Token | None:
        return self.tokens[self.before] if self.before >= 0 else None

    @property
    def kind(self) -> str:
        """Kind of the declaration around the cursor."""
        return "" if self.head is None else self.tokens[self.head].text

    @property
    def in_body(self) -> bool:
        return any(self.tokens[i].type == "LBRACE" for i in self.opened)

    @property
    def on_new_line(self) -> bool:
        last = self.last
        return last is None or "\n" in self.analysis.text[last.end : self.span.start]


def read_cursor(analysis: Analysis, offset: int) -> Cursor:
    """Return the context of an offset, without the word at the offset."""
    tokens = analysis.scanned.tokens
    start = offset
    text = analysis.text
    while start and (text[start - 1].isalnum() or text[start - 1] == "_"):
        start -= 1
    end = offset
    while end < len(text) and (text[end].isalnum() or text[end] == "_"):
        end += 1
    before = -1
    head: int | None = None
    opened: list[int] = []
    for i, token in enumerate(tokens):
        if token.start >= start or token.type == "$END":
            break
        before = i
        if starts_declaration(tokens, i) and first_on_line(analysis.source, tokens, i):
            head, opened = i, []  # ends an unclosed body
        elif starts_declaration(tokens, i) and not opened:
            head = i
        if token.type in OPENING.values():
            opened.append(i)
        elif token.type in OPENING and opened:
            opened.pop()
            if token.type == "RBRACE" and not opened:
                head = None
    span = Span(analysis.source, start, end)
    return Cursor(analysis, offset, tokens, span, before, head, tuple(opened))


def argument_name(cursor: Cursor, opening: int) -> str | None:
    """Return the name of the argument at the cursor, as in ``over = |``, or None."""
    depth = 0
    for i in range(cursor.before, opening, -1):
        kind = cursor.tokens[i].type
        depth += (kind in OPENING) - (kind in OPENING.values())
        if depth == 0 and kind == "COMMA":
            return None
        if depth == 0 and kind == "EQUAL" and cursor.tokens[i - 1].type in NAME_LIKE:
            return cursor.tokens[i - 1].text
    return None


def line_of(cursor: Cursor) -> tuple[str, Want]:
    """Return the name of the line at the cursor, and what is expected in its value."""
    tokens, last = cursor.tokens, cursor.last
    assert last is not None
    name = ""
    for i in range(cursor.before, cursor.head or 0, -1):
        if tokens[i].type in ("LBRACE", "RBRACE", "SEMICOLON"):
            break
        if starts_statement(tokens, i) and (
            tokens[i - 1].type in ("LBRACE", "SEMICOLON")
            or first_on_line(cursor.analysis.source, tokens, i)
        ):
            state = tokens[i].type == "STATE" and tokens[i + 1].type in NAME_LIKE
            name = tokens[i + 1].text if state else tokens[i].text
            break
    match last.type:
        case "ARROW":
            return name, "layer"
        case "VIA":
            return name, "connection"
        case "BY":
            return name, "rule"
    if not cursor.in_body:
        return name, "layer" if cursor.kind == "block" else cursor.kind
    wanted = WANTED.get(cursor.kind, {}).get(name, "any")
    return name, wanted if last.type == "EQUAL" else "any"


def want_of(cursor: Cursor, number: int) -> Want:
    """Return what is expected where a token begins a value of a line."""
    before = cursor.tokens[number - 1].type if number else ""
    if before == "EQUAL" and cursor.in_body:
        return WANTED.get(cursor.kind, {}).get(line_of(cursor)[0], "layer")
    return {"VIA": "connection", "BY": "rule"}.get(before, "layer")


def phases_before(cursor: Cursor) -> Iterator[str]:
    """Yield the phases of a recipe before the one around the cursor."""
    tokens = cursor.tokens
    for i in range(cursor.head or 0, max(cursor.before - 1, 0)):
        group = [token.type for token in tokens[i : i + 3]] == ["NAME", "NAME", "LBRACE"]
        if group and i + 2 not in cursor.opened:
            yield tokens[i + 1].text


def local_names(cursor: Cursor) -> Iterator[tuple[str, Meaning]]:
    """Yield the parameters and lines of the declaration around the cursor, in order."""
    if cursor.head is None:
        return
    tokens, source = cursor.tokens, cursor.analysis.source
    head = cursor.head
    depth = 0
    for i in range(head + 2, len(tokens) - 1):
        token = tokens[i]
        if i > head + 2 and starts_declaration(tokens, i) and first_on_line(source, tokens, i):
            return
        span = Span(source, token.start, token.end)
        if token.type in NAME_LIKE and tokens[head + 2].type == "LPAR" and depth == 1:
            opens = tokens[i - 1].type in ("LPAR", "COMMA")
            if opens and tokens[i + 1].type in ("EQUAL", "COMMA", "RPAR"):
                yield token.text, Meaning("parameter", token.text, span, tokens[head + 1].text)
        depth += (token.type in OPENING.values()) - (token.type in OPENING)
        if token.type == "RBRACE" and depth <= 0:
            return
        in_body = depth >= 1 and token.type in NAME_LIKE and starts_statement(tokens, i)
        if in_body and (
            tokens[i - 1].type in ("LBRACE", "SEMICOLON") or first_on_line(source, tokens, i)
        ):
            state = token.type == "STATE" and tokens[i + 1].type in NAME_LIKE
            named = tokens[i + 1] if state else token
            if tokens[i + 1].type == "LBRACE" or tokens[i + 2].type == "LBRACE":
                continue
            if not named.start <= cursor.span.start <= named.end:
                at = Span(source, named.start, named.end)
                kind = "state" if state else "line"
                yield named.text, Meaning(kind, named.text, at, tokens[head + 1].text)


def closing_of(cursor: Cursor, opening: int) -> int:
    """Return the token that closes a bracket, or the one after the cursor."""
    return cursor.analysis.brackets.partner.get(opening, cursor.before + 1)
