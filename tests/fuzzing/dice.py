"""Random choices, and numbers written in many ways."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

from danetc.dsl.first_weights import FIRST_WEIGHTS, MODES

T = TypeVar("T")


class Dice(random.Random):
    """Seeded by a number: the same choices in every process."""

    def maybe(self, share: float = 0.5) -> bool:
        return self.random() < share

    def some(self, items: Sequence[T], most: int) -> list[T]:
        """Up to so many of some things, in their order."""
        chosen = sorted(self.sample(range(len(items)), self.randint(0, min(most, len(items)))))
        return [items[place] for place in chosen]

    def number(self, value: int, *known: tuple[str, int]) -> str:
        """A whole number above 0, mostly as it is, else as an expression. ``known`` are names."""
        if self.maybe(0.6):
            return str(value)
        forms = [
            f"{value + 1} - 1",
            f"{value - 1} + 1" if value > 1 else "1",
            f"({2 * value} / 2)",
            f"max({value}, {max(0, value - 1)})",
            f"min({value}, {value + 2})",
            f"floor({value}.7)",
            f"ceil({value} - 0.4)",
            f"round({value}.3)",
            f"abs(-{value})",
            f"floor(sqrt({value * value}) + 0.1)",
            f"({value} * exp(0))",
            f"({value} + log(1))",
            f"({value} if {self.condition()} else {value})",
            f"({value} if pi > 3 and not false else {value + 1})",
            f"({value + 1} if 1 >= 2 or 2 != 2 else {value})",
            f"round({value} * sqrt(1))",
        ]
        for name, own in known:
            if own:
                forms += [
                    f"({name} + {value - own})" if value >= own else f"({name} - {own - value})"
                ]
                if value % own == 0:
                    forms += [f"{value // own} * {name}"]
        return self.choice(forms)

    def condition(self) -> str:
        return self.choice(["1 < 2", "3 <= 3", "2 == 2", "true", "not (1 > 2)", "1 == 1 and 2 > 1"])

    def real(self, low: float, high: float) -> str:
        return f"{self.uniform(low, high):.2f}"

    def learn(self) -> str:
        """Numbers that are learnt among values of the network."""
        bounds = self.choice(["", "", ", above = 0.1", ", below = 2", ", above = 0, below = 1.5"])
        each = ("layer", "channel", "step", "neuron", "channel, per_step = true")
        per = self.choice(["", "", *(f", per = {x}" for x in each)])
        return f"learn({self.real(0.3, 1.2)}{bounds}{per})"

    def start(self) -> str:
        """What weights start from, of the rows of the table."""
        row = self.choice([*FIRST_WEIGHTS.values()])
        given = []
        for name, default in row.arguments.items():
            if default is None or self.maybe(0.4):
                text = self.choice(MODES) if name == "mode" else self.real(0.3, 0.9)
                given.append(f"{name} = {text}")
        return row.name + (f"({', '.join(given)})" if given else "")
