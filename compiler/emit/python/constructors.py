"""Constructor calls of a standalone model, and the classes that similar scopes share.

Sizes that differ between the scopes of a class become parameters of its constructor.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from itertools import count, groupby
from typing import Union

from danetc.compiler.emit.names import free, is_plain, variable
from danetc.compiler.emit.python.text import constant, sequence
from danetc.compiler.emit.scopes import Path, ScopeTree
from danetc.dsl.record import record

Number = Union[int, float]
_CHANNELS = re.compile(r"((in_)?channels|width)\d*")
"""Roles of numbers of channels, which are passed by position."""


@record
class Size:
    """A number that may differ between scopes. ``role`` names it; a ``default`` is omitted."""

    role: str
    value: Number
    default: Number | None = None


@record
class New:
    """A constructor call."""

    target: str
    args: tuple[tuple[str, Argument], ...] = ()


@record
class Run:
    """Equal modules in sequence: those from index ``before`` to ``end`` (exclusive) of a list."""

    item: New
    end: Size
    before: int


@record
class Blocks:
    """Modules of a ModuleList."""

    runs: tuple[Run, ...]


Argument = Union[str, Size, New, Blocks]
Write = Callable[[Size], Union[str, None]]


@record(frozen=False, eq=False)
class Draft:
    """A scope before it has a class. ``height`` is the number of levels of scopes below it, ``made`` the
    constructor calls of the scopes of its network."""

    made: dict[Path, New]
    tree: ScopeTree
    lists: Mapping[Path, int]
    height: int
    title: str
    doc: str
    flow: str
    parameters: list[str]
    body: list[str]
    result: str
    methods: list[list[str]]
    base: str = "nn.Module"
    parts: list[tuple[str, Argument]] = field(default_factory=list)


@record(frozen=False, eq=False)
class Class:
    """A class for scopes. ``parameters`` maps those of its constructor to their types."""

    drafts: list[Draft]
    name: str
    parameters: dict[str, str] = field(default_factory=dict)
    init: list[str] = field(default_factory=list)


def written(item: Argument, write: Write) -> str | None:
    """Return the text of an argument. ``write`` gives the text of a number, or None to omit it."""
    match item:
        case str():
            return item
        case Size():
            return write(item)
        case New():
            texts: list[str] = []
            for label, part in item.args:
                text = written(part, write)
                positional = not label or (_CHANNELS.fullmatch(label) and isinstance(part, Size))
                if text is None:
                    continue
                if positional and not any(re.match(r"\w+=", before) for before in texts):
                    texts.append(text)
                else:
                    known = label.isascii() and label.isidentifier()
                    texts.append(f"{label}={text}" if known else f"**{{{constant(label)}: {text}}}")
            return f"{item.target}({sequence(texts)})"
        case Blocks():
            blocks: list[str] = []
            last: str | None = None
            for run in item.runs:
                text, end = str(written(run.item, write)), str(write(run.end))
                before = run.before
                if text == last:  # the first block equals the following ones
                    blocks.pop()
                    before = 0
                last = text
                length = f"{end} - {before}" if before else end
                if end.isdecimal():
                    length = str(int(end) - before)
                if length in ("1", "2"):
                    blocks += [text] * int(length)
                else:
                    blocks.append(f"*({text} for _ in range({length}))")
            only = re.fullmatch(r"\*\((.*)\)", blocks[0]) if len(blocks) == 1 else None
            return only[1] if only else f"[{sequence(blocks)}]"


def listed(items: Sequence[New]) -> Blocks:
    """Return a list of modules. The first is a separate run, because it may have a projection."""
    runs: list[Run] = []
    end = 0
    for part in (items[:1], items[1:]):
        for item, alike in groupby(part):
            start, end = end, end + len(list(alike))
            runs.append(Run(item, Size("n", end), start))
    return Blocks(tuple(runs))


def sizes(item: Argument) -> list[Size]:
    """Return the numbers of an argument in order."""
    found: list[Size] = []

    def note(size: Size) -> str:
        found.append(size)
        return ""

    written(item, note)
    return found


def _form(item: Argument) -> str:
    """Return the text of an argument with placeholders for its numbers."""
    numbers = count()
    return str(written(item, lambda size: f"<{next(numbers)}, {size.role}, {size.default}>"))


def grouped(drafts: Sequence[Draft]) -> list[list[Draft]]:
    """Group drafts that can share a class."""
    groups: dict[object, list[Draft]] = {}
    for draft in drafts:
        code = repr((draft.parameters, draft.body, draft.methods))
        forms = tuple((label, _form(part)) for label, part in draft.parts)
        groups.setdefault((draft.title, draft.base, forms, code), []).append(draft)
    return [*groups.values()]


Key = tuple[bool, tuple[tuple[type, Number], ...]]
"""True for numbers of channels, and the values of a parameter in each scope."""


def _key(column: Sequence[Size]) -> Key:
    values = tuple((type(size.value), size.value) for size in column)
    return bool(_CHANNELS.fullmatch(column[0].role)), values


def resolve(item: Class) -> list[New]:
    """Choose the parameters of a class and write its constructor. Return the call of each draft.

    A size that is the same in all scopes is a constant. Two sizes that are equal in every scope
    share a parameter.
    """
    drafts = item.drafts
    found = [[size for _, part in draft.parts for size in sizes(part)] for draft in drafts]
    roles: dict[Key, set[str]] = {}
    for column in zip(*found, strict=True):
        roles.setdefault(_key(column), set()).add(column[0].role)
    names: dict[Key, str] = {}
    columns: dict[str, tuple[Size, ...]] = {}
    texts: list[str | None] = []
    for column in zip(*found, strict=True):
        first, key = column[0], _key(column)
        if len({*key[1]}) == 1:
            texts.append(None if first.value == first.default else str(first.value))
            continue
        if key not in names:
            base = "channels" if "channels" in roles[key] else variable(first.role)
            base = "width" if base == "channels" and base in columns else base
            names[key] = free(base, columns.__contains__)
            columns[names[key]] = column
        texts.append(names[key])
    order = sorted(columns, key=lambda name: not _CHANNELS.fullmatch(name))
    item.parameters = {name: type(columns[name][0].value).__name__ for name in order}
    left = iter(texts)
    for label, part in drafts[0].parts:
        text = written(part, lambda size: next(left))
        plain = is_plain(label)
        item.init.append(
            f"self.{label} = {text}" if plain else f"self.add_module({constant(label)}, {text})"
        )
    return [
        New(item.name, tuple((name, Size(name, columns[name][row].value)) for name in order))
        for row in range(len(drafts))
    ]
