"""An item of a recipe as data: an optimizer, a schedule, a loss or a step of an augmentation."""

from __future__ import annotations

from typing import cast

from danetc.dsl.record import record

Value = int | float | bool | str | tuple[float, ...]


@record
class Item:
    """An optimizer, a schedule, a loss or a step of an augmentation, with all its arguments."""

    name: str
    arguments: tuple[tuple[str, Value], ...] = ()

    def __getitem__(self, name: str) -> Value:
        for key, value in self.arguments:
            if key == name:
                return value
        raise KeyError(name)

    def __contains__(self, name: str) -> bool:
        return any(key == name for key, _ in self.arguments)

    def number(self, name: str) -> float:
        """An argument that is a number."""
        value = self[name]
        assert isinstance(value, int | float), f"{name} of {self.name} is no number"
        return float(value)

    def integer(self, name: str) -> int:
        """An argument that is a whole number."""
        value = self[name]
        assert isinstance(value, int), f"{name} of {self.name} is no whole number"
        return value

    def choice(self, name: str) -> str:
        """An argument that is one of a few words."""
        value = self[name]
        assert isinstance(value, str), f"{name} of {self.name} is no word"
        return value

    def numbers(self, name: str) -> tuple[float, ...]:
        """An argument that is a sequence of numbers."""
        value = self[name]
        assert isinstance(value, tuple), f"{name} of {self.name} is no sequence"
        return value

    def __str__(self) -> str:
        if not self.arguments:
            return self.name
        shown = ", ".join(f"{key} = {_shown(value)}" for key, value in self.arguments)
        return f"{self.name}({shown})"


@record
class Summand:
    """An item of a sum, times ``factor``."""

    item: Item
    factor: float = 1.0

    def __str__(self) -> str:
        return str(self.item) if self.factor == 1 else f"{self.factor:g} * {self.item}"


@record
class Change:
    """How a parameter of the network, ``surrogate.alpha``, changes while it trains."""

    path: str
    item: Item

    def __str__(self) -> str:
        part, _, name = self.path.partition(".")
        return f"{part}({name} = {self.item})"


def _shown(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ", ".join(f"{item:g}" for item in value)
    return f"{value:g}" if isinstance(value, int | float) else value


def plain(value: object) -> object:
    """A value of a setting as JSON data."""
    if isinstance(value, Item):
        return {"name": value.name, **{key: plain(item) for key, item in value.arguments}}
    if isinstance(value, Change):
        return {"path": value.path, **cast(dict[str, object], plain(value.item))}
    if isinstance(value, Summand):
        return {"factor": value.factor, **cast(dict[str, object], plain(value.item))}
    return [plain(item) for item in value] if isinstance(value, tuple) else value
