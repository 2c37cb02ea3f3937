"""Kinds of results from those of operands: rules of the table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce

from danetc.compiler.ir.graph import Attribute, Value
from danetc.dsl import ranges
from danetc.dsl.kinds import ANALOG, SPIKE, Kind
from danetc.dsl.ranges import NumberRange

Attrs = Mapping[str, Attribute]
Values = tuple[Value, ...]
ZERO = Kind.of(ranges.constant(0.0))
Rule = Callable[[Attrs, Values], Kind]


def analog(attrs: Attrs, values: Values) -> Kind:
    """Real numbers: analog."""
    return ANALOG


def spike(attrs: Attrs, values: Values) -> Kind:
    """Spikes: 0 or 1."""
    return SPIKE


def kept(attrs: Attrs, values: Values) -> Kind:
    """Numbers of the input."""
    return values[0].kind


def folded(join: Callable[[NumberRange, NumberRange], NumberRange]) -> Rule:
    """Return the rule of a join that folds from the left. A real operand makes it real."""

    def rule(attrs: Attrs, values: Values) -> Kind:
        if not all(value.kind.is_integer for value in values):
            return ANALOG
        return Kind.of(reduce(join, (value.kind.range for value in values)))

    return rule


def with_zero(attrs: Attrs, values: Values) -> Kind:
    """Numbers of the input, and 0."""
    return or_zero(values[0].kind)


def or_zero(kind: Kind) -> Kind:
    """Return the kind of a value that is 0 at first."""
    return kind | ZERO if kind.is_integer else ANALOG


def either(attrs: Attrs, values: Values) -> Kind:
    """Numbers of all operands."""
    return Kind.of(reduce(NumberRange.__or__, (value.kind.range for value in values)))


def scaled(attrs: Attrs, values: Values) -> Kind:
    """Range of ``factor * x + offset`` if the factor is a multiple of a power of two, else analog."""
    factor, offset = (ranges.constant(number(attrs, name)) for name in ("factor", "offset"))
    return Kind.of(ranges.add(ranges.multiply(factor, values[0].kind.range), offset))


def averaged(attrs: Attrs, values: Values) -> Kind:
    """Range over the number of pixels of a window if that is a power of two (padding counts as 0), else
    analog."""
    kernel = int(number(attrs, "kernel"))
    inside = values[0].kind.range
    padded = inside | ranges.constant(0.0) if attrs["padding"] else inside
    return mean(padded, kernel**2)


def mean(values: NumberRange, count: int) -> Kind:
    """Return the kind of a mean of ``count`` numbers, a range if that is a power of two."""
    if count & (count - 1) or not values.unit:
        return ANALOG
    return Kind.of(NumberRange(values.low, values.high, values.unit / count))


def number(attrs: Attrs, name: str) -> float:
    """Return a numeric attribute."""
    value = attrs[name]
    assert isinstance(value, (int, float))
    return value
