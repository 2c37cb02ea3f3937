"""Tables in csv files: which columns are images, labels and splits, by their names."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from danetc.dsl.diagnostics.diagnostic import did_you_mean
from danetc.runtime.sources.arrays import TRAINING
from danetc.runtime.sources.folders import TEST_NAMES
from danetc.runtime.sources.options import Placed, class_list, placed
from danetc.runtime.sources.places import existing_file
from danetc.runtime.system.errors import DataError

KNOWN = ("file", "label", "split", "train", "test", "classes", "targets")
WHAT = "a table with a header: a column of labels, and one of image files or columns of numbers"
_FILES = ("file", "path", "filename", "filepath", "image", "image_path")
_LABELS = ("label", "class", "target", "y", "category")
_SPLITS = ("split", "subset", "set")


@dataclass(frozen=True, slots=True)
class Columns:
    """The columns of a table. Without ``file``, a sample is the numbers of ``features``."""

    header: tuple[str, ...]
    labels: tuple[str, ...]
    file: str | None
    features: tuple[str, ...]
    split: str | None


def csv_place(text: str) -> tuple[Placed, Path, Columns]:
    """The file of ``csv:FILE`` and what its columns are. Raises DataError."""
    asked = placed(text, "csv", KNOWN)
    path = existing_file(asked.place, "csv", WHAT)
    class_list(asked.get("classes"))
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            header = tuple(name.strip() for name in next(csv.reader(stream), ()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read: {reason(error)}") from error
    return asked, path, columns(header, asked, str(path))


def reason(error: Exception) -> str:
    """Why a table cannot be read."""
    if isinstance(error, UnicodeDecodeError):
        return "it is no text (UTF-8)"
    return getattr(error, "strerror", None) or str(error)


def columns(header: Sequence[str], asked: Placed, where: str) -> Columns:
    """What columns of these names are, ``asked`` having the last word. Raises DataError."""
    header = tuple(header)
    if len(header) < 2 or len(set(header)) < len(header):
        what = "twice the same name" if len(header) > 1 else f"{len(header)} columns"
        raise DataError(f"the first line of {where} has {what}; it must name each column: {WHAT}")
    for option in ("label", "file", "split"):
        for name in asked.several(option):
            if name not in header:
                hint = did_you_mean(name, header) or f"it has {_listed(header)}"
                raise DataError(f"{where} has no column `{name}`; {hint}")
    labels = asked.several("label") or _known(header, _LABELS)[:1]
    if not labels:
        raise DataError(
            f"{where} has no column of labels; call one `label`, or name it: ,label=NAME (it has "
            f"{_listed(header)})"
        )
    file = asked.get("file") or next(iter(_known(header, _FILES)), None)
    split = asked.get("split") or next(iter(_known(header, _SPLITS)), None)
    if asked.share is not None and asked.get("split") is None:
        split = None
    if split is None and asked.share is None:
        raise DataError(
            f"{where} does not say which rows are to test on; add a column `split` with train and "
            "test, or hold out a share: ,test=0.2"
        )
    known = {*labels, file, split, *_known(header, _SPLITS)}
    features = () if file else tuple(name for name in header if name not in known)
    if not file and not features:
        raise DataError(f"{where} has no column beside its labels; {WHAT}")
    return Columns(header, labels, file, features, split)


def sides(values: Sequence[str], asked: Placed, where: str) -> tuple[list[int], list[int]]:
    """The rows to train and to test on, by the values of their column of splits. Raises DataError."""
    lower = [value.strip().lower() for value in values]
    there = list(dict.fromkeys(lower))
    found = []
    for option, usual in (("train", TRAINING), ("test", (*TEST_NAMES, "testing"))):
        given = asked.get(option)
        names = (given.lower(),) if given else usual
        name = next((each for each in names if each in there), None)
        if name is None:
            hint = did_you_mean(names[0], there) if given else None
            raise DataError(
                f"no row of {where} is of the split `{names[0]}`; "
                f"{hint or f'its splits are {_listed(there)}: say ,{option}=NAME'}"
            )
        found.append([number for number, each in enumerate(lower) if each == name])
    return found[0], found[1]


def _known(header: Sequence[str], names: Sequence[str]) -> tuple[str, ...]:
    lower = {name.lower(): name for name in reversed(header)}
    return tuple(lower[name] for name in names if name in lower)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
