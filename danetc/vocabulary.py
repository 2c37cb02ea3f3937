"""What a spec can name: operations and functions, the standard library, the settings of a recipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from danetc.compiler.ir.ops import OPS, REQUIRED, Parameter
from danetc.compiler.lowering.environment import SPECIAL
from danetc.dsl.diagnostics.diagnostic import Reporter
from danetc.dsl.loading import load_module, std_names
from danetc.dsl.neuron.functions import functions
from danetc.dsl.recipe.schema import ITEMS, Argument
from danetc.dsl.recipe.settings import SETTINGS
from danetc.dsl.syntax.source import SourceFile
from danetc.dsl.syntax.tree import DECLARATION_KINDS


@dataclass(frozen=True, slots=True)
class Described:
    """A name, its group, how it is written, and what it means."""

    name: str
    group: str
    usage: str
    meaning: str
    parameters: Mapping[str, str] = field(default_factory=dict)
    """What each parameter of an operation is."""


def operations() -> Iterator[Described]:
    """The operations of flows, and the functions of expressions and of equations."""
    for name, op in OPS.items():
        if op.public:
            shown = ", ".join([*op.arguments, *map(_parameter, op.parameters)])
            usage = f"{name}({shown})" if shown else name
            meanings = {row.name: row.meaning for row in op.parameters}
            yield Described(name, "operation", usage, op.meaning, meanings)
    for name, function in SPECIAL.items():
        yield Described(name, "function", function.usage, function.meaning)
    for name, (fewest, most) in functions().items():
        takes = "x" if most == 1 else ", ".join("abc"[:fewest]) + (", ..." if most is None else "")
        usage = f"{name}({takes})"
        yield Described(name, "function of equations", usage, "in a neuron or a surrogate")


def _parameter(row: Parameter) -> str:
    if row.default is REQUIRED or row.default is None:
        return row.name
    return f"{row.name} = {_value(row.default)}"


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def library() -> Iterator[Described]:
    """The declarations of the standard library, kind by kind."""
    module = load_module(SourceFile("std", "use std"), Reporter())
    found = [module.names[name].declaration for name in std_names()]
    for kind in DECLARATION_KINDS:
        for item in sorted((one for one in found if one.kind == kind), key=lambda one: one.name):
            shown = ", ".join(param.span.text for param in item.params)
            usage = f"{item.name}({shown})" if shown else item.name
            yield Described(item.name, kind, usage, "")


def settings() -> Iterator[Described]:
    """The settings of a recipe, and the items that they take."""
    for key, row in SETTINGS.items():
        default = "required" if row.required else f"default {row.default or 'none'}"
        yield Described(key, "setting", f"{key} = ...", f"{row.meaning} ({default})")
    for family, items in ITEMS.items():
        for name, item in items.items():
            many = [f"{item.many.name}, ..."] if item.many is not None else []
            shown = ", ".join([*many, *(_argument(row) for row in item.arguments)])
            yield Described(name, family, f"{name}({shown})" if shown else name, item.meaning)


def _argument(row: Argument) -> str:
    return row.name if row.default is None else f"{row.name} = {_value(row.default)}"


TOPICS: Mapping[str, Callable[[], Iterator[Described]]] = {
    "operations": operations,
    "std": library,
    "settings": settings,
}
"""What ``danetc explain`` lists beside its pages."""
