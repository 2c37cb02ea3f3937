"""Roles of named arrays: images and labels of the splits, class names. Never imports torch."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from danetc.dsl.diagnostics.diagnostic import did_you_mean, instead
from danetc.runtime.data.request import TEST_NAMES, TRAIN_NAMES, DataRequest
from danetc.runtime.system.errors import DataError

_SPLITS = "training|train|validation|valid|val|testing|test"
_ROLE = re.compile(
    rf"(?:(?P<before>{_SPLITS})[\W_]*)?"
    r"(?:(?P<images>images?|x|data|inputs?|features?|frames|samples)|labels?|y|targets?|masks?)"
    rf"(?:[\W_]*(?P<behind>{_SPLITS}))?",
    re.IGNORECASE,
)
_CLASSES = re.compile(r"(class|label|target)_?names?|classes|names|categories", re.IGNORECASE)

Pair = tuple[str, str]
"""Names of the images and the labels of a split."""


@dataclass(frozen=True, slots=True)
class Roles:
    """Names of the arrays to train and to test on (None if a share is held out), of the array of
    class names, and of the arrays of other splits.
    """

    train: Pair
    test: Pair | None
    classes: str | None
    unused: tuple[str, ...] = ()


def roles(names: Collection[str], request: DataRequest, where: str) -> Roles:
    """Find the roles of arrays by their names; the options ``train`` and ``test`` override them.

    Raises DataError.
    """
    classes = next((name for name in names if _CLASSES.fullmatch(name)), None)
    pairs = _pairs(names)
    usual = {"train": (*TRAIN_NAMES, ""), "test": (*TEST_NAMES, "testing")}

    def pair(option: str) -> Pair:
        given = tuple(filter(None, map(str.strip, (request.get(option) or "").split(";"))))
        if len(given) > 1:
            for name in given:
                if name not in names:
                    raise DataError(
                        f"{where} has no array `{name}`; {instead(name, names, 'it holds')}"
                    )
            if len(given) > 2:
                raise DataError(
                    f"the option `{option}` names {len(given)} arrays; give images;labels"
                )
            return given[0], given[1]
        splits = given or usual[option]
        found = next((pairs[split] for split in splits if split in pairs), None)
        if found is not None:
            return found
        if option == "test" and not given:
            raise DataError(
                f"{where} has {train[0]} and {train[1]}, but no arrays to test on; every epoch is "
                "tested on some: add x_test and y_test to it, or hold out a share: ,test=0.2"
            )
        hint = f"name two of them: ,train=IMAGES;LABELS (it holds {', '.join(names) or 'nothing'})"
        if given and pairs:
            hint = (
                did_you_mean(given[0], pairs) or f"its splits are {', '.join(filter(None, pairs))}"
            )
        raise DataError(f"{where} has no images and labels called so: {splits[0]}; {hint}")

    train = pair("train")
    if request.share is not None:
        return Roles(train, None, classes)
    test = pair("test")
    unused = (name for each in pairs.values() for name in each if name not in (*train, *test))
    return Roles(train, test, classes, tuple(unused))


def _pairs(names: Collection[str]) -> dict[str, Pair]:
    """Return images and labels by the split in their names, "" for names without one."""
    found: dict[str, dict[bool, str]] = {}
    for name in names:
        match = _ROLE.fullmatch(name)
        if match is not None and not (match["before"] and match["behind"]):
            split = (match["before"] or match["behind"] or "").lower()
            found.setdefault(split, {}).setdefault(match["images"] is not None, name)
    return {split: (each[True], each[False]) for split, each in found.items() if len(each) == 2}
