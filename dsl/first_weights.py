"""What weights start from, ``init = ...``: a row each. The functions are those of ``torch.nn.init``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from danetc.dsl.record import record

Numbers = Mapping[str, "float | str"]
REQUIRED = None
"""The default of an argument that has none."""


def _given(numbers: Numbers) -> Numbers:
    return numbers


@record
class FirstWeights:
    """A way to draw the first values of a layer's weights.

    ``arguments`` are those of the language with their defaults; a text is one of ``MODES``. ``kwargs``
    makes of them those of the function ``torch``. One that is not ``random`` draws nothing.
    """

    name: str
    meaning: str
    torch: str
    arguments: Mapping[str, float | str | None]
    kwargs: Callable[[Numbers], Mapping[str, float | str]] = _given
    random: bool = True

    def text(self, values: Numbers) -> str:
        """It and its arguments, in their order, parted by spaces. ``read`` is its inverse."""
        return " ".join([self.name, *(str(values[name]) for name in self.arguments)])


ARGUMENTS: Mapping[str, str] = {
    "value": "the number",
    "std": "the standard deviation",
    "mean": "the mean",
    "bound": "the largest magnitude",
    "cut": "the largest magnitude that is kept",
    "gain": "a factor of all weights",
    "mode": "whether the variance follows from a layer's inputs or its outputs",
}
"""What the arguments are, by their names."""

MODES = ("fan_in", "fan_out")
"""Whether the variance follows from a layer's inputs or outputs."""
_GAIN = {"gain": 1.0}
_MODE = {"mode": "fan_out"}


def _relu(numbers: Numbers) -> Numbers:
    return {**numbers, "nonlinearity": "relu"}


_ROWS = (
    FirstWeights("zeros", "all weights are 0", "zeros_", {}, random=False),
    FirstWeights(
        "constant",
        "all weights are one number",
        "constant_",
        {"value": REQUIRED},
        lambda numbers: {"val": numbers["value"]},
        random=False,
    ),
    FirstWeights("normal", "a normal distribution", "normal_", {"std": REQUIRED, "mean": 0.0}),
    FirstWeights(
        "uniform",
        "a uniform distribution from -bound to bound",
        "uniform_",
        {"bound": REQUIRED},
        lambda numbers: {"a": -float(numbers["bound"]), "b": numbers["bound"]},
    ),
    FirstWeights(
        "truncated_normal",
        "a normal distribution, drawn again outside of -cut .. cut",
        "trunc_normal_",
        {"std": REQUIRED, "mean": 0.0, "cut": 2.0},
        lambda numbers: {
            "std": numbers["std"],
            "mean": numbers["mean"],
            "a": -float(numbers["cut"]),
            "b": numbers["cut"],
        },
    ),
    FirstWeights(
        "xavier_normal",
        "a normal distribution of variance gain^2 * 2 / (fan_in + fan_out)",
        "xavier_normal_",
        _GAIN,
    ),
    FirstWeights(
        "xavier_uniform",
        "a uniform distribution of variance gain^2 * 2 / (fan_in + fan_out)",
        "xavier_uniform_",
        _GAIN,
    ),
    FirstWeights(
        "he_normal", "a normal distribution of variance 2 / fan", "kaiming_normal_", _MODE, _relu
    ),
    FirstWeights(
        "he_uniform", "a uniform distribution of variance 2 / fan", "kaiming_uniform_", _MODE, _relu
    ),
    FirstWeights(
        "lecun_normal",
        "a normal distribution of variance 1 / fan_in",
        "kaiming_normal_",
        {},
        lambda numbers: {"mode": "fan_in", "nonlinearity": "linear"},
    ),
    FirstWeights(
        "torch_uniform",
        "a uniform distribution up to 1 / sqrt(fan_in) on both sides, as torch's layers draw",
        "kaiming_uniform_",
        {},
        lambda numbers: {"a": math.sqrt(5)},
    ),
    FirstWeights("orthogonal", "an orthogonal matrix times gain", "orthogonal_", _GAIN),
)
FIRST_WEIGHTS: Mapping[str, FirstWeights] = {row.name: row for row in _ROWS}
"""The rows by name."""


def read(text: str) -> tuple[FirstWeights, Numbers]:
    """The row of a ``FirstWeights.text``, and its arguments."""
    name, *values = text.split()
    row = FIRST_WEIGHTS[name]
    numbers = {
        key: value if value in MODES else float(value)
        for key, value in zip(row.arguments, values, strict=True)
    }
    return row, numbers
