"""Functions, operators and constants of equations."""

from __future__ import annotations

import math
from collections.abc import Mapping

from danetc.dsl.neuron.opcodes import OPCODES
from danetc.dsl.record import record


def functions() -> Mapping[str, tuple[int, int | None]]:
    """Return the functions of equations with their fewest and most arguments."""
    rows = {name: row.takes for name, row in OPCODES.items() if row.takes is not None}
    return {**rows, **{name: form.takes for name, form in FORMS.items()}}


@record
class EquationForm:
    """A function of equations without an opcode: the fewest and most arguments, its usage, and
    descriptions of the function and of its arguments."""

    takes: tuple[int, int | None]
    usage: str
    meaning: str
    says: Mapping[str, str]


FORMS: Mapping[str, EquationForm] = {
    "sum": EquationForm(
        (1, None),
        "sum(a, ...)",
        "the sum, folded from the left; of nothing 0",
        {"a, ...": "the values, or one for each j of a range: `delay(x, j) for j in 0 .. 3`"},
    ),
    "delay": EquationForm(
        (2, 2),
        "delay(a, n)",
        "what a was n steps before; 0 at the first n",
        {"a": "a value", "n": "by how many steps"},
    ),
    "learn": EquationForm(
        (1, 1),
        "learn(1.0, above = ..., below = ..., per = channel)",
        "a number that is trained, strictly within bounds",
        {
            "init": "the number that it starts at",
            "above": "what it stays above; no bound by default",
            "below": "what it stays below; no bound by default",
            "per": "`layer`, `channel` or `step`: what has a number of its own",
            "per_step": "whether each time step has others; false by default",
        },
    ),
}


def meaning(name: str) -> str:
    """Return the description of a function."""
    return FORMS[name].meaning if name in FORMS else OPCODES[name].meaning


CONSTANTS: Mapping[str, float | bool] = {"true": True, "false": False, "pi": math.pi}
"""Values of these names if the declaration does not define them."""

FOLDS: Mapping[str, str] = {"sum": "add", "max": "max", "min": "min"}
"""Functions that take `for`, and the operation that folds their values."""

ARITHMETIC = {"+": "add", "-": "sub", "*": "mul", "/": "div"}
COMPARISONS = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge", "==": "eq", "!=": "ne"}


def is_smooth(function: str) -> bool:
    """True if surrogates may call a function."""
    row = OPCODES.get(FOLDS.get(function, function))
    return row is not None and row.smooth
