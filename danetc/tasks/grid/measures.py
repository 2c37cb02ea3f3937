"""What cells are compared by: a figure of the test after an epoch, of what is learned."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

TRAINED = ("train_loss", "train_accuracy")
"""What is kept of every epoch's training, beside what cells are compared by: means over it, of augmented
images."""


@dataclass(frozen=True, slots=True)
class Measure:
    """A figure of an epoch's test. ``curve`` is what its values over the epochs are called, ``head`` the
    head of a column and ``label`` that of an axis, in which values are ``scale`` times as large.
    """

    name: str
    curve: str
    head: str
    label: str
    scale: int
    higher: bool
    """Whether more is better."""
    of: Callable[[Mapping[str, Any]], float]
    """The value, from the record of an epoch."""
    trained: tuple[str, ...] = TRAINED

    def best(self, values: Iterable[float]) -> float:
        return max(values) if self.higher else min(values)

    def objective(self, value: float) -> float:
        """What is to be as large as can be."""
        return value if self.higher else -value

    def text(self, mean: float | None, deviation: float | None = None) -> str:
        """``68.26 ± 0.31`` of an accuracy, in per cent; ``0.1234 ± 0.0021`` of a distance."""
        if mean is None:
            return "-"
        if self.scale == 1:
            spread = "" if deviation is None else f" ± {deviation:.2g}"
            return f"{mean:.4g}{spread}"
        spread = "" if deviation is None else f" ± {self.scale * deviation:.2f}"
        return f"{self.scale * mean:.2f}{spread}"


def _accuracy(epoch: Mapping[str, Any]) -> float:
    return float(epoch["test_accuracy"])


def _rmse(epoch: Mapping[str, Any]) -> float:
    return float(epoch["scores"]["rmse"])


ACCURACY = Measure(
    "accuracy", "test_accuracy", "top-1 %", "test top-1 accuracy (%)", 100, True, _accuracy
)
OF_PIXELS = Measure(
    "pixel accuracy",
    "test_accuracy",
    "pixel accuracy %",
    "test pixel accuracy (%)",
    100,
    True,
    _accuracy,
)
OF_NUMBERS = Measure("rmse", "test_rmse", "RMSE", "test RMSE", 1, False, _rmse, ("train_loss",))
MEASURES: Mapping[str, Measure] = {each.name: each for each in (ACCURACY, OF_PIXELS, OF_NUMBERS)}
"""THE measures, by name."""


def measure_of(epochs: Iterable[Mapping[str, Any]]) -> Measure:
    """By the records of epochs, the scores of which say what is learned."""
    for epoch in epochs:
        scores = epoch.get("scores", {})
        return OF_NUMBERS if "rmse" in scores else OF_PIXELS if "miou" in scores else ACCURACY
    return ACCURACY
