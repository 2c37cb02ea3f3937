"""``npz:FILE``: arrays as numpy.savez writes them, whose names say which split they belong to."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

from danetc.dsl.diagnostics.diagnostic import instead
from danetc.runtime.data.request import TEST_NAMES, TRAIN_NAMES, DataRequest, DataSource, existing
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


Roles = tuple[Pair, Pair | None, str | None]
"""Names of the arrays to train and to test on (None if a share is held out), and of the class names."""


def roles(names: Collection[str], request: DataRequest, where: str) -> Roles:
    """Find the roles of arrays by their names; the options ``train`` and ``test`` override them."""
    classes = next((name for name in names if _CLASSES.fullmatch(name)), None)
    pairs = _pairs(names)

    def pair(option: str, usual: tuple[str, ...]) -> Pair:
        given = [name.strip() for name in (request.options.get(option) or "").split(";")]
        if len(given) == 1 and pairs:
            return pairs[request.chosen(option, usual, pairs, "images and labels of", where)]
        missing = [name for name in given if name not in names]
        if len(given) != 2 or missing:
            hint = instead("".join(missing[:1]), names, "it holds")
            raise DataError(
                f"{where} needs arrays of images and labels for {option}: ,{option}=IMAGES;LABELS ({hint})"
            )
        return given[0], given[1]

    train = pair("train", (*TRAIN_NAMES, ""))
    return train, None if request.share is not None else pair("test", TEST_NAMES), classes


def _pairs(names: Collection[str]) -> dict[str, Pair]:
    """Return images and labels by the split in their names, "" for names without one."""
    found: dict[str, dict[bool, str]] = {}
    for name in names:
        match = _ROLE.fullmatch(name)
        if match is not None and not (match["before"] and match["behind"]):
            split = (match["before"] or match["behind"] or "").lower()
            found.setdefault(split, {}).setdefault(match["images"] is not None, name)
    return {split: (each[True], each[False]) for split, each in found.items() if len(each) == 2}


def _look(request: DataRequest) -> tuple[Path, Roles]:
    """Return the file and the roles of its arrays, by their names."""
    holds = "arrays of images and labels, such as x_train, y_train, x_test and y_test"
    path = existing(request.place, "npz:FILE", holds)
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
    except (zipfile.BadZipFile, OSError) as error:
        reason = getattr(error, "strerror", None) or "it is not a file of numpy.savez"
        raise DataError(f"{path} cannot be read: {reason}") from error
    return path, roles(names, request, str(path))


def _open(request: DataRequest, found: tuple[Path, Roles]) -> Any:
    from danetc.runtime.data.arrays import read_numpy, texts_of
    from danetc.runtime.data.own import own_set

    path, (train, test, names) = found
    arrays = read_numpy(str(path), lambda there: [*train, *(test or ()), *filter(None, [names])])
    if not isinstance(arrays, dict):
        raise DataError(f"{path} cannot be read: it is not a file of numpy.savez")
    classes: tuple[str, ...] = ()
    if names is not None and arrays[names].ndim == 1 and arrays[names].dtype.kind in "US":
        classes = tuple(texts_of(arrays[names], f"`{names}` of {path}"))
    pairs = {"train": train, **({} if test is None else {"test": test})}
    splits = {split: [arrays[each] for each in pair] for split, pair in pairs.items()}
    return own_set(request, {**splits, "class_names": classes}, path.name)


SOURCE = DataSource(
    "npz:FILE",
    "NumPy arrays named x_train, y_train, x_test and y_test; also written FILE.npz",
    _look,
    _open,
    ("train", "test", "classes"),
    ".npz",
)
