"""Documentation of every name of the language, generated from the tables. Never imports torch.

Help and hover show ``find(name)``; the reference and completion list ``entries()``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache

from danetc.reference import library, operations, recipes, words
from danetc.reference.entry import Entry, EntryParameter
from danetc.reference.library import entry_of

SECTIONS: Mapping[str, Callable[[], Iterator[Entry]]] = {
    "words": words.words,
    "operations": operations.operations,
    "functions": operations.spec_functions,
    "equations": operations.neuron_functions,
    "first-weights": operations.first_weights,
    "std": library.library,
    "settings": recipes.settings,
    "items": recipes.items,
    "networks": library.networks,
    "pretrained": library.pretrained,
    "data": library.data,
    "codes": library.codes,
}
"""Functions that yield the entries, in the order of the reference."""


TOPICS: Mapping[str, tuple[str, str | None]] = {
    "keywords": ("words", "keyword"),
    "words": ("words", "word"),
    "axes": ("words", "axis"),
    "network-settings": ("words", "network setting"),
    "operations": ("operations", None),
    "functions": ("functions", None),
    "equations": ("equations", None),
    "first-weights": ("first-weights", None),
    "std": ("std", None),
    "neurons": ("std", "neuron"),
    "surrogates": ("std", "surrogate"),
    "connections": ("std", "connection"),
    "rules": ("std", "rule"),
    "blocks": ("std", "block"),
    "backbones": ("std", "backbone"),
    "recipes": ("std", "recipe"),
    "settings": ("settings", None),
    "optimizers": ("items", "optimizer"),
    "schedules": ("items", "schedule"),
    "losses": ("items", "loss"),
    "changes": ("items", "change"),
    "gradients": ("items", "gradient"),
    "augmentations": ("items", "augment"),
    "networks": ("networks", None),
    "pretrained": ("pretrained", None),
    "data": ("data", None),
    "codes": ("codes", None),
    "errors": ("codes", "error"),
    "warnings": ("codes", "warning"),
}
"""Topics of ``danetc list``: entries of a section, all or of one kind."""


@cache
def section(name: str) -> tuple[Entry, ...]:
    """Return the entries of a section. Raises KeyError."""
    return tuple(SECTIONS[name]())


def topic(name: str) -> tuple[Entry, ...]:
    """Return the entries of a topic. Raises KeyError."""
    of, kind = TOPICS[name]
    return tuple(entry for entry in section(of) if kind in (None, entry.kind))


def entries() -> Iterator[Entry]:
    """Yield all entries. Those of networks and codes read many files; ``section`` avoids it."""
    for name in SECTIONS:
        yield from section(name)


@cache
def _by_name() -> Mapping[str, tuple[Entry, ...]]:
    found: dict[str, tuple[Entry, ...]] = {}
    for entry in entries():
        found[entry.name] = (*found.get(entry.name, ()), entry)
    return found


def find(name: str) -> tuple[Entry, ...]:
    """Return the entries of a name; several if it has several meanings (``sigmoid``)."""
    return _by_name().get(name, ())


def names() -> tuple[str, ...]:
    """Return all names that have an entry."""
    return tuple(_by_name())


__all__ = [
    "SECTIONS", "TOPICS", "Entry", "EntryParameter", "entries", "entry_of", "find", "names", "section", "topic",
]  # fmt: skip
