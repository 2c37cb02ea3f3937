"""Random choices, and numbers written in many ways."""

import random
import re
from collections.abc import Sequence
from typing import TypeVar

from danetc.dsl.first_weights import FIRST_WEIGHTS, MODES

T = TypeVar("T")


class Dice(random.Random):
    """Seeded by a number: the same choices in every process."""

    def maybe(self, share: float = 0.5) -> bool:
        return self.random() < share

    def some(self, items: Sequence[T], most: int) -> list[T]:
        """Up to ``most`` of the items, in their order."""
        chosen = sorted(self.sample(range(len(items)), self.randint(0, min(most, len(items)))))
        return [items[place] for place in chosen]

    def text(self, template: str) -> str:
        """One of several lines, with one of the alternatives of each ``«a|b»`` in it.

        A line ``3 × a`` counts three times.
        """
        lines = []
        for line in template.strip().splitlines():
            times, _, rest = line.strip().rpartition(" × ")
            lines += [rest] * int(times or 1)
        line = self.choice(lines)
        while "«" in line:
            line = re.sub("«([^«»]*)»", lambda found: self.choice(found[1].split("|")), line)
        return line

    def number(self, value: int) -> str:
        """A positive integer, mostly as a literal, otherwise as an expression."""
        if self.maybe(0.6):
            return str(value)
        down = f"{value - 1} + 1" if value > 1 else "1"
        forms = [
            f"«{value + 1} - 1|{down}|({2 * value} / 2)|({value} * exp(0))|({value} + log(1))»",
            f"«max({value}, {max(0, value - 1)})|min({value}, {value + 2})|abs(-{value})»",
            f"«floor({value}.7)|ceil({value} - 0.4)|round({value}.3)|round({value} * sqrt(1))»",
            f"floor(sqrt({value * value}) + 0.1)",
            f"({value} if {self.condition()} else {value})",
            f"({value} if pi > 3 and not false else {value + 1})",
            f"({value + 1} if 1 >= 2 or 2 != 2 else {value})",
        ]
        return self.text("\n".join(forms))

    def condition(self) -> str:
        return self.text("«1 < 2|3 <= 3|2 == 2|true|not (1 > 2)|1 == 1 and 2 > 1»")

    def real(self, low: float, high: float) -> str:
        return f"{self.uniform(low, high):.2f}"

    def learn(self) -> str:
        """Learnable numbers in values of the network."""
        bounds = "«||, above = 0.1|, below = 2|, above = 0, below = 1.5»"
        each = "«layer|channel|step|neuron|channel, per_step = true»"
        return self.text(f"learn({self.real(0.3, 1.2)}{bounds}«||, per = {each}»)")

    def drawn(self) -> str:
        """Random numbers in values of the network, or in the equations of a neuron."""
        given = "«|normal|normal(0.1, 0.5)|uniform(-1, 1)»"
        more = "«||, evaluate = «mean|draw»|, per = «sample|step»|, per = sample, evaluate = mean»"
        found = self.text(f"random({given}{more})")
        return found.replace("(, ", "(")

    def start(self) -> str:
        """The first values of weights, from a row of the table."""
        row = self.choice([*FIRST_WEIGHTS.values()])
        given = []
        for name, default in row.arguments.items():
            if default is None or self.maybe(0.4):
                text = self.choice(MODES) if name == "mode" else self.real(0.3, 0.9)
                given.append(f"{name} = {text}")
        return row.name + (f"({', '.join(given)})" if given else "")
