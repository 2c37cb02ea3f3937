"""The text of a spec by the tokens of the language itself."""

from __future__ import annotations

from dataclasses import dataclass

from danetc.dsl.syntax.source import SourceFile
from danetc.dsl.syntax.tokens import NAME_LIKE, Token, scan, starts_declaration

_PLAIN = {"NUMBER": "number", "STRING": "string", "KIND": "keyword", "NAME": ""}


@dataclass(frozen=True)
class Piece:
    """Some text and what it is: ``comment``, ``keyword``, ``number``, ``string``, ``declared``,
    ``arrow``, or nothing in particular."""

    text: str
    kind: str


def pieces(text: str) -> list[Piece]:
    """A spec in pieces that join to the same text, whether or not it is right."""
    source = SourceFile("spec", text)
    found = scan(source)
    tokens = found.tokens
    marked = [(each.span.start, each.span.end, "comment") for each in found.comments]
    declared = {i + 1 for i in range(len(tokens) - 3) if starts_declaration(tokens, i)}
    marked += [
        (token.start, token.end, "declared" if i in declared else _kind(token))
        for i, token in enumerate(tokens)
    ]
    out: list[Piece] = []
    at = 0
    for start, end, kind in sorted(marked):
        if kind and start >= at and end > start:
            if start > at:
                out.append(Piece(source.text[at:start], ""))
            out.append(Piece(source.text[start:end], kind))
            at = end
    if at < len(source.text):
        out.append(Piece(source.text[at:], ""))
    return out


def _kind(token: Token) -> str:
    if token.type in _PLAIN:
        return _PLAIN[token.type]
    if token.type == "ARROW":
        return "arrow"
    # Words that are no names are the language's own; IN and STATE may be either.
    return "keyword" if token.text.isalpha() and token.type not in NAME_LIKE - {"STATE"} else ""
