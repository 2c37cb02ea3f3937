"""Entries of operations, of functions of specs and of equations, and of first weights."""

from __future__ import annotations

from collections.abc import Iterator

from danetc.compiler.ir.ops import OPS, REQUIRED, Op
from danetc.compiler.ir.ops import Parameter as Row
from danetc.compiler.lowering.environment import SPECIAL
from danetc.dsl.first_weights import FIRST_WEIGHTS, MODES, FirstWeights
from danetc.dsl.neuron.functions import functions
from danetc.reference.entry import WORDS_OF_TYPE, Entry, EntryParameter, call, sentence, value_text


def operations() -> Iterator[Entry]:
    """The operations of flows."""
    for row in OPS.values():
        if row.public:
            yield operation(row)


def operation(row: Op) -> Entry:
    """The entry of an operation."""
    parameters = tuple(_parameter(item) for item in row.parameters)
    shown = [*row.arguments, *(item.usage for item in parameters)]
    return Entry(row.name, "operation", call(row.name, shown), sentence(row.meaning), parameters)


def _parameter(row: Row) -> EntryParameter:
    if row.default is REQUIRED:
        default = "" if row.unless else None
    else:
        default = "" if row.default is None else value_text(row.default)
    return EntryParameter(row.name, takes(row), default, row.meaning)


def takes(row: Row) -> str:
    """What a parameter of an operation takes, with its bounds."""
    if row.shape_of or row.type is tuple:
        return "a value"
    words = ", ".join(f"`{word}`" for word in row.words)
    if row.type is str:
        return words or "a word"
    text = WORDS_OF_TYPE[row.type]
    if row.low is not None and row.high is not None:
        text += f" from {value_text(row.low)} to {value_text(row.high)}"
    elif row.low is not None:
        text += f" from {value_text(row.low)} on"
    elif row.high is not None:
        text += f" up to {value_text(row.high)}"
    return f"{text}, or {words}" if words else text


def spec_functions() -> Iterator[Entry]:
    """The functions that every spec knows."""
    for name, row in SPECIAL.items():
        if name not in FIRST_WEIGHTS:
            yield Entry(name, "function", row.usage, sentence(row.meaning))


def neuron_functions() -> Iterator[Entry]:
    """The functions of equations."""
    for name, (fewest, most) in functions().items():
        shown = "x" if most == 1 else ", ".join("abc"[:fewest]) + (", ..." if most is None else "")
        yield Entry(name, "neuron function", f"{name}({shown})", "In a neuron or a surrogate.")


def first_weights() -> Iterator[Entry]:
    """What weights start from, ``init = ...``."""
    for row in FIRST_WEIGHTS.values():
        arguments = tuple(_first_argument(row, name) for name in row.arguments)
        usage = call(row.name, [item.usage for item in arguments])
        yield Entry(row.name, "first weights", f"init = {usage}", sentence(row.meaning), arguments)


def _first_argument(row: FirstWeights, name: str) -> EntryParameter:
    default = row.arguments[name]
    words = " or ".join(f"`{mode}`" for mode in MODES)
    return EntryParameter(
        name,
        words if default in MODES else "a number",
        None if default is None else value_text(default),
        "",
    )
