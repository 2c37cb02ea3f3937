"""Dataclasses that are cheap to define.

``dataclass`` compiles up to six functions for each class, a third of the time of `danetc check`. Here
comparison is written once, and the ``__init__`` of a class is compiled when its first record is made,
which half of the imported classes never do. The type checker, not the record, prevents changes of a
frozen one.
"""

from __future__ import annotations

from dataclasses import Field, dataclass, field, fields
from operator import attrgetter
from typing import Any, dataclass_transform


@dataclass_transform(frozen_default=True, field_specifiers=(field, Field))
def record(
    cls: Any = None,
    /,
    *,
    frozen: bool = True,
    slots: bool = True,
    eq: bool = True,
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
        methods: dict[str, Any] = {name: _Compiled(made, name) for name in ("__init__", "__repr__")}
        if eq:
            names = [each.name for each in fields(made) if each.compare]
            values = attrgetter("__class__", *names)

            def __eq__(self: Any, other: Any) -> bool:
                if self.__class__ is not other.__class__:
                    return NotImplemented
                return bool(values(self) == values(other))

            def __hash__(self: Any) -> int:
                return hash(values(self))

            methods |= {"__eq__": __eq__, "__hash__": __hash__ if frozen else None}
        for name, method in methods.items():
            if name not in own:
                setattr(made, name, method)
        return made

    return make if cls is None else make(cls)


class _Compiled:
    """Stand-in for a method of a dataclass until it is first needed."""

    def __init__(self, cls: type[Any], name: str) -> None:
        self.cls, self.name = cls, name

    def __get__(self, one: Any, owner: type[Any]) -> Any:
        derived = type(self.cls.__qualname__, (self.cls,), {"__doc__": self.name})
        wanted = {"init": self.name == "__init__", "repr": self.name == "__repr__"}
        method = vars(dataclass(derived, eq=False, **wanted))[self.name]
        method.__module__ = self.cls.__module__
        setattr(self.cls, self.name, method)
        return method.__get__(one, owner)
