"""Constructor calls of a standalone model, and the classes that scopes of one form share.

The sizes in which scopes of a class differ become parameters of its constructor.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from itertools import takewhile
from typing import Union

from danetc.compiler.emit.names import free, is_plain, variable
from danetc.compiler.emit.python.text import constant, sequence
from danetc.compiler.emit.scopes import Path, ScopeTree
from danetc.dsl.record import record

Number = Union[int, float, bool]
Column = tuple[Union[Number, None], ...]
"""A number in each of the scopes of a class; None in a scope without the module."""
CHANNELS = frozenset({"channels", "in_channels", "out_channels"})


@record
class Size:
    """A number that may differ between scopes. ``role`` names it; ``default`` may be left out."""

    role: str
    value: Number | None
    default: Number | None = None


@record
class New:
    """A constructor call. A module with ``given`` is only there in scopes where it is True."""

    target: str
    args: tuple[tuple[str, Argument], ...] = ()
    given: Size | None = None


@record
class Run:
    """Equal modules in a row. ``end`` is the number of modules up to the end of the run, and
    ``before`` that before it. The argument ``size`` starts at ``start`` and grows by ``step``."""

    item: New
    end: Size
    before: int
    start: Size | None = None
    step: int = 0


@record
class Blocks:
    """The list of a ModuleList."""

    runs: tuple[Run, ...]


Argument = Union[str, Size, New, Blocks]
Write = Callable[[Size], Union[str, None]]


@record(frozen=False, eq=False)
class Draft:
    """A scope on its way to a class. ``height`` is the number of levels of scopes below it."""

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
    """A class of scopes. ``names`` and ``kinds`` are the parameters of its constructor."""

    drafts: list[Draft]
    name: str
    names: list[str] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
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
                positional = not label or (label in CHANNELS and isinstance(part, Size))
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
                if text == last:  # the first block is like the following ones
                    blocks.pop()
                    before = 0
                last = text
                length = f"{end} - {before}" if before else end
                if end.isdecimal():
                    length = str(int(end) - before)
                if run.start is not None:
                    low = str(write(run.start))
                    high = f"{low} + {run.step} * {length}"
                    if low.isdecimal() and length.isdecimal():
                        high = str(int(low) + run.step * int(length))
                    blocks.append(f"*({text} for size in range({low}, {high}, {run.step}))")
                elif length in ("1", "2"):
                    blocks += [text] * int(length)
                else:
                    blocks.append(f"*({text} for _ in range({length}))")
            only = re.fullmatch(r"\*\((.*)\)", blocks[0]) if len(blocks) == 1 else None
            return only[1] if only else f"[{sequence(blocks)}]"


def listed(items: Sequence[New], role: str) -> Blocks:
    """Return a list of modules. The first is a run by itself: others may have a shortcut."""
    runs: list[Run] = []
    start = 0
    while start < len(items):
        alike = items[start:][: _equal(items[start:], form)]
        count, growing = _growing(alike)
        if growing is not None:
            first, low, step = growing
            runs.append(Run(first, Size(role, start + count), start, low, step))
        else:
            count = 1 if start == 0 else _equal(alike, sizes)
            runs.append(Run(items[start], Size(role, start + count), start))
        start += count
    return Blocks(tuple(runs))


def _equal(items: Sequence[New], key: Callable[[New], object]) -> int:
    """The number of items at the start with the same key."""
    first, *rest = map(key, items)
    return 1 + sum(1 for _ in takewhile(first.__eq__, rest))


def _growing(items: Sequence[New]) -> tuple[int, tuple[New, Size, int] | None]:
    """The number of modules in which one size grows by a constant step; the call, the size and the
    step."""
    rows = [[size.value for size in sizes(item)] for item in items[:3]]
    args = items[0].args
    moved = [at for at, column in enumerate(zip(*rows, strict=True)) if len({*column}) > 1]
    plain = all(isinstance(part, Size) and part.role != "size" for _, part in args)
    if len(rows) < 3 or len(moved) != 1 or not plain:
        return 1, None
    (at,) = moved
    label, low = args[at]
    first, second = rows[0][at], rows[1][at]
    if type(first) is not int or type(second) is not int or second <= first:
        return 1, None
    step = second - first
    count = 0
    for count, item in enumerate(items, 1):
        wanted = [*rows[0][:at], first + step * (count - 1), *rows[0][at + 1 :]]
        if [size.value for size in sizes(item)] != wanted:
            count -= 1
            break
    assert isinstance(low, Size)
    grown = ("" if label in CHANNELS else label, "size")
    call = New(items[0].target, (*args[:at], grown, *args[at + 1 :]))
    return (count, (call, low, step)) if count >= 3 else (1, None)


def sizes(item: Argument) -> list[Size]:
    """The numbers of an argument in order."""
    found = []
    if isinstance(item, New) and item.given is not None:
        found.append(item.given)

    def note(size: Size) -> str:
        found.append(size)
        return ""

    written(item, note)
    return found


def form(item: Argument) -> str:
    """An argument without its numbers."""
    count = 0

    def hole(size: Size) -> str:
        nonlocal count
        count += 1
        return f"<{count}, {size.role}, {size.default}>"

    mark = "?" if isinstance(item, New) and item.given is not None else ""
    return f"{written(item, hole)}{mark}"


def _forms(parts: Sequence[tuple[str, Argument]]) -> tuple[tuple[str, str], ...]:
    return tuple((label, form(part)) for label, part in parts)


def grouped(drafts: Sequence[Draft]) -> list[list[Draft]]:
    """Group drafts that can be one class."""
    groups: dict[object, list[Draft]] = {}
    for draft in drafts:
        code = repr((draft.parameters, draft.body, draft.methods))
        key = (draft.title, draft.base, _forms(draft.parts), code)
        groups.setdefault(key, []).append(draft)
    result: list[list[Draft]] = []
    for group in groups.values():
        for other in result:
            if _join_optional(other, group) or _join_optional(group, other):
                result[result.index(other)] = [*other, *group]
                break
        else:
            result.append(group)
    return result


def _join_optional(wide: list[Draft], narrow: list[Draft]) -> bool:
    """Make drafts alike that differ in one module: a shortcut, which ``narrow`` does not have."""
    a, b = wide[0], narrow[0]
    if a.methods or b.methods or (a.title, a.base) != (b.title, b.base):
        return False
    if len(a.parts) != len(b.parts) + 1:
        return False
    labels = [label for label, _ in b.parts]
    at = next(at for at, (label, _) in enumerate(a.parts) if labels[at : at + 1] != [label])
    label, part = a.parts[at]
    if not isinstance(part, New) or not is_plain(label):
        return False
    skipped = [
        re.sub(rf"\bself\.{label}\(((?:[^()]|\([^()]*\))*)\)", r"\1", line) for line in a.body
    ]
    rest = [*a.parts[:at], *a.parts[at + 1 :]]
    if skipped != b.body or _forms(rest) != _forms(b.parts):
        return False
    role = "projection" if label == "shortcut" else variable(label)
    for draft in wide:
        item = draft.parts[at][1]
        assert isinstance(item, New)
        draft.parts[at] = (label, replace(item, given=Size(role, True)))
    for draft in narrow:
        draft.parts.insert(at, (label, replace(_without_sizes(part), given=Size(role, False))))
        draft.body = a.body
    return True


def _without_sizes(item: New) -> New:
    def empty(part: Argument) -> Argument:
        if isinstance(part, New):
            return _without_sizes(part)
        return replace(part, value=None) if isinstance(part, Size) else part

    return New(item.target, tuple((label, empty(part)) for label, part in item.args))


def settle(item: Class) -> list[New]:
    """Choose the parameters of a class and write its constructor; return the call of each draft."""
    drafts = item.drafts
    found = [[size for _, part in draft.parts for size in sizes(part)] for draft in drafts]
    columns: list[Column] = [*zip(*([size.value for size in row] for row in found), strict=True)]
    bases, sources = _bases(columns, [size.role for size in found[0]])
    names: list[str] = []
    for at in bases:
        role = found[0][at].role
        base = "channels" if role == "out_channels" and "channels" not in names else role
        names.append(free(variable(base), names.__contains__))
    texts: list[str | None] = []
    for at, (size, source) in enumerate(zip(found[0], sources, strict=True)):
        value = _first(columns[at])
        omitted = size.default is not None and size.default == value
        texts.append(None if omitted else str(value))
        if source is not None:
            factor, column = source
            text = names[bases.index(column)]
            texts[-1] = f"{factor} * {text}" if factor > 1 else text
    order = sorted(range(len(bases)), key=lambda i: names[i] not in CHANNELS)
    kinds = {bool: "bool", int: "int"}
    item.names = [names[i] for i in order]
    item.kinds = [kinds.get(type(_first(columns[bases[i]])), "float") for i in order]
    item.init = _constructor(drafts[0].parts, texts)
    return [
        New(
            item.name,
            tuple((names[i], Size(names[i], columns[bases[i]][row])) for i in order),
        )
        for row in range(len(drafts))
    ]


def _constructor(parts: Sequence[tuple[str, Argument]], texts: Sequence[str | None]) -> list[str]:
    """The statements that register modules. ``texts`` are those of their numbers, in order."""
    left = iter(texts)
    lines: list[str] = []
    for label, part in parts:
        given = next(left) if isinstance(part, New) and part.given is not None else None
        text = written(part, lambda size: next(left))
        if not is_plain(label):
            lines.append(f"self.add_module({constant(label)}, {text})")
        elif given is None:
            lines.append(f"self.{label} = {text}")
        else:
            lines += [f"self.{label} = nn.Identity()", f"if {given}:", f"    self.{label} = {text}"]
    return lines


def _first(column: Column) -> Number | None:
    return next((value for value in column if value is not None), None)


def _factor(column: Column, base: Column, most: int) -> int | None:
    """The factor from one column to another."""
    pairs = [(x, y) for x, y in zip(column, base, strict=True) if x is not None]
    if any(type(x) is not type(y) for x, y in pairs):
        return None
    numbers = [(x, y) for x, y in pairs if y is not None]
    factors = range(1, most + 1)
    return next((n for n in factors if all(x == n * y for x, y in numbers)), None)


def _bases(
    columns: Sequence[Column], roles: Sequence[str]
) -> tuple[list[int], list[tuple[int, int] | None]]:
    """Choose the columns that become parameters; return the factor and base of each column.

    A column that is the same in all scopes is a constant. Channels may be multiples of channels.
    """
    varying = {at for at, column in enumerate(columns) if len({*column} - {None}) > 1}
    bases: list[int] = []

    def source(at: int) -> tuple[int, int] | None:
        most = 16 if roles[at] in CHANNELS else 1
        found = [
            (factor, base)
            for base in sorted(bases)
            if (roles[base] in CHANNELS) == (roles[at] in CHANNELS)
            and (factor := _factor(columns[at], columns[base], most)) is not None
        ]
        return min(found) if found else None

    uses = Counter(columns)
    for at in sorted(varying, key=lambda at: (None in columns[at], -uses[columns[at]], at)):
        if source(at) is None:
            bases.append(at)
    sources = [
        source(at) if at in varying or None in column else None for at, column in enumerate(columns)
    ]
    return sorted(bases), sources
