"""Values of a recipe: items, sums of items, and changes of parameters."""

from __future__ import annotations

from typing import Any

from danetc.dsl.record import record

Value = int | float | bool | str | tuple[float, ...]


@record
class Item:
    """Optimizer, schedule, loss or step of an augmentation, with all its arguments."""

    name: str
    arguments: tuple[tuple[str, Value], ...] = ()

    def __getitem__(self, name: str) -> Any:
        """Return the value of an argument, whose type is that of its row in ``items``."""
        return dict(self.arguments)[name]

    def __contains__(self, name: str) -> bool:
        return name in dict(self.arguments)

    def __str__(self) -> str:
        if not self.arguments:
            return self.name
        given = ", ".join(f"{key} = {value_text(value)}" for key, value in self.arguments)
        return f"{self.name}({given})"


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


def value_text(value: object) -> str:
    """Return a value as in a spec."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ", ".join(map(value_text, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def plain(value: Any) -> Any:
    """Return the value of a setting as JSON data."""
    match value:
        case Item(name, arguments):
            return {"name": name, **{key: plain(item) for key, item in arguments}}
        case Change(path, item):
            return {"path": path, **plain(item)}
        case Summand(item, factor):
            return {"factor": factor, **plain(item)}
        case tuple():
            return [plain(item) for item in value]
    return value
