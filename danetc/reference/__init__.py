"""Documentation of the names of the language, generated from the compiler's tables. Never imports torch.

``danetc explain`` and the editor's hover call ``find(name)``; the reference pages and completion call ``entries()``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache

from danetc.dsl.recipe.items import ITEMS
from danetc.dsl.syntax.tree import DECLARATION_KINDS
from danetc.reference import library, tables, words
from danetc.reference.entry import Entry as Entry
from danetc.reference.entry import EntryParameter as EntryParameter
from danetc.reference.library import entry_of as entry_of

SECTIONS: Mapping[str, Callable[[], Iterator[Entry]]] = {
    "words": words.words,
    "operations": tables.operations,
    "functions": tables.spec_functions,
    "equations": tables.neuron_functions,
    "first-weights": tables.first_weights,
    "std": library.library,
    "settings": tables.settings,
    "items": tables.items,
    "networks": library.networks,
    "pretrained": library.pretrained,
    "data": library.data,
    "codes": library.codes,
}
"""Functions that yield the entries, in the order of the reference."""


_KINDS = {
    "words": ("keyword", "word", "axis", "network setting"),
    "std": DECLARATION_KINDS[1:],
    "items": tuple(family for family in ITEMS if family != "evaluate"),  # steps of augment too
    "codes": ("error", "warning"),
}
_PLURALS = {"axis": "axes", "loss": "losses", "augment": "augmentations"}

TOPICS: Mapping[str, tuple[str, str | None]] = {
    **{name: (name, None) for name in SECTIONS if name not in ("words", "items")},
    **{
        _PLURALS.get(kind, f"{kind}s").replace(" ", "-"): (name, kind)
        for name, kinds in _KINDS.items()
        for kind in kinds
    },
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
    """Yield all entries. Reads many files; ``section`` reads only the files of one section."""
    for name in SECTIONS:
        yield from section(name)


@cache
def by_name() -> Mapping[str, tuple[Entry, ...]]:
    """Return the entries of each name."""
    found: dict[str, tuple[Entry, ...]] = {}
    for entry in entries():
        found[entry.name] = (*found.get(entry.name, ()), entry)
    return found


def find(name: str) -> tuple[Entry, ...]:
    """Return the entries of a name; several if it has several meanings (``sigmoid``)."""
    return by_name().get(name, ())
