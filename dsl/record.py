"""Dataclasses that are cheap to define.

``dataclass`` compiles up to six functions for each class, a third of the time of `danetc check`. Here
comparison and text are written once, and the ``__init__`` of a class is compiled when its first record
is made, which half of the imported classes never do. The type checker, not the record, prevents
changes of a frozen one.
"""

from __future__ import annotations

from dataclasses import MISSING, Field, dataclass, field, fields
from operator import attrgetter
from reprlib import recursive_repr
from types import FunctionType, MethodType
from typing import Any, dataclass_transform


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

    A record that is compared and not frozen has no hash. Methods that the class defines are kept.
    ``dataclasses.replace`` and ``fields`` accept records.
    """

    def make(given: Any) -> Any:
        own = {name for name, value in vars(given).items() if value is not None}
        given.__doc__ = given.__doc__ or given.__name__  # else ``dataclass`` computes the signature
        made = dataclass(given, slots=slots, init=False, eq=False, repr=False, kw_only=kw_only)
        methods: dict[str, Any] = {"__init__": _Init(made)}
        if repr:
            methods["__repr__"] = _shown
        if eq:
            names = [each.name for each in fields(made) if each.compare]
            # attrgetter gives a tuple for two names or more
            values = (
                attrgetter(*names)
                if len(names) > 1
                else lambda one: [getattr(one, name) for name in names]
            )

            def __eq__(self: Any, other: Any) -> bool:
                if self.__class__ is not other.__class__:
                    return NotImplemented
                return bool(values(self) == values(other))

            def __hash__(self: Any) -> int:
                return hash(tuple(values(self)))

            methods |= {"__eq__": __eq__, "__hash__": __hash__ if frozen else None}
        for name, method in methods.items():
            if name not in own:
                setattr(made, name, method)
        return made

    return make if cls is None else make(cls)


class _Init:
    """Stand-in for the ``__init__`` of a class until it is first needed."""

    def __init__(self, cls: type[Any]) -> None:
        self.cls = cls

    def __get__(self, one: Any, owner: type[Any]) -> FunctionType | MethodType:
        init = _compiled(self.cls)
        self.cls.__init__ = init
        return init if one is None else MethodType(init, one)


def _compiled(cls: type[Any]) -> FunctionType:
    """Compile the ``__init__`` that a dataclass of these fields has."""
    defaults: dict[str, Any] = {}
    parameters, keywords, body = ["self"], ["*"], []
    for each in fields(cls):
        name, default = each.name, f"_default_{each.name}"
        parameter, value = f"{name}={default}", name
        if each.default is not MISSING:
            defaults[default] = each.default
        elif each.default_factory is not MISSING:
            defaults[default] = each.default_factory  # as a default stands for its result
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


@recursive_repr()
def _shown(self: Any) -> str:
    shown = []
    for each in fields(self):  # a comprehension would double the stack depth of nested records
        if each.repr:
            shown.append(f"{each.name}={getattr(self, each.name)!r}")
    return f"{type(self).__qualname__}({', '.join(shown)})"
