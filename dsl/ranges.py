"""Interval arithmetic on real numbers and on multiples of a power of two.

Results are valid for computations in float32 and float64: multiples of a unit are exact up to 2^24
units, and the bounds of other intervals are widened by more than the rounding error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache, reduce
from itertools import product
from typing import TypeAlias

from danetc.dsl.record import record

EXACT = 2.0**24
"""float32 represents all integers up to this one."""
MOST_CASES = 64
"""Maximum number of combinations of values for which a function is tabulated."""

_FAR = 2.0**100  # larger bounds become infinite; products of smaller ones stay finite
_ROUNDING = 2.0**-22  # float32 arithmetic rounds by at most 2^-24, functions by little more


@record
class NumberRange:
    """Numbers from ``low`` to ``high``.

    Only the multiples of ``unit``, a power of two, if it is not 0. Then a bound is infinite if
    float32 cannot represent all multiples up to it.
    """

    low: float
    high: float
    unit: float = 0.0

    @property
    def is_constant(self) -> bool:
        """True if the range is one exact number."""
        return self.low == self.high and self.unit > 0

    @property
    def is_bounded(self) -> bool:
        return -math.inf < self.low and self.high < math.inf

    @property
    def size(self) -> float:
        """Number of elements."""
        return (self.high - self.low) / self.unit + 1 if self.unit else math.inf

    def numbers(self) -> list[float]:
        """Return all elements of a finite range."""
        return [self.low + i * self.unit for i in range(int(self.size))]

    def __or__(self, other: NumberRange) -> NumberRange:
        """Return the smallest range that contains both."""
        return _grid(min(self.low, other.low), max(self.high, other.high), _common(self, other))


REAL = NumberRange(-math.inf, math.inf)
"""Any number."""
BIT = NumberRange(0.0, 1.0, 1.0)
"""0 or 1."""


def constant(value: float) -> NumberRange:
    """Return the range of one number after conversion to float32."""
    unit = _unit(value)
    return NumberRange(value, value, unit) if unit else _rounded(value, value)


@lru_cache(maxsize=4096)
def hull(values: frozenset[float]) -> NumberRange | None:
    """Return the smallest range that contains the values; None if float32 rounds one of them."""
    if not values or not all(map(_unit, values)):
        return None
    result = reduce(NumberRange.__or__, (NumberRange(it, it, _unit(it)) for it in values))
    return result if result.unit and result.is_bounded else None


def _unit(value: float) -> float:
    """Return the largest power of two that divides a number; 0 if float32 rounds the number."""
    if value == 0:
        return 1.0
    if not 1 / _FAR < abs(value) < _FAR:
        return 0.0
    numerator, denominator = value.as_integer_ratio()
    odd = numerator // (numerator & -numerator)
    return (numerator & -numerator) / denominator if abs(odd) <= EXACT else 0.0


def _common(a: NumberRange, b: NumberRange) -> float:
    """Return the largest unit that divides the units of both ranges; 0 if there is none."""
    if not (a.unit and b.unit):
        return 0.0
    if a.low == a.high == 0:
        return b.unit
    if b.low == b.high == 0:
        return a.unit
    return min(a.unit, b.unit)


def _grid(low: float, high: float, unit: float) -> NumberRange:
    """Return a range of multiples of a unit, with infinite bounds above 2^24 units."""
    if not unit:
        return NumberRange(low, high)
    if not 1 / _FAR < unit < _FAR:
        return _rounded(low, high)
    if low == high:
        return NumberRange(low, high, _unit(low) or unit)
    most = EXACT * unit
    return NumberRange(
        low if abs(low) <= most else -math.inf, high if abs(high) <= most else math.inf, unit
    )


def _rounded(low: float, high: float) -> NumberRange:
    """Widen a range by the rounding error; a bound that float32 represents exactly stays."""
    loose = _outwards(low, high)
    return NumberRange(low if _unit(low) else loose.low, high if _unit(high) else loose.high)


def _outwards(low: float, high: float) -> NumberRange:
    """Widen a range by more than the rounding error, without a change of sign."""
    if math.isinf(low) and math.isinf(high):
        return REAL
    low -= abs(low) * _ROUNDING if math.isfinite(low) else 0.0
    high += abs(high) * _ROUNDING if math.isfinite(high) else 0.0
    low = 0.0 if 0 < low < 1 / _FAR else low  # may be rounded to 0
    high = 0.0 if -1 / _FAR < high < 0 else high
    return NumberRange(low if low > -_FAR else -math.inf, high if high < _FAR else math.inf)


def _arithmetic(low: float, high: float, unit: float) -> NumberRange:
    return _grid(low, high, unit) if unit else _rounded(low, high)


# -- operations -----------------------------------------------------------------------------------


def add(a: NumberRange, b: NumberRange) -> NumberRange:
    return _arithmetic(a.low + b.low, a.high + b.high, _common(a, b))


def total(a: NumberRange, count: int) -> NumberRange:
    """Return the range of a sum of ``count`` numbers, each in the range ``a``."""
    return _arithmetic(count * a.low, count * a.high, a.unit)


def negative(a: NumberRange) -> NumberRange:
    return NumberRange(-a.high, -a.low, a.unit)


def subtract(a: NumberRange, b: NumberRange) -> NumberRange:
    return add(a, negative(b))


def multiply(a: NumberRange, b: NumberRange) -> NumberRange:
    """Return the range of products; its bounds are products of the bounds."""
    # an infinite bound stands for a finite number
    corners = [x * y if x and y else 0.0 for x in (a.low, a.high) for y in (b.low, b.high)]
    return _arithmetic(min(corners), max(corners), a.unit * b.unit)


def divide(a: NumberRange, b: NumberRange) -> NumberRange:
    if b.is_constant and b.low and abs(math.frexp(b.low)[0]) == 0.5:
        return multiply(a, constant(1 / b.low))
    if b.low <= 0 <= b.high:
        return REAL
    corners = [0.0 if math.isinf(y) else x / y for x in (a.low, a.high) for y in (b.low, b.high)]
    return _outwards(min(corners), max(corners))  # a GPU may not round the quotient correctly


def larger(a: NumberRange, b: NumberRange) -> NumberRange:
    if a.high <= b.low:
        return b
    if b.high <= a.low:
        return a
    return _grid(max(a.low, b.low), max(a.high, b.high), _common(a, b))


def smaller(a: NumberRange, b: NumberRange) -> NumberRange:
    return negative(larger(negative(a), negative(b)))


def absolute(a: NumberRange) -> NumberRange:
    return larger(larger(a, negative(a)), constant(0.0)) if a.low < 0 else a


def nearest(a: NumberRange) -> NumberRange:
    """``round``: ties go to the even integer."""
    if a.unit >= 1:
        return a
    low, high = (end if math.isinf(end) else float(round(end)) for end in (a.low, a.high))
    return _grid(low, high, 1.0)


def less(a: NumberRange, b: NumberRange) -> NumberRange:
    """``a < b`` as 0 or 1."""
    return _decided(a.high < b.low, a.low >= b.high)


def equal(a: NumberRange, b: NumberRange) -> NumberRange:
    same = a.is_constant and b.is_constant and a.low == b.low
    return _decided(same, a.high < b.low or b.high < a.low)


def opposite(a: NumberRange) -> NumberRange:
    """``not``, and 1 - a."""
    return subtract(constant(1.0), a)


def either(condition: NumberRange, then: NumberRange, otherwise: NumberRange) -> NumberRange:
    """``then if condition else otherwise``."""
    if condition.is_constant:
        return then if condition.low else otherwise
    return then | otherwise


def _decided(yes: bool, no: bool) -> NumberRange:
    return constant(1.0) if yes else constant(0.0) if no else BIT


def rising(
    function: Callable[[float], float], least: float, most: float
) -> Callable[[NumberRange], NumberRange]:
    """Return the range rule of an increasing function with its limits at -inf and inf.

    The bounds include the rounding errors of such functions.
    """

    def at(end: float) -> float:
        if math.isinf(end):
            return most if end > 0 else least
        try:
            return function(end)
        except OverflowError:
            return most
        except ValueError:
            return least

    return lambda a: _outwards(at(a.low), at(a.high))


# -- tables of functions ---------------------------------------------------------------------------

Source: TypeAlias = int | str


@record
class RangeTable:
    """Value of an expression for each combination of the values of its sources."""

    sources: tuple[Source, ...]
    cases: Mapping[tuple[float, ...], float]


class Tables:
    """Tables of expressions for all values of their sources, if there are few.

    Interval arithmetic overestimates the range of an expression that reads a value more than once:
    for spikes, ``a + b - 2 * a * b`` is 0 or 1, but interval arithmetic gives -2 .. 2.
    """

    def __init__(self) -> None:
        self._numbers: dict[Source, list[float]] = {}

    def source(self, name: Source, values: NumberRange) -> RangeTable | None:
        """Add an independent value. Return None if it has too many possible values."""
        if values.size > MOST_CASES:
            return None
        numbers = self._numbers[name] = values.numbers()
        return RangeTable((name,), {(number,): number for number in numbers})

    def apply(
        self, function: Callable[..., float], operands: Iterable[RangeTable | float | None]
    ) -> tuple[RangeTable, NumberRange] | None:
        """Tabulate a function of values. Return its table and range, or None.

        Returns None for an operand without a table and for a constant that float32 rounds:
        41 * (1 / 41) is 1 in float64 but less in float32.
        """
        known = [*operands]
        if any(it is None or (isinstance(it, float) and not _unit(it)) for it in known):
            return None
        tables = (it for it in known if isinstance(it, RangeTable))
        names = tuple(dict.fromkeys(name for table in tables for name in table.sources))
        if not names or math.prod(len(self._numbers[name]) for name in names) > MOST_CASES:
            return None
        results: dict[tuple[float, ...], float] = {}
        for case in product(*(self._numbers[name] for name in names)):
            at = dict(zip(names, case, strict=True)).__getitem__
            numbers = (
                it.cases[tuple(map(at, it.sources))] if isinstance(it, RangeTable) else it
                for it in known
            )
            try:
                results[case] = float(function(*numbers))
            except (ArithmeticError, ValueError):
                return None
        found = hull(frozenset(results.values()))
        return None if found is None else (RangeTable(names, results), found)


_MAX_ITERATIONS = 40
"""If a range still grows after this many iterations, all ranges are unbounded."""
_MAX_CHANGES = 3
"""Maximum number of changes of a bound before it becomes infinite."""


def fixpoint(
    start: Mapping[str, NumberRange],
    step: Callable[[Mapping[str, NumberRange]], Mapping[str, NumberRange]],
) -> Mapping[str, NumberRange]:
    """Return ranges that contain the states at every step.

    ``start`` holds the ranges before the first step; ``step`` maps ranges before a step to ranges
    after it.
    """
    states = dict(start)
    changes = dict.fromkeys(start, 0)
    for _ in range(_MAX_ITERATIONS):
        grown = {name: states[name] | after for name, after in step(states).items()}
        if all(grown[name] == states[name] for name in grown):
            return states
        for name, merged in grown.items():
            before = states[name]
            changes[name] += merged != before
            if changes[name] > _MAX_CHANGES:
                merged = NumberRange(
                    before.low if merged.low >= before.low else -math.inf,
                    before.high if merged.high <= before.high else math.inf,
                    before.unit if merged.unit == before.unit else 0.0,
                )
            states[name] = merged
    return dict.fromkeys(start, REAL)
