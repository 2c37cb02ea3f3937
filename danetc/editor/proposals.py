"""Proposals of completion with their documentation, and the values that settings of recipes take."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from danetc.dsl.diagnostics.diagnostic import Reporter
from danetc.dsl.loading import load_module
from danetc.dsl.reading import SUFFIX, Unreadable, read_text
from danetc.dsl.recipe.items import ITEMS
from danetc.dsl.recipe.schema import (
    ChangeType,
    ChoiceType,
    FloatType,
    FlowType,
    IntType,
    ItemType,
    SumType,
    Type,
    WordType,
)
from danetc.dsl.recipe.settings import SETTINGS as RECIPE_SETTINGS
from danetc.dsl.syntax.source import SourceFile, Span
from danetc.dsl.syntax.tokens import Token
from danetc.editor.analysis import Analysis
from danetc.editor.cursor import Cursor, argument_name, line_of, phases_before
from danetc.editor.documentation import entry_for, markdown, parameter_of, parameter_text
from danetc.editor.meanings import Meaning, argument_of, changed_part
from danetc.reference import Entry, entry_of, section


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


def files_named(analysis: Analysis, string: Token, offset: int) -> Iterator[Proposal]:
    """Yield the specs and folders that complete the path of a `use`."""
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
    """Yield the declarations of the standard library."""
    for entry in sorted(section("std"), key=lambda entry: entry.name):
        yield _declaration(cursor, entry)


def names_of_file(cursor: Cursor, quoted: str) -> Iterator[Proposal]:
    """Yield the declarations of another file, open or on disk."""
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


def setting_values(cursor: Cursor, line: str) -> Iterator[Proposal]:
    """Yield the possible values of a setting."""
    row = RECIPE_SETTINGS.get(line)
    if row is None:
        return
    yield from _of_type(cursor, row.type)
    if (row.default is None and not row.required) or isinstance(row.type, FlowType):
        yield named(cursor, Meaning("word", "none"))


def _of_type(cursor: Cursor, kind: Type) -> Iterator[Proposal]:
    """Yield the names that are values of a type."""
    match kind:
        case WordType.BOOL:
            for name in ("true", "false"):
                yield named(cursor, Meaning("word", name))
        case ChoiceType(words):
            for name in words:
                yield named(cursor, Meaning("choice", name))
        case ItemType(family) | FlowType(family) | SumType(family):
            yield from _items(cursor, family)
        case ChangeType(_, parts):
            for name in parts:
                yield named(cursor, changed_part(name))
        case WordType.PHASE:
            for name in phases_before(cursor):
                yield named(cursor, Meaning("phase", name))
        case IntType() | FloatType():
            for key, row in RECIPE_SETTINGS.items():
                if isinstance(row.type, IntType | FloatType):
                    yield named(cursor, Meaning("setting", key))
        case _:
            return


def _items(cursor: Cursor, family: str) -> Iterator[Proposal]:
    for name in ITEMS[family]:
        yield named(cursor, Meaning("item", name, owner=family))


def takes_items(cursor: Cursor, target: Meaning | None) -> bool:
    """True if the call around the cursor is of an item, or takes one."""
    if target is not None:
        return target.owner in ITEMS
    setting = RECIPE_SETTINGS.get(line_of(cursor)[0])
    return setting is not None and isinstance(setting.type, ChangeType)


def item_arguments(cursor: Cursor, opening: int, target: Meaning | None) -> Iterator[Proposal]:
    """Yield the arguments of an item, or of a parameter that a setting changes."""
    name = argument_name(cursor, opening)
    if target is None:
        kind = RECIPE_SETTINGS[line_of(cursor)[0]].type
        if name is not None and isinstance(kind, ChangeType):
            yield from _items(cursor, kind.family)
        return
    item = ITEMS[target.owner][target.name]
    if name is None and cursor.last is not None and cursor.last.type in ("LPAR", "COMMA"):
        for row in item.arguments:
            yield argument(cursor, row.name, target.name)
    wanted = argument_of(item, name)
    if wanted is not None:
        yield from _of_type(cursor, wanted.type)
