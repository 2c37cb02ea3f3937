"""Values of a recipe: items, sums of items, and changes of parameters."""

from __future__ import annotations

from typing import TypeVar, cast

from danetc.dsl.record import record

T = TypeVar("T")
Value = int | float | bool | str | tuple[float, ...]


@record
class Item:
    """Optimizer, schedule, loss or step of an augmentation, with all its arguments."""

    name: str
    arguments: tuple[tuple[str, Value], ...] = ()

    def __getitem__(self, name: str) -> Value:
        return dict(self.arguments)[name]

    def __contains__(self, name: str) -> bool:
        return name in dict(self.arguments)

    def number(self, name: str) -> float:
        """Return an argument that is a number."""
        return float(self._typed(name, int, float))

    def integer(self, name: str) -> int:
        """Return an argument that is an integer."""
        return self._typed(name, int)

    def choice(self, name: str) -> str:
        """Return an argument that is a word."""
        return self._typed(name, str)

    def numbers(self, name: str) -> tuple[float, ...]:
        """Return an argument that is a sequence of numbers."""
        return self._typed(name, tuple)

    def _typed(self, name: str, *kinds: type[T]) -> T:
        value = self[name]
        assert isinstance(value, kinds), f"{name} of {self.name} is no {kinds[0].__name__}"
        return value

    def __str__(self) -> str:
        if not self.arguments:
            return self.name
        shown = ", ".join(f"{key} = {_shown(value)}" for key, value in self.arguments)
        return f"{self.name}({shown})"


@record
class Summand:
    """Term of a sum: an item times ``factor``."""

    item: Item
    factor: float = 1.0

    def __str__(self) -> str:
        return str(self.item) if self.factor == 1 else f"{self.factor:g} * {self.item}"


@record
class Change:
    """Change of a parameter of the network, as ``surrogate.alpha``, during training."""

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
    """Return the value of a setting as JSON data."""
    if isinstance(value, Item):
        return {"name": value.name, **{key: plain(item) for key, item in value.arguments}}
    if isinstance(value, Change):
        return {"path": value.path, **cast(dict[str, object], plain(value.item))}
    if isinstance(value, Summand):
        return {"factor": value.factor, **cast(dict[str, object], plain(value.item))}
    return [plain(item) for item in value] if isinstance(value, tuple) else value
