"""An unexpected token and its context."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from danetc.dsl.diagnostics.diagnostic import Diagnostic, Label
from danetc.dsl.diagnostics.fixes import Hint, inserting, removing
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

RESERVED = frozenset(["USE", "VIA", "BY", "WITH", "IF", "ELSE", "FOR", "AND", "OR", "NOT"])
ENDS_VALUE = NAME_LIKE | {"NUMBER", "STRING", "RPAR", "RSQB"}
STARTS_VALUE = NAME_LIKE | {"NUMBER", "STRING", "LPAR"}
ARITHMETIC = ("PLUS", "MINUS", "STAR", "SLASH", "CMP", "ARROW", "RANGE", "EQUAL")
WANTS_VALUE = frozenset([*ARITHMETIC, "AND", "OR", "NOT", "VIA", "BY", "IF", "ELSE"])
CLOSING = {"LPAR": ("RPAR", ")"), "LSQB": ("RSQB", "]")}
SIGNS = {
    "LPAR": "(", "RPAR": ")", "LSQB": "[", "RSQB": "]", "LBRACE": "{", "RBRACE": "}", "COMMA": ",",
    "EQUAL": "=", "ARROW": "->", "RANGE": "..", "SEMICOLON": ";", "FOR": "for", "IN": "in",
    "ELSE": "else", "USE": "use",
}  # fmt: skip
PLACES = {
    "FOR": "`for` is written in an argument, as in `sum(out[i] for i in 0 .. 3)`",
    "RANGE": "a range is written in square brackets, as in `out[0 .. 3]`, or after `in`",
    "USE": "`use` is written at the top of a file",
    "ARROW": "put a flow that is an operand in parentheses",
}
STATEMENT = "a statement is `name = value`"


@record(slots=False)
class Situation:
    """Context of the unexpected token i; its statement or head of a declaration begins at ``begin``.

    ``accepts`` returns True for token types that are allowed in its place.
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

    def span(self, first: int, last: int | None = None) -> Span:
        end = self.tokens[first if last is None else last].end
        return Span(self.source, self.tokens[first].start, end)

    def text(self, first: int, last: int) -> str:
        return shorten(self.span(first, last).text)

    def first_on_line(self, i: int) -> bool:
        return first_on_line(self.source, self.tokens, i)

    def opening(self) -> int | None:
        """Return the round or square bracket of this statement that is open before the token."""
        around = self.i - 1
        if self.before.type not in CLOSING:
            around = self.brackets.inside[self.i - 1] if self.i > 0 else -1
        if around < self.begin or self.tokens[around].type not in CLOSING:
            return None
        return around

    def lone_parenthesis(self) -> int | None:
        """Return an unmatched `)` later on this line."""
        for j in range(self.i, len(self.tokens) - 1):
            kind = self.tokens[j].type
            if kind in ("LBRACE", "RBRACE", "SEMICOLON") or (j > self.i and self.first_on_line(j)):
                return None
            if kind == "RPAR" and j not in self.brackets.partner:
                return j
        return None

    def line_start(self) -> int | None:
        """Return the first token of a statement on its own line that was read as a value."""
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
    """An error, and how to continue: with a replaced, inserted or dropped token, or else from the
    next statement at or after ``resume``."""

    diagnostic: Diagnostic
    replace: tuple[str, str] | None = None
    insert: tuple[str, str] | None = None
    drop: bool = False
    resume: int = 0


def found(
    code: str,
    message: str,
    span: Span,
    *,
    label: str = "",
    labels: tuple[Label, ...] = (),
    hint: str | None = None,
    replace: tuple[str, str] | None = None,
    insert: tuple[str, str] | None = None,
    drop: bool = False,
    resume: int = 0,
) -> Found:
    diagnostic = Diagnostic(code, message, span, label, labels, hint)
    return Found(diagnostic, replace, insert, drop, resume)


def name_of(token: Token) -> str:
    return "the end of the file" if token.type == "$END" else f"`{token.text}`"


def count_names(case: Situation) -> int:
    """Return the number of names in the statement so far; 0 if it has other tokens."""
    words = case.tokens[case.begin : case.i]
    return len(words) if all(word.type in NAME_LIKE for word in words) else 0


def no_operator(case: Situation, right: int) -> Diagnostic:
    """Return the error of a missing operator before token ``right``."""
    left, token = case.tokens[right - 1], case.tokens[right]
    in_brackets = case.opening() is not None
    hint: str | None
    if token.text == left.text:
        twice = removing(Span(case.source, left.end, token.end))
        hint = Hint(f"`{token.text}` is written twice", twice)
    elif token.type == "LPAR":
        product = inserting(case.source, left.end, " *")
        hint = Hint("for a product write `*`; only names can be called", product)
    elif left.type == "NUMBER":
        product = inserting(case.source, left.end, " *")
        hint = Hint(f"for a product write `{left.text} * {token.text}`", product)
    elif in_brackets:
        separated = inserting(case.source, left.end, ",")
        hint = Hint("arguments are separated by `,`", separated)
    else:
        hint = "steps are joined by `->`; a new statement begins after `;` or on a new line"
    missing = "an operator or `,`" if in_brackets else "an operator"
    return Diagnostic(
        "E0108",
        f"{missing} is missing between `{left.text}` and `{token.text}`",
        case.span(right - 1, right) if not case.first_on_line(right) else case.span(right),
        hint=hint,
    )
