"""Interval arithmetic against all numbers of small ranges: no bound is too narrow, and none too wide."""

import math
from collections.abc import Callable, Iterable, Mapping
from fractions import Fraction
from itertools import product

import torch

from danetc.dsl import ranges
from danetc.dsl.kinds import PRECISIONS, Kind
from danetc.dsl.neuron.opcodes import OPCODES
from danetc.dsl.ranges import BIT, EXACT, REAL, NumberRange
from tests.tables import each_of

INF = math.inf
GRIDS = [
    NumberRange(low * unit, high * unit, unit)
    for unit in (0.5, 1.0, 2.0)
    for low, high in ((-2, -1), (-1, 2), (0, 3), (-3, 0), (-1, -1), (3, 3), (1, 2))
] + [ranges.constant(0.0)]


def tightest(values: Iterable[float]) -> NumberRange:
    """The range of some numbers, with the largest power of two that divides them all."""
    found = {*values}
    parts = [Fraction(value) for value in found if value]
    numerator = math.gcd(*(part.numerator for part in parts))
    unit = numerator & -numerator or 1  # 1 if all are 0
    unit /= max((part.denominator for part in parts), default=1)
    return NumberRange(min(found), max(found), unit)


PAIRS: Mapping[str, tuple[Callable[..., NumberRange], Callable[..., float]]] = {
    "add": (ranges.add, lambda a, b: a + b),
    "subtract": (ranges.subtract, lambda a, b: a - b),
    "multiply": (ranges.multiply, lambda a, b: a * b),
    "larger": (ranges.larger, max),
    "smaller": (ranges.smaller, min),
    "less": (ranges.less, lambda a, b: float(a < b)),
    "negative": (lambda a, b: ranges.negative(a), lambda a, b: -a),
    "absolute": (lambda a, b: ranges.absolute(a), lambda a, b: abs(a)),
    "nearest": (lambda a, b: ranges.nearest(a), lambda a, b: float(round(a))),
    "step": (lambda a, b: OPCODES["heaviside"].range(a), lambda a, b: float(a >= 0)),
    "opposite": (lambda a, b: ranges.opposite(a), lambda a, b: 1 - a),
    "half": (lambda a, b: ranges.divide(a, ranges.constant(-2.0)), lambda a, b: a / -2),
    "total": (lambda a, b: ranges.total(a, 3), lambda a, b: a * 3),
}


@each_of(PAIRS)
def test_ranges_of_multiples_are_as_tight_as_they_can_be(name: str) -> None:
    claim, compute = PAIRS[name]
    for a, b in product(GRIDS, GRIDS):
        found = claim(a, b)
        values = tightest(compute(x, y) for x, y in product(a.numbers(), b.numbers()))
        if name == "total":  # terms differ, so the sums are closer together
            values = NumberRange(values.low, values.high, values.unit if a.is_constant else a.unit)
        assert found == values, (a, b)


def test_hulls_choices_and_equality() -> None:
    for a, b in product(GRIDS, GRIDS):
        assert a | b == tightest([*a.numbers(), *b.numbers()])
        assert ranges.either(BIT, a, b) == a | b
        assert [ranges.either(ranges.constant(it), a, b) for it in (1.0, 0.0)] == [a, b]
        assert ranges.hull(frozenset(a.numbers())) == tightest(a.numbers())
        if a.unit == b.unit:
            found = tightest(float(x == y) for x in a.numbers() for y in b.numbers())
            assert ranges.equal(a, b) == found
    assert ranges.hull(frozenset()) is ranges.hull(frozenset((0.1, 1.0))) is None
    assert ranges.hull(frozenset((0.5, EXACT))) is None  # too many halves


@each_of([(0.0, 1), (3.0, 1), (-12.0, 4), (0.75, 0.25), (2.0**24 - 1, 1), (2.0**24 + 1, 0), (0.1, 0),
     (2.0**24 + 2, 2), (2.0**99, 2.0**99), (2.0**100, 0), (2.0**-99, 2.0**-99), (2.0**-100, 0)])  # fmt: skip
def test_the_unit_of_a_constant(value: float, unit: float) -> None:
    found = ranges.constant(value)
    assert (found.unit, found.is_constant) == (unit, unit > 0)
    if unit:
        assert found.low == found.high == value
    elif 1e-30 < value < 1e30:
        assert value * (1 - 1e-6) < found.low < value < found.high < value * (1 + 1e-6)
    else:
        assert (found.low, found.high) in ((value * (1 - 2**-22), INF), (0.0, value * (1 + 2**-22)))


REALS = [NumberRange(*ends) for ends in ((0.1, 0.3), (-0.3, -0.1), (-1.3, 0.7), (2.1, 7.3))]
SMALL = NumberRange(1e-20, 3e-20)


