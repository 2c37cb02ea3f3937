"""What to say about a token that cannot stand where it stands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from danetc.dsl.brackets import Brackets
from danetc.dsl.diagnostics import Diagnostic, Label
from danetc.dsl.source import SourceFile, Span
from danetc.dsl.tokens import NAME_LIKE, Token, first_on_line

_RESERVED = frozenset(["USE", "VIA", "BY", "WITH", "IF", "ELSE", "FOR", "AND", "OR", "NOT"])
_ENDS_VALUE = NAME_LIKE | {"NUMBER", "STRING", "RPAR", "RSQB"}
_STARTS_VALUE = NAME_LIKE | {"NUMBER", "STRING", "LPAR"}
_INFIX = frozenset(
    [
        "PLUS",
        "MINUS",
        "STAR",
        "SLASH",
        "CMP",
        "ARROW",
        "RANGE",
        "EQUAL",
        "AND",
        "OR",
        "NOT",
        "VIA",
        "BY",
        "IF",
        "ELSE",
    ]
)
_BRACKETS = {"LPAR": "(", "RPAR": ")", "LSQB": "[", "RSQB": "]", "LBRACE": "{", "RBRACE": "}"}
_SAMPLES = {
    "LPAR": "`(`", "RPAR": "`)`", "LSQB": "`[`", "RSQB": "`]`", "LBRACE": "`{`", "RBRACE": "`}`",
    "COMMA": "`,`", "EQUAL": "`=`", "ARROW": "`->`", "FOR": "`for`", "IN": "`in`", "RANGE": "`..`",
    "ELSE": "`else`", "USE": "`use`",
}  # fmt: skip


@dataclass(frozen=True)
class Situation:
    """Token i cannot stand here. Its statement (or declaration's head) began at token ``begin``."""

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
        return self.tokens[self.i - 1]

    def span(self, first: int, last: int | None = None) -> Span:
        end = self.tokens[first if last is None else last].end
        return Span(self.source, self.tokens[first].start, end)

    def first_on_line(self, i: int) -> bool:
        return first_on_line(self.source, self.tokens, i)


@dataclass(frozen=True)
class Found:
    """The error, and how reading goes on: with a token instead or before, or from ``resume``."""

    diagnostic: Diagnostic
    replace: tuple[str, str] | None = None
    insert: tuple[str, str] | None = None
    resume: int = 0


def diagnose(case: Situation) -> Found:
    """The first rule that knows the case; the last one knows them all."""
    for rule in (_expected,):
        found = rule(case)
        if found is not None:
            return found
    raise AssertionError("the last rule knows every case")


def _expected(case: Situation) -> Found:
    wanted = _wanted(case)
    message = f"expected {wanted}, found {name_of(case.token)}"
    return Found(Diagnostic("E0101", message, case.span(case.i)), resume=case.i)


def _wanted(case: Situation) -> str:
    """What could stand here, in words, the likeliest first."""
    words = []
    if case.accepts("NUMBER"):
        words.append("a value")
    elif case.accepts("STRING"):
        words.append("a module's name or a path in quotes")
    elif case.accepts("NAME"):
        words.append("a name")
    if case.accepts("KIND") and not case.accepts("NAME"):
        words.append("a declaration")
    if case.accepts("PLUS"):
        words.append("an operator")
    words += [word for kind, word in _SAMPLES.items() if case.accepts(kind)]
    return " or ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else words[0]


def name_of(token: Token) -> str:
    if token.type == "$END":
        return "the end of the file"
    return f"`{token.text}`"


def unclosed(
    source: SourceFile, tokens: Sequence[Token], opened: Sequence[Token], at: int
) -> Diagnostic:
    """A declaration's body is still open at the end of the file or where another one begins.

    ``opened`` is the stack's tokens, the outermost declaration's first.
    """
    kind, name = opened[0], opened[1]
    braces = [token for token in opened if token.type == "LBRACE"]
    what = f"{kind.text} {name.text}"
    token = tokens[at]
    labels = [
        Label(Span(source, brace.start, brace.end), "this `{` has no `}`") for brace in braces
    ]
    if token.type == "$END":
        message = f"`{what}` is not closed at the end of the file"
        span = Span(source, token.start, token.end)
    else:
        end = tokens[at + 1].end
        message = f"`{what}` is not closed where `{source.text[token.start : end]}` begins"
        span = Span(source, token.start, end)
    return Diagnostic(
        "E0102", message, span, labels=tuple(labels), hint="end the body with a `}` before this"
    )
