"""Entries of operations, functions of specs and equations, and first weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from danetc.compiler.ir.ops import OPS, REQUIRED, Op
from danetc.compiler.ir.ops import Parameter as Row
from danetc.compiler.lowering.environment import SPECIAL
from danetc.dsl.first_weights import ARGUMENTS, FIRST_WEIGHTS, MODES, FirstWeights
from danetc.dsl.neuron.opcodes import FORMS, functions, meaning
from danetc.reference import examples
from danetc.reference.entry import WORDS_OF_TYPE, Entry, EntryParameter, call, sentence, value_text


def operations() -> Iterator[Entry]:
    """Yield the operations of flows."""
    for row in OPS.values():
        if row.public:
            yield operation(row)


def operation(row: Op) -> Entry:
    """Return the entry of an operation."""
    parameters = tuple(_parameter(row, item) for item in row.parameters)
    shown = [*row.arguments, *(item.usage for item in parameters)]
    return Entry(
        row.name,
        "operation",
        call(row.name, shown),
        sentence(row.meaning),
        parameters,
        f"Shape: {rule(row.shape)}\n\nKind: {rule(row.kind)}",
        example_of(row),
        row.source or None,
    )


def rule(function: Callable[..., object]) -> str:
    """Return the documentation of a rule of shapes or kinds as Markdown."""
    return " ".join((function.__doc__ or "").split()).replace("``", "`")


def example_of(row: Op) -> str:
    """Return a network that shows an operation."""
    text = row.example or row.name
    first = text.replace("(", " ").split()[0]
    return examples.flow(text, starts=first in ("a", "b", "in") or first in _OF_VALUES)


_OF_VALUES = frozenset(name for name, row in OPS.items() if row.arguments)
"""Operations written as functions of values."""


def _parameter(op: Op, row: Row) -> EntryParameter:
    if row.default is not REQUIRED:
        default = "" if row.default is None else value_text(row.default)
        return EntryParameter(row.name, takes(row), default, row.meaning)
    if op.bare:
        other = f"; without it {OPS[op.bare].meaning}"
    elif row.unless:
        other = f"; required without `{row.unless}`"
    else:
        return EntryParameter(row.name, takes(row), None, row.meaning)
    return EntryParameter(row.name, takes(row), "", row.meaning + other)


def takes(row: Row) -> str:
    """Return the type of a parameter of an operation, with its bounds."""
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
    """Yield the functions of expressions in specs."""
    for name, row in SPECIAL.items():
        if name in FIRST_WEIGHTS:
            continue
        meanings = {**row.says, **{item.name: item.meaning for item in row.parameters or ()}}
        arguments = tuple(EntryParameter(key, "", None, says) for key, says in meanings.items())
        example = examples.flow(row.example, starts=row.starts, image=row.input)
        yield Entry(name, "function", row.usage, sentence(row.meaning), arguments, "", example)


def neuron_functions() -> Iterator[Entry]:
    """Yield the functions of equations."""
    for name, (fewest, most) in functions().items():
        shown = "x" if most == 1 else ", ".join("abc"[:fewest]) + (", ..." if most is None else "")
        form = FORMS.get(name)
        arguments = (
            ()
            if form is None
            else tuple(EntryParameter(key, "", None, says) for key, says in form.says.items())
        )
        yield Entry(
            name,
            "neuron function",
            f"{name}({shown})" if form is None else form.usage,
            sentence(meaning(name)),
            arguments,
            "Available in equations of neurons and surrogates.",
            _neuron_with(name, most),
        )


_IN_EQUATIONS = {"delay": "delay(x, 1)", "learn": "learn(1.0) * x"}


def _neuron_with(name: str, most: int | None) -> str:
    """Return a network whose neuron calls a function."""
    called = _IN_EQUATIONS.get(name) or (f"x * {name}(x)" if most == 1 else f"{name}(x, 0.0)")
    if name in ("log", "sqrt"):  # of what is above 0
        called = f"x * {name}(2.0 + abs(x))"
    declared = (
        "neuron own {\n"
        "  state u = 0.0\n"
        f"  v = 0.5 * u + {called}\n"
        "  s = heaviside(v - 1.0)\n"
        "  u = v * (1 - s)\n"
        "}\n\n"
    )
    return examples.tiny(before=declared, neuron="own")


def first_weights() -> Iterator[Entry]:
    """Yield the initialisations of weights, ``init = ...``."""
    for row in FIRST_WEIGHTS.values():
        arguments = tuple(_first_argument(row, name) for name in row.arguments)
        usage = call(row.name, [item.usage for item in arguments])
        given = call(row.name, [f"{item.name} = 0.02" for item in arguments if not item.default])
        yield Entry(
            row.name,
            "first weights",
            f"init = {usage}",
            sentence(row.meaning),
            arguments,
            "Initialises convolutions and linear layers: `conv(8, init = ...)`, or `init = ...` in a "
            "network for all of its layers. The functions are those of `torch.nn.init`.",
            examples.flow(f"conv(8, init = {given})", starts=False),
        )


def _first_argument(row: FirstWeights, name: str) -> EntryParameter:
    default = row.arguments[name]
    words = " or ".join(f"`{mode}`" for mode in MODES)
    return EntryParameter(
        name,
        words if default in MODES else "a number",
        None if default is None else value_text(default),
        ARGUMENTS[name],
    )
