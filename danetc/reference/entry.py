"""Entries of the reference, and their text as Markdown."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class EntryParameter:
    """A parameter: its type with bounds, its default as written, and its meaning.

    ``default`` is None for a required parameter, and "" if omitting it has a meaning of its own, which
    ``meaning`` says.
    """

    name: str
    takes: str
    default: str | None
    meaning: str

    @property
    def usage(self) -> str:
        """The parameter as in a signature."""
        return f"{self.name} = {self.default}" if self.default else self.name


@dataclass(frozen=True, slots=True)
class Entry:
    """Documentation of a name.

    ``summary`` is one sentence, ``text`` is further Markdown. ``example`` is a spec that checks without
    warnings. ``paper`` is the source. ``declaration`` is the text of a declaration of the library, and
    ``place`` its file and line, as in ``std/neurons.danet:12``.
    """

    name: str
    kind: str
    signature: str
    summary: str
    parameters: tuple[EntryParameter, ...] = ()
    text: str = ""
    example: str | None = None
    paper: str | None = None
    place: str = ""
    declaration: str = ""


def call(name: str, words: list[str]) -> str:
    """Return ``name(a, b = 1)``, or the name alone."""
    return f"{name}({', '.join(words)})" if words else name


def sentence(text: str) -> str:
    """Return a line of a table as a sentence, with a capital letter and a full stop."""
    first = re.match(r"[a-z-]{2,}(?=[\s,:;]|$)|a(?= )", text)
    text = text[:1].upper() + text[1:] if first else text
    return text if not text or text.endswith((".", "!", "?")) else f"{text}."


def page(found: Sequence[Entry]) -> str:
    """Return the page of a name with all its meanings."""
    return "\n\n".join("\n\n".join(sections(entry)) for entry in found)


def sections(entry: Entry) -> Iterator[str]:
    """Yield the paragraphs of an entry."""
    if entry.kind in ("error", "warning"):  # their text is a complete page
        yield f"# {entry.name}: {entry.summary[:1].lower()}{entry.summary[1:].rstrip('.')}"
        yield entry.text
        return
    yield f"# {entry.name} ({entry.kind})"
    yield f"`{entry.signature}`"
    yield entry.summary
    if entry.text:
        yield entry.text
    if entry.parameters:
        facts = ["; ".join(filter(None, (row.takes, _default(row)))) for row in entry.parameters]
        yield "\n".join(
            f"- `{row.name}`: {row.meaning}" + f" ({fact})" * bool(fact)
            for row, fact in zip(entry.parameters, facts, strict=True)
        )
    if entry.declaration:
        yield f"Declared in {entry.place}:\n\n```danet\n{entry.declaration.strip()}\n```"
    if entry.paper:
        yield f"From: {entry.paper}."
    if entry.example:
        yield f"## Example\n\n```danet\n{entry.example.strip()}\n```"


def _default(row: EntryParameter) -> str:
    """Return the default of a parameter in words."""
    if row.default is None:
        return "required" if row.takes else ""
    return f"{row.default} by default" if row.default else ""
