"""What to say about a token that cannot stand where it stands.

``diagnose`` asks rules in turn, from the particular to the general; each looks at the tokens around
the error, not at the state of the table. The last one knows every case.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from danetc.dsl.brackets import Brackets
from danetc.dsl.diagnostics import Diagnostic, Label, did_you_mean
from danetc.dsl.source import SourceFile, Span
from danetc.dsl.syntax import DECLARATION_KINDS
from danetc.dsl.tokens import NAME_LIKE, Token, first_on_line, starts_declaration, starts_statement

_RESERVED = frozenset(["USE", "VIA", "BY", "WITH", "IF", "ELSE", "FOR", "AND", "OR", "NOT"])
_ENDS_VALUE = NAME_LIKE | {"NUMBER", "STRING", "RPAR", "RSQB"}
_STARTS_VALUE = NAME_LIKE | {"NUMBER", "STRING", "LPAR"}
_ARITHMETIC = ("PLUS", "MINUS", "STAR", "SLASH", "CMP", "ARROW", "RANGE", "EQUAL")
_WANTS_VALUE = frozenset([*_ARITHMETIC, "AND", "OR", "NOT", "VIA", "BY", "IF", "ELSE"])
_CLOSING = {"LPAR": ("RPAR", ")"), "LSQB": ("RSQB", "]")}
_SIGNS = {
    "LPAR": "(", "RPAR": ")", "LSQB": "[", "RSQB": "]", "LBRACE": "{", "RBRACE": "}", "COMMA": ",",
    "EQUAL": "=", "ARROW": "->", "RANGE": "..", "SEMICOLON": ";", "FOR": "for", "IN": "in",
    "ELSE": "else", "USE": "use",
}  # fmt: skip
_PLACES = {
    "FOR": "`for` stands in an argument, as in `sum(out[i] for i in 0 .. 3)`",
    "RANGE": "a range stands in square brackets, as in `out[0 .. 3]`, or after `in`",
    "USE": "`use` stands at the top of a file",
    "ARROW": "a flow that is an operand stands in parentheses",
}
_STATEMENT = "a statement is `name = value`"


@dataclass(frozen=True)
class Situation:
    """Token i cannot stand here. Its statement, or declaration's head, began at token ``begin``.

    ``accepts`` says whether a token of some type could stand here instead.
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
        """The token before; the one itself at the start of the file."""
        return self.tokens[max(self.i - 1, 0)]

    @property
    def after(self) -> Token:
        return self.tokens[min(self.i + 1, len(self.tokens) - 1)]

    @property
    def begins(self) -> bool:
        """Whether nothing of a statement or declaration has been read yet."""
        return self.begin == self.i

    def span(self, first: int, last: int | None = None) -> Span:
        end = self.tokens[first if last is None else last].end
        return Span(self.source, self.tokens[first].start, end)

    def text(self, first: int, last: int) -> str:
        return _shorten(self.span(first, last).text)

    def first_on_line(self, i: int) -> bool:
        return first_on_line(self.source, self.tokens, i)

    def opening(self) -> int | None:
        """The index of the round or square bracket open before the token, in this statement."""
        around = self.i - 1
        if self.before.type not in _CLOSING:
            around = self.brackets.inside[self.i - 1] if self.i > 0 else -1
        if around < self.begin or self.tokens[around].type not in _CLOSING:
            return None
        return around

    def line_start(self) -> int | None:
        """The index of a statement that begins on a line of its own and was read as a value."""
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


@dataclass(frozen=True)
class Found:
    """The error, and how to go on: with another token in its place, with tokens put before it,
    without it, or else from the next statement at or after ``resume``."""

    diagnostic: Diagnostic
    replace: tuple[str, str] | None = None
    insert: tuple[str, str] | None = None
    drop: bool = False
    resume: int = 0


def diagnose(case: Situation) -> Found:
    for rule in _RULES:
        found = rule(case)
        if found is not None:
            return found
    return _anything(case)


