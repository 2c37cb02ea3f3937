"""Entries of the reference, and their text as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

WORDS_OF_TYPE = {int: "a whole number", float: "a number", bool: "`true` or `false`"}
"""What a parameter of a type takes, as a text says it."""


@dataclass(frozen=True, slots=True)
class EntryParameter:
    """A parameter: what it takes with its bounds, its default as it is written, what it is.

    ``default`` is None of one that must be given, and "" of one whose absence means something of its
    own, which ``meaning`` says.
    """

    name: str
    takes: str
    default: str | None
    meaning: str

    @property
    def usage(self) -> str:
        """As a signature has it."""
        return f"{self.name} = {self.default}" if self.default else self.name


@dataclass(frozen=True, slots=True)
class Place:
    """Where a name is declared: a file of the library, ``std/neurons.danet``, and a line from 1."""

    module: str
    line: int

    def __str__(self) -> str:
        return f"{self.module}:{self.line}"


@dataclass(frozen=True, slots=True)
class Entry:
    """A name and all that is known of it.

    ``kind`` is one of ``KINDS``. ``summary`` is one sentence, ``text`` more of it (Markdown, may be
    empty). ``example`` is a spec that checks without a warning. ``paper`` is where it comes from.
    """

    name: str
    kind: str
    signature: str
    summary: str
    parameters: tuple[EntryParameter, ...] = ()
    text: str = ""
    example: str | None = None
    paper: str | None = None
    place: Place | None = None
    declaration: str = ""
    """The text of a declaration of the library."""


def call(name: str, words: list[str]) -> str:
    """``name(a, b = 1)``, or the name alone."""
    return f"{name}({', '.join(words)})" if words else name


def value_text(value: object) -> str:
    """A value as a spec has it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)


def sentence(text: str) -> str:
    """A line of a table as a sentence: rows begin small and have no full stop."""
    text = text.strip()
    first = text.partition(" ")[0].rstrip(",:;").replace("-", "")
    if first.isalpha() and first.islower() and (len(first) > 1 or first == "a"):
        text = text[0].upper() + text[1:]
    return text if not text or text.endswith((".", "!", "?")) else f"{text}."


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
