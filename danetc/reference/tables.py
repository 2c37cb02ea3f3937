"""Entries of operations, functions, first weights, and the settings and items of recipes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from danetc.compiler.ir.ops import OPS, REQUIRED, Op
from danetc.compiler.ir.ops import Parameter as Row
from danetc.compiler.lowering.environment import SPECIAL
from danetc.dsl.first_weights import ARGUMENTS, FIRST_WEIGHTS, MODES
from danetc.dsl.neuron.opcodes import FORMS, functions, is_smooth, meaning
from danetc.dsl.recipe.items import ITEMS
from danetc.dsl.recipe.schema import FloatType, IntType, Type, describe, describe_range
from danetc.dsl.recipe.settings import SETTINGS
from danetc.dsl.recipe.text import written
from danetc.reference import examples
from danetc.reference.entry import Entry, EntryParameter, call, sentence


def operations() -> Iterator[Entry]:
    """Yield the operations of flows."""
    for row in OPS.values():
        if not row.public:
            continue
        parameters = tuple(_parameter(row, item) for item in row.parameters)
        shown = [*row.arguments, *(item.usage for item in parameters)]
        example = row.example or row.name
        first = example.replace("(", " ").split()[0]
        starts = first in ("a", "b", "in") or (first in OPS and bool(OPS[first].arguments))
        tokens = {"input": "tokens(256)"} if row.takes_tokens else {}
        shape, kind = (
            " ".join((rule.__doc__ or "").split()).replace("``", "`")
            for rule in (row.shape, row.kind)
        )
        yield Entry(
            row.name,
            "operation",
            call(row.name, shown),
            sentence(row.meaning),
            parameters,
            f"Shape: {shape}\n\nKind: {kind}",
            examples.flow(example, starts=starts, **tokens),
            row.source or None,
        )


def _parameter(op: Op, row: Row) -> EntryParameter:
    other, default = "", "" if row.default is None else written(row.default)
    if row.default is REQUIRED and op.bare:
        other, default = f"; without it {OPS[op.bare].meaning}", ""
    elif row.default is REQUIRED and row.unless:
        other, default = f"; required without `{row.unless}`", ""
    shown = None if row.default is REQUIRED and not other else default
    return EntryParameter(row.name, _values(row), shown, row.meaning + other)


def _values(row: Row) -> str:
    """Return the type of a parameter of an operation, with its bounds."""
    if row.shape_of or row.type is tuple:
        return "a value"
    words = ", ".join(f"`{word}`" for word in row.words)
    if row.type is str:
        return words or "a word"
    types = {int: "a whole number", float: "a number", bool: "`true` or `false`", object: "a layer"}
    text = types[row.type]
    if row.low is not None:
        text += f" from {written(row.low)} {'on' if row.high is None else 'to'}"
    if row.high is not None:
        text += f"{' up to' * (row.low is None)} {written(row.high)}"
    return f"{text}, or {words}" if words else text


def _arguments(meanings: Mapping[str, str]) -> tuple[EntryParameter, ...]:
    return tuple(EntryParameter(name, "", None, text) for name, text in meanings.items())


def spec_functions() -> Iterator[Entry]:
    """Yield the functions of expressions in specs."""
    for name, row in SPECIAL.items():
        if name not in FIRST_WEIGHTS:
            meanings = {item.name: item.meaning for item in row.parameters or ()}
            said = _arguments({**row.says, **meanings})
            example = examples.flow(row.example, starts=row.starts, input=row.input)
            yield Entry(name, "function", row.usage, sentence(row.meaning), said, "", example)


def neuron_functions() -> Iterator[Entry]:
    """Yield the functions of equations."""
    for name, (fewest, most) in functions().items():
        shown = "x" if most == 1 else ", ".join("abc"[:fewest]) + (", ..." if most is None else "")
        form = FORMS.get(name)
        called = f"x * {name}(x)" if most == 1 else f"{name}(x, 0.0)"
        neuron = _NEURON.format(_IN_EQUATIONS.get(name, called))
        yield Entry(
            name,
            "neuron function",
            form.usage if form else f"{name}({shown})",
            sentence(meaning(name)),
            _arguments(form.says if form else {}),
            f"Available in equations of neurons{' and surrogates' if is_smooth(name) else ''}.",
            examples.tiny(before=neuron, neuron="own"),
        )


_IN_EQUATIONS = {
    "delay": "delay(x, 1)",
    "learn": "learn(1.0) * x",
    "log": "x * log(2.0 + abs(x))",
    "random": "x + 0.1 * random(normal)",
    "sqrt": "x * sqrt(2.0 + abs(x))",
}
"""Calls in examples, for functions that are not functions of one x, or not defined for every x."""


_NEURON = """neuron own {{
  state u = 0.0
  v = 0.5 * u + {}
  s = heaviside(v - 1.0)
  u = v * (1 - s)
}}

