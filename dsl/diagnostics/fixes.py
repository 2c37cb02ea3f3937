"""Fixes of errors: edits that editors offer, and the hints that describe them.

A ``Hint`` is a text with its fixes. A ``Suggestion`` names candidates for a wrong name, whose place
is known when the error is reported.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from danetc.dsl.record import record
from danetc.dsl.syntax.source import SourceFile, Span
from danetc.dsl.syntax.tree import Declaration


@record
class Edit:
    """Replace a span by a text."""

    span: Span
    text: str


@record
class Fix:
    """Edits of one correction, with a title such as ``write `conv` ``."""

    title: str
    edits: tuple[Edit, ...]


class Hint(str):
    """A hint with its fixes, the most likely first."""

    __slots__ = ("fixes",)
    fixes: tuple[Fix, ...]

    def __new__(cls, text: str, *fixes: Fix) -> Hint:
        hint = super().__new__(cls, text)
        hint.fixes = fixes
        return hint


class Suggestion(str):
    """A hint that names candidates for a wrong name."""

    __slots__ = ("candidates", "name")
    name: str
    candidates: tuple[str, ...]

    def __new__(cls, text: str, name: str = "", candidates: Iterable[str] = ()) -> Suggestion:
        hint = super().__new__(cls, text)
        hint.name, hint.candidates = name, tuple(candidates)
        return hint


def fixes_of(hint: str | None, span: Span) -> tuple[Fix, ...]:
    """Return the fixes of a hint for an error at a span."""
    match hint:
        case Hint():
            return hint.fixes
        case Suggestion():
            place = _place_of(hint.name, span)
            if place is None:
                return ()
            return tuple(replacing(place, name) for name in hint.candidates)
    return ()


def _place_of(name: str, span: Span) -> Span | None:
    """Return the first occurrence of a name in a span."""
    found = re.search(rf"(?<!\w){re.escape(name)}(?!\w)", span.text) if name else None
    if found is None:
        return None
    return Span(span.source, span.start + found.start(), span.start + found.end())


def replacing(span: Span, text: str) -> Fix:
    """Return the fix that replaces a span by a text."""
    return Fix(f"write `{text.strip()}`", (Edit(span, text),))


def removing(span: Span) -> Fix:
    """Return the fix that removes a span."""
    return Fix(f"remove `{span.text.strip()}`", (Edit(span, ""),))


def inserting(source: SourceFile, offset: int, text: str) -> Fix:
    """Return the fix that inserts a text at an offset."""
    return Fix(f"insert `{text.strip()}`", (Edit(Span(source, offset, offset), text),))


def write(text: str, span: Span) -> Hint:
    """Return the hint to write a text in place of a span."""
    return Hint(f"write `{text}`", replacing(span, text))


def remove(span: Span, hint: str = "remove it") -> Hint:
    """Return the hint to remove a span."""
    return Hint(hint, removing(span))


def line_removed(span: Span) -> Fix:
    """Return the fix that removes a statement, with its line if nothing else is on it."""
    text = span.source.text
    start = text.rfind("\n", 0, span.start) + 1
    end = text.find("\n", span.end)
    end = len(text) if end < 0 else end + 1
    alone = not text[start : span.start].strip() and not text[span.end : end].strip(" \t\r\n;")
    if not alone:
        start, end = span.start, span.end
        while text[end : end + 1] in (";", " "):
            end += 1
    return Fix(
        "remove this line" if alone else "remove this", (Edit(Span(span.source, start, end), ""),)
    )


def add(declaration: Declaration, line: str, behind: str = "") -> Hint | str:
    """Return the hint to add a line to the body of a declaration; ``behind`` ends its text."""
    text = f"add `{line}`{behind}"
    if declaration.body is None:
        return text
    last = declaration.body[-1].span if declaration.body else None
    return Hint(text, line_added(line, declaration.span, last))


def using_std(source: SourceFile) -> Fix:
    """Return the fix that adds `use std` after the leading comments of a file."""
    at = 0
    for line in source.text.splitlines(keepends=True):
        if line.strip() and not line.startswith("#"):
            break
        at += len(line)
    return Fix("add `use std`", (Edit(Span(source, at, at), "use std\n\n"),))


def line_added(line: str, body: Span, last: Span | None) -> Fix:
    """Return the fix that adds a statement to a body, which ends with ``}``, after its ``last`` one."""
    source, text = body.source, body.source.text
    if last is None:
        at = body.end - 1
        before = "" if text[at - 1 : at].isspace() else " "
        return Fix(f"add `{line}`", (Edit(Span(source, at, at), f"{before}{line} "),))
    start = text.rfind("\n", 0, last.start) + 1
    indent = text[start : last.start]
    here = Span(source, last.end, last.end)
    if indent.strip():  # body on one line
        return Fix(f"add `{line}`", (Edit(here, f"; {line}"),))
    end = text.find("\n", last.end)
    end = len(text) if end < 0 else end
    rest = text[last.end : end]
    if not rest.strip(" \t;") or rest.lstrip(" \t;").startswith("#"):  # after a comment
        here = Span(source, end, end)
    return Fix(f"add `{line}`", (Edit(here, f"\n{indent}{line}"),))
