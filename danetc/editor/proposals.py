"""Proposals of completion with their documentation."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from danetc.dsl.diagnostics.diagnostic import Reporter, SpecError
from danetc.dsl.loading import load_module
from danetc.dsl.reading import SUFFIX, read_text, zoo_files
from danetc.dsl.syntax.source import SourceFile, Span
from danetc.dsl.syntax.tokens import Token
from danetc.editor.analysis import Analysis
from danetc.editor.documentation import entry_for, markdown, parameter_of, parameter_text
from danetc.editor.meanings import Meaning
from danetc.reference import Entry, EntryParameter, entry_of, section


@dataclass(frozen=True)
class Proposal:
    """A completion: ``text`` replaces ``span``, the word at the cursor.

    ``kind`` is that of a ``Meaning``, ``keyword`` or ``file``. ``detail`` is a signature.
    """

    name: str
    kind: str
    text: str
    span: Span
    detail: str = ""
    markdown: str = ""


def named(span: Span, meaning: Meaning, *, suffix: str = "") -> Proposal:
    entry, name = entry_for(meaning), meaning.name
    if entry is None:
        return Proposal(name, meaning.kind, name + suffix, span, meaning.kind)
    text = markdown(entry)
    return Proposal(name, meaning.kind, name + suffix, span, entry.signature, text)


def argument(span: Span, name: str, row: EntryParameter | None) -> Proposal:
    usage, text = ("", "") if row is None else (row.usage, parameter_text(row))
    return Proposal(name, "argument", f"{name} = ", span, usage, text)


def builtin_argument(span: Span, name: str, owner: str) -> Proposal:
    return argument(span, name, parameter_of(Meaning("argument", name, owner=owner)))


def files_named(analysis: Analysis, string: Token, offset: int) -> Iterator[Proposal]:
    """Yield the specs and folders that complete the path of a `use`."""
    number = analysis.scanned.tokens.index(string)
    if number == 0 or analysis.scanned.tokens[number - 1].type != "USE":
        return
    written = analysis.text[string.start + 1 : offset]
    folder = Path(os.path.dirname(analysis.source.name)) / os.path.dirname(written)
    span = Span(analysis.source, offset - len(os.path.basename(written)), string.end - 1)
    for entry in sorted(folder.iterdir()) if folder.is_dir() else ():
        if entry.is_dir() and not entry.name.startswith("."):
            yield Proposal(f"{entry.name}/", "file", f"{entry.name}/", span)
        elif entry.suffix == SUFFIX and entry.name != os.path.basename(analysis.source.name):
            yield Proposal(entry.name, "file", entry.name, span)


def declarations(analysis: Analysis, span: Span, used: str) -> Iterator[Proposal]:
    """Yield the declarations of the standard library, or of another file, open or on disk."""
    entries: Iterator[Entry] = iter(sorted(section("std"), key=lambda entry: entry.name))
    if used != "std":
        name = os.path.join(os.path.dirname(analysis.source.name), used.strip('"'))
        name = str(zoo_files().get(used) or os.path.normpath(name))
        try:
            text = analysis.texts.get(os.path.realpath(name))
            source = SourceFile(name, read_text(Path(name), name) if text is None else text)
        except (SpecError, OSError, ValueError):
            return
        module = load_module(source, Reporter(), analysis.texts)
        entries = (entry_of(module, item) for item in module.own.values())
    for entry in entries:
        text = markdown(entry)
        yield Proposal(entry.name, entry.kind, entry.name, span, entry.signature, text)
