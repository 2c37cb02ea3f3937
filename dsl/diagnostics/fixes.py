"""Fixes of errors: edits that editors offer, and the hints that describe them.

A ``Hint`` is a text with its fixes, or with candidates for a wrong name, whose place is known when
the error is reported.
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
    """A hint with its fixes, the most likely first, or with ``candidates`` for the wrong ``name``."""

    __slots__ = ("candidates", "fixes", "name")
    fixes: tuple[Fix, ...]
    name: str
    candidates: tuple[str, ...]

    def __new__(
        cls, text: str, *fixes: Fix, name: str = "", candidates: Iterable[str] = ()
    ) -> Hint:
        hint = super().__new__(cls, text)
        hint.fixes, hint.name, hint.candidates = fixes, name, tuple(candidates)
        return hint


def fixes_of(hint: str | None, span: Span) -> tuple[Fix, ...]:
    """Return the fixes of a hint for an error at a span, which contains the wrong name."""
    if not isinstance(hint, Hint):
        return ()
    found = re.search(rf"(?<!\w){re.escape(hint.name)}(?!\w)", span.text)
    if hint.fixes or found is None:
        return hint.fixes
    place = Span(span.source, span.start + found.start(), span.start + found.end())
    return tuple(replacing(place, name) for name in hint.candidates)


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


def line_removed(span: Span) -> Fix:
    """Return the fix that removes a statement, with its line if nothing else is on it."""
    text = span.source.text
    start = text.rfind("\n", 0, span.start) + 1
    end = text.find("\n", span.end) + 1 or len(text)
    rest = text[span.end : end]
    alone = not (text[start : span.start] + rest).strip(" \t\r\n;")
    if not alone:
        start, end = span.start, end - len(rest.lstrip("; "))
    title = "remove this line" if alone else "remove this"
    return Fix(title, (Edit(Span(span.source, start, end), ""),))


def using_std(source: SourceFile) -> Fix:
    """Return the fix that adds `use std` after the leading comments of a file."""
    head = re.match(r"(?:[ \t\r]*(?:#[^\n]*)?\n)*", source.text)
    at = head.end() if head is not None else 0
    return Fix("add `use std`", (Edit(Span(source, at, at), "use std\n\n"),))


def add(declaration: Declaration, line: str, behind: str = "") -> Hint | str:
    """Return the hint to add a line to the body of a declaration; ``behind`` ends its text."""
    hint, title = f"add `{line}`{behind}", f"add `{line}`"
    if declaration.body is None:
        return hint
    source, text = declaration.span.source, declaration.span.source.text
    if not declaration.body:
        at = declaration.span.end - 1
        added = f"{line} " if text[at - 1 : at].isspace() else f" {line} "
    else:
        last = declaration.body[-1].span
        start, end = text.rfind("\n", 0, last.start) + 1, text.find("\n", last.end)
        indent = text[start : last.start]
        on_one_line = end < 0 or indent.strip()
        at, added = (last.end, f"; {line}") if on_one_line else (end, f"\n{indent}{line}")
    return Hint(hint, Fix(title, (Edit(Span(source, at, at), added),)))
