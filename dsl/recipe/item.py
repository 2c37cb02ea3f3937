"""Values of a recipe: items, sums of items, and changes of parameters."""

from __future__ import annotations

from typing import Any

from danetc.dsl.record import record

RESERVED = ("name", "factor", "path")
"""Keys of the JSON form of an item beside its arguments."""
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


@record
class Summand:
    """Term of a sum: an item times ``factor``."""

    item: Item
    factor: float = 1.0


@record
class Change:
    """Change of a parameter of the network, as ``surrogate.alpha``, during training."""

    path: str
    item: Item


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
