"""What to say about a token that cannot stand where it stands.

``diagnose`` tries the functions of ``RULES`` from the specific to the general; the docstring of a
rule says what it recognises. Without a match, the message lists the expected tokens.
docs/decisions.md measures the effect of each rule.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from danetc.dsl.syntax.errors import statements as statement_errors
from danetc.dsl.syntax.errors import values as value_errors
from danetc.dsl.syntax.errors.case import PLACES, SIGNS, Found, Situation, found, name_of

Rule: TypeAlias = Callable[[Situation], Found | None]

RULES: tuple[Rule, ...] = (
    statement_errors.top_of_file,
    statement_errors.misplaced_use,
    value_errors.tuples,
    value_errors.comma,
    value_errors.stray_brace,
    statement_errors.head,
    value_errors.missing_value,
    value_errors.open_bracket,
    value_errors.stray_bracket,
    value_errors.equals,
    value_errors.comparison,
    value_errors.choice,
    value_errors.side_by_side,
    statement_errors.statement,
    statement_errors.name_wanted,
)


def diagnose(case: Situation) -> Found:
    for rule in RULES:
        found = rule(case)
        if found is not None:
            return found
    return _anything(case)


def _anything(case: Situation) -> Found:
    wanted = _wanted(case)
    message = f"expected {wanted}, found {name_of(case.token)}"
    span = case.span(case.i)
    ends = case.first_on_line(case.i) and case.token.type != "LBRACE"
    if case.i > 0 and (ends or case.token.type == "$END"):
        message = f"expected {wanted} after `{case.before.text}`, found {name_of(case.token)}"
        span = case.span(case.i - 1)
    return found("E0101", message, span, hint=PLACES.get(case.token.type))


def _wanted(case: Situation) -> str:
    """List the expected tokens in words, the most likely first."""
    if case.accepts("RBRACE") and case.accepts("SEMICOLON"):
        return "an operator or the end of the statement"
    words = []
    if case.accepts("NUMBER"):
        words.append("a value")
    elif case.accepts("NAME"):
        words.append("a name")
    elif case.accepts("KIND"):
        words.append("a declaration")
    if case.accepts("PLUS"):
        words.append("an operator")
    words += [
        f"`{sign}`"
        for kind, sign in SIGNS.items()
        if case.accepts(kind) and not (kind in ("LPAR", "IN") and words)
    ]
    return " or ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)