def unclosed(
    source: SourceFile,
    tokens: Sequence[Token],
    brackets: Brackets,
    opened: Sequence[Token],
    at: int,
) -> Diagnostic:
    """A declaration's body is still open at the end of the file or where another one begins.

    ``opened`` is the stack's tokens, the outermost declaration's first. Where the indentation
    says that another brace inside was forgotten, that one is shown too.
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
        message = f"`{what}` is not closed where `{_shorten(span.text)}` begins"
    found = _by_indentation(source, tokens, brackets, braces[0], at)
    if found is not None:
        opening, place = found
        brace = Span(source, tokens[opening].start, tokens[opening].end)
        labels.append(Label(brace, "its `}` stands further to the left: is this one open?"))
        labels += _line_after(source, tokens[place - 1], tokens[place])
    else:
        labels += _line_after(source, before, token)
    return Diagnostic("E0102", message, span, labels=tuple(labels), hint="end its body with a `}`")


def _line_after(source: SourceFile, before: Token, token: Token) -> list[Label]:
    """A label on the line below a token, if the next token does not stand there."""
    line_end = source.text.find("\n", before.end)
    end = len(source.text) if token.type == "$END" else token.start
    if line_end < 0 or "\n" not in source.text[line_end + 1 : end]:
        return []
    return [Label(Span(source, line_end + 1, line_end + 1), "a `}` is missing here")]


def _by_indentation(
    source: SourceFile, tokens: Sequence[Token], brackets: Brackets, outer: Token, end: int
) -> tuple[int, int] | None:
    """A brace inside whose ``}`` is indented less than its line, and the token before which the
    indentation goes back."""

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


# At the top of a file


def _top(case: Situation) -> Found | None:
    """What begins here is neither `use` nor a declaration."""
    if case.in_body or not case.begins:
        return None
    token, i = case.token, case.i
    if token.type == "RBRACE":
        return Found(
            Diagnostic("E0104", "this `}` closes nothing", case.span(i), hint="take it away"),
            drop=True,
        )
    if starts_statement(case.tokens, i):
        closest = did_you_mean(token.text, DECLARATION_KINDS)
        if closest is None or case.after.type not in NAME_LIKE:
            return _missing_brace(case) or _outside(case, i)
    if token.type in NAME_LIKE and case.after.type in (*NAME_LIKE, "STRING"):
        if token.text in ("import", "include", "from", "require"):
            hint: str | None = "other files are brought in by `use`"
            return Found(
                Diagnostic("E0114", f"there is no `{token.text}`", case.span(i), hint=hint),
                replace=("USE", "use"),
            )
        hint = did_you_mean(token.text, DECLARATION_KINDS)
        kinds = ", ".join(f"`{kind}`" for kind in DECLARATION_KINDS)
        return Found(
            Diagnostic(
                "E0114",
                f"`{token.text}` begins no declaration",
                case.span(i),
                hint=hint or f"declarations begin with {kinds}",
            ),
            replace=("KIND", "network"),
        )
    message = f"expected a declaration or `use`, found {_name(token)}"
    hint = f"to bring in a file write `use {token.text}`" if token.type == "STRING" else None
    return Found(Diagnostic("E0101", message, case.span(i), hint=hint), resume=i + 1)


def _missing_brace(case: Situation) -> Found | None:
    """A body without its ``{``: its ``}`` pairs with nothing."""
    before = case.before
    if case.i == 0 or before.type == "RBRACE" or not case.accepts("LBRACE"):
        return None
    for j in range(case.i, len(case.tokens)):
        if case.tokens[j].type == "LBRACE" or j in case.brackets.partner:
            continue
        if case.tokens[j].type == "RBRACE":
            return Found(
                Diagnostic(
                    "E0101",
                    f"expected `{{` after `{before.text}`",
                    case.span(case.i - 1),
                    label="the body opens after this",
                    labels=(Label(case.span(j), "it ends here"),),
                ),
                insert=("LBRACE", "{"),
            )
    return None


def _outside(case: Situation, at: int) -> Found:
    what = case.text(at, at + 1) if case.tokens[at + 1].type in NAME_LIKE else case.tokens[at].text
    labels = []
    if at > 0 and case.tokens[at - 1].type == "RBRACE":
        labels.append(Label(case.span(at - 1), "the declaration before ends here"))
    return Found(
        Diagnostic(
            "E0115",
            f"`{what}` stands outside of every declaration",
            case.span(at),
            labels=tuple(labels),
            hint="settings stand between the braces of `network name { ... }` and its like",
        ),
        resume=at + 1,
    )


def _head(case: Situation) -> Found | None:
    """The head of a declaration, before its value or body."""
    if case.in_body or case.begins or case.tokens[case.begin].type != "KIND":
        return None
    i, token, kind = case.i, case.token, case.tokens[case.begin].text
    if i == case.begin + 1:
        if token.type in _RESERVED:
            return Found(_reserved(case), replace=("NAME", token.text))
        insert = ("NAME", "unnamed") if token.type in ("LBRACE", "LPAR", "EQUAL") else None
        return Found(
            Diagnostic("E0101", f"`{kind}` has no name", case.span(i - 1), label="name it here"),
            insert=insert,
        )
    if token.type == "LBRACE" and case.before.type == "EQUAL":
        return Found(
            Diagnostic(
                "E0111",
                "a body follows its head without `=`",
                case.span(i - 1),
                hint=f"write `{case.text(case.begin, i - 2)} {{`",
            ),
            insert=("NAME", "unnamed"),
        )
    if not case.accepts("LBRACE") or not case.first_on_line(i):
        return None
    if starts_statement(case.tokens, i):
        if not case.accepts("EQUAL"):
            return _missing_brace(case) or _outside(case, i)
        head = case.text(case.begin, i - 1)
        return Found(
            Diagnostic(
                "E0101",
                f"expected `{{` or `=` after `{head}`",
                case.span(i - 1),
                label="the body opens after this",
            ),
            insert=("LBRACE", "{"),
        )
    return None


# Brackets


def _open_bracket(case: Situation) -> Found | None:
    """A bracket that is never closed, noticed where its statement ends."""
    opening = case.opening()
    if opening is None or opening in case.brackets.partner:
        return None
    kind, sign = _CLOSING[case.tokens[opening].type]
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
        Diagnostic(
            "E0103",
            f"`{what}` is not closed",
            case.span(opening),
            label="opened here",
            labels=(Label(case.span(case.i - 1), f"a `{sign}` is missing after this"),),
        ),
        insert=(kind, sign),
    )


def _stray_brace(case: Situation) -> Found | None:
    """A `{` inside a line that begins no body."""
    if case.token.type != "LBRACE" or case.begins or case.first_on_line(case.i):
        return None
    if case.after.type == "RBRACE" or starts_statement(case.tokens, case.i + 1):
        return None
    closing = case.brackets.partner.get(case.i)
    if closing is not None and "\n" not in case.span(case.i, closing).text:
        return None
    message = "a body cannot stand here"
    return Found(Diagnostic("E0101", message, case.span(case.i)), drop=True)


def _stray_bracket(case: Situation) -> Found | None:
    """A closing bracket that nothing opens, at the token or where an opening one is missing."""
    i, token, partner = case.i, case.token, case.brackets.partner
    if token.type in ("RPAR", "RSQB") and i not in partner:
        return Found(
            Diagnostic("E0104", f"this `{token.text}` closes nothing", case.span(i)), drop=True
        )
    if case.before.type not in NAME_LIKE or token.type not in _STARTS_VALUE:
        return None
    for j in range(i, len(case.tokens) - 1):
        kind = case.tokens[j].type
        if kind in ("LBRACE", "RBRACE", "SEMICOLON") or (j > i and case.first_on_line(j)):
            return None
        if kind == "RPAR" and j not in partner:
            return Found(
                Diagnostic(
                    "E0104",
                    f"a `(` is missing between `{case.before.text}` and `{token.text}`",
                    case.span(i),
                    labels=(Label(case.span(j), "this `)` closes nothing"),),
                ),
                resume=j + 1,
            )
    return None


# Values


def _comma(case: Situation) -> Found | None:
    """Separators with nothing on one side."""
    i, token, before = case.i, case.token, case.before
    if token.type == "COMMA" and case.opening() is None and case.in_body and not case.begins:
        if not case.accepts("SEMICOLON"):
            return None
        message = "`,` stands between arguments, not here"
        if not starts_statement(case.tokens, i + 1):
            return Found(Diagnostic("E0116", message, case.span(i)), drop=True)
        hint = "statements are parted by `;` or stand on lines of their own"
        return Found(
            Diagnostic("E0116", message, case.span(i), hint=hint), replace=("SEMICOLON", ";")
        )
    if token.type in ("COMMA", "SEMICOLON") and (
        case.begins or before.type in ("LPAR", "LSQB", "COMMA")
    ):
        nothing = f"nothing stands before this `{token.text}`"
        return Found(Diagnostic("E0116", nothing, case.span(i), hint="take it away"), drop=True)
    if before.type == "COMMA" and token.type in ("RPAR", "RSQB"):
        return Found(
            Diagnostic(
                "E0116", "nothing stands after this `,`", case.span(i - 1), hint="take it away"
            )
        )
    return None


def _missing_value(case: Situation) -> Found | None:
    """An operator with nothing after it; the next statement may have been read as its operand."""
    start = case.line_start()
    if start is not None and case.tokens[start - 1].type in (*_WANTS_VALUE, "USE"):
        operator = case.tokens[start - 1]
        return Found(
            Diagnostic(
                "E0119",
                f"`{operator.text}` has no value after it",
                case.span(start - 1),
                labels=(Label(case.span(start), "the next one begins here"),),
            ),
            resume=start,
        )
    before, token = case.before, case.token
    if before.type == "USE" and token.type != "STRING" and case.i > 0:
        message = f"`use` names no module: found {_name(token)}"
        hint = 'write `use std` or `use "file.danet"`'
        return Found(Diagnostic("E0119", message, case.span(case.i - 1), hint=hint))
    if case.begins or not case.accepts("NAME") or token.type in _STARTS_VALUE:
        return None
    if before.type in _WANTS_VALUE:
        hint = None
        if token.type in _RESERVED:
            hint = f"`{token.text}` is a reserved word: it cannot be a name"
        elif token.type == before.type and token.text == before.text:
            hint = f"`{token.text}` stands here twice"
        elif token.type == "LBRACE":
            hint = "braces hold the body of a declaration or a group, not values"
        elif token.type == "LSQB":
            hint = "there are no lists: an operation takes its values as arguments"
        return Found(
            Diagnostic(
                "E0119",
                f"expected a value after `{before.text}`, found {_name(token)}",
                case.span(case.i - 1, case.i)
                if not case.first_on_line(case.i)
                else case.span(case.i - 1),
                hint=hint,
            )
        )
    if before.type == "LPAR" and token.type == "RPAR":
        message = "nothing stands between these parentheses"
        return Found(Diagnostic("E0119", message, case.span(case.i - 1, case.i)))
    return None


def _equals(case: Situation) -> Found | None:
    """`=` where values are compared, `==` where a name gets its value."""
    i, token = case.i, case.token
    if token.type == "CMP" and token.text == "==" and case.accepts("EQUAL"):
        hint = f"write `{case.before.text} = ...`; `==` compares two values"
        return Found(
            Diagnostic("E0112", "a name gets its value by `=`", case.span(i), hint=hint),
            replace=("EQUAL", "="),
        )
    begun = not case.begins and not case.first_on_line(i)
    if token.type == "EQUAL" and begun and case.before.type in _ENDS_VALUE:
        words = case.tokens[case.begin : i]
        if not any(word.type == "EQUAL" for word in words):
            return None
        if case.accepts("CMP"):
            hint = "to compare two values write `==`; one statement gives one name its value"
            return Found(
                Diagnostic("E0112", "there is a second `=` here", case.span(i), hint=hint),
                replace=("CMP", "=="),
            )
    return None


def _comparison(case: Situation) -> Found | None:
    """`a < b < c`."""
    if case.token.type != "CMP" or case.before.type not in _ENDS_VALUE:
        return None
    for j in range(case.i - 1, case.begin, -1):
        if case.tokens[j].type == "CMP":
            return Found(
                Diagnostic(
                    "E0117",
                    "comparisons do not chain",
                    case.span(case.i),
                    labels=(Label(case.span(j), "the first comparison"),),
                    hint="write `a < b and b < c`",
                )
            )
        if case.tokens[j].type in ("AND", "OR", "NOT", "IF", "ELSE", "COMMA", "EQUAL"):
            return None
    return None


def _choice(case: Situation) -> Found | None:
    """`if` without `else`, and the reverse."""
    hint = "a choice is written `a if condition else b`"
    if case.token.type == "ELSE":
        message = "this `else` has no `if`"
        return Found(Diagnostic("E0120", message, case.span(case.i), hint=hint))
    if not case.accepts("ELSE") or case.before.type not in _ENDS_VALUE:
        return None
    if case.token.type in _STARTS_VALUE and not case.first_on_line(case.i):
        return None
    for j in range(case.i - 1, case.begin, -1):
        if case.tokens[j].type == "IF":
            message = "this `if` has no `else`"
            return Found(Diagnostic("E0120", message, case.span(j), hint=hint))
    return None


def _side_by_side(case: Situation) -> Found | None:
    """Two values with nothing between them, inside a value."""
    i, token = case.i, case.token
    if case.begins or case.before.type not in _ENDS_VALUE or token.type not in _STARTS_VALUE:
        return None
    if case.in_body and _words(case):
        return None
    if not case.in_body and case.accepts("EQUAL") and case.accepts("LBRACE"):
        return None  # `network a b`: the head has its own messages
    if case.opening() is not None and case.after.type == "EQUAL":
        message = f"a `,` is missing before `{token.text} = ...`"
        return Found(Diagnostic("E0108", message, case.span(i)), insert=("COMMA", ","))
    return Found(_no_operator(case, i))


def _no_operator(case: Situation, right: int) -> Diagnostic:
    """Between token right and the one before it."""
    left, token = case.tokens[right - 1], case.tokens[right]
    in_brackets = case.opening() is not None
    hint: str | None
    if token.text == left.text:
        hint = f"`{token.text}` stands here twice"
    elif token.type == "LPAR":
        hint = "for a product write `*`; only a name can be called"
    elif left.type == "NUMBER":
        hint = f"for a product write `{left.text} * {token.text}`"
    elif in_brackets:
        hint = "arguments are parted by `,`"
    else:
        hint = "steps are joined by `->`; a new statement begins after `;` or on a new line"
    missing = "an operator or `,`" if in_brackets else "an operator"
    return Diagnostic(
        "E0108",
        f"{missing} is missing between `{left.text}` and `{token.text}`",
        case.span(right - 1, right) if not case.first_on_line(right) else case.span(right),
        hint=hint,
    )


# Statements


def _words(case: Situation) -> int:
    """How many names the statement consists of so far; 0 if it is more than names."""
    words = case.tokens[case.begin : case.i]
    return len(words) if all(word.type in NAME_LIKE for word in words) else 0


def _statement(case: Situation) -> Found | None:
    """A statement that does not begin as `name = ...`."""
    if not case.in_body:
        return None
    i, begin, token = case.i, case.begin, case.token
    count = _words(case)
    if case.begins:
        return _bad_beginning(case)
    if count == 0:
        return None
    first = case.tokens[begin]
    glued = begin > 0 and not case.first_on_line(begin)
    if glued and case.tokens[begin - 1].type in _ENDS_VALUE:
        return Found(_no_operator(case, begin), resume=begin + 1)
    if count == 1 or (count == 2 and first.type == "STATE"):
        name = case.text(begin, i - 1)
        if token.type in ("NUMBER", "STRING") and not case.first_on_line(i):
            return Found(
                Diagnostic(
                    "E0111", f"a `=` is missing after `{name}`", case.span(i), hint=_STATEMENT
                ),
                insert=("EQUAL", "="),
            )
        if token.type in ("LPAR", "ARROW", *_ARITHMETIC, *_RESERVED):
            message = f"this value has no name: {_STATEMENT}"
            hint = f"write `name = {name} ...`"
            if begin > 0 and case.tokens[begin - 1].type in _ENDS_VALUE:
                hint += ", or `->` before it if it belongs to the flow above"
            return Found(Diagnostic("E0111", message, case.span(begin, i), hint=hint))
        message = f"`{name}` has no value"
        return Found(Diagnostic("E0111", message, case.span(begin, i - 1), hint=_STATEMENT))
    second = case.tokens[begin + 1]
    if case.first_on_line(begin + 1):
        message = f"`{first.text}` has no value"
        return Found(
            Diagnostic("E0111", message, case.span(begin), hint=_STATEMENT), resume=begin + 1
        )
    both = case.span(begin, begin + 1)
    if starts_statement(case.tokens, i):
        message = f"expected `{{` after `{case.text(begin, begin + 1)}`"
        return Found(Diagnostic("E0101", message, both), insert=("LBRACE", "{"))
    if token.type == "EQUAL":
        if first.text == second.text:
            hint = f"`{first.text}` stands here twice"
        else:
            hint = did_you_mean(first.text, ["state"]) or _STATEMENT
        message = f"two names stand before `=`: `{first.text}` and `{second.text}`"
        return Found(Diagnostic("E0111", message, both, hint=hint))
    message = f"a `=` is missing after `{first.text}`"
    return Found(Diagnostic("E0111", message, both, hint=_STATEMENT))


def _bad_beginning(case: Situation) -> Found:
    """Nothing of the statement has been read, and the token cannot begin one."""
    i, token = case.i, case.token
    if token.type in _RESERVED and case.after.type in ("EQUAL", "LSQB"):
        return Found(_reserved(case), replace=("NAME", token.text))
    if token.type == "EQUAL":
        message = "a name is missing before this `=`"
        return Found(Diagnostic("E0111", message, case.span(i), hint=_STATEMENT))
    if token.type in _WANTS_VALUE and case.before.type == "SEMICOLON":
        message = f"nothing stands before this `{token.text}`"
        hint = "a value goes on in the next line without `;`"
        return Found(Diagnostic("E0111", message, case.span(i), hint=hint))
    message = f"expected `name = value`, found {_name(token)}"
    return Found(
        Diagnostic("E0111", message, case.span(i), hint=_PLACES.get(token.type)), resume=i + 1
    )


def _name_wanted(case: Situation) -> Found | None:
    """A reserved word or a value where only a name can stand."""
    goes_on = case.before.type in _ENDS_VALUE and not case.first_on_line(case.i)
    wants_name = case.accepts("NAME") and not case.accepts("NUMBER") and not goes_on
    if case.token.type in _RESERVED and wants_name:
        return Found(_reserved(case), replace=("NAME", case.token.text))
    start = case.line_start()
    if start is not None and case.tokens[start - 1].type in _ENDS_VALUE:
        return Found(_no_operator(case, start), resume=start)
    if case.begins or case.before.type not in _ENDS_VALUE or not case.in_body:
        return None
    if case.token.type == "EQUAL":
        message = "a name is missing before this `=`"
        return Found(Diagnostic("E0111", message, case.span(case.i), hint=_STATEMENT))
    return None


def _reserved(case: Situation) -> Diagnostic:
    word = case.token.text
    return Diagnostic(
        "E0113",
        f"`{word}` is a reserved word and cannot be a name",
        case.span(case.i),
        hint=f"take another name, as `{word}_`",
    )


def _anything(case: Situation) -> Found:
    wanted = _wanted(case)
    message = f"expected {wanted}, found {_name(case.token)}"
    span = case.span(case.i)
    if case.i > 0 and (case.first_on_line(case.i) or case.token.type == "$END"):
        message = f"expected {wanted} after `{case.before.text}`, found {_name(case.token)}"
        span = case.span(case.i - 1)
    return Found(Diagnostic("E0101", message, span, hint=_PLACES.get(case.token.type)))


def _wanted(case: Situation) -> str:
    """What could stand here, in words, the likeliest first."""
    if case.accepts("RBRACE") and case.accepts("SEMICOLON"):
        return "an operator or the end of the statement"
    words = []
    if case.accepts("NUMBER"):
        words.append("a value")
    elif case.accepts("STRING"):
        words.append("a module's name or a path in quotes")
    elif case.accepts("NAME"):
        words.append("a name")
    elif case.accepts("KIND"):
        words.append("a declaration")
    if case.accepts("PLUS"):
        words.append("an operator")
    words += [
        f"`{sign}`"
        for kind, sign in _SIGNS.items()
        if case.accepts(kind) and not (kind in ("LPAR", "IN") and words)
    ]
    return " or ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def _name(token: Token) -> str:
    return "the end of the file" if token.type == "$END" else f"`{token.text}`"


def _shorten(text: str, limit: int = 40) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 4] + " ..."


_RULES = (
    _top,
    _comma,
    _stray_brace,
    _head,
    _missing_value,
    _open_bracket,
    _stray_bracket,
    _equals,
    _comparison,
    _choice,
    _side_by_side,
    _statement,
    _name_wanted,
)
