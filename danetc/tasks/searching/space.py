"""The dimensions of a search: the axes of ``danetc compare``, and ranges of numbers.

============================== =====================================================
rule=chain,densely_additive    one of these values
width=8..64                    an integer from 8 to 64
width=8..64:8                  in steps of 8
recipe.optimizer.lr=1e-4..0.1  a real number; uniform on a logarithmic scale with `:log`
============================== =====================================================
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TypeAlias

from danetc.arguments import Setting, parse_setting
from danetc.errors import UserError
from danetc.tasks.grid.cells import CLASSES, RECIPES, Axis, parse_axis

_NUMBER = r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?"
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})(?::(log|{_NUMBER}))?", re.ASCII)
_DIGITS = 6
"""Significant digits of a drawn number: people read the names of cells."""


@dataclass(frozen=True)
class SearchRange:
    """Numbers from ``low`` to ``high``, both included; integers if all that is given are integers.

    They lie ``step`` apart unless it is None. With ``log`` they are uniform on a logarithmic scale.
    """

    name: str
    low: float
    high: float
    step: float | None = None
    log: bool = False

    @property
    def whole(self) -> bool:
        return all(isinstance(each, int) for each in (self.low, self.high, self.step or 1))

    def rounded(self, value: float) -> float:
        """Return a drawn value as an integer, or with six digits within the range."""
        if self.whole:
            return int(value)
        return min(max(float(f"{value:.{_DIGITS}g}"), float(self.low)), float(self.high))

    @property
    def values(self) -> tuple[Setting, ...]:
        """All values. Raises UserError if there are infinitely many."""
        step = self.step or (1 if self.whole and not self.log else None)
        if step is None:
            raise UserError(
                f"the sampler grid needs finitely many values: `{self.name}` has no step, as in "
                f"{self.name}={self.low}..{self.high}:STEP"
            )
        count = round((self.high - self.low) / step) + 1
        return tuple(self.rounded(self.low + place * step) for place in range(count))

    def __str__(self) -> str:
        end = ":log" if self.log else "" if self.step is None else f":{self.step}"
        return f"{self.low}..{self.high}{end}"


Dimension: TypeAlias = Axis | SearchRange


def parse_dimension(text: str) -> Dimension:
    """Parse a dimension such as ``width=8..64`` or ``steps=1,4``. Raises ValueError."""
    name, equals, written = (part.strip() for part in text.partition("="))
    match = _RANGE.fullmatch(written)
    if not equals or match is None:
        axis = parse_axis(text)
        if any(isinstance(value, str) and _RANGE.fullmatch(value) for value in axis.values):
            raise ValueError(f"`{name}` mixes a range with values; give one or the other")
        return axis
    parse_axis(f"{name}={match[1]}")  # check the name
    if name in (CLASSES, RECIPES):
        raise ValueError(f"`{name}` takes values, as in {name}=A,B, not a range")
    low, high = _number(match[1]), _number(match[2])
    if low >= high:
        raise ValueError(f"`{text}` is empty: {match[1]} is not below {match[2]}")
    if match[3] == "log":
        if low <= 0:
            raise ValueError(f"`{text}` has no logarithm at {match[1]}")
        return SearchRange(name, low, high, None, True)
    step = None if match[3] is None else _number(match[3])
    if step is not None and not 0 < step <= high - low:
        raise ValueError(f"`{text}` has no step of {match[3]}")
    if step is not None and abs((high - low) / step - round((high - low) / step)) > 1e-9:
        raise ValueError(f"`{text}` does not reach {match[2]} in steps of {match[3]}")
    return SearchRange(name, low, high, step)


def _number(text: str) -> float:
    _, value = parse_setting(f"x={text}")
    if isinstance(value, str) or not math.isfinite(value):
        raise ValueError(f"{text} is not a number that can be drawn")
    return value
