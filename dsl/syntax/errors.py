"""Error messages for unexpected tokens, and the recovery from each error.

``diagnose`` returns the result of the first function in ``RULES`` that recognises the error. The
docstring of a rule describes these errors. The last rule lists the expected tokens.
docs/decisions.md measures the effect of each rule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from danetc.dsl.diagnostics.diagnostic import Diagnostic, Label, did_you_mean
from danetc.dsl.diagnostics.fixes import Hint, inserting, removing, replacing
from danetc.dsl.diagnostics.habits import answer
from danetc.dsl.record import record
from danetc.dsl.syntax.brackets import Brackets
from danetc.dsl.syntax.source import SourceFile, Span, shorten
from danetc.dsl.syntax.tokens import (
    NAME_LIKE,
    Token,
    first_on_line,
    starts_declaration,
    starts_statement,
)
from danetc.dsl.syntax.tree import DECLARATION_KINDS

RESERVED = frozenset(["USE", "VIA", "BY", "WITH", "IF", "ELSE", "FOR", "AND", "OR", "NOT"])
ENDS_VALUE = NAME_LIKE | {"NUMBER", "STRING", "RPAR", "RSQB"}
STARTS_VALUE = NAME_LIKE | {"NUMBER", "STRING", "LPAR"}
OPERATORS = frozenset(
    ["PLUS", "MINUS", "STAR", "SLASH", "CMP", "ARROW", "RANGE", "EQUAL", "AND", "OR", "NOT", "VIA"]
) | {"BY", "IF", "ELSE"}
CLOSING = {"LPAR": ("RPAR", ")"), "LSQB": ("RSQB", "]")}
SIGNS = {
    "LPAR": "(", "RPAR": ")", "LSQB": "[", "RSQB": "]", "LBRACE": "{", "RBRACE": "}", "COMMA": ",",
    "EQUAL": "=", "ARROW": "->", "RANGE": "..", "SEMICOLON": ";", "FOR": "for", "IN": "in",
    "ELSE": "else", "USE": "use",
}  # fmt: skip
STATEMENT = "a statement is `name = value`"
LAYERS = "connect layers with `->`: `conv(8) -> norm -> spike`"
CHOICE = "a choice is written `a if condition else b`"
UNEXPECTED = {
    "FOR": (
        "E0101",
        "`for` is written in an argument, as in `sum(a -> f(i) for i in 0 .. 3)`; an argument takes one",
    ),
    "RANGE": ("E0101", "a range is written in square brackets, as in `out[0 .. 3]`, or after `in`"),
    "USE": ("E0101", "`use` is written at the top of a file"),
    "ARROW": ("E0101", "put a flow that is an operand in parentheses"),
    "LBRACE": ("E0101", "braces hold the body of a declaration or a group, not values"),
    "LSQB": ("E0101", "there are no lists: an operation takes its values as arguments"),
    "ELSE": ("E0120", CHOICE),
    "CMP": ("E0117", "comparisons cannot be chained: write `a < b and b < c`"),
    "EQUAL": ("E0112", "to compare two values write `==`; one statement gives one name its value"),
    "SEMICOLON": ("E0116", "`;` separates statements"),
    "COMMA": (
        "E0116",
        "`,` separates arguments: there are no tuples, and kernels, strides and paddings are square; "
        "connect layers with `->`",
    ),
}
"""Code and hint for each type of unexpected token."""


@record(slots=False)
class Situation:
    """Context of the unexpected token i.

    ``begin`` is the index of the first token of its statement or declaration. ``accepts`` returns
    True for token types that are allowed in its place.
    """

    source: SourceFile
    tokens: Sequence[Token]
    brackets: Brackets
    i: int
    begin: int
    in_body: bool
    accepts: Callable[[str], bool]

    @property
    def token(self) -> Token:
        return self.tokens[self.i]

    @property
    def before(self) -> Token:
        """The previous token, or token i itself at the start of the file."""
        return self.tokens[max(self.i - 1, 0)]

    @property
    def after(self) -> Token:
        return self.tokens[min(self.i + 1, len(self.tokens) - 1)]

    @property
    def begins(self) -> bool:
        """True if the token is the first of its statement or declaration."""
        return self.begin == self.i

    @property
    def found(self) -> str:
        """The token in words."""
        return "the end of the file" if self.token.type == "$END" else f"`{self.token.text}`"

    def span(self, first: int, last: int | None = None) -> Span:
        end = self.tokens[first if last is None else last].end
        return Span(self.source, self.tokens[first].start, end)

    def text(self, first: int, last: int) -> str:
        return shorten(self.span(first, last).text)

    def first_on_line(self, i: int) -> bool:
        return first_on_line(self.source, self.tokens, i)

    def opening(self) -> int | None:
        """Return the index of the innermost open `(` or `[` of this statement, or None."""
        around = self.i - 1
        if self.before.type not in CLOSING:
            around = self.brackets.inside[self.i - 1] if self.i > 0 else -1
        if around < self.begin or self.tokens[around].type not in CLOSING:
            return None
        return around

    def line_start(self) -> int | None:
        """Return the first token of a statement that was read as the value of the line before."""
        candidates = [self.i - 1, self.i - 2]
        if self.before.type == "RSQB":
            candidates.append(self.brackets.partner.get(self.i - 1, 0) - 1)
        for j in candidates:
            if (
                j > self.begin
                and self.first_on_line(j)
                and (starts_statement(self.tokens, j) or starts_declaration(self.tokens, j))
            ):
                return j
        return None


@record(slots=False)
class Found:
    """An error and its recovery: replace, insert or drop a token, or else skip to the next
    statement that starts at or after ``resume``."""

    code: str
    message: str
    span: Span
    label: str = ""
    labels: tuple[Label, ...] = ()
    hint: str | None = None
    replace: tuple[str, str] | None = None
    insert: tuple[str, str] | None = None
    drop: bool = False
    resume: int = 0

    @property
    def diagnostic(self) -> Diagnostic:
        return Diagnostic(self.code, self.message, self.span, self.label, self.labels, self.hint)


# Rules


def outside(case: Situation) -> Found | None:
    """The start of an item that is neither `use` nor a declaration."""
    token, i = case.token, case.i
    if case.in_body or not case.begins or token.type not in NAME_LIKE:
        return None
    known = answer("word", token.text) or did_you_mean(token.text, DECLARATION_KINDS)
    named = case.after.type in (*NAME_LIKE, "STRING")
    if starts_statement(case.tokens, i) and not (known and named):
        if case.accepts("LBRACE"):
            return None
        labels = []
        if i > 0 and case.before.type == "RBRACE":
            labels.append(Label(case.span(i - 1), "the previous declaration ends here"))
        return Found(
            "E0115",
            f"`{case.text(i, i + 1) if named else token.text}` is outside of all declarations",
            case.span(i),
            labels=tuple(labels),
            hint="settings go between the braces of a declaration: `network name { ... }`",
            resume=i + 1,
        )
    if not named:
        return None
    imports = token.text in ("import", "include", "from", "require")
    return Found(
        "E0114",
        f"`{token.text}` does not begin a declaration",
        case.span(i),
        hint=known or f"declarations begin with {', '.join(f'`{it}`' for it in DECLARATION_KINDS)}",
        replace=("USE", "use") if imports else ("KIND", "network"),
    )


def reserved(case: Situation) -> Found | None:
    """A reserved word where a name is required."""
    token = case.token
    begun = case.in_body or case.before.type != "KIND"
    goes_on = begun and case.before.type in ENDS_VALUE and not case.first_on_line(case.i)
    is_set = case.after.type in ("EQUAL", "LSQB") and (
        case.begins or case.before.type in ("LPAR", "COMMA")
    )
    wants_name = case.accepts("NAME") and not goes_on and (is_set or not case.accepts("NUMBER"))
    if token.type not in RESERVED or not wants_name:
        return None
    if not is_set and (case.begins or token.type == "USE"):
        return None
    near = did_you_mean(token.text, ("width",)) if case.before.type in ("LPAR", "COMMA") else None
    renamed = replacing(case.span(case.i), f"{token.text}_")
    return Found(
        "E0113",
        f"`{token.text}` is a reserved word and cannot be a name",
        case.span(case.i),
        hint=near or Hint(f"choose another name, such as `{token.text}_`", renamed),
        replace=("NAME", token.text),
    )


def missing_value(case: Situation) -> Found | None:
    """An operator that is not followed by a value, or whose operand is the next statement."""
    start = case.line_start()
    if start is not None and case.tokens[start - 1].type in (*OPERATORS, "USE"):
        operator = case.tokens[start - 1]
        return Found(
            "E0119",
            f"`{operator.text}` has no value after it",
            case.span(start - 1),
            labels=(Label(case.span(start), "the next statement begins here"),),
            resume=start,
        )
    before, token, i = case.before, case.token, case.i
    if before.type == "USE" and i > 0:
        hint = 'write `use std` or `use "file.danet"`'
        message = f"`use` needs a module, found {case.found}"
        return Found("E0119", message, case.span(i - 1), hint=hint)
    if case.begins or not case.accepts("NAME") or token.type in STARTS_VALUE:
        return None
    span = case.span(i - 1) if case.first_on_line(i) else case.span(i - 1, i)
    message = f"expected {_wanted(case)} after `{before.text}`, found {case.found}"
    if before.type == "COMMA":
        hint = Hint("leave out the `,`", removing(case.span(i - 1)))
        return Found("E0116", message, case.span(i - 1), hint=hint)
    if before.type not in OPERATORS and (before.type, token.type) != ("LPAR", "RPAR"):
        return None
    known = UNEXPECTED.get(token.type, ("", None))[1] if token.type != "EQUAL" else None
    if token.text == before.text:
        twice = removing(Span(case.source, before.end, token.end))
        known = Hint(f"`{token.text}` is written twice", twice)
    return Found("E0119", message, span, hint=known)


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
    return Found(
        "E0103",
        f"`{what}` is not closed",
        case.span(opening),
        label="opened here",
        labels=(Label(case.span(case.i - 1), f"a `{sign}` is missing after this"),),
        insert=(kind, sign),
    )


def surplus(case: Situation) -> Found | None:
    """A bracket or separator that can be left out."""
    i, token, before = case.i, case.token, case.before
    if token.type in ("RPAR", "RSQB", "RBRACE") and i not in case.brackets.partner:
        return Found("E0104", f"this `{token.text}` closes nothing", case.span(i), drop=True)
    if token.type in ("COMMA", "SEMICOLON") and (
        case.begins or before.type in ("LPAR", "LSQB", "COMMA")
    ):
        message = f"nothing precedes this `{token.text}`"
        return Found("E0116", message, case.span(i), drop=True)
    if token.type == "COMMA" and case.opening() is None and case.accepts("SEMICOLON"):
        message = "`,` separates arguments and cannot be written here"
        hint = "statements are separated by `;` or are written on separate lines"
        ends = not starts_statement(case.tokens, i + 1)
        declares = starts_declaration(case.tokens, i + 1)
        if ends and case.after.type in NAME_LIKE and not declares:
            return Found("E0116", message, case.span(i), hint=LAYERS, replace=("ARROW", "->"))
        fixed = removing(case.span(i)) if ends else replacing(case.span(i), ";")
        return Found("E0116", message, case.span(i), hint=Hint(hint, fixed), drop=ends)
    is_empty = case.after.type == "RBRACE"
    closing = case.brackets.partner.get(i, i)
    if (
        token.type == "LBRACE"
        and not case.begins
        and not starts_statement(case.tokens, i + 1)
        and (is_empty or "\n" in case.span(i, closing).text or closing == i)
        and (not case.first_on_line(i) or (is_empty and case.in_body))
    ):
        return Found("E0101", "a body cannot be written here", case.span(i), drop=True)
    return None


def equals(case: Situation) -> Found | None:
    """`=` in a comparison, or `==` in a definition."""
    i, token = case.i, case.token
    if token.text == "==" and case.accepts("EQUAL"):
        message, hint = "assign a value to a name with `=`", "`==` compares two values"
        return Found("E0112", message, case.span(i), hint=hint, replace=("EQUAL", "="))
    if token.type == "EQUAL" and case.in_body and case.first_on_line(i):
        return Found("E0111", "a name is missing before this `=`", case.span(i), hint=STATEMENT)
    second = any(word.type == "EQUAL" for word in case.tokens[case.begin : i])
    if token.type == "EQUAL" and second and case.accepts("CMP"):
        code, hint = UNEXPECTED["EQUAL"]
        message = "there is a second `=` here"
        return Found(code, message, case.span(i), hint=hint, replace=("CMP", "=="))
    return None


def side_by_side(case: Situation) -> Found | None:
    """Two values without an operator between them."""
    i, token = case.i, case.token
    if case.begins or case.before.type not in ENDS_VALUE or token.type not in STARTS_VALUE:
        return None
    if case.in_body and _names(case):
        return None
    if not case.in_body and case.accepts("EQUAL") and case.accepts("LBRACE"):
        return None  # `network a b`
    if _lacks_else(case) and case.first_on_line(i):
        return None
    return _no_operator(case, i)


def _no_operator(case: Situation, right: int) -> Found:
    """Return the error of a missing operator before token ``right``."""
    left, token = case.tokens[right - 1], case.tokens[right]
    in_brackets = case.opening() is not None
    is_named = in_brackets and case.tokens[right + 1].type == "EQUAL"
    if token.text == left.text:
        twice = removing(Span(case.source, left.end, token.end))
        hint = Hint(f"`{token.text}` is written twice", twice)
    elif not is_named and (token.type == "LPAR" or left.type == "NUMBER"):
        hint = Hint("for a product write `*`", inserting(case.source, left.end, " *"))
    elif in_brackets:
        hint = Hint("arguments are separated by `,`", inserting(case.source, left.end, ","))
    else:
        hint = Hint("steps are joined by `->`; a new statement begins on a new line")
    missing = "an operator or `,`" if in_brackets else "an operator"
    return Found(
        "E0108",
        f"{missing} is missing between `{left.text}` and `{token.text}`",
        case.span(right) if case.first_on_line(right) else case.span(right - 1, right),
        hint=hint,
        insert=("COMMA", ",") if is_named and right == case.i else None,
        resume=right + (right < case.i),
    )


def statement(case: Situation) -> Found | None:
    """A statement that does not begin as `name = ...`."""
    i, begin, token = case.i, case.begin, case.token
    count = _names(case)
    if not case.in_body or not (count or case.begins):
        return None
    if case.begins:
        is_sign = token.type in ("EQUAL", *OPERATORS)
        known = STATEMENT if is_sign else UNEXPECTED.get(token.type, ("", STATEMENT))[1]
        message, hint = f"expected `name = value`, found {case.found}", answer("word", token.text)
        return Found("E0111", message, case.span(i), hint=hint or known, resume=i + 1)
    if not case.first_on_line(begin) and case.tokens[begin - 1].type in ENDS_VALUE:
        return _no_operator(case, begin)
    first, names = case.tokens[begin], case.text(begin, i - 1)
    same_line = not case.first_on_line(begin + 1)
    is_value = token.type in ("NUMBER", "STRING") and same_line and not case.first_on_line(i)
    if is_value and (count == 1 or first.type == "STATE"):
        message = f"a `=` is missing after `{names}`"
        return Found("E0111", message, case.span(i), hint=STATEMENT, insert=("EQUAL", "="))
    if count == 2 and same_line and (_opens(case) or case.after.type == "LBRACE"):
        return None  # a group
    hint = did_you_mean(first.text, ["state"]) or answer("word", first.text) or STATEMENT
    if first.text == case.tokens[begin + 1].text:
        twice = Span(case.source, first.end, case.tokens[begin + 1].end)
        hint = Hint(f"`{first.text}` is written twice", removing(twice))
    if token.type in ("LPAR", *OPERATORS) and token.type != "EQUAL" and count == 1:
        message = f"this value has no name: {STATEMENT}"
        hint = answer("word", first.text) or f"write `name = {names} ...`"
        return Found("E0111", message, case.span(begin, i), hint=hint)
    if count == 1 or not same_line or first.type == "STATE":
        last = begin if not same_line else i - 1
        message = f"`{case.text(begin, last)}` has no value"
        return Found("E0111", message, case.span(begin, last), hint=hint, resume=last + 1)
    message = f"a `=` is missing after `{first.text}`"
    return Found("E0111", message, case.span(begin, begin + 1), hint=hint)


def _names(case: Situation) -> int:
    """Return the number of names in the statement so far; 0 if it has other tokens."""
    words = case.tokens[case.begin : case.i]
    return len(words) if all(word.type in NAME_LIKE for word in words) else 0


def anything(case: Situation) -> Found:
    """Any other token: lists the tokens that are expected in its place."""
    i, token = case.i, case.token
    code, hint = UNEXPECTED.get(token.type, ("E0101", None))
    if _lacks_else(case) and hint is None:
        code, hint = "E0120", CHOICE
    in_head = not case.in_body and not case.begins
    is_unnamed = in_head and i == case.begin + 1
    insert = ("LBRACE", "{") if _opens(case) else ("NAME", "unnamed") if is_unnamed else None
    message, span = f"expected {_wanted(case)}", case.span(i)
    skipped = not case.in_body and case.begins
    ends = token.type == "$END" or (case.first_on_line(i) and token.type not in UNEXPECTED)
    if i > 0 and (insert or (ends and not skipped)):
        message, span = f"{message} after `{case.before.text}`", case.span(i - 1)
    message = f"{message}, found {case.found}"
    code = code if insert is None else "E0101"
    return Found(code, message, span, hint=hint, insert=insert, resume=i + skipped)


def _lacks_else(case: Situation) -> bool:
    return case.accepts("ELSE") and not case.accepts("IF")


def _opens(case: Situation) -> bool:
    """True if a `{` is missing before the token: at a line end, or with an unmatched `}`."""
    tokens, i = case.tokens, case.i
    return (
        case.accepts("LBRACE")
        and starts_statement(tokens, i)
        and (
            case.first_on_line(i)
            or any(
                tokens[j].type == "RBRACE" and j not in case.brackets.partner
                for j in range(i, len(tokens))
            )
        )
    )


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


Rule: TypeAlias = Callable[[Situation], Found | None]
RULES: tuple[Rule, ...] = (
    outside, reserved, missing_value, open_bracket, surplus, equals, side_by_side, statement, anything,
)  # fmt: skip


def diagnose(case: Situation) -> Found:
    return next(found for rule in RULES if (found := rule(case)) is not None)


# Bodies that are not closed


def unclosed(
    source: SourceFile,
    tokens: Sequence[Token],
    brackets: Brackets,
    opened: Sequence[Token],
    at: int,
) -> Diagnostic:
    """Return the error for a body that is not closed before the end of file or next declaration.

    ``opened`` contains the tokens on the stack, the outermost declaration first. A `}` that is
    indented less than the line of its `{` shows where the missing one belongs.
    """

    def indent(token: Token) -> int:
        line = source.text[source.text.rfind("\n", 0, token.start) + 1 :]
        return len(line) - len(line.lstrip())

    token, before = tokens[at], tokens[at - 1]
    braces = [token for token in opened if token.type == "LBRACE"]
    what = f"{opened[0].text} {opened[1].text}"
    if token.type == "$END":
        message = f"`{what}` is not closed at the end of the file"
        span = Span(source, before.start, before.end)
    else:
        span = Span(source, token.start, tokens[at + 1].end)
        message = f"`{what}` is not closed where `{shorten(span.text)}` begins"
    dedented = (
        closing
        for closing, opening in sorted(brackets.partner.items())
        if opening < closing < at
        and tokens[closing].type == "RBRACE"
        and tokens[opening].start > braces[0].start
        and indent(tokens[closing]) < indent(tokens[opening])
    )
    place = next(dedented, at)
    last, end = tokens[place - 1], tokens[place].start
    end = len(source.text) if tokens[place].type == "$END" else end
    labels = [Label(Span(source, brace.start, brace.end), "opened here") for brace in braces]
    labels.append(Label(Span(source, last.end, end), "a `}` is missing after this"))
    line_end = source.text.find("\n", last.end, end)
    is_comment = line_end >= 0 and source.text[last.end : line_end].lstrip().startswith("#")
    closed = inserting(source, line_end if is_comment else last.end, "\n}")
    hint = Hint("end its body with a `}`", closed)
    return Diagnostic("E0102", message, span, labels=tuple(labels), hint=hint)
