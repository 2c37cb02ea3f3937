"""Errors of files, declarations, bodies and statements."""

from __future__ import annotations

from collections.abc import Sequence

from danetc.dsl.diagnostics.diagnostic import Diagnostic, Label, did_you_mean
from danetc.dsl.diagnostics.fixes import Fix, Hint, inserting, remove, removing, replacing
from danetc.dsl.diagnostics.habits import answer
from danetc.dsl.diagnostics.suggestions import nearest
from danetc.dsl.syntax.brackets import Brackets
from danetc.dsl.syntax.errors.case import (
    ARITHMETIC,
    ENDS_VALUE,
    PLACES,
    RESERVED,
    STATEMENT,
    WANTS_VALUE,
    Found,
    Situation,
    count_names,
    found,
    name_of,
    no_operator,
)
from danetc.dsl.syntax.source import SourceFile, Span, shorten
from danetc.dsl.syntax.tokens import NAME_LIKE, Token, first_on_line, starts_statement
from danetc.dsl.syntax.tree import DECLARATION_KINDS

_MISSING = "a `}` is missing here"
_NEAR_RESERVED = ("width",)
"""Parameters that are one letter longer than a reserved word."""

# Files and heads of declarations


def top_of_file(case: Situation) -> Found | None:
    """The start of an item that is neither `use` nor a declaration."""
    if case.in_body or not case.begins:
        return None
    token, i = case.token, case.i
    if token.type == "RBRACE":
        return found(
            "E0104", "this `}` closes nothing", case.span(i), hint=remove(case.span(i)), drop=True
        )
    if starts_statement(case.tokens, i):
        meant = answer("word", token.text) or did_you_mean(token.text, DECLARATION_KINDS)
        if meant is None or case.after.type not in NAME_LIKE:
            return _missing_brace(case) or _outside(case, i)
    if token.type in NAME_LIKE and case.after.type in (*NAME_LIKE, "STRING"):
        hint = answer("word", token.text)
        if token.text in ("import", "include", "from", "require"):
            return found(
                "E0114",
                f"there is no `{token.text}`",
                case.span(i),
                hint=hint,
                replace=("USE", "use"),
            )
        hint = hint or did_you_mean(token.text, DECLARATION_KINDS)
        kinds = ", ".join(f"`{kind}`" for kind in DECLARATION_KINDS)
        return found(
            "E0114",
            f"`{token.text}` does not begin a declaration",
            case.span(i),
            hint=hint or f"declarations begin with {kinds}",
            replace=("KIND", "network"),
        )
    message = f"expected a declaration or `use`, found {name_of(token)}"
    hint = f"to import a file, write `use {token.text}`" if token.type == "STRING" else None
    return found("E0101", message, case.span(i), hint=hint, resume=i + 1)


def _missing_brace(case: Situation) -> Found | None:
    """A body without ``{``, whose ``}`` is unmatched."""
    before = case.before
    if case.i == 0 or before.type == "RBRACE" or not case.accepts("LBRACE"):
        return None
    for j in range(case.i, len(case.tokens)):
        if case.tokens[j].type == "LBRACE" or j in case.brackets.partner:
            continue
        if case.tokens[j].type == "RBRACE":
            return found(
                "E0101",
                f"expected `{{` after `{before.text}`",
                case.span(case.i - 1),
                label="the body opens after this",
                labels=(Label(case.span(j), "it ends here"),),
                insert=("LBRACE", "{"),
            )
    return None


def _outside(case: Situation, at: int) -> Found:
    what = case.text(at, at + 1) if case.tokens[at + 1].type in NAME_LIKE else case.tokens[at].text
    labels = []
    if at > 0 and case.tokens[at - 1].type == "RBRACE":
        labels.append(Label(case.span(at - 1), "the declaration before ends here"))
    return found(
        "E0115",
        f"`{what}` is outside of every declaration",
        case.span(at),
        labels=tuple(labels),
        hint="settings go between the braces of a declaration: `network name { ... }`",
        resume=at + 1,
    )