def test_ends_of_real_numbers_move_outwards_by_the_rounding_alone() -> None:
    def check(found: NumberRange, *ends: float, exact: bool = False) -> None:
        assert found.unit == 0
        for claimed, end, side in ((found.low, min(ends), -1), (found.high, max(ends), 1)):
            moved = (claimed - end) * side / abs(end)
            stays = exact and end == torch.tensor(end, dtype=torch.float32).item()
            assert moved == 0 if stays else 0 < moved <= 2**-21, (found, ends)

    for a, b in product(REALS, [*REALS, ranges.constant(3.0), NumberRange(-5, -2, 1)]):
        corners = list(product((a.low, a.high), (b.low, b.high)))
        check(ranges.add(a, b), a.low + b.low, a.high + b.high, exact=True)
        check(ranges.multiply(a, b), *(x * y for x, y in corners), exact=True)
        if not b.low <= 0 <= b.high:
            check(ranges.divide(a, b), *(x / y for x, y in corners))
        else:
            assert ranges.divide(a, b) == REAL
        low, high = max(a.low, b.low), max(a.high, b.high)
        assert (ranges.larger(a, b).low, ranges.larger(a, b).high) == (low, high)
        for exact in (ranges.negative(a), ranges.absolute(a)):
            assert {abs(exact.low), abs(exact.high)} <= {abs(a.low), abs(a.high), 0.0}
    for function, least, most in ((math.exp, 0.0, INF), (math.tanh, -1.0, 1.0)):
        for a in REALS:
            check(ranges.rising(function, least, most)(a), function(a.low), function(a.high))
    assert ranges.multiply(SMALL, SMALL).low == 0 < ranges.multiply(SMALL, SMALL).high < 1e-39
    assert ranges.multiply(ranges.negative(SMALL), SMALL).high == 0
    assert ranges.add(NumberRange(0, 0.3), NumberRange(0, 1)).low == 0


exp, log = ranges.rising(math.exp, 0.0, INF), ranges.rising(math.log, -INF, INF)
UP, HUGE = NumberRange(2.0, INF, 1.0), NumberRange(-1e30, 1e30)
FAR = NumberRange(1.0, 2.0**24, 1.0)


def test_ends_that_are_infinite_or_become_so() -> None:
    assert ranges.multiply(UP, NumberRange(0.0, 3.0, 1.0)) == NumberRange(0.0, INF, 1.0)
    assert ranges.multiply(HUGE, HUGE) == REAL
    assert ranges.divide(BIT, NumberRange(0.0, 1.0)) == REAL
    assert ranges.larger(UP, NumberRange(-INF, 3.0, 0.5)) == NumberRange(2.0, INF, 0.5)
    assert ranges.add(FAR, FAR) == NumberRange(2.0, INF, 1.0)
    assert log(NumberRange(0.0, 1.0)) == NumberRange(-INF, 0.0)


def test_states_that_grow_have_no_end() -> None:
    """A bound that still moves after three changes becomes infinite; the other bound is kept."""

    def after(step: Callable[[NumberRange], NumberRange], start: float = 0.0) -> NumberRange:
        states = {"u": ranges.constant(start), "other": BIT}
        return ranges.fixpoint(states, lambda now: {"u": step(now["u"]), "other": BIT})["u"]

    bounded = NumberRange(0.0, 3.0, 1.0)
    assert after(lambda u: ranges.smaller(ranges.add(u, BIT), ranges.constant(3.0))) == bounded
    assert after(lambda u: ranges.add(u, BIT)) == NumberRange(0.0, INF, 1.0)
    assert after(lambda u: ranges.subtract(u, BIT), 2.0) == NumberRange(-INF, 2.0, 1.0)
    halves = after(lambda u: ranges.multiply(u, ranges.constant(0.5)), 1.0)
    assert halves == NumberRange(-INF, 1.0)


BITS = [(0, 1, 1), (0, 2, 2), (-1, 1, 2), (0, 255, 8), (1, 256, 8), (0, 256, 0), (2, 257, 0)]


@each_of(BITS)
def test_bits_of_packed_numbers(low: int, high: int, bits: int) -> None:
    assert Kind(low, high, 1.0).bits == Kind(low, high, 0.25).bits == bits
    assert Kind(low, high, 2.0**-15).bits == Kind(low, high, 1.0, is_token=True).bits == 0
    assert Kind(low, high, 1.0).needs_only_additions == (max(abs(low), abs(high)) == 1)


def test_precisions_are_those_of_torch() -> None:
    for dtype, known in PRECISIONS.items():
        info = torch.finfo(getattr(torch, dtype))
        whole, most = round(2 / info.eps), 2.0 ** math.floor(math.log2(info.max))
        assert (known.whole, known.least, known.most) == (whole, info.smallest_normal, most)


def test_tables_of_all_values() -> None:
    """The exclusive or of two spikes is 0 or 1; intervals alone do not show this."""
    tables = ranges.Tables()
    a, b = (tables.source(name, BIT) for name in ("a", "b"))
    table, values = tables.apply(lambda x, y: x + y - 2 * x * y, (a, b))  # type: ignore[misc]
    assert (values, table.sources) == (BIT, ("a", "b"))
    assert table.cases == {(0, 0): 0.0, (0, 1): 1.0, (1, 0): 1.0, (1, 1): 0.0}
    again = tables.apply(lambda x, y: x * y, (table, a))  # not (b and a), but a and not b
    assert again[0].cases == {(0, 0): 0.0, (0, 1): 0.0, (1, 0): 1.0, (1, 1): 0.0}
    assert tables.apply(lambda x, y: x + y, (a, None)) is None
    assert tables.apply(lambda x, y: x * y, (a, 1 / 41)) is None, "float32 rounds the constant"
    assert tables.apply(lambda x, y: x / y, (a, b)) is None, "0 / 0"
    assert tables.apply(lambda: 1.0, ()) is None
    whole = NumberRange(0.0, float(ranges.MOST_CASES - 1), 1.0)
    many = tables.source("c", whole)
    assert len(many.cases) == ranges.MOST_CASES
    assert tables.apply(lambda x: 2 * x, (many,)) is not None
    assert tables.apply(lambda x, y: x + y, (many, a)) is None
    assert tables.source("d", NumberRange(0.0, float(ranges.MOST_CASES), 1.0)) is None
