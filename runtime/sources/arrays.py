"""Arrays in a file: which of them are images and labels, of which split, by their names."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from danetc.dsl.diagnostics.diagnostic import did_you_mean, instead
from danetc.runtime.sources.folders import TEST_NAMES
from danetc.runtime.sources.options import Placed, class_list, placed
from danetc.runtime.sources.places import existing_file
from danetc.runtime.system.errors import DataError

KNOWN = ("train", "test", "classes", "targets", "layout")
WHAT = "arrays of images and labels, such as x_train, y_train, x_test and y_test"
_IMAGES = "images?|x|data|inputs?|features?|frames|samples"
_LABELS = "labels?|y|targets?|masks?"
_SPLITS = "training|train|validation|valid|val|testing|test"
_ROLE = re.compile(
    rf"(?:(?P<split1>{_SPLITS})[\W_]*)?(?:(?P<images>{_IMAGES})|(?P<labels>{_LABELS}))"
    rf"(?:[\W_]*(?P<split2>{_SPLITS}))?",
    re.IGNORECASE,
)
_CLASSES = re.compile(r"(class|label|target)_?names?|classes|names|categories", re.IGNORECASE)
TRAINING = ("train", "training")


@dataclass(frozen=True, slots=True)
class Roles:
    """Names of arrays: images and labels to train on and, unless a share of them is, to test on, and
    the names of classes. ``unused`` are those of other splits.
    """

    train: tuple[str, str]
    test: tuple[str, str] | None
    classes: str | None
    unused: tuple[str, ...] = ()


def npz_place(text: str) -> tuple[Placed, Roles]:
    """The file of ``npz:FILE`` and what its arrays are. Raises DataError."""
    found = placed(text, "npz", KNOWN)
    path = existing_file(found.place, "npz", WHAT)
    class_list(found.get("classes"))
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
    except (zipfile.BadZipFile, OSError) as error:
        reason = getattr(error, "strerror", None) or "it is no file of numpy.savez"
        raise DataError(f"{path} cannot be read: {reason}") from error
    return found, roles(names, found, str(path))


def roles(names: Collection[str], asked: Placed, where: str) -> Roles:
    """What arrays of these names are, ``asked`` having the last word. Raises DataError."""
    classes = next((name for name in names if _CLASSES.fullmatch(name)), None)
    pairs = _pairs(names)
    train = _pair(asked, "train", names, where)
    if train is None:
        wanted = asked.get("train")
        train = _of_split(pairs, (wanted,) if wanted else (*TRAINING, ""), where, names)
    if asked.share is not None:
        return Roles(train, None, classes)
    test = _pair(asked, "test", names, where)
    if test is None:
        wanted = asked.get("test")
        if wanted is None and not any(split in pairs for split in _TESTING):
            raise DataError(
                f"{where} has {train[0]} and {train[1]}, but no arrays to test on; every epoch is "
                "tested on some: add x_test and y_test to it, or hold out a share: ,test=0.2"
            )
        test = _of_split(pairs, (wanted,) if wanted else _TESTING, where, names)
    used = {*train, *test}
    unused = tuple(n for pair in pairs.values() for n in pair if n not in used)
    return Roles(train, test, classes, unused)


_TESTING = (*TEST_NAMES, "testing")


def _pairs(names: Collection[str]) -> dict[str, tuple[str, str]]:
    """Images and labels by the split that their names tell; "" for those that tell none."""
    found: dict[str, dict[str, str]] = {}
    for name in names:
        match = _ROLE.fullmatch(name)
        if match is None or (match["split1"] and match["split2"]):
            continue
        split = (match["split1"] or match["split2"] or "").lower()
        found.setdefault(split, {}).setdefault("images" if match["images"] else "labels", name)
    return {
        split: (each["images"], each["labels"]) for split, each in found.items() if len(each) == 2
    }


def _of_split(
    pairs: dict[str, tuple[str, str]],
    splits: tuple[str, ...],
    where: str,
    names: Collection[str],
) -> tuple[str, str]:
    found = next((pairs[split] for split in splits if split in pairs), None)
    if found is not None:
        return found
    there = ", ".join(names) or "nothing"
    hint = f"name two of them: ,train=IMAGES;LABELS (it holds {there})"
    if splits[0] not in (*TRAINING, *TEST_NAMES) and pairs:
        hint = did_you_mean(splits[0], pairs) or f"its splits are {', '.join(filter(None, pairs))}"
    raise DataError(f"{where} has no images and labels called so: {splits[0]}; {hint}")


def _pair(asked: Placed, option: str, names: Collection[str], where: str) -> tuple[str, str] | None:
    """The arrays of ``train=A;B``, None where the option names none."""
    given = asked.several(option)
    if len(given) < 2:
        return None
    if len(given) > 2:
        raise DataError(f"the option `{option}` names {len(given)} arrays; give images;labels")
    for name in _missing(given, names):
        hint = instead(name, names, "it holds")
        raise DataError(f"{where} has no array `{name}`; {hint}")
    return given[0], given[1]


def _missing(given: Collection[str], names: Collection[str]) -> Iterator[str]:
    return (name for name in given if name not in names)
