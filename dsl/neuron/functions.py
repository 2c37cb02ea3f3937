"""What equations call and compute with: names of functions, operators and constants."""

from __future__ import annotations

import math
from collections.abc import Mapping

from danetc.dsl.neuron.opcodes import OPCODES


def functions() -> Mapping[str, tuple[int, int | None]]:
    """The functions of equations with the fewest and the most values that each takes."""
    rows = {name: row.takes for name, row in OPCODES.items() if row.takes is not None}
    return {**rows, "sum": (1, None), "delay": (2, 2), "learn": (1, 1)}


CONSTANTS: Mapping[str, float | bool] = {"true": True, "false": False, "pi": math.pi}
"""What these names stand for where nothing in the declaration has them."""

FOLDS: Mapping[str, str] = {"sum": "add", "max": "max", "min": "min"}
"""Functions of several values, which `for` may give, and the operation that folds them."""

ARITHMETIC = {"+": "add", "-": "sub", "*": "mul", "/": "div"}
COMPARISONS = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge", "==": "eq", "!=": "ne"}


def is_smooth(function: str) -> bool:
    """Whether surrogates have a function of equations."""
    row = OPCODES.get(FOLDS.get(function, function))
    return row is not None and row.smooth
