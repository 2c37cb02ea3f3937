"""Errors inside values: brackets, operators, separators."""

from __future__ import annotations

from danetc.dsl.diagnostics.diagnostic import Label
from danetc.dsl.diagnostics.fixes import Hint, inserting, remove, removing
from danetc.dsl.syntax.errors.case import (
    CLOSING,
    ENDS_VALUE,
    RESERVED,
    STARTS_VALUE,
    WANTS_VALUE,
    Found,
    Situation,
    count_names,
    found,
    name_of,
    no_operator,
)
from danetc.dsl.syntax.source import Span
from danetc.dsl.syntax.tokens import NAME_LIKE, starts_statement

# Brackets


def open_bracket(case: Situation) -> Found | None:
    """An unclosed bracket, found at the end of its statement."""
    opening = case.opening()
    if opening is None or opening in case.brackets.partner:
        return None
    kind, sign = CLOSING[case.tokens[opening].type]
    token = case.token
    ends = token.type in ("RBRACE", "SEMICOLON", "LBRACE", "$END", "RPAR", "RSQB")
    in_head = not case.in_body or kind == "RSQB"  # where `=` follows the closing bracket
    ends = ends or case.first_on_line(case.i) or (token.type == "EQUAL" and in_head)
    if not ends or not case.accepts(kind):
        return None
    what = case.tokens[opening].text
    if opening > 0 and case.tokens[opening - 1].type in NAME_LIKE:
        what = case.text(opening - 1, opening)
    return found(
        "E0103",
        f"`{what}` is not closed",
        case.span(opening),
        label="opened here",
        labels=(Label(case.span(case.i - 1), f"a `{sign}` is missing after this"),),
        insert=(kind, sign),
    )


def stray_brace(case: Situation) -> Found | None:
    """A `{` that does not begin a body."""
    if case.token.type != "LBRACE" or case.begins or starts_statement(case.tokens, case.i + 1):
        return None
    is_empty = case.after.type == "RBRACE"
    if case.first_on_line(case.i) and not (is_empty and case.in_body):
        return None
    closing = case.brackets.partner.get(case.i)
    if not is_empty and closing is not None and "\n" not in case.span(case.i, closing).text:
        return None
    message = "a body cannot be written here"
    return found("E0101", message, case.span(case.i), drop=True)


def stray_bracket(case: Situation) -> Found | None:
    """An unmatched closing bracket, or a missing opening one."""
    i, token, partner = case.i, case.token, case.brackets.partner
    if token.type in ("RPAR", "RSQB") and i not in partner:
        return found("E0104", f"this `{token.text}` closes nothing", case.span(i), drop=True)
    if case.before.type not in NAME_LIKE or token.type not in STARTS_VALUE:
        return None
    lone = case.lone_parenthesis()
    if lone is None:
        return None
    return found(
        "E0104",
        f"a `(` is missing between `{case.before.text}` and `{token.text}`",
        case.span(i),
        labels=(Label(case.span(lone), "this `)` closes nothing"),),
        resume=lone + 1,
    )


# Values


def tuples(case: Situation) -> Found | None:
    """`(3, 3)` as a value."""
    opening = case.opening()
    if case.token.type != "COMMA" or opening is None or case.tokens[opening].type != "LPAR":
        return None
    if opening == 0 or case.tokens[opening - 1].type in NAME_LIKE or not case.accepts("RPAR"):
        return None
    hint = "kernels, strides and paddings are square: write one number"
    outer = case.brackets.inside[opening]
    if outer < case.begin or case.tokens[outer].type != "LPAR":
        hint = "values are joined by `+` or `concat(a, b)`, layers by `->`"
    elif case.tokens[opening - 1].type == "LPAR":
        hint = "arguments need no parentheses of their own"
    message = "there are no tuples: these parentheses hold one value"
    return found("E0116", message, case.span(opening, case.i), hint=hint)


def comma(case: Situation) -> Found | None:
    """Separators without an item on one side."""
    i, token, before = case.i, case.token, case.before
    if token.type == "COMMA" and case.opening() is None and case.in_body and not case.begins:
        if not case.accepts("SEMICOLON"):
            return None
        lone = case.lone_parenthesis()
        if lone is not None:
            labels = (Label(case.span(lone), "this `)` closes nothing"),)
            message = "there is a `)` too many before this `,`"
            return found("E0104", message, case.span(i), labels=labels, resume=lone + 1)
        message = "`,` separates arguments and cannot be written here"
        if not starts_statement(case.tokens, i + 1):
            return found("E0116", message, case.span(i), drop=True)
        hint = "statements are separated by `;` or are on lines of their own"
        return found("E0116", message, case.span(i), hint=hint, replace=("SEMICOLON", ";"))
    if token.type in ("COMMA", "SEMICOLON") and (
        case.begins or before.type in ("LPAR", "LSQB", "COMMA")
    ):
        nothing = f"there is nothing before this `{token.text}`"
        return found("E0116", nothing, case.span(i), hint=remove(case.span(i)), drop=True)
    if before.type == "COMMA" and token.type in ("RPAR", "RSQB"):
        return found(
            "E0116",
            "there is nothing after this `,`",
            case.span(i - 1),
            hint=remove(case.span(i - 1)),
        )
    return None


