"""The classes of a standalone model: scopes of one form are one class, with parameters.

The numbers in which they differ are the parameters; what a class gives to those inside of it is
made of these.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Sequence
from dataclasses import field

from danetc.compiler.emit.python.forms import CHANNELS, Draft, New, Numeric, SizeArgument, numbers
from danetc.compiler.emit.python.names import free, variable
from danetc.compiler.emit.python.trees import constant, name
from danetc.compiler.emit.python.writing import LATER, Column, Writer, first_of
from danetc.dsl.record import record


@record(frozen=False, eq=False)
class Class:
    """A class with all the scopes that it stands for; ``names`` are its constructor's parameters."""

    number: int
    drafts: list[Draft]
    names: list[str] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    parts: list[tuple[str, ast.expr]] = field(default_factory=list)
    name: str = ""

    def instance(self, values: Sequence[Numeric | None]) -> New:
        """A call of this class, in the class around it."""
        return New(
            self.number,
            tuple(
                (key, SizeArgument(key, value))
                for key, value in zip(self.names, values, strict=True)
            ),
        )


def named(node: ast.ClassDef, classes: Sequence[Class]) -> ast.ClassDef:
    """The class with the names of others filled in, which all have one now."""
    for part in ast.walk(node):
        if isinstance(part, ast.Name) and part.id.startswith(LATER):
            part.id = classes[int(part.id.removeprefix(LATER))].name
    return node


def settle(item: Class) -> list[list[Numeric | None]]:
    """Decide the parameters of a class and write its parts; the arguments of each of its drafts."""
    drafts = item.drafts
    found = [[n for _, part in draft.parts for n in numbers(part)] for draft in drafts]
    labels = [n.role for n in found[0]]
    columns: list[Column] = list(zip(*([n.value for n in row] for row in found), strict=True))
    bases, sources = _bases(columns, labels)
    for column in bases:
        role = labels[columns.index(column)]
        base = "channels" if role == "out_channels" and "channels" not in item.names else role
        item.names.append(free(variable(base), item.names.__contains__))
        kind = {bool: "bool", int: "int"}.get(type(first_of(column)), "float")
        item.kinds.append(kind)
    order = sorted(range(len(bases)), key=lambda i: (_rank(item.names[i]), i))
    expressions: list[ast.expr | None] = []
    for source in sources:
        if source is None:
            expressions.append(None)
            continue
        base_at, factor = source
        expression = name(item.names[base_at])
        if factor > 1:
            expression = ast.BinOp(constant(factor), ast.Mult(), expression)
        if factor < 0:
            expression = ast.BinOp(expression, ast.FloorDiv(), constant(-factor))
        expressions.append(expression)
    writer = Writer(zip(found[0], columns, expressions, strict=True))
    item.parts = [(label, writer.write(part)) for label, part in drafts[0].parts]
    item.names = [item.names[i] for i in order]
    item.kinds = [item.kinds[i] for i in order]
    return [[bases[i][row] for i in order] for row in range(len(drafts))]


def _rank(label: str) -> int:
    return 0 if label in CHANNELS else 1


def _factor(column: Column, base: Column, most: int) -> int | None:
    """What a base is multiplied by to give a column; divided by, where negative."""
    factors: tuple[int, ...] = (*range(1, most + 1), *range(-2, -most - 1, -1))
    for factor in factors:
        if all(
            x is None
            or (
                y is not None
                and type(x) is type(y)
                and (x == factor * y if factor > 0 else x * -factor == y)
            )
            for x, y in zip(column, base, strict=True)
        ):
            return factor
    return None


def _bases(
    columns: Sequence[Column], labels: Sequence[str]
) -> tuple[list[Column], list[tuple[int, int] | None]]:
    """The columns that become parameters; for each column which one gives it, and its factor.

    One that is the same in all scopes stays a constant. Channels may be made of other channels.
    """
    varying = [at for at, column in enumerate(columns) if len({*column} - {None}) > 1]
    bases: list[int] = []

    def source(at: int) -> tuple[int, int] | None:
        channels = labels[at] in CHANNELS
        found = [
            (abs(factor), index, factor)
            for index, base in enumerate(bases)
            if (labels[base] in CHANNELS) == channels
            and (factor := _factor(columns[at], columns[base], 16 if channels else 1)) is not None
        ]
        if not found:
            return None
        _, index, factor = min(found)
        return index, factor

    uses = Counter(columns)
    for at in sorted(varying, key=lambda at: (None in columns[at], -uses[columns[at]], at)):
        if source(at) is None:
            bases.append(at)
    bases.sort()
    open_ = [at for at, column in enumerate(columns) if at in varying or None in column]
    return [columns[at] for at in bases], [
        source(at) if at in open_ else None for at in range(len(columns))
    ]
