"""Scanner: text to tokens. Syntax of other languages is reported and replaced by its equivalent."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import field
from functools import cache
from typing import NamedTuple

from danetc.dsl.diagnostics.diagnostic import Diagnostic
from danetc.dsl.diagnostics.fixes import (
    Fix,
    Hint,
    Suggestion,
    in_braces,
    inserting,
    replacing,
    write,
)
from danetc.dsl.diagnostics.visible import HIDDEN
from danetc.dsl.record import record
from danetc.dsl.syntax import foreign
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
    """Tokens of a file, ending with ``$END``, its comments, and errors of single words.

    ``is_text`` is False if there were so many errors that the rest was not read.
    """

    tokens: list[Token] = field(default_factory=list)
    comments: list[Comment] = field(default_factory=list)
    errors: list[Diagnostic] = field(default_factory=list)
    is_text: bool = True


MAX_WRONG_WORDS = 200
JOINERS = "\u200c\u200d"
"""Invisible characters that comments and strings may contain, because some scripts need them."""


@cache
def _scanner() -> re.Pattern[str]:
    """Return one pattern for foreign syntax, the terminals of the grammar, and invalid words."""
    parts = [
        ("REMARK", r"//[^\n]*|/\*(?:[^*]|\*(?!/))*(?:\*/)?"),
        ("FOREIGN", f"(?!!=(?!=))(?:{foreign.SIGN})"),
        ("DOTTED", foreign.DOTTED),
        *table().terminals,
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
    known = {name for name, _ in table().terminals}
    last_bad: Span | None = None
    forms = _Forms(source, out)
    begin, stop = (0, len(text)) if part is None else (part.start, part.end)
    if text.startswith("\ufeff", begin):
        begin += 1  # skip a byte order mark

    for match in _scanner().finditer(text, begin, stop):
        if len(out.errors) > MAX_WRONG_WORDS:
            out.is_text = False
            break
        kind = match.lastgroup or ""
        start, end = match.span()
        if kind not in ignored and forms.takes(kind, match.group(), start):
            continue
        if kind in ignored:
            if kind == "COMMENT":
                comment = match.group().rstrip()
                span = Span(source, start, start + len(comment))
                out.comments.append(Comment(comment, span=span))
                if "\r" in comment:
                    out.errors.append(_lone_return(source, start + comment.index("\r")))
                else:
                    _report_hidden(out, source, comment, start, "comment")
        elif kind in known:
            out.tokens.append(Token(kind, match.group(), start, end))
            if kind == "STRING":
                _report_hidden(out, source, match.group(), start, "string")
        elif kind != "BAD":
            _read_wrong_form(out, kind, match.group(), Span(source, start, end))
        elif last_bad is not None and last_bad.end == start:
            last_bad = Span(source, last_bad.start, end)
            out.errors[-1] = _bad_characters(last_bad)
        else:
            last_bad = Span(source, start, end)
            out.errors.append(_bad_characters(last_bad))

    if any(error.code == "E0106" for error in out.errors):
        _drop_beside_open_strings(out)
    last = out.tokens[-1].end if out.tokens else stop
    out.tokens += [Token("RBRACE", "}", last, last)] * len(forms.bodies)
    out.tokens.append(Token("$END", "", last, last))
    return out


def _drop_beside_open_strings(out: Scan) -> None:
    """Drop other errors of lines with an unclosed string, which follow from the missing quote."""
    opened = {error.span.line for error in out.errors if error.code == "E0106"}
    out.errors[:] = [
        error for error in out.errors if error.code == "E0106" or error.span.line not in opened
    ]


class _Forms:
    """Syntax of other languages that spans several tokens."""

    def __init__(self, source: SourceFile, out: Scan) -> None:
        self.source = source
        self.out = out
        self.skip = 0  # end of the lines of Python that are skipped
        self.seen: set[str] = set()
        self.bodies: list[int] = []  # indentations of heads whose bodies begin with a colon
        self.choosing = False  # True after a `?` whose `:` may follow

    def takes(self, kind: str, word: str, start: int) -> bool:
        """Report such syntax; return True if the token belongs to it and is skipped."""
        if start < self.skip:
            return True
        if self.bodies:
            self.close(start)
        if word in foreign.PYTHON:
            found = foreign.python(self.source, start, word)
            if found is not None:
                error, self.skip = found
                if word not in self.seen:  # once per word
                    self.out.errors.append(error)
                self.seen.add(word)
                return True
        if kind == "DOTTED" and word.startswith("self."):
            if "self" in self.seen:  # once per file
                self.out.tokens.append(Token("NAME", word[5:], start, start + len(word)))
                return True
            self.seen.add("self")
        if word == "?":
            self.choosing = True
        elif kind in ("SEMICOLON", "LBRACE", "RBRACE", "EQUAL"):
            self.choosing = False
        elif kind == "FOREIGN" and word == ":":
            if self.choosing:
                self.choosing = False
                return True
            return self.opens(start)
        return False

    def opens(self, start: int) -> bool:
        """Return True if a colon opens a body, which is reported."""
        indent = foreign.colon_body(self.source.text, start)
        if indent is None:
            return False
        span = Span(self.source, start, start + 1)
        hint = Hint(
            "a body is written between `{` and `}`; line ends and indentation have no meaning",
            in_braces(span, indent),
        )
        self.out.errors.append(Diagnostic("E0118", "a `:` does not begin a body", span, hint=hint))
        self.out.tokens.append(Token("LBRACE", "{", start, start + 1))
        self.bodies.append(indent)
        return True

    def close(self, start: int) -> None:
        """Close the bodies that the indentation of a token ends."""
        line = self.source.text.rfind("\n", 0, start) + 1
        if self.source.text[line:start].strip() == "":
            while self.bodies and self.bodies[-1] >= start - line:
                self.bodies.pop()
                self.out.tokens.append(Token("RBRACE", "}", start, start))


def _multiplied(out: Scan, power: Span) -> Fix | None:
    """Return the fix `x * x` for the square or cube of a name, else None."""
    base = out.tokens[-1] if out.tokens else None
    exponent = re.compile(r"\s*([23])(?![\w.])").match(power.source.text, power.end)
    if base is None or base.type != "NAME" or exponent is None:
        return None
    text = " * ".join([base.text] * int(exponent[1]))
    return replacing(Span(power.source, base.start, exponent.end()), text)


def _read_wrong_form(out: Scan, kind: str, word: str, span: Span) -> None:
    """Report an invalid word and add its equivalent."""
    meant: tuple[str, str] | None
    hint: str | None
    match kind:
        case "REMARK":
            code, message = "E0118", "comments begin with `#`"
            hint = "a comment runs from `#` to the end of its line"
            if word.startswith("//"):
                hint = Hint(hint, replacing(Span(span.source, span.start, span.start + 2), "#"))
            meant = None
        case "FOREIGN":
            meant = foreign.MEANT[word]
            before = out.tokens[-1].text if out.tokens and out.tokens[-1].type == "NAME" else "a"
            code, message, hint = foreign.sign(word, before)
            if hint == f"write `{meant[1]}`":
                hint = write(meant[1], span)
            elif code == "E0110" and (fix := _multiplied(out, span)) is not None:
                hint = Hint(hint, fix)
        case "DOTTED":
            meant = ("NAME", word.rpartition(".")[2])
            code, (message, hint) = "E0118", foreign.dotted(word)
            names = hint.candidates if isinstance(hint, Suggestion) else ()
            if hint == foreign.alone(meant[1]):
                names = (meant[1],)
            hint = Hint(hint, *(replacing(span, name) for name in names))
        case "BAD_NUMBER":
            meant = ("NUMBER", "1")
            code, (message, hint) = "E0107", _bad_number(word)
            if hint.startswith("write `") and hint.endswith("`"):
                hint = write(hint.removeprefix("write `").removesuffix("`"), span)
        case "BAD_STRING":
            meant = ("STRING", f'"{word[1:-1]}"')
            code, message = "E0106", "a string is written in double quotes"
            hint = write(f'"{word[1:-1]}"', span)
        case "OPEN_STRING":
            meant = ("STRING", f'{word}"')
            code, message = "E0106", "this string is not closed on its line"
            line = span.source.line(span.line)[: span.column - 1]
            if '\\"' in line:
                hint = 'strings have no escapes: a string ends at the next `"`'
            else:
                closed = inserting(span.source, span.start + len(word.rstrip()), '"')
                hint = Hint('strings begin and end with `"` on one line', closed)
        case _:
            meant = ("NAME", word)
            letter = next(ch for ch in word if not ch.isascii())
            code = "E0105"
            message = f"`{letter}` ({_describe(letter)}) cannot be part of a name"
            hint = "names are made of the letters a-z and A-Z, digits and `_`"
    out.errors.append(Diagnostic(code, message, span, hint=hint))
    if meant is not None:
        out.tokens.append(Token(*meant, span.start, span.end))


def _bad_number(word: str) -> tuple[str, str]:
    numeral = re.match(r"[0-9]*\.?[0-9]*(?:[eE][+-]?[0-9]+)?", word)
    head = numeral.group() if numeral else ""
    rest = word[len(head) :]
    if not rest and word.startswith("."):
        return "a number has a digit before its point", f"write `0{word}`"
    if not rest and word.endswith("."):
        return "a number has a digit after its point", f"write `{word}0`"
    if re.fullmatch(r"[0-9_.]+", word) and "_" in word and word.count(".") < 2:
        return "digits are not grouped by `_`", f"write `{word.replace('_', '')}`"
    if re.fullmatch(r"0[xXbBoO]\w+", word):
        try:
            return "numbers are written in base ten", f"write `{int(word, 0)}`"
        except ValueError:
            return "numbers are written in base ten", "write it in digits 0 to 9"
    if re.fullmatch(r"[A-Za-z_]\w*", rest) and rest[0] not in "eE.":
        return (
            f"the number `{head}` runs into `{rest}`",
            f"for a product write `{head} * {rest}`; a name cannot begin with a digit",
        )
    return f"`{word}` is no number", "numbers are written `4`, `0.5` or `1e-4`"


def _bad_characters(span: Span) -> Diagnostic:
    text = span.text
    first = text[0]
    if len(text) == 1:
        message = f"unexpected character {_quote(first)}({_describe(first)})"
    else:
        message = (
            f"{len(text)} unexpected characters, the first {_quote(first)}({_describe(first)})"
        )
    hint = foreign.HINTS.get(first)
    if first == "\0" or (hint is None and unicodedata.category(first) == "Cc"):
        hint = "is this a text file?"
    return Diagnostic("E0105", message, span, hint=hint)


def _lone_return(source: SourceFile, at: int) -> Diagnostic:
    """Return the error of a carriage return as line end, which would extend a comment."""
    return Diagnostic(
        "E0105",
        "a carriage return without a line feed inside a comment",
        Span(source, at, at + 1),
        hint="lines end with a line feed, alone or after a carriage return",
    )


def _report_hidden(out: Scan, source: SourceFile, text: str, start: int, what: str) -> None:
    """Report the first character of a comment or string that is invisible or reorders the line."""
    found = next((m for m in HIDDEN.finditer(text) if m.group() not in f"\t{JOINERS}"), None)
    if found is not None:
        place = Span(source, start + found.start(), start + found.end())
        out.errors.append(
            Diagnostic(
                "E0105",
                f"a {what} with a character that is not shown as itself "
                f"({_describe(found.group())})",
                place,
                hint="leave it out, or write its name",
            )
        )


def _quote(ch: str) -> str:
    return f"`{ch}` " if ch.isprintable() else ""


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
