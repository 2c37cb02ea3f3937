"""Pairs of brackets. They are found before parsing, so the parser knows which are not closed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from danetc.dsl.record import record
from danetc.dsl.syntax.tokens import Token, starts_declaration, starts_statement

MAX_NESTING = 100

_CLOSING = {"LPAR": "RPAR", "LSQB": "RSQB", "LBRACE": "RBRACE"}
_OPENING = {closing: opening for opening, closing in _CLOSING.items()}


@record(slots=False)
class Brackets:
    """Pairs of brackets, by the index of their tokens.

    ``partner[i]`` is the index of the matching bracket of token i, if there is one.
    ``inside[i]`` is the innermost bracket open at token i, or -1. ``too_deep`` is the first bracket
    beyond the limit of nesting.
    """

    partner: dict[int, int]
    inside: list[int]
    too_deep: int | None


_OPERATORS = frozenset(
    (
        *("ARROW", "PLUS", "MINUS", "STAR", "SLASH", "CMP", "RANGE", "EQUAL", "VIA", "BY", "WITH"),
        *("IF", "ELSE", "AND", "OR", "NOT", "FOR"),
    )
)


def strays(tokens: Sequence[Token]) -> list[int]:
    """Return the braces that have to be removed: of the more frequent kind, where no brace is allowed."""
    counts = Counter(token.type for token in tokens)
    surplus = counts["LBRACE"] - counts["RBRACE"]
    kind = "LBRACE" if surplus > 0 else "RBRACE"
    found: list[int] = []
    for i in range(1, len(tokens) - 1):
        if len(found) == abs(surplus):
            break
        if tokens[i].type == kind:
            before, after = tokens[i - 1].type, tokens[i + 1].type
            out_of_place = before in ("LPAR", "LSQB", "COMMA") or after in _OPERATORS
            if kind == "LBRACE":
                out_of_place |= after in ("LPAR", "COMMA", "RPAR", "RSQB", "NUMBER", "STRING")
            else:
                out_of_place |= before in _OPERATORS or after in ("COMMA", "RPAR", "RSQB")
            if out_of_place:
                found.append(i)
    return found


def pair(tokens: Sequence[Token]) -> Brackets:
    """Pair the brackets of a file. A ``}`` closes all other brackets that are open inside."""
    partner: dict[int, int] = {}
    inside: list[int] = []
    stack: list[int] = []
    too_deep: int | None = None
    for i, token in enumerate(tokens):
        parts = token.type == "SEMICOLON" and (
            tokens[i + 1].type == "RBRACE" or starts_statement(tokens, i + 1)
        )
        if token.type == "LBRACE" or parts or starts_declaration(tokens, i):
            _drop_round(tokens, stack)
        if token.type in _CLOSING:
            inside.append(stack[-1] if stack else -1)
            stack.append(i)
            if len(stack) > MAX_NESTING and too_deep is None:
                too_deep = i
            continue
        opening = _OPENING.get(token.type)
        if opening is not None:
            if opening == "LBRACE":
                _drop_round(tokens, stack)
            found = _find(tokens, stack, opening)
            if found is not None:
                partner[i], partner[stack[found]] = stack[found], i
                del stack[found:]
        inside.append(stack[-1] if stack else -1)
    return Brackets(partner, inside, too_deep)


def _drop_round(tokens: Sequence[Token], stack: list[int]) -> None:
    while stack and tokens[stack[-1]].type != "LBRACE":
        stack.pop()


def _find(tokens: Sequence[Token], stack: list[int], opening: str) -> int | None:
    """Return the stack index of the innermost ``opening`` bracket inside of the current brace."""
    for place in range(len(stack) - 1, -1, -1):
        found = tokens[stack[place]].type
        if found == opening:
            return place
        if found == "LBRACE":
            return None
    return None
