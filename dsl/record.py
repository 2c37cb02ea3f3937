"""Frozen dataclasses whose classes are made three times as fast.

``dataclass(frozen=True)`` writes and compiles six functions for each class, which for the classes that
`danetc check` needs is a third of its time. A record has its ``__init__`` alone from it; what compares
and shows records is written once, here. That a record is not changed is left to the type checker.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import Field, dataclass, field, fields
from operator import attrgetter
from reprlib import recursive_repr
from typing import Any, TypeVar, dataclass_transform, overload

Class = TypeVar("Class", bound=type[Any])


@overload
def record(cls: Class, /) -> Class: ...


@overload
def record(
    *, slots: bool = True, eq: bool = True, repr: bool = True, kw_only: bool = False
) -> Callable[[Class], Class]: ...


@dataclass_transform(frozen_default=True, field_specifiers=(field, Field))
def record(
    cls: Any = None,
    /,
    *,
    slots: bool = True,
    eq: bool = True,
    repr: bool = True,
    kw_only: bool = False,
) -> Any:
    """A decorator as ``dataclass(frozen=True, slots=True)``, with the same options.

    Methods that the class has itself stay. ``dataclasses.replace`` and ``fields`` take records.
    """

    def make(given: Any) -> Any:
        own = {name for name, value in vars(given).items() if value is not None}
        given.__doc__ = given.__doc__ or given.__name__  # else its signature is looked up for it
        made = dataclass(given, slots=slots, eq=False, repr=False, kw_only=kw_only)
        if eq:
            compared = tuple(each.name for each in fields(made) if each.compare)
            values = _values(compared)
            if "__eq__" not in own:
                made.__eq__ = _equality(values)
            if "__hash__" not in own:
                made.__hash__ = _hashing(values)
        if repr and "__repr__" not in own:
            made.__repr__ = _shown
        return made

    return make if cls is None else make(cls)


def _values(names: tuple[str, ...]) -> Callable[[Any], tuple[Any, ...]]:
    """What gives the values of some fields."""
    if len(names) > 1:
        return attrgetter(*names)
    return lambda one: tuple(getattr(one, name) for name in names)


def _equality(values: Callable[[Any], tuple[Any, ...]]) -> Callable[[Any, Any], bool]:
    def __eq__(self: Any, other: Any) -> bool:
        if self.__class__ is not other.__class__:
            return NotImplemented
        return values(self) == values(other)

    return __eq__


def _hashing(values: Callable[[Any], tuple[Any, ...]]) -> Callable[[Any], int]:
    def __hash__(self: Any) -> int:
        return hash(values(self))

    return __hash__


@recursive_repr()
def _shown(self: Any) -> str:
    shown = []
    for each in fields(self):  # a loop: the parts of a deep record lie as deep on Python's stack
        if each.repr:
            shown.append(f"{each.name}={getattr(self, each.name)!r}")
    return f"{type(self).__qualname__}({', '.join(shown)})"