def missing_value(case: Situation) -> Found | None:
    """An operator without a value after it; the next statement may have been read as its operand."""
    start = case.line_start()
    if start is not None and case.tokens[start - 1].type in (*WANTS_VALUE, "USE"):
        operator = case.tokens[start - 1]
        return found(
            "E0119",
            f"`{operator.text}` has no value after it",
            case.span(start - 1),
            labels=(Label(case.span(start), "the next one begins here"),),
            resume=start,
        )
    before, token = case.before, case.token
    if before.type == "USE" and token.type != "STRING" and case.i > 0:
        message = f"`use` names no module: found {name_of(token)}"
        known = 'write `use std` or `use "file.danet"`'
        return found("E0119", message, case.span(case.i - 1), hint=known)
    if case.begins or not case.accepts("NAME") or token.type in STARTS_VALUE:
        return None
    if before.type in WANTS_VALUE:
        hint: str | None = None
        if token.type in RESERVED:
            hint = f"`{token.text}` is a reserved word: it cannot be a name"
        elif token.type == before.type and token.text == before.text:
            hint = Hint(
                f"`{token.text}` is written twice",
                removing(Span(case.source, before.end, token.end)),
            )
        elif token.type == "LBRACE":
            hint = "braces hold the body of a declaration or a group, not values"
        elif token.type == "LSQB":
            hint = "there are no lists: an operation takes its values as arguments"
        return found(
            "E0119",
            f"expected a value after `{before.text}`, found {name_of(token)}",
            case.span(case.i - 1, case.i)
            if not case.first_on_line(case.i)
            else case.span(case.i - 1),
            hint=hint,
        )
    if before.type == "LPAR" and token.type == "RPAR":
        message = "there is nothing between these parentheses"
        return found("E0119", message, case.span(case.i - 1, case.i))
    return None


def equals(case: Situation) -> Found | None:
    """`=` in a comparison, or `==` in a definition."""
    i, token = case.i, case.token
    if token.type == "CMP" and token.text == "==" and case.accepts("EQUAL"):
        hint = f"write `{case.before.text} = ...`; `==` compares two values"
        return found(
            "E0112",
            "assign a value to a name with `=`",
            case.span(i),
            hint=hint,
            replace=("EQUAL", "="),
        )
    begun = not case.begins and not case.first_on_line(i)
    if token.type == "EQUAL" and begun and case.before.type in ENDS_VALUE:
        words = case.tokens[case.begin : i]
        if not any(word.type == "EQUAL" for word in words):
            return None
        lone = case.lone_parenthesis()
        if lone is not None:
            return found(
                "E0104",
                f"a `(` is missing before `{token.text}`",
                case.span(i - 1, i),
                labels=(Label(case.span(lone), "this `)` closes nothing"),),
                resume=lone + 1,
            )
        if case.accepts("CMP"):
            hint = "to compare two values write `==`; one statement gives one name its value"
            return found(
                "E0112",
                "there is a second `=` here",
                case.span(i),
                hint=hint,
                replace=("CMP", "=="),
            )
    return None


def comparison(case: Situation) -> Found | None:
    """`a < b < c`."""
    if case.token.type != "CMP" or case.before.type not in ENDS_VALUE:
        return None
    for j in range(case.i - 1, case.begin, -1):
        if case.tokens[j].type == "CMP":
            return found(
                "E0117",
                "comparisons cannot be chained",
                case.span(case.i),
                labels=(Label(case.span(j), "the first comparison"),),
                hint=Hint(
                    "write `a < b and b < c`",
                    inserting(
                        case.source,
                        case.before.end,
                        f" and {case.span(j + 1, case.i - 1).text}",
                    ),
                ),
            )
        if case.tokens[j].type in ("AND", "OR", "NOT", "IF", "ELSE", "COMMA", "EQUAL"):
            return None
    return None


def choice(case: Situation) -> Found | None:
    """`if` without `else`, or `else` without `if`."""
    hint = "a choice is written `a if condition else b`"
    if case.token.type == "ELSE":
        message = "this `else` has no `if`"
        return found("E0120", message, case.span(case.i), hint=hint)
    if not case.accepts("ELSE") or case.before.type not in ENDS_VALUE:
        return None
    if case.token.type in STARTS_VALUE and not case.first_on_line(case.i):
        return None
    for j in range(case.i - 1, case.begin, -1):
        if case.tokens[j].type == "IF":
            message = "this `if` has no `else`"
            return found("E0120", message, case.span(j), hint=hint)
    return None


def side_by_side(case: Situation) -> Found | None:
    """Two values without an operator between them."""
    i, token = case.i, case.token
    if case.begins or case.before.type not in ENDS_VALUE or token.type not in STARTS_VALUE:
        return None
    if case.in_body and count_names(case):
        return None
    if not case.in_body and case.accepts("EQUAL") and case.accepts("LBRACE"):
        return None  # `network a b` has its own message
    if case.opening() is not None and case.after.type == "EQUAL":
        message = f"a `,` is missing before `{token.text} = ...`"
        return found("E0108", message, case.span(i), insert=("COMMA", ","))
    return Found(no_operator(case, i))
