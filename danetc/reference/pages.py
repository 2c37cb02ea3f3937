"""An entry as Markdown: what `danetc explain` prints, and the reference shows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from danetc.reference.entry import Entry, EntryParameter

CODES = ("error", "warning")
"""Kinds whose text is a page of its own, with its examples."""


def page(found: Sequence[Entry]) -> str:
    """The page of a name: all that it means."""
    return "\n\n".join("\n\n".join(sections(entry)) for entry in found)


def sections(entry: Entry) -> Iterator[str]:
    """The paragraphs of an entry."""
    if entry.kind in CODES:
        yield f"# {entry.name}: {entry.summary[:1].lower()}{entry.summary[1:].rstrip('.')}"
        yield entry.text
        return
    yield f"# {entry.name} ({entry.kind})"
    yield f"`{entry.signature}`"
    yield entry.summary
    if entry.text:
        yield entry.text
    if entry.parameters:
        yield "\n".join(map(parameter, entry.parameters))
    if entry.declaration:
        yield f"Declared in {entry.place}:"
        yield _block(entry.declaration)
    if entry.paper:
        yield f"From: {entry.paper}."
    if entry.example:
        yield "## Example"
        yield _block(entry.example)


def parameter(row: EntryParameter) -> str:
    """A parameter as an item of a list."""
    facts = [fact for fact in (row.takes, _default(row)) if fact]
    return f"- `{row.name}`: {row.meaning}" + f" ({'; '.join(facts)})" * bool(facts)


def _default(row: EntryParameter) -> str:
    if row.default is None:
        return "must be given" if row.takes else ""
    return f"{row.default} by default" if row.default else ""


def _block(text: str) -> str:
    return f"```danet\n{text.strip()}\n```"