def head(case: Situation) -> Found | None:
    """The head of a declaration, before its value or body."""
    if case.in_body or case.begins or case.tokens[case.begin].type != "KIND":
        return None
    i, token, kind = case.i, case.token, case.tokens[case.begin].text
    if i == case.begin + 1:
        if token.type in RESERVED:
            return Found(_reserved(case), replace=("NAME", token.text))
        insert = ("NAME", "unnamed") if token.type in ("LBRACE", "LPAR", "EQUAL") else None
        return found(
            "E0101", f"`{kind}` has no name", case.span(i - 1), label="name it here", insert=insert
        )
    if token.type == "LBRACE" and case.before.type == "EQUAL":
        return found(
            "E0111",
            "a body follows its head without `=`",
            case.span(i - 1),
            hint=Hint(
                f"write `{case.text(case.begin, i - 2)} {{`",
                removing(Span(case.source, case.tokens[i - 2].end, case.before.end)),
            ),
            insert=("NAME", "unnamed"),
        )
    if not case.accepts("LBRACE") or not case.first_on_line(i):
        return None
    if starts_statement(case.tokens, i):
        head = case.text(case.begin, i - 1)
        return found(
            "E0101",
            f"expected `{{` or `=` after `{head}`",
            case.span(i - 1),
            label="the body opens after this",
            insert=("LBRACE", "{"),
        )
    return None


# Statements


def statement(case: Situation) -> Found | None:
    """A statement that does not begin as `name = ...`."""
    if not case.in_body:
        return None
    i, begin, token = case.i, case.begin, case.token
    count = count_names(case)
    if case.begins:
        return _bad_beginning(case)
    if count == 0:
        return None
    first = case.tokens[begin]
    glued = begin > 0 and not case.first_on_line(begin)
    if glued and case.tokens[begin - 1].type in ENDS_VALUE:
        return Found(no_operator(case, begin), resume=begin + 1)
    if count == 1 or (count == 2 and first.type == "STATE"):
        name = case.text(begin, i - 1)
        if token.type in ("NUMBER", "STRING") and not case.first_on_line(i):
            return found(
                "E0111",
                f"a `=` is missing after `{name}`",
                case.span(i),
                hint=STATEMENT,
                insert=("EQUAL", "="),
            )
        if token.type in ("LPAR", "ARROW", *ARITHMETIC, *RESERVED):
            message = f"this value has no name: {STATEMENT}"
            hint = f"write `name = {name} ...`"
            if begin > 0 and case.tokens[begin - 1].type in ENDS_VALUE:
                hint += ", or `->` before it if it belongs to the flow above"
            return found("E0111", message, case.span(begin, i), hint=hint)
        message = f"`{name}` has no value"
        hint = f"`{name}` is written twice" if token.text == name else STATEMENT
        return found("E0111", message, case.span(begin, i - 1), hint=hint)
    second = case.tokens[begin + 1]
    if case.first_on_line(begin + 1):
        message = f"`{first.text}` has no value"
        return found("E0111", message, case.span(begin), hint=STATEMENT, resume=begin + 1)
    both = case.span(begin, begin + 1)
    if token.type == "NAME" and case.after.type == "LBRACE":
        message = f"a group has one name: `{case.text(begin, begin + 1)} {{ ... }}`"
        return found("E0101", message, case.span(i), drop=True)
    if starts_statement(case.tokens, i) and (
        nearest(first.text, ["phase"]) or first.text == "phase" or _missing_brace(case) is not None
    ):
        message = f"expected `{{` after `{case.text(begin, begin + 1)}`"
        return found("E0101", message, both, insert=("LBRACE", "{"))
    if token.type == "EQUAL":
        if first.text == second.text:
            twice = removing(Span(case.source, first.end, second.end))
            hint = Hint(f"`{first.text}` is written twice", twice)
        else:
            hint = did_you_mean(first.text, ["state"]) or answer("word", first.text) or STATEMENT
        message = f"there are two names before `=`: `{first.text}` and `{second.text}`"
        return found("E0111", message, both, hint=hint)
    message = f"a `=` is missing after `{first.text}`"
    return found("E0111", message, both, hint=answer("word", first.text) or STATEMENT)


def _bad_beginning(case: Situation) -> Found:
    """Return the error of a token that cannot begin a statement."""
    i, token = case.i, case.token
    if token.type in RESERVED and case.after.type in ("EQUAL", "LSQB"):
        return Found(_reserved(case), replace=("NAME", token.text))
    if token.type == "EQUAL":
        message = "a name is missing before this `=`"
        return found("E0111", message, case.span(i), hint=STATEMENT)
    if token.type in WANTS_VALUE and case.before.type == "SEMICOLON":
        message = f"there is nothing before this `{token.text}`"
        hint = "a value may continue on the next line, without `;`"
        return found("E0111", message, case.span(i), hint=hint)
    message = f"expected `name = value`, found {name_of(token)}"
    known = answer("word", token.text) or PLACES.get(token.type)
    return found("E0111", message, case.span(i), hint=known, resume=i + 1)


def misplaced_use(case: Situation) -> Found | None:
    """`use` inside a body."""
    if case.token.type != "USE" or not case.in_body or case.after.type == "EQUAL":
        return None
    message = "`use` is written at the top of a file, not in a body"
    return found("E0101", message, case.span(case.i), resume=case.i + 1)


