"""Kinds: the sets of numbers that a value of a network may contain.

A kind is a range of integers times a power of two, or ``analog``: spikes are 0 .. 1, ternary
spikes -1 .. 1, sums of spikes 0 .. n, averages of four spikes 0 .. 4 of 1/4. Tokens are indices of a
vocabulary, with which nothing is computed.
"""

from __future__ import annotations

from functools import lru_cache

from danetc.dsl.ranges import EXACT, REAL, NumberRange
from danetc.dsl.record import record

MAX_BITS = 8
"""Maximum number of bits of a packed number."""


@record
class Precision:
    """The numbers that can be represented exactly in a floating-point type.

    They are the integers up to ``whole``, times powers of two from ``least`` to ``most``.
    """

    whole: int
    least: float
    most: float


PRECISIONS = {
    "float32": Precision(2**24, 2.0**-126, 2.0**127),
    "float16": Precision(2**11, 2.0**-14, 2.0**15),
    "bfloat16": Precision(2**8, 2.0**-126, 2.0**127),
}


@record
class Kind:
    """Integers from ``low`` to ``high``, times ``unit``; any numbers if ``unit`` is 0.

    ``is_token`` is true for indices, whose tensors are int64.
    """

    low: int = 0
    high: int = 0
    unit: float = 0.0
    is_token: bool = False

    @staticmethod
    def of(values: NumberRange) -> Kind:
        """Return the kind of a range; analog if float32 cannot represent all of its numbers."""
        if not values.unit or not values.is_bounded:
            return ANALOG
        kind = Kind(round(values.low / values.unit), round(values.high / values.unit), values.unit)
        return kind if kind.is_exact("float32") else ANALOG

    @property
    def range(self) -> NumberRange:
        low, high = self.low * self.unit, self.high * self.unit
        return NumberRange(low, high, self.unit) if self.is_integer else REAL

    @property
    def is_integer(self) -> bool:
        """True if the kind has a unit, and therefore finitely many numbers."""
        return self.unit > 0

    @property
    def most(self) -> int:
        """Largest absolute value, in units."""
        return max(abs(self.low), abs(self.high))

    @property
    def needs_only_additions(self) -> bool:
        """True if each number is -1, 0 or 1 units, so that products are additions."""
        return self.is_integer and self.most <= 1

    @property
    def bits(self) -> int:
        """Number of bits of a packed number; 0 if it is not packed.

        A kind is only packed if all precisions can represent its numbers exactly.
        """
        return _bits(self)

    def is_exact(self, dtype: str) -> bool:
        """True if a floating-point type represents all of its numbers exactly."""
        known, largest = PRECISIONS[dtype], self.unit * self.most
        return known.least <= self.unit and self.most <= known.whole and largest <= known.most

    def __or__(self, other: Kind) -> Kind:
        """Return the smallest kind that contains both."""
        return Kind.of(self.range | other.range)

    def __str__(self) -> str:
        if not self.is_integer:
            return "analog"
        if self == SPIKE:
            return "spike"
        above, below = self.unit.as_integer_ratio()
        if self.is_token:
            return f"token {self.low} .. {self.high}"
        of = "" if self.unit == 1 else f" of {above}" + (f"/{below}" if below > 1 else "")
        return f"{self.low} .. {self.high}{of}"


@lru_cache(maxsize=1024)
def _bits(kind: Kind) -> int:
    bits = (kind.high - kind.low).bit_length()
    packs = bits <= MAX_BITS and not kind.is_token
    return bits if packs and all(map(kind.is_exact, PRECISIONS)) else 0


ANALOG = Kind()
SPIKE = Kind(0, 1, 1.0)


def tokens(vocabulary: int) -> Kind:
    """Return the kind of the indices of a vocabulary."""
    return Kind(0, vocabulary - 1, 1.0, is_token=True)


def count(bound: int) -> Kind:
    """Return the kind of the integers from 0 to ``bound``."""
    return Kind.of(NumberRange(0.0, float(bound), 1.0)) if bound <= EXACT else ANALOG
