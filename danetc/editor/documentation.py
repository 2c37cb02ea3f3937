"""The documentation of names in Markdown, for hover and completion."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from danetc.dsl.recipe.items import ITEMS
from danetc.dsl.syntax import tree as s
from danetc.editor.meanings import Meaning
from danetc.reference import Entry, EntryParameter, entry_of, section

_SECTIONS: Mapping[str, tuple[str, ...]] = {
    "word": ("words",),
    "keyword": ("words",),
    "network setting": ("words",),
    "setting": ("settings",),
    "operation": ("operations",),
    "function": ("functions",),
    "neuron function": ("equations",),
    "first weights": ("first-weights",),
    "item": ("items",),
    "choice": ("words", "first-weights"),
}
"""Sections of the reference by the kind of a meaning."""
MOST_LINES = 30


def entry_for(meaning: Meaning) -> Entry | None:
    """Return the entry of the reference, or one of the comments of the declaring file."""
    if meaning.resolved is not None:
        return entry_of(meaning.resolved.module, meaning.resolved.declaration)
    entries = [
        entry
        for name in _SECTIONS.get(meaning.kind, ())
        for entry in section(name)
        if entry.name == meaning.name
    ]
    if meaning.kind == "network setting":  # `neuron` and `surrogate` are keywords elsewhere
        entries = [entry for entry in entries if entry.kind == meaning.kind]
    kind = meaning.owner if meaning.kind == "item" and meaning.owner in ITEMS else meaning.kind
    return next((entry for entry in entries if entry.kind == kind), entries[0] if entries else None)


def parameter_of(meaning: Meaning) -> EntryParameter | None:
    """Return the reference of an argument of a built-in."""
    for name in ("operations", "first-weights", "items", "functions"):
        for entry in section(name):
            if entry.name == meaning.owner:
                for row in entry.parameters:
                    if row.name == meaning.name:
                        return row
    return None


def markdown(entry: Entry, *, parameters: bool = True) -> str:
    """Return an entry of the reference as Markdown."""
    return "\n\n".join(_parts(entry, parameters))


def _parts(entry: Entry, parameters: bool) -> Iterator[str]:
    yield f"```danet\n{entry.signature}\n```"
    if entry.summary:
        yield f"*{entry.kind}*: {entry.summary}"
    else:
        yield f"*{entry.kind}*"
    if parameters and any(row.meaning or row.takes for row in entry.parameters):
        yield "\n".join(f"- {parameter_text(row)}" for row in entry.parameters)
    if entry.text:
        yield entry.text
    if entry.paper and entry.paper not in entry.summary + entry.text:
        yield entry.paper


def parameter_text(row: EntryParameter) -> str:
    """Return ``` `kernel = 3`: height and width of the kernel (a whole number from 1 to 4096)```."""
    text = f"`{row.usage}`"
    if row.meaning:
        text += f": {row.meaning}"
    if row.takes:
        text += f" ({row.takes})"
    return text


def equations(declaration: s.Declaration) -> str:
    """Return the text of a declaration, shortened; "" for kinds that are documented otherwise."""
    if declaration.kind not in ("neuron", "surrogate", "connection", "rule", "block", "backbone"):
        return ""
    lines = declaration.span.text.splitlines()
    if len(lines) > MOST_LINES:
        lines = [*lines[:MOST_LINES], "..."]
    return "```danet\n" + "\n".join(lines) + "\n```"


def declared_text(meaning: Meaning) -> str:
    """Return the text and the comments of a declaration as Markdown."""
    assert meaning.resolved is not None
    entry = entry_for(meaning)
    assert entry is not None
    text = equations(meaning.resolved.declaration)
    if not text:
        return markdown(entry)
    parts = [text, *list(_parts(entry, True))[1:]]
    return "\n\n".join(parts)
