"""The forms of a standalone model's scopes: what two of them have in common that share a class.

A scope is a ``Draft``: what it registers, as constructor calls with a ``SizeArgument`` where a size
stands, and its forward method.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import replace
from itertools import islice, takewhile
from typing import Union

from danetc.compiler.emit.python.names import is_plain, variable
from danetc.compiler.emit.python.trees import text_of
from danetc.compiler.ir.graph import Attribute
from danetc.dsl.record import record

Path = tuple[str, ...]
Numeric = Union[int, float, bool]
CHANNELS = frozenset({"channels", "in_channels", "out_channels"})


@record
class SizeArgument:
    """A size that a constructor gets. It is left out where it is ``default`` in all scopes.

    ``role`` names it. With ``less`` it stands for what is left when that many are taken away.
    """

    role: str
    value: Numeric | None
    default: Numeric | None = None
    less: int = 0


@record
class Fixed:
    """An argument that is the same in all scopes of a class."""

    value: Attribute | tuple[int, int]


@record
class New:
    """A constructor call: a class by its text or by its number, arguments with their labels."""

    target: str | int
    args: tuple[tuple[str, Argument], ...] = ()


@record
class Repeated:
    """``count`` times ``item``; its argument ``grows`` grows by ``step`` each time."""

    item: New
    count: SizeArgument
    grows: int | None = None
    step: int = 0


@record
class Many:
    """The list of a ModuleList."""

    runs: tuple[Repeated, ...]


@record
class Optional:
    """A module that a class has in some of its scopes; others give what they get."""

    item: New
    given: SizeArgument


Argument = Union[SizeArgument, Fixed, New, Many, Optional]


@record(frozen=False, eq=False)
class Draft:
    """A scope on its way to a class. ``base`` names the class to derive from."""

    path: Path
    base: str
    parts: list[tuple[str, Argument]]
    parameters: list[str]
    body: list[ast.stmt]
    result: str
    flow: str
    title: str
    doc: str
    methods: Sequence[ast.stmt] = ()


# -- forms ----------------------------------------------------------------------------------------


def numbers(item: Argument | Repeated) -> Iterator[SizeArgument]:
    """The numbers of an argument, in their order."""
    match item:
        case SizeArgument():
            yield item
        case New():
            for _, part in item.args:
                yield from numbers(part)
        case Many():
            for run in item.runs:
                yield from numbers(run)
        case Repeated():
            yield from numbers(item.item)
            yield item.count
        case Optional():
            yield item.given
            yield from numbers(item.item)
        case Fixed():
            pass


def form(item: Argument | Repeated) -> object:
    """All of an argument but its numbers."""
    match item:
        case SizeArgument():
            return ("number", item.role, item.default, item.less)
        case Fixed():
            return ("fixed", repr(item.value))
        case New():
            return ("new", item.target, *((label, form(part)) for label, part in item.args))
        case Many():
            return ("many", *map(form, item.runs))
        case Repeated():
            return ("repeated", form(item.item), form(item.count), item.grows, item.step)
        case Optional():
            return ("optional", form(item.item))


def form_of(draft: Draft) -> object:
    """What two drafts have in common that can be one class."""
    return (
        draft.base,
        tuple((label, form(part)) for label, part in draft.parts),
        tuple(draft.parameters),
        "\n".join(map(ast.unparse, draft.body)),
        "\n".join(map(text_of, draft.methods)),
        draft.title,
    )


def many(items: Sequence[New], role: str) -> Many:
    """A list of modules: those in a row that are alike are one run; the first stands alone."""
    runs: list[Repeated] = []
    index = 0
    while index < len(items):
        length, grows, step = _run(items, index)
        if index == 0 and grows is None:
            length = 1  # the first block of a stage is its own: others may have a shortcut
        count = SizeArgument(role, index + length, less=index)
        runs.append(Repeated(items[index], count, grows, step))
        index += length
    return Many(tuple(runs))


def _run(items: Sequence[New], start: int) -> tuple[int, int | None, int]:
    """How many items in a row are one call, the argument of it that grows, and by how much."""
    same = form(items[start])
    alike = takewhile(lambda item: form(item) == same, islice(items, start, None))
    rows = ([number.value for number in numbers(item)] for item in alike)
    first, second = next(rows), next(rows, None)
    if second is None:
        return 1, None, 0
    if second == first:
        return 2 + sum(1 for _ in takewhile(first.__eq__, rows)), None, 0
    moved = [at for at, (a, b) in enumerate(zip(first, second, strict=True)) if a != b]
    at = moved[0]
    low, next_ = first[at], second[at]
    one = len(moved) == 1 and len(items[start].args) == len(first)
    if not one or type(low) is not int or type(next_) is not int or next_ <= low:
        return 1, None, 0
    step = next_ - low
    length = 2
    for row in rows:
        if row != [*first[:at], low + step * length, *first[at + 1 :]]:
            break
        length += 1
    return (length, at, step) if length >= 3 else (1, None, 0)


# -- shortcuts that some blocks have ---------------------------------------------------------------


def with_optional(groups: list[list[Draft]]) -> list[list[Draft]]:
    """The groups, with those joined that differ in one module: a shortcut, or its input as it is."""
    result: list[list[Draft]] = []
    for group in groups:
        for other in result:
            joined = _joined(other, group) or _joined(group, other)
            if joined is not None:
                result[result.index(other)] = joined
                break
        else:
            result.append(group)
    return result


def _joined(wide: list[Draft], narrow: list[Draft]) -> list[Draft] | None:
    a, b = wide[0], narrow[0]
    if a.methods or b.methods:
        return None
    if len(a.parts) != len(b.parts) + 1 or a.title != b.title or a.base != b.base:
        return None
    at = next(
        (i for i, (x, y) in enumerate(zip(a.parts, b.parts, strict=False)) if x[0] != y[0]),
        len(b.parts),
    )
    label, part = a.parts[at]
    if not isinstance(part, New) or not is_plain(label):
        return None
    skipped = ast.unparse(_Skipped(label).visit(deepcopy(ast.Module(a.body, []))))
    if skipped != "\n".join(map(ast.unparse, b.body)):
        return None
    rest = [*a.parts[:at], *a.parts[at + 1 :]]
    if form(New("", tuple(rest))) != form(New("", tuple(b.parts))):
        return None
    role = "projection" if label == "shortcut" else variable(label)
    for draft in (*wide, *narrow):
        has = draft in wide
        item = dict(draft.parts)[label] if has else _nothing(part)
        assert isinstance(item, New)
        others = [*draft.parts[:at], *draft.parts[at + has :]]
        draft.parts = [*others[:at], (label, Optional(item, SizeArgument(role, has))), *others[at:]]
        draft.body = a.body
    return [*wide, *narrow]


def _nothing(item: New) -> New:
    """The same call with numbers that nobody asks for."""

    def empty(part: Argument) -> Argument:
        match part:
            case SizeArgument():
                return replace(part, value=None)
            case New():
                return _nothing(part)
            case _:
                return part

    return New(item.target, tuple((label, empty(part)) for label, part in item.args))


class _Skipped(ast.NodeTransformer):
    """``self.shortcut(x)`` as ``x``."""

    def __init__(self, label: str) -> None:
        self.text = f"self.{label}"

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        if ast.unparse(node.func) == self.text and len(node.args) == 1:
            return node.args[0]
        return node
