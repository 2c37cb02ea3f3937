"""What an editor offers to do about an error: edits of the text, by the hints that say so in words.

A hint that can be followed is a ``Hint``, a text with its fixes. One that suggests names,
``did you mean `x`?``, is a ``Suggestion``: where the wrong name stands is known when it is reported.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from danetc.dsl.record import record
from danetc.dsl.syntax.source import SourceFile, Span
from danetc.dsl.syntax.tree import Declaration


@record
class Edit:
    """A text in place of a span; an empty span inserts it."""

    span: Span
    text: str


@record
class Fix:
    """Edits that belong together, and what they do in a few words: ``write `conv` ``."""

    title: str
    edits: tuple[Edit, ...]


class Hint(str):
    """A hint with the fixes that follow it, the likeliest first."""

    __slots__ = ("fixes",)
    fixes: tuple[Fix, ...]

    def __new__(cls, text: str, *fixes: Fix) -> Hint:
        hint = super().__new__(cls, text)
        hint.fixes = fixes
        return hint


class Suggestion(str):
    """A hint that names what was probably meant by a wrong name."""

    __slots__ = ("candidates", "name")
    name: str
    candidates: tuple[str, ...]

    def __new__(cls, text: str, name: str = "", candidates: Iterable[str] = ()) -> Suggestion:
        hint = super().__new__(cls, text)
        hint.name, hint.candidates = name, tuple(candidates)
        return hint


def fixes_of(hint: str | None, span: Span) -> tuple[Fix, ...]:
    """The fixes that a hint of an error at a span says."""
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
    """Where a name stands in a span: first where it begins, else anywhere."""
    found = re.search(rf"(?<!\w){re.escape(name)}(?!\w)", span.text) if name else None
    if found is None:
        return None
    return Span(span.source, span.start + found.start(), span.start + found.end())


def replacing(span: Span, text: str) -> Fix:
    """Another text in place of one."""
    return Fix(f"write `{text.strip()}`", (Edit(span, text),))


def removing(span: Span) -> Fix:
    """Nothing in place of a text."""
    return Fix(f"remove `{span.text.strip()}`", (Edit(span, ""),))


def inserting(source: SourceFile, offset: int, text: str) -> Fix:
    """A text at an offset."""
    return Fix(f"insert `{text.strip()}`", (Edit(Span(source, offset, offset), text),))


def in_braces(colon: Span, indent: int) -> Fix:
    """Braces around the lines behind a colon that stand further in than ``indent``."""
    text = colon.source.text
    last = place = text.find("\n", colon.end) + 1 or len(text)
    for line in text[place:].splitlines(keepends=True):
        stands = bool(line.strip())
        if stands and len(line) - len(line.lstrip()) <= indent:
            break
        place += len(line)
        last = place if stands else last
    before = text[: colon.start].rpartition("\n")[2]
    opening = "{" if before.endswith(" ") else " {"
    closing = "" if text[last - 1 : last] == "\n" else "\n"
    return Fix(
        "write it in braces",
        (
            Edit(colon, opening),
            Edit(Span(colon.source, last, last), f"{closing}{' ' * indent}}}\n"),
        ),
    )


def write(text: str, span: Span) -> Hint:
    """``write `text` ``, in place of a span."""
    return Hint(f"write `{text}`", replacing(span, text))


def remove(span: Span, hint: str = "remove it") -> Hint:
    """The hint that something is too much."""
    return Hint(hint, removing(span))


def line_removed(span: Span) -> Fix:
    """A statement taken away, with its line where nothing else stands there."""
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
    """``add `line` `` to the body of a declaration, and what the hint says behind it."""
    text = f"add `{line}`{behind}"
    if declaration.body is None:
        return text
    last = declaration.body[-1].span if declaration.body else None
    return Hint(text, line_added(line, declaration.span, last))


def using_std(source: SourceFile) -> Fix:
    """`use std` in front of what a file begins with, behind its comments."""
    at = 0
    for line in source.text.splitlines(keepends=True):
        if line.strip() and not line.startswith("#"):
            break
        at += len(line)
    return Fix("add `use std`", (Edit(Span(source, at, at), "use std\n\n"),))


def line_added(line: str, body: Span, last: Span | None) -> Fix:
    """A statement at the end of a body in braces. ``body`` ends behind its ``}``, ``last`` is its last
    statement, if it has one."""
    source, text = body.source, body.source.text
    if last is None:
        at = body.end - 1
        before = "" if text[at - 1 : at].isspace() else " "
        return Fix(f"add `{line}`", (Edit(Span(source, at, at), f"{before}{line} "),))
    start = text.rfind("\n", 0, last.start) + 1
    indent = text[start : last.start]
    here = Span(source, last.end, last.end)
    if indent.strip():  # a body on one line
        return Fix(f"add `{line}`", (Edit(here, f"; {line}"),))
    end = text.find("\n", last.end)
    end = len(text) if end < 0 else end
    rest = text[last.end : end]
    if not rest.strip(" \t;") or rest.lstrip(" \t;").startswith("#"):  # behind a comment
        here = Span(source, end, end)
    return Fix(f"add `{line}`", (Edit(here, f"\n{indent}{line}"),))
