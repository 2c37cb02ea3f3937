"""Parameters of a network that change with the steps of a training, as a recipe's ``change`` says."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from torch import Tensor, nn

from danetc.dsl.recipe.item import Item
from danetc.dsl.recipe.settings import Phase


def value_at(phase: Phase, item: Item, done: int, steps: int) -> float:
    """The value at the step that ``done`` others were before, of a phase with epochs of ``steps``.

    It ends with the last step of its epochs, those of the phase where it has none.
    """
    start, end = item.number("start"), item.number("end")
    last = (item.number("epochs") or phase.epochs) * steps - 1
    share = min(1.0, done / last) if last > 0 else 1.0
    return end if share == 1 else CHANGES[item.name](start, end, share)


def _linear(start: float, end: float, share: float) -> float:
    return start + (end - start) * share


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def _exponential(start: float, end: float, share: float) -> float:
    return float(start * (end / start) ** share)


CHANGES: Mapping[str, Callable[[float, float, float], float]] = {
    "linear": _linear,
    "cosine": _cosine,
    "exponential": _exponential,
}
"""From a value to another, by the share of the way: the rows of ``dsl.recipe.items``."""


class Changes:
    """What a phase changes in some models: a network and the mean of its weights.

    A value follows from the step alone, so a training that goes on has what one left alone has.
    """

    def __init__(self, phase: Phase, steps: int, *models: nn.Module) -> None:
        self.phase, self.steps = phase, steps
        self._places: list[tuple[Item, list[Tensor]]] = []
        for change in phase.change:
            layers = [layer for model in models for layer in model.modules()]
            names = [(layer, getattr(layer, "scheduled", {})) for layer in layers]
            values = [
                getattr(layer, has[change.path]) for layer, has in names if change.path in has
            ]
            if not values:
                raise ValueError(f"no layer has {change.path} for a schedule")
            self._places.append((change.item, values))

    def put(self, done: int) -> None:
        """Set them to what they are after ``done`` steps of the phase."""
        for item, values in self._places:
            value = value_at(self.phase, item, done, self.steps)
            for each in values:
                each.fill_(value)