def name_wanted(case: Situation) -> Found | None:
    """A reserved word or a value where a name is required."""
    goes_on = case.before.type in ENDS_VALUE and not case.first_on_line(case.i)
    is_set = case.after.type == "EQUAL" and case.before.type in ("LPAR", "COMMA")
    wants_name = case.accepts("NAME") and not goes_on and (is_set or not case.accepts("NUMBER"))
    if case.token.type in RESERVED and wants_name:
        return Found(_reserved(case), replace=("NAME", case.token.text))
    if case.begins or case.before.type not in ENDS_VALUE or not case.in_body:
        return None
    if case.token.type == "EQUAL":
        message = "a name is missing before this `=`"
        return found("E0111", message, case.span(case.i), hint=STATEMENT)
    return None


def _reserved(case: Situation) -> Diagnostic:
    word = case.token.text
    is_parameter = case.before.type in ("LPAR", "COMMA")
    near = did_you_mean(word, _NEAR_RESERVED) if is_parameter else None
    return Diagnostic(
        "E0113",
        f"`{word}` is a reserved word and cannot be a name",
        case.span(case.i),
        hint=near
        or Hint(
            f"choose another name, such as `{word}_`", replacing(case.span(case.i), f"{word}_")
        ),
    )


# Bodies that are not closed


def unclosed(
    source: SourceFile,
    tokens: Sequence[Token],
    brackets: Brackets,
    opened: Sequence[Token],
    at: int,
) -> Diagnostic:
    """Return the error of a body that is open at the end of the file or at the next declaration.

    ``opened`` are the tokens on the stack, the outermost declaration's first. A label marks an
    inner brace that is unclosed according to the indentation.
    """
    what = f"{opened[0].text} {opened[1].text}"
    braces = [token for token in opened if token.type == "LBRACE"]
    labels = [Label(Span(source, brace.start, brace.end), "opened here") for brace in braces]
    token, before = tokens[at], tokens[at - 1]
    if token.type == "$END":
        message = f"`{what}` is not closed at the end of the file"
        span = Span(source, before.start, before.end)
    else:
        span = Span(source, token.start, tokens[at + 1].end)
        message = f"`{what}` is not closed where `{shorten(span.text)}` begins"
    found = _by_indentation(source, tokens, brackets, braces[0], at)
    if found is not None:
        opening, place = found
        brace = Span(source, tokens[opening].start, tokens[opening].end)
        labels.append(Label(brace, "its `}` is indented less: is this one open?"))
        labels += _line_after(source, tokens[place - 1], tokens[place])
    else:
        labels += _line_after(source, before, token)
    missing = next((label.span for label in labels if label.text == _MISSING), None)
    hint = Hint("end its body with a `}`", _closing(source, before, token, missing))
    return Diagnostic("E0102", message, span, labels=tuple(labels), hint=hint)


def _closing(source: SourceFile, before: Token, token: Token, missing: Span | None) -> Fix:
    """Return the fix that inserts `}`: on the empty line there, else on a new line."""
    if missing is not None and not source.line(missing.line).strip():
        return inserting(source, missing.start, "}")
    end = source.text.find("\n", before.end)
    comment = source.text[before.end : end if end >= 0 else None].lstrip().startswith("#")
    at = end if comment and end >= 0 else before.end
    return inserting(source, at, "\n}" if comment or token.type == "$END" else "\n}\n")


def _line_after(source: SourceFile, before: Token, token: Token) -> list[Label]:
    """Return a label on the line below a token, if the next token is further down."""
    line_end = source.text.find("\n", before.end)
    end = len(source.text) if token.type == "$END" else token.start
    if line_end < 0 or "\n" not in source.text[line_end + 1 : end]:
        return []
    return [Label(Span(source, line_end + 1, line_end + 1), _MISSING)]


def _by_indentation(
    source: SourceFile, tokens: Sequence[Token], brackets: Brackets, outer: Token, end: int
) -> tuple[int, int] | None:
    """Return an inner brace whose ``}`` is indented less than its line, and the token where the
    indentation decreases."""

    def indent(token: Token) -> int:
        start = source.text.rfind("\n", 0, token.start) + 1
        line = source.text[start : token.end]
        return len(line) - len(line.lstrip())

    for i, token in enumerate(tokens[:end]):
        closing = brackets.partner.get(i, -1)
        if token.type != "LBRACE" or token.start <= outer.start or closing < i:
            continue
        level = indent(token)
        if first_on_line(source, tokens, closing) and indent(tokens[closing]) < level:
            for place in range(i + 1, closing + 1):
                if first_on_line(source, tokens, place) and indent(tokens[place]) <= level:
                    return i, place
    return None
