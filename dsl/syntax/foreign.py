"""Syntax of other languages in a spec: signs, dotted names, lines of Python, bodies after a colon.

Each gives one error and is then read as its equivalent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from danetc.dsl.diagnostics.diagnostic import Diagnostic
from danetc.dsl.diagnostics.habits import answer, fold, items
from danetc.dsl.syntax.source import SourceFile, Span
from danetc.dsl.syntax.tree import DECLARATION_KINDS

_POWER = "write `x * x`, or `exp(n * log(x))`"
MEANT: Mapping[str, tuple[str, str]] = {
    "**": ("STAR", "*"), "^": ("STAR", "*"),
    "&&": ("AND", "and"), "&": ("AND", "and"), "||": ("OR", "or"), "|": ("OR", "or"),
    "!": ("NOT", "not"), "~": ("NOT", "not"),
    "===": ("CMP", "=="), "!==": ("CMP", "!="), "<>": ("CMP", "!="), "=<": ("CMP", "<="),
    "≤": ("CMP", "<="), "≥": ("CMP", ">="), "≠": ("CMP", "!="),
    "=>": ("ARROW", "->"), "→": ("ARROW", "->"), "|>": ("ARROW", "->"), "⟶": ("ARROW", "->"),
    "−": ("MINUS", "-"), "–": ("MINUS", "-"), "—": ("MINUS", "-"),
    "×": ("STAR", "*"), "·": ("STAR", "*"), "⋅": ("STAR", "*"), "÷": ("SLASH", "/"),
    "?": ("IF", "if"), ":=": ("EQUAL", "="), ":": ("EQUAL", "="),
    "+=": ("EQUAL", "="), "-=": ("EQUAL", "="), "*=": ("EQUAL", "="), "/=": ("EQUAL", "="),
}  # fmt: skip
"""Signs of other languages, with the equivalent token."""

SIGN = "|".join(re.escape(word) for word in sorted(MEANT, key=len, reverse=True))
DOTTED = r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+"
HINTS: Mapping[str, str] = {
    ".": "numbers have a digit on each side of the point; a range is `a .. b`",
    "'": 'strings are written in double quotes: `"..."`',
    '"': 'strings are written in double quotes: `"..."`',
    "%": "there is no remainder; indices and widths use `+ - * /`",
    "\\": "line ends are not significant: a value may continue on the next line",
}
"""Hints for characters that are not part of the language."""


def sign(word: str, before: str) -> tuple[str, str, str]:
    """Return the code, message and hint for a sign of another language after the name ``before``."""
    if word in ("**", "^"):
        return "E0110", f"there is no power operator `{word}`", _POWER
    if len(word) == 2 and word[1] == "=" and word[0] in "+-*/":
        return (
            "E0118",
            f"there is no operator `{word}`",
            f"write `{before} = {before} {word[0]} ...`",
        )
    if word == "?":
        return "E0118", "there is no operator `?`", "a choice is written `a if condition else b`"
    return "E0118", f"there is no operator `{word}`", f"write `{MEANT[word][1]}`"


def dotted(word: str) -> tuple[str, str]:
    """Return the message and the hint for a dotted name, as `nn.Conv2d`."""
    parts = word.split(".")
    hint = answer("name", parts[0]) if parts[0] == "self" else None
    for where in ("dotted", "name", "equation"):
        hint = hint or answer(where, parts[-1])
    hint = hint or next((row.answer for row in items() if fold(row.name) == fold(parts[-1])), None)
    if parts[-1] == "danet":
        hint = f'a file is named in quotes: `"{word}"`'
    return f"a name has no `.` in it: `{word}`", hint or alone(parts[-1])


def alone(name: str) -> str:
    """Return the hint for the last part of an unknown dotted name."""
    return f"write only the name: `{name}`"


# Lines of Python

_HEAD = re.compile(r"(?:async\s+)?(\w+)\b[^\n{}]*:[ \t]*(?:#[^\n]*)?(?=\n|\Z)")
_IMPORT = re.compile(
    r"(?:from\s+[\w.]+\s+import\b[^\n]*|import\s+(?!std\b)[A-Za-z_][\w.]*(?:\s+as\s+\w+)?(?:[ \t]*,[^\n]*)?)"
    r"[ \t]*(?:#[^\n]*)?(?=\n|\Z)"
)
_HEADS = frozenset(
    [
        "class",
        "def",
        "async",
        "for",
        "while",
        "if",
        "elif",
        "else",
        "try",
        "except",
        "finally",
        "with",
    ]
)
PYTHON = _HEADS | {"import", "from"}
"""Words that begin a line of Python."""


def python(source: SourceFile, start: int, word: str) -> tuple[Diagnostic, int] | None:
    """Return the error for a line of Python and the end of its body, or None for other lines."""
    text = source.text
    line = text.rfind("\n", 0, start) + 1
    if text[line:start].strip():
        return None
    pattern = _HEAD if word in _HEADS else _IMPORT
    found = pattern.match(text, start)
    if found is None:
        return None
    end = found.end()
    span = Span(source, start, start + len(word))
    if word in _HEADS:
        span, end = Span(source, start, end), _end_of_body(text, end, start - line)
    return Diagnostic("E0114", f"there is no `{word}`", span, hint=answer("word", word)), end


def _end_of_body(text: str, end: int, indent: int) -> int:
    """Return the end of the lines that are indented deeper than their head."""
    while end < len(text):
        after = text.find("\n", end + 1)
        after = len(text) if after < 0 else after
        line = text[end + 1 : after]
        deeper = len(line) - len(line.lstrip()) > indent
        if line.strip() and (not deeper or line.count("{") != line.count("}")):
            break
        end = after
    return end


# Bodies after a colon

_COLON_BODY = re.compile(rf"[ \t]*(?:{'|'.join(DECLARATION_KINDS)}|phase)\b[^\n{{}}=:]*")
_REST = re.compile(r":[ \t]*(?:(?:#[^\n]*)?(?=\n|\Z)|[A-Za-z_]\w*[ \t]*=(?!=))")


def colon_body(text: str, start: int) -> int | None:
    """Return the indentation of a head whose body begins with the colon at ``start``, else None."""
    line = text.rfind("\n", 0, start) + 1
    head = text[line:start]
    if _REST.match(text, start) is None or _COLON_BODY.fullmatch(head.split("(")[0]) is None:
        return None
    return len(head) - len(head.lstrip())
