"""Texts of specs by the names that commands and errors give them. Never imports torch."""

from __future__ import annotations

from dataclasses import dataclass

from danetc.dsl.diagnostics.diagnostic import did_you_mean
from danetc.dsl.loading import std_files
from danetc.dsl.reading import find_spec, read_source
from danetc.dsl.syntax.source import SourceFile
from danetc.errors import UserError
from danetc.reference import section


@dataclass(frozen=True, slots=True)
class FoundText:
    """A source, the line that is asked for (None for all), and the text that was found."""

    source: SourceFile
    line: int | None
    text: str


def find_text(place: str) -> FoundText:
    """The text at ``FILE``, ``NAME``, ``std/FILE.danet`` or a declaration of std, with ``:LINE`` or not.

    A column behind the line, as errors have it, is passed over. Raises SpecError where there is no such
    file, UserError where the file has no such line.
    """
    name, numbers = _split(place)
    declared = next((entry for entry in section("std") if entry.name == name), None)
    if declared is not None and declared.place is not None and not numbers:
        return FoundText(_library()[declared.place.module], None, declared.declaration)
    source = _library().get(name)
    if source is None and name.startswith("std/"):
        close = did_you_mean(name, _library())
        raise UserError(f"std has no file {name}; {close or 'it has ' + ', '.join(_library())}")
    source = source or read_source(find_spec(name))
    if not numbers:
        return FoundText(source, None, source.text)
    count = len(source.text.splitlines())
    if not 1 <= numbers[0] <= count:
        raise UserError(f"{name} has the lines 1 to {count}, not {numbers[0]}")
    return FoundText(source, numbers[0], source.line(numbers[0]))


def _split(place: str) -> tuple[str, list[int]]:
    """``FILE:LINE:COLUMN`` as a name and numbers; a drive letter of Windows is none of them."""
    parts = place.split(":")
    numbers: list[int] = []
    while len(parts) > 1 and parts[-1].isdecimal():
        numbers.insert(0, int(parts.pop()))
    return ":".join(parts), numbers


def _library() -> dict[str, SourceFile]:
    return {source.name: source for source in std_files()}
