"""Initial weights, ``init = ...``: a row for each function of ``torch.nn.init``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import product

from danetc.dsl.record import record

Numbers = Mapping[str, "float | str"]


@record
class FirstWeights:
    """Distribution of the initial weights of a layer.

    ``arguments`` are those of the language with their defaults, None if they are required; a text is
    one of ``MODES``.
    ``kwargs`` converts them to those of the function ``torch``.
    """

    name: str
    meaning: str
    torch: str
    arguments: Mapping[str, float | str | None]
    kwargs: Callable[..., Numbers] = dict
    random: bool = True

    def text(self, values: Numbers) -> str:
        """Return its name and arguments, separated by spaces. ``read`` is the inverse."""
        return " ".join([self.name, *(str(values[name]) for name in self.arguments)])


ARGUMENTS: Mapping[str, str] = {
    "value": "value of all weights",
    "std": "standard deviation",
    "mean": "mean",
    "bound": "largest magnitude",
    "cut": "largest magnitude; larger samples are drawn again",
    "gain": "factor of all weights",
    "mode": "dimension that determines the variance: inputs or outputs of the layer",
}
"""Meanings of the arguments."""


@record
class RandomStart:
    """Distribution of the initial values of learnable parameters, ``learn(uniform(0.1, 0.9))``.

    ``first`` and ``second`` are the arguments of ``RANDOM_STARTS``. Within bounds the distribution
    is truncated: samples outside are drawn again.
    """

    name: str
    first: float
    second: float

    def __str__(self) -> str:
        return f"{self.name}({self.first:g}, {self.second:g})"

    @property
    def text(self) -> str:
        """The name and the numbers, separated by spaces. ``random_start`` is the inverse."""
        return f"{self.name} {self.first!r} {self.second!r}"

    @property
    def mean(self) -> float:
        """Mean of the distribution before it is truncated."""
        return self.first if self.name == "normal" else (self.first + self.second) / 2

    @property
    def fault(self) -> str | None:
        """The reason why there is no such distribution, or None."""
        if self.name == "uniform":
            return None if self.first < self.second else "its `low` is not below its `high`"
        return None if self.second > 0 else "its `std` is not above 0"


@record
class Draw:
    """Random numbers that are drawn while a network runs: ``random(normal(0, 0.1), evaluate = mean)``.

    They are drawn ``per`` time step or sample. An evaluation draws them, too, or takes their mean.
    """

    law: RandomStart
    evaluate: str = "draw"
    per: str = "step"

    def __str__(self) -> str:
        return ", ".join([str(self.law), *self.facts])

    @property
    def facts(self) -> list[str]:
        """What differs from the defaults, in words."""
        facts = ["the same at all steps"] * (self.per == "sample")
        return facts + ["mean in evaluation"] * (self.evaluate == "mean")

    @property
    def text(self) -> str:
        """Its distribution and words, separated by spaces. ``read_draw`` is the inverse."""
        return f"{self.law.text} {self.evaluate} {self.per}"


DRAW_WORDS = {"evaluate": ("draw", "mean"), "per": ("step", "sample")}
"""Words of the arguments of ``random``, the default first."""
RANDOM_STARTS: Mapping[str, tuple[str, str]] = {
    "uniform": ("low", "high"),
    "normal": ("mean", "std"),
}
"""Distributions of random numbers and of initial values, with their arguments."""


def read_draw(words: Sequence[str]) -> Draw:
    """Return the random numbers of the words of a ``Draw.text``. Raises ValueError for other words."""
    *law, evaluate, per = words
    found = random_start(" ".join(law))
    known = found.name in RANDOM_STARTS and (evaluate, per) in product(*DRAW_WORDS.values())
    if not known or not math.isfinite(found.mean) or found.fault is not None:
        raise ValueError(f"{' '.join(words)[:80]!r} is not a distribution")
    return Draw(found, evaluate, per)


STANDARD: Mapping[str, RandomStart] = {law: RandomStart(law, 0.0, 1.0) for law in RANDOM_STARTS}
"""Distributions that ``random`` names without arguments."""


def random_start(text: str) -> RandomStart:
    """Return the distribution of a ``RandomStart.text``."""
    name, first, second = text.split()
    return RandomStart(name, float(first), float(second))


MODES = ("fan_in", "fan_out")
"""Dimension of a layer that determines the variance."""


_ROWS = (
    FirstWeights("zeros", "sets all weights to 0", "zeros_", {}, random=False),
    FirstWeights(
        "constant",
        "sets all weights to one value",
        "constant_",
        {"value": None},
        lambda value: {"val": value},
        random=False,
    ),
    FirstWeights("normal", "normal distribution", "normal_", {"std": None, "mean": 0.0}),
    FirstWeights(
        "uniform",
        "uniform distribution from -bound to bound",
        "uniform_",
        {"bound": None},
        lambda bound: {"a": -bound, "b": bound},
    ),
    FirstWeights(
        "truncated_normal",
        "normal distribution truncated to -cut .. cut",
        "trunc_normal_",
        {"std": None, "mean": 0.0, "cut": 2.0},
        lambda std, mean, cut: {"std": std, "mean": mean, "a": -cut, "b": cut},
    ),
    *(
        FirstWeights(
            f"xavier_{shape}",
            f"{shape} distribution with variance gain^2 * 2 / (fan_in + fan_out)",
            f"xavier_{shape}_",
            {"gain": 1.0},
        )
        for shape in ("normal", "uniform")
    ),
    *(
        FirstWeights(
            f"he_{shape}",
            f"{shape} distribution with variance 2 / fan",
            f"kaiming_{shape}_",
            {"mode": "fan_out"},
            lambda mode: {"mode": mode, "nonlinearity": "relu"},
        )
        for shape in ("normal", "uniform")
    ),
    FirstWeights(
        "lecun_normal",
        "normal distribution with variance 1 / fan_in",
        "kaiming_normal_",
        {},
        lambda: {"mode": "fan_in", "nonlinearity": "linear"},
    ),
    FirstWeights(
        "torch_uniform",
        "uniform distribution from -1 / sqrt(fan_in) to 1 / sqrt(fan_in), the default of torch layers",
        "kaiming_uniform_",
        {},
        lambda: {"a": math.sqrt(5)},
    ),
    FirstWeights("orthogonal", "orthogonal matrix times gain", "orthogonal_", {"gain": 1.0}),
)
FIRST_WEIGHTS: Mapping[str, FirstWeights] = {row.name: row for row in _ROWS}
"""Rows by name."""


def read(text: str) -> tuple[FirstWeights, Numbers]:
    """Return the row of a ``FirstWeights.text``, and its arguments."""
    name, *values = text.split()
    row = FIRST_WEIGHTS[name]
    numbers = {
        key: value if value in MODES else float(value)
        for key, value in zip(row.arguments, values, strict=True)
    }
    return row, numbers
