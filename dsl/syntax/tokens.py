"""Scanner: text to tokens. Syntax of other languages is reported and replaced by its equivalent."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import field
from functools import cache
from typing import NamedTuple

from danetc.dsl.diagnostics.diagnostic import Diagnostic
from danetc.dsl.diagnostics.fixes import Hint, inserting, replacing, write
from danetc.dsl.diagnostics.habits import answer, fold, items
from danetc.dsl.diagnostics.visible import HIDDEN
from danetc.dsl.record import record
from danetc.dsl.syntax.grammar import table
from danetc.dsl.syntax.source import SourceFile, Span
from danetc.dsl.syntax.tree import Comment


class Token(NamedTuple):
    """A terminal of the grammar with its text and offsets."""

    type: str
    text: str
    start: int
    end: int


@record(frozen=False)
class Scan:
    """The tokens of a file, of which the last is ``$END``, its comments, and its invalid words.

    ``is_text`` is False if the rest was not read: after a line of Python or too many errors.
    """

    tokens: list[Token] = field(default_factory=list)
    comments: list[Comment] = field(default_factory=list)
    errors: list[Diagnostic] = field(default_factory=list)
    is_text: bool = True


MAX_WRONG_WORDS = 200
JOINERS = "\u200c\u200d"
"""Invisible characters that comments and strings may contain, because some scripts need them."""

CORRECTED: Mapping[str, tuple[str, str]] = {
    "**": ("STAR", "*"), "^": ("STAR", "*"),
    "&&": ("AND", "and"), "&": ("AND", "and"), "||": ("OR", "or"), "|": ("OR", "or"),
    "!": ("NOT", "not"), "~": ("NOT", "not"),
    "===": ("CMP", "=="), "!==": ("CMP", "!="), "<>": ("CMP", "!="), "=<": ("CMP", "<="),
    "≤": ("CMP", "<="), "≥": ("CMP", ">="), "≠": ("CMP", "!="),
    "=>": ("ARROW", "->"), "→": ("ARROW", "->"), "|>": ("ARROW", "->"), "⟶": ("ARROW", "->"),
    "−": ("MINUS", "-"), "–": ("MINUS", "-"), "—": ("MINUS", "-"),
    "×": ("STAR", "*"), "·": ("STAR", "*"), "⋅": ("STAR", "*"), "÷": ("SLASH", "/"),
    ":=": ("EQUAL", "="), ":": ("EQUAL", "="),
    "+=": ("EQUAL", "="), "-=": ("EQUAL", "="), "*=": ("EQUAL", "="), "/=": ("EQUAL", "="),
}  # fmt: skip
"""Signs of other languages, with the equivalent token."""

HINTS: Mapping[str, str] = {
    ".": "numbers have a digit on each side of the point; a range is `a .. b`",
    "'": 'strings are written in double quotes: `"..."`',
    '"': 'strings are written in double quotes: `"..."`',
    "%": "there is no remainder; indices and widths use `+ - * /`",
    "\\": "line ends are not significant: a value may continue on the next line",
}
"""Hints for characters that are not part of the language."""

_PYTHON = re.compile(
    r"^[ \t]*(?:(?P<import>import|from)[ \t]+[A-Za-z_][\w. ,*]*"
    r"|(?P<head>(?P<word>\w+)\b[^\n{}#\"]*):[ \t]*(?:#[^\n]*)?)$",
    re.MULTILINE,
)


@cache
def _scanner() -> re.Pattern[str]:
    """Return one pattern for foreign syntax, the terminals of the grammar, and invalid words."""
    signs = "|".join(re.escape(word) for word in sorted(CORRECTED, key=len, reverse=True))
    ignored = table().ignored
    parts = [
        *(part for part in table().terminals if part[0] in ignored),  # first: the most frequent
        ("REMARK", r"//[^\n]*|/\*(?:[^*]|\*(?!/))*(?:\*/)?"),
        ("CHOICE", r"\?(?:[^:;\n{}]*:)?"),
        ("FOREIGN", f"(?!!=(?!=))(?:{signs})"),
        ("DOTTED", r"(?!zoo\.\w+(?![\w.]))[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+"),
        *(part for part in table().terminals if part[0] not in ignored),
        ("BAD_NUMBER", r"\.?[0-9](?:[eE][+-](?=[0-9])|\.(?!\.)|\w)*"),
        ("BAD_STRING", r"'[^'\n]*'|[“”][^“”\n]*[“”]"),
        ("OPEN_STRING", r'"[^"\n]*'),
        ("BAD_NAME", r"\w+"),
        ("BAD", "."),
    ]
    return re.compile("|".join(f"(?P<{name}>{pattern})" for name, pattern in parts), re.DOTALL)


def scan(source: SourceFile, part: Span | None = None) -> Scan:
    """Read a file, or a part of it from the start of a line; text that is not a token is an error."""
    out = Scan()
    text = source.text
    ignored = table().ignored
    kept = {name for name, _ in table().terminals} - ignored
    last_bad: Span | None = None
    begin, stop = (0, len(text)) if part is None else (part.start, part.end)
    if text.startswith("\ufeff", begin):
        begin += 1  # skip the byte order mark
    python = _PYTHON.search(text, begin, stop)
    if python is not None:
        stop, out.is_text = python.start(), False

    for match in _scanner().finditer(text, begin, stop):
        if len(out.errors) > MAX_WRONG_WORDS:
            out.is_text = False
            break
        kind, word = match.lastgroup or "", match.group()
        start, end = match.span()
        if kind == "COMMENT":
            comment = word.rstrip()
            out.comments.append(Comment(comment, span=Span(source, start, start + len(comment))))
            _report_hidden(out, source, comment, start, "comment")
        elif kind in kept:
            out.tokens.append(Token(kind, word, start, end))
            if kind == "STRING":
                _report_hidden(out, source, word, start, "string")
        elif kind in ignored:
            continue
        elif kind != "BAD":
            _read_wrong_form(out, kind, word, Span(source, start, end))
        elif last_bad is not None and last_bad.end == start:
            last_bad = Span(source, last_bad.start, end)
            out.errors[-1] = _bad_characters(last_bad)
        else:
            last_bad = Span(source, start, end)
            out.errors.append(_bad_characters(last_bad))

    if python is not None:
        out.errors.append(_line_of_python(source, python))
    last = out.tokens[-1].end if out.tokens else stop
    out.tokens.append(Token("$END", "", last, last))
    return out


def _line_of_python(source: SourceFile, line: re.Match[str]) -> Diagnostic:
    """Return the error of an import, or of a body that begins with a colon."""
    word, group = (line["import"], "import") if line["import"] else (line["word"], "head")
    hint = answer("word", word)
    if hint is not None:
        return Diagnostic(
            "E0114", f"there is no `{word}`", Span(source, *line.span(group)), hint=hint
        )
    colon = Span(source, line.end("head"), line.end("head") + 1)
    hint = "a body is written between `{` and `}`; line ends and indentation have no meaning"
    return Diagnostic("E0118", "a `:` does not begin a body", colon, hint=hint)


def _read_wrong_form(out: Scan, kind: str, word: str, span: Span) -> None:
    """Report an invalid word and add the correct token."""
    correct: tuple[str, str] | None = None
    hint: str | None
    match kind:
        case "REMARK":
            code, message = "E0118", "comments begin with `#`"
            hint = "a comment runs from `#` to the end of its line"
            if word.startswith("//"):
                hint = Hint(hint, replacing(Span(span.source, span.start, span.start + 2), "#"))
        case "CHOICE":
            code, message, correct = "E0118", "there is no operator `?`", ("IF", "if")
            hint = "a choice is written `a if condition else b`"
        case "FOREIGN":
            code, message, correct = "E0118", f"there is no operator `{word}`", CORRECTED[word]
            hint = write(correct[1], span)
            if word in ("**", "^"):
                code, message = "E0110", f"there is no power operator `{word}`"
                hint = "write `x * x`, or `exp(n * log(x))`"
            elif word[0] in "+-*/":
                before = out.tokens[-1].text if out.tokens else "a"
                hint = f"write `{before} = {before} {word[0]} ...`"
        case "DOTTED":
            correct = ("NAME", word.rpartition(".")[2])
            code, message = "E0118", f"a name has no `.` in it: `{word}`"
            hint = _dotted(word)
            names = hint.candidates if isinstance(hint, Hint) else ()
            if hint is None:
                hint, names = f"write only the name: `{correct[1]}`", (correct[1],)
            hint = Hint(hint, *(replacing(span, name) for name in names))
        case "BAD_NUMBER":
            code, message, correct = "E0107", f"`{word}` is not a number", ("NUMBER", "1")
            hint = "numbers are written `4`, `0.5` or `1e-4`; a product has a `*`"
            number = ("0" + word) if word.startswith(".") else (word + "0")
            if "." in (word[0], word[-1]) and re.fullmatch(
                r"[0-9]+\.[0-9]+(?:[eE][+-]?[0-9]+)?", number
            ):
                hint = write(number, span)
        case "BAD_STRING":
            correct = ("STRING", f'"{word[1:-1]}"')
            code, message = "E0106", "a string is written in double quotes"
            hint = write(f'"{word[1:-1]}"', span)
        case "OPEN_STRING":
            line = span.source.text.rfind("\n", 0, span.start)
            while out.errors and out.errors[-1].span.start > line:
                out.errors.pop()  # these errors are due to the missing quote
            code, message = "E0106", "this string is not closed on its line"
            correct = ("STRING", f'{word}"')
            closed = inserting(span.source, span.start + len(word.rstrip()), '"')
            hint = 'strings begin and end with `"` on one line, and have no escapes'
            hint = Hint(hint, closed)
        case _:
            letter = next(ch for ch in word if not ch.isascii())
            code, correct = "E0105", ("NAME", word)
            message = f"`{letter}` ({_describe(letter)}) cannot be part of a name"
            hint = "names are made of the letters a-z and A-Z, digits and `_`"
    out.errors.append(Diagnostic(code, message, span, hint=hint))
    if correct is not None:
        out.tokens.append(Token(*correct, span.start, span.end))


def _dotted(word: str) -> str | None:
    """Return the hint for a dotted name, as `nn.Conv2d`; None for an unknown one."""
    first, last = word.split(".")[0], word.rpartition(".")[2]
    if last == "danet":
        return f'a file is named in quotes: `"{word}"`'
    hint = answer("name", first) if first == "self" else None
    for where in ("dotted", "name", "equation"):
        hint = hint or answer(where, last)
    return hint or next((row.answer for row in items() if fold(row.name) == fold(last)), None)


def _bad_characters(span: Span) -> Diagnostic:
    text = span.text
    first = text[0]
    found = (
        "unexpected character"
        if len(text) == 1
        else f"{len(text)} unexpected characters, the first"
    )
    shown = f"`{first}` " if first.isprintable() else ""
    hint = HINTS.get(first)
    if hint is None and unicodedata.category(first) == "Cc":
        hint = "is this a text file?"
    return Diagnostic("E0105", f"{found} {shown}({_describe(first)})", span, hint=hint)


def _report_hidden(out: Scan, source: SourceFile, text: str, start: int, what: str) -> None:
    """Report the first character of a comment or string that is invisible or reorders the line."""
    found = next((m for m in HIDDEN.finditer(text) if m.group() not in f"\t{JOINERS}"), None)
    if found is not None:
        place = Span(source, start + found.start(), start + found.end())
        shown = _describe(found.group())
        message = f"a {what} with a character that is not shown as itself ({shown})"
        hint = "leave it out, or write its name"
        out.errors.append(Diagnostic("E0105", message, place, hint=hint))


def _describe(ch: str) -> str:
    name = unicodedata.name(ch, "").lower()
    return f"U+{ord(ch):04X}" + (f", {name}" if name else "")


NAME_LIKE = frozenset(["NAME", "KIND", "IN", "STATE"])


def starts_declaration(tokens: Sequence[Token], i: int) -> bool:
    """True if token i begins ``KIND name {``, ``KIND name (`` or ``KIND name =``."""
    return (
        tokens[i].type == "KIND"
        and tokens[i + 1].type in NAME_LIKE
        and tokens[i + 2].type in ("LBRACE", "LPAR", "EQUAL")
    )


def starts_statement(tokens: Sequence[Token], i: int) -> bool:
    """True if token i begins ``name =``, ``name[...] =``, ``state name =`` or a group."""
    kinds = [token.type for token in tokens[i : i + 3]]
    if kinds[0] not in NAME_LIKE:
        return False
    match kinds[1:]:
        case ["EQUAL" | "LBRACE", *_]:
            return True
        case ["NAME", "LBRACE"]:
            return True
        case ["NAME" | "KIND" | "IN" | "STATE", "EQUAL"]:
            return kinds[0] == "STATE"
        case ["LSQB", *_]:
            for j in range(i + 2, min(i + 12, len(tokens) - 1)):
                if tokens[j].type == "RSQB":
                    return tokens[j + 1].type == "EQUAL"
    return False


def first_on_line(source: SourceFile, tokens: Sequence[Token], i: int) -> bool:
    return i == 0 or "\n" in source.text[tokens[i - 1].end : tokens[i].start]
