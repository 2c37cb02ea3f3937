"""Records do what dataclasses do, but for refusing to be changed."""

from __future__ import annotations

import dataclasses
import inspect
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest

from danetc.dsl.record import record


@record
class Point:
    x: int
    y: float = 2.0
    seen: list[int] = field(default_factory=list, compare=False, repr=False)
    count: ClassVar[int] = 3

    def moved(self) -> Point:
        return dataclasses.replace(self, x=self.x + 1)


def twins(**options: Any) -> list[Any]:
    """The same class as a record and as a dataclass."""

    def make(decorate: Callable[[type], type]) -> Any:
        namespace = {
            "__annotations__": {"x": int, "y": float, "hidden": int, "left_out": int},
            "hidden": field(default=3, repr=False),
            "left_out": field(default=4, compare=False),
        }
        return decorate(type("Twin", (), namespace))

    return [make(record(**options)), make(dataclass(frozen=True, **{"slots": True, **options}))]


@pytest.mark.parametrize("options", [{}, {"eq": False}, {"kw_only": True}, {"slots": False}])
def test_a_record_is_as_a_frozen_dataclass(options: dict[str, Any]) -> None:
    found = []
    for cls in twins(**options):
        one, same = cls(x=1, y=2.0), cls(x=1, y=2.0)
        others = cls(x=2, y=2.0), cls(x=1, y=2.0, hidden=5), cls(x=1, y=2.0, left_out=7), 1
        found.append(
            (
                one == same, (hash(one) == hash(same)), [one == other for other in others],
                repr(one).split(" at ")[0].replace("<tests.dsl.test_record.", "<"),
                cls.__match_args__, [each.name for each in dataclasses.fields(cls)],
                dataclasses.asdict(dataclasses.replace(one, x=9)), hasattr(one, "__dict__"),
            )
        )  # fmt: skip
        with pytest.raises(TypeError):
            cls(x=1)
        if options == {"kw_only": True}:
            with pytest.raises(TypeError):
                cls(1, 2.0)
    assert found[0] == found[1]


def test_a_record_of_a_module() -> None:
    point = Point(1)
    assert point.moved() == Point(2, 2.0)
    assert repr(point) == "Point(x=1, y=2.0)"
    assert pickle.loads(pickle.dumps(point)) == point
    assert len({point, Point(1, seen=[4]), Point(3)}) == 2
    assert Point(1).seen is not point.seen


def test_what_a_class_says_itself_stays() -> None:
    @record
    class Even:
        number: int

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Even) and self.number % 2 == other.number % 2

        def __repr__(self) -> str:
            return "even"

    @record
    class Known:
        numbers: list[int]

        def __hash__(self) -> int:
            return len(self.numbers)

    assert Even(2) == Even(4) != Even(3)
    assert repr(Even(2)) == "even"
    assert hash(Even(2)) == hash(Even(2))
    assert hash(Known([1, 2])) == 2
    assert Known([1]) == Known([1])


def test_one_and_no_fields_and_parts_that_hold_themselves() -> None:
    @record
    class Nothing: ...

    @record
    class Single:
        value: Any

    assert Nothing() == Nothing() != Single(1)
    assert Single(1) == Single(1) != Single(2)
    nan = float("nan")
    assert Single(nan) == Single(nan)
    assert hash(Single((1, 2))) == hash(Single((1, 2)))
    ring: list[Any] = []
    ring.append(Single(ring))
    assert "..." in repr(ring)


def test_a_record_that_is_not_frozen() -> None:
    @record(frozen=False)
    class Sum:
        parts: list[int] = field(default_factory=list)
        unit: str = field(default="m", kw_only=True)
        total: int = 0

        def __post_init__(self) -> None:
            self.total = sum(self.parts)

    @record(frozen=False)
    class Named(Sum):
        name: str = "sum"

    one = Sum([1, 2])
    assert (one.total, one.unit) == (3, "m")
    one.total += 1
    assert one != Sum([1, 2])
    assert Sum().parts is not Sum().parts
    assert Named([4], unit="s").total == 4
    assert Named([4], 0, "four") == Named([4], name="four")
    with pytest.raises(TypeError):
        hash(one)


def test_the_signature_is_that_of_a_dataclass() -> None:
    for options in ({}, {"kw_only": True}):
        ours, theirs = (inspect.signature(cls) for cls in twins(**options))
        assert ours == theirs
    assert list(inspect.signature(Point).parameters) == ["x", "y", "seen"]
    with pytest.raises(TypeError, match=r"Point\.__init__\(\) missing 1 required"):
        Point()  # type: ignore[call-arg]
