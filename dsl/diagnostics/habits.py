"""Equivalents for names of other libraries, from the table ``habits.toml``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Literal, get_args

from danetc.dsl.diagnostics.fixes import Hint
from danetc.dsl.record import record

Where = Literal[
    "name", "dotted", "parameter", "setting", "part", "recipe", "item", "argument", "equation", "join",
    "word", "command",
]  # fmt: skip

_PLACES: Mapping[Where, str] = {
    "name": "expression", "dotted": "expression", "setting": "network", "part": "connection",
    "join": "rule", "word": "first word of a line", "command": "command line",
}  # fmt: skip


@record
class Habit:
    """A name of another library, where it is used, and what to write instead.

    ``of`` is the call to which a parameter belongs, or the family of an item; "" for any.
    """

    where: Where
    of: str
    name: str
    answer: str


@cache
def habits() -> tuple[Habit, ...]:
    """Return the rows of the table, one for each name."""
    import tomllib  # deferred: only for errors

    table = tomllib.loads(Path(__file__).with_name("habits.toml").read_text("utf-8"))
    assert table.keys() == set(get_args(Where))
    return tuple(
        Habit(where, of, name, text)
        for where in get_args(Where)
        for key, found in table[where].items()
        for of in ([""] if isinstance(found, str) else key.split())
        for names, text in ({key: found} if isinstance(found, str) else found).items()
        for name in names.split()
    )


@cache
def _answers() -> Mapping[tuple[Where, str, str], str]:
    return {(row.where, row.of, fold(row.name)): row.answer for row in habits()}


def answer(where: Where, name: str, *of: str) -> str | None:
    """Return what to write instead of a name of another library, or None for other names.

    ``of`` names the call and its kind; the first one with a row is used.
    """
    rows = (_answers().get((where, item, fold(name))) for item in (*of, ""))
    row = next((row for row in rows if row is not None), None)
    before, _, written = (row or "").partition("`")
    written = written.partition("`")[0]
    if row is None or before != "write " or not written.isidentifier() or written.isupper():
        return row
    return Hint(row, name=name, candidates=[written])


def equivalents(name: str) -> dict[str, list[str]]:
    """Return what to write instead of a name, and the places where each answer applies."""
    found: dict[str, list[str]] = {}
    for row in habits():
        if fold(row.name) == fold(name):
            place = _PLACES.get(row.where, row.where) + (f" of `{row.of}`" if row.of else "")
            found.setdefault(row.answer, []).append(place)
    return found


def items() -> Iterator[Habit]:
    """Return the rows of items of all families: optimizers, schedules, losses, augmentations."""
    return (row for row in habits() if row.where == "item")


def fold(name: str) -> str:
    """Normalise the spelling of a name."""
    return name.casefold().replace("_", "").replace("-", "")
