"""Proposals: what completion offers of a name, with its documentation; those of other files too."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from danetc.dsl.diagnostics.diagnostic import Reporter
from danetc.dsl.loading import load_module
from danetc.dsl.reading import SUFFIX, Unreadable, read_text
from danetc.dsl.syntax.source import SourceFile, Span
from danetc.dsl.syntax.tokens import Token
from danetc.editor.analysis import Analysis
from danetc.editor.cursor import Cursor
from danetc.editor.documentation import entry_for, markdown, parameter_of, parameter_text
from danetc.editor.meaning import Meaning
from danetc.reference import Entry, entry_of, section


@dataclass(frozen=True)
class Proposal:
    """A name that may stand at the cursor. ``text`` goes in place of ``span``, the part that is
    written. ``kind`` is that of a ``Meaning``, or ``keyword``, ``file``. ``detail`` is a signature."""

    name: str
    kind: str
    text: str
    span: Span
    detail: str = ""
    markdown: str = ""


def files_named(analysis: Analysis, string: Token, offset: int) -> Iterator[Proposal]:
    """The specs that the path in a `use` may lead to."""
    number = analysis.scanned.tokens.index(string)
    if number == 0 or analysis.scanned.tokens[number - 1].type != "USE":
        return
    written = analysis.text[string.start + 1 : offset]
    folder = Path(os.path.dirname(analysis.source.name)) / os.path.dirname(written)
    span = Span(analysis.source, offset - len(os.path.basename(written)), string.end - 1)
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return
    for entry in entries:
        if entry.is_dir() and not entry.name.startswith("."):
            yield Proposal(f"{entry.name}/", "file", f"{entry.name}/", span)
        elif entry.suffix == SUFFIX and entry.name != os.path.basename(analysis.source.name):
            yield Proposal(entry.name, "file", entry.name, span)


def names_of_library(cursor: Cursor) -> Iterator[Proposal]:
    """The declarations of the standard library."""
    for entry in sorted(section("std"), key=lambda entry: entry.name):
        yield _declaration(cursor, entry)


def names_of_file(cursor: Cursor, quoted: str) -> Iterator[Proposal]:
    """The declarations of another file, as it is open or on disk."""
    texts = cursor.analysis.texts
    name = os.path.join(os.path.dirname(cursor.analysis.source.name), quoted.strip('"'))
    name = os.path.normpath(name)
    try:
        text = texts.get(os.path.realpath(name))
        source = SourceFile(name, read_text(Path(name), name) if text is None else text)
    except (Unreadable, OSError, ValueError):
        return
    module = load_module(source, Reporter(), texts)
    for declaration in module.own.values():
        yield _declaration(cursor, entry_of(module, declaration))


def _declaration(cursor: Cursor, entry: Entry) -> Proposal:
    return Proposal(
        entry.name, entry.kind, entry.name, cursor.span, entry.signature, markdown(entry)
    )


def argument(cursor: Cursor, name: str, owner: str) -> Proposal:
    meaning = Meaning("argument", name, owner=owner)
    row = parameter_of(meaning)
    detail, text = (row.usage, parameter_text(row)) if row is not None else ("", "")
    return Proposal(name, "argument", f"{name} = ", cursor.span, detail, text)


def named(cursor: Cursor, meaning: Meaning, *, suffix: str = "", detail: str = "") -> Proposal:
    entry = entry_for(meaning)
    return Proposal(
        meaning.name,
        meaning.kind,
        meaning.name + suffix,
        cursor.span,
        detail or (entry.signature if entry is not None else meaning.kind),
        markdown(entry) if entry is not None else "",
    )
