"""Dataclasses whose classes are made in a fraction of the time.

``dataclass`` writes and compiles up to six functions for each class, which for the classes that
`danetc check` needs is a third of its time. What compares and shows records is written once, here, and
the ``__init__`` of a class is compiled when the first of its records is made: half of the classes that
are imported make none. That a frozen record is not changed is left to the type checker.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, Field, dataclass, field, fields
from operator import attrgetter
from reprlib import recursive_repr
from types import FunctionType, MethodType
from typing import Any, TypeVar, dataclass_transform, overload

Class = TypeVar("Class", bound=type[Any])


@overload
def record(cls: Class, /) -> Class: ...


@overload
def record(
    *,
    frozen: bool = True,
    slots: bool = True,
    eq: bool = True,
    repr: bool = True,
    kw_only: bool = False,
) -> Callable[[Class], Class]: ...


@dataclass_transform(frozen_default=True, field_specifiers=(field, Field))
def record(
    cls: Any = None,
    /,
    *,
    frozen: bool = True,
    slots: bool = True,
    eq: bool = True,
    repr: bool = True,
    kw_only: bool = False,
) -> Any:
    """A decorator as ``dataclass(frozen=True, slots=True)``, with the same options.

    A record that is compared and not frozen has no hash. Methods that the class has itself stay.
    ``dataclasses.replace`` and ``fields`` take records.
    """

    def make(given: Any) -> Any:
        own = {name for name, value in vars(given).items() if value is not None}
        given.__doc__ = given.__doc__ or given.__name__  # else its signature is looked up for it
        made = dataclass(given, slots=slots, init=False, eq=False, repr=False, kw_only=kw_only)
        if "__init__" not in own:
            made.__init__ = _Init(made)
        if eq:
            compared = tuple(each.name for each in fields(made) if each.compare)
            values = _values(compared)
            if "__eq__" not in own:
                made.__eq__ = _equality(values)
            if not frozen:
                made.__hash__ = None
            elif "__hash__" not in own:
                made.__hash__ = _hashing(values)
        if repr and "__repr__" not in own:
            made.__repr__ = _shown
        return made

    return make if cls is None else make(cls)


class _Init:
    """Stands for the ``__init__`` of a class until that is asked for."""

    def __init__(self, cls: type[Any]) -> None:
        self.cls = cls

    def __get__(self, one: Any, owner: type[Any]) -> FunctionType | MethodType:
        init = _compiled(self.cls)
        self.cls.__init__ = init
        return init if one is None else MethodType(init, one)


def _compiled(cls: type[Any]) -> FunctionType:
    """The ``__init__`` that a dataclass of these fields has."""
    defaults: dict[str, Any] = {}
    parameters, keywords, body = ["self"], ["*"], []
    for each in fields(cls):
        name, default = each.name, f"_default_{each.name}"
        parameter, value = f"{name}={default}", name
        if each.default is not MISSING:
            defaults[default] = each.default
        elif each.default_factory is not MISSING:
            defaults[default] = each.default_factory  # it stands for what it makes
            value = f"{default}() if {name} is {default} else {name}"
        else:
            parameter = name
        (keywords if each.kw_only else parameters).append(parameter)
        body.append(f"self.{name} = {value}")
    if hasattr(cls, "__post_init__"):
        body.append("self.__post_init__()")
    head = ", ".join(parameters + keywords if len(keywords) > 1 else parameters)
    exec(f"def __init__({head}):\n  " + "\n  ".join(body or ["pass"]), defaults)
    init: FunctionType = defaults["__init__"]
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    init.__module__ = cls.__module__
    init.__annotations__ = {each.name: each.type for each in fields(cls)} | {"return": None}
    return init


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