"""
"""Example of a neuron with a call."""


def first_weights() -> Iterator[Entry]:
    """Yield the initialisations of weights, ``init = ...``."""
    modes = " or ".join(f"`{mode}`" for mode in MODES)
    for row in FIRST_WEIGHTS.values():
        arguments = tuple(
            EntryParameter(
                name,
                modes if default in MODES else "a number",
                _default(default),
                ARGUMENTS[name],
            )
            for name, default in row.arguments.items()
        )
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


_PLACES = {
    "phase": "Set in a recipe, for all its phases, or in a phase.",
    "recipe": "Set in a recipe, not in a phase.",
    "phase only": "Set in a phase.",
}
_PHASES = (
    "recipe example {{\n  optimizer = adamw(lr = 0.01)\n  phase first {{\n    epochs = 10\n  }}\n"
    "  phase second {{\n    epochs = 2\n    {}\n  }}\n}}\n"
)


def settings() -> Iterator[Entry]:
    """Yield the settings of a recipe, whose only parameter is the value."""
    for key, row in SETTINGS.items():
        default = None if row.required else row.default or "none"
        line = f"{key} = {row.example or row.default}"
        yield Entry(
            key,
            "setting",
            f"{key} = ...",
            sentence(row.meaning),
            (EntryParameter(key, _takes(row.type), default, row.meaning),),
            _PLACES[row.scope],
            _PHASES.format(line) if row.scope == "phase only" else examples.recipe([line]),
        )


def _default(value: Any) -> str | None:
    """Return a default as it is written, None if there is none."""
    return None if value is None else written(value)


def _takes(kind: Type) -> str:
    """Return the text for a type of recipes, with its bounds."""
    bounds = f" {describe_range(kind)}" if isinstance(kind, IntType | FloatType) else ""
    return describe(kind) + bounds


def items() -> Iterator[Entry]:
    """Yield the entries of optimizers, schedules, losses, augmentations and other items of recipes."""
    rows = {id(row): row for of_family in ITEMS.values() for row in of_family.values()}
    for row in rows.values():
        families = [name for name, known in ITEMS.items() if known.get(row.name) is row]
        keys = [key for key, of in SETTINGS.items() if getattr(of.type, "family", None) in families]
        several = [] if row.many is None else [row.many]
        arguments = [
            EntryParameter(each.name, _takes(each.type), _default(each.default), each.meaning)
            for each in (*several, *row.arguments)
        ]
        shown = [f"{each.name}, ..." for each in several]
        shown += [each.usage for each in arguments[len(several) :]]
        yield Entry(
            row.name,
            families[0],
            call(row.name, shown),
            sentence(row.meaning),
            tuple(arguments),
            f"A value of {' and of '.join(f'`{key}`' for key in keys)} in a recipe.",
            examples.recipe(
                [f"{key} = {row.example or row.name}" for key in keys if key != "freeze"]
            ),
        )
