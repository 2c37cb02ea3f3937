"""What tables, figures and pages call networks that stand side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

_SPEC = ".danet"


def unique_labels(names: Sequence[str], places: Sequence[str | Path]) -> list[str]:
    """The names of the networks, where no two are the same; else how their places differ.

    That is each file's or directory's path without what all begin with and end in:
    ``origin,depth=20`` and ``origin,depth=56`` of ``grid/origin,depth=20/seed-0`` and
    ``grid/origin,depth=56/seed-0``. One that is given twice is called by its whole path.
    """
    if _distinct(names):
        return list(names)
    paths = [Path(place).resolve() for place in places]
    parts = [[*path.parent.parts, path.name.removesuffix(_SPEC)] for path in paths]
    while _same([each[0] for each in parts]) and all(len(each) > 1 for each in parts):
        parts = [each[1:] for each in parts]
    while _same([each[-1] for each in parts]) and all(len(each) > 1 for each in parts):
        parts = [each[:-1] for each in parts]
    labels = ["/".join(each) for each in parts]
    return labels if _distinct(labels) else [str(place) for place in places]


def _distinct(names: Sequence[str]) -> bool:
    return len(set(names)) == len(names)


def _same(names: Sequence[str]) -> bool:
    return len(set(names)) == 1
