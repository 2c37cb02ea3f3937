"""What is searched: the axes of ``danetc compare``, and ranges of numbers.

============================== =====================================================
rule=chain,densely_additive    one of these values
width=8..64                    a whole number from 8 to 64
width=8..64:8                  in steps of 8
recipe.optimizer.lr=1e-4..0.1  a number; drawn evenly on a logarithmic scale with `:log`
============================== =====================================================
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TypeAlias

from danetc.setting import Setting, parse_setting
from danetc.tasks.grid.cells import CLASSES, RECIPES, Axis, parse_axis

_NUMBER = r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?"
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})(?::(log|{_NUMBER}))?", re.ASCII)
_DIGITS = 6
"""Significant digits of a number that is drawn: names of cells are read by people."""


@dataclass(frozen=True)
class SearchRange:
    """Numbers from ``low`` to ``high``, both included; whole ones where all that is given is whole.

    ``step`` is None for every number; with ``log`` they are drawn evenly on a logarithmic scale.
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
        """A drawn value as a cell has it: a whole number, or one of six digits within the range."""
        if self.whole:
            return int(value)
        return min(max(float(f"{value:.{_DIGITS}g}"), float(self.low)), float(self.high))

    def values(self) -> list[float]:
        """All of them. Raises ValueError where they are not finitely many."""
        step = self.step or (1 if self.whole and not self.log else None)
        if step is None:
            raise ValueError(f"`{self.name}` has no step, as in {self.name}={_text(self)}:STEP")
        count = round((self.high - self.low) / step) + 1
        return [self.rounded(self.low + place * step) for place in range(count)]

    def __str__(self) -> str:
        end = ":log" if self.log else "" if self.step is None else f":{self.step}"
        return f"{self.name}={_text(self)}{end}"


Dimension: TypeAlias = Axis | SearchRange


def _text(found: SearchRange) -> str:
    return f"{found.low}..{found.high}"


def parse_dimension(text: str) -> Dimension:
    """``width=8..64`` or ``steps=1,4``. Raises ValueError."""
    name, equals, written = (part.strip() for part in text.partition("="))
    match = _RANGE.fullmatch(written)
    if not equals or match is None:
        axis = parse_axis(text)
        if any(isinstance(value, str) and _RANGE.fullmatch(value) for value in axis.values):
            raise ValueError(f"`{name}` mixes a range with values; give one or the other")
        return axis
    parse_axis(f"{name}={match[1]}")  # the rules of names
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


def ends(dimension: Dimension) -> Axis:
    """It as an axis with its values, or with those between which it lies."""
    if isinstance(dimension, Axis):
        return dimension
    return Axis(dimension.name, (dimension.low, dimension.high))


def written(dimension: Dimension) -> dict[str, list[Setting] | str]:
    """It as JSON, by which a search is known again."""
    if isinstance(dimension, Axis):
        return {dimension.name: list(dimension.values)}
    return {dimension.name: str(dimension).partition("=")[2]}
