"""Records behave like frozen dataclasses, but do not refuse to be changed."""

import dataclasses
import inspect
from dataclasses import dataclass, field
from typing import Any

import pytest

from danetc.dsl.record import record


@pytest.mark.parametrize("options", [{}, {"eq": False}, {"kw_only": True}, {"slots": False}])
def test_a_record_is_as_a_frozen_dataclass(options: dict[str, Any]) -> None:
    found = []
    for decorate in (record(**options), dataclass(frozen=True, **{"slots": True, **options})):
        namespace = {
            "__annotations__": {"x": int, "y": float, "hidden": int, "left_out": int},
            "hidden": field(default=3, repr=False),
            "left_out": field(default=4, compare=False),
        }
        cls: Any = decorate(type("Twin", (), namespace))
        one, same = cls(x=1, y=2.0), cls(x=1, y=2.0)
        others = cls(x=2, y=2.0), cls(x=1, y=2.0, hidden=5), cls(x=1, y=2.0, left_out=7), 1
        found.append(
            (
                one == same, (hash(one) == hash(same)), [one == other for other in others],
                repr(one).split(" at ")[0].replace("<tests.dsl.test_record.", "<"),
                cls.__match_args__, [each.name for each in dataclasses.fields(cls)],
                dataclasses.asdict(dataclasses.replace(one, x=9)), hasattr(one, "__dict__"),
                inspect.signature(cls),
            )
        )  # fmt: skip
        with pytest.raises(TypeError, match=r"__init__\(\) missing 1 required"):
            cls(x=1)
        if "kw_only" in options:
            with pytest.raises(TypeError):
                cls(1, 2.0)
    assert found[0] == found[1]


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
    assert Named([4], 0, "four") == Named([4], name="four")
    assert Named([4], unit="s").total == 4
    with pytest.raises(TypeError):
        hash(one)
