"""The declarations of the standard library, which what is imported is named by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache

from danetc.dsl import loading
from danetc.dsl.syntax import tree as s


@cache
def standard() -> Mapping[str, s.Declaration]:
    """All declarations of std by their names."""
    return {name: found.declaration for name, found in loading.standard().items()}


def of_kind(kind: str) -> Iterator[s.Declaration]:
    """Those of a kind: ``neuron``, ``connection``, ..."""
    return (item for item in standard().values() if item.kind == kind)


def default_of(parameter: s.Param) -> float | bool | None:
    """The default of a parameter, where it is a plain number, true or false."""
    match parameter.default:
        case s.Number() as given:
            return given.value
        case s.Unary("-", s.Number() as given):
            return -given.value
        case s.Name("true" | "false" as word):
            return word == "true"
    return None
