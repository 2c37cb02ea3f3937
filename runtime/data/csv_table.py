"""``csv:FILE``: a table of image files with labels, or of numbers with labels."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from danetc.runtime.data.arrays import (
    ArraySplit,
    Learned,
    Reading,
    array_set,
    class_names,
    hold_out,
    learned_of,
)
from danetc.runtime.data.class_files import files_fingerprint
from danetc.runtime.data.files import Strings
from danetc.runtime.data.folder import ImageFiles
from danetc.runtime.data.source import DataSet
from danetc.runtime.sources.csv_files import Columns, csv_place, reason, sides
from danetc.runtime.sources.options import Placed, class_list
from danetc.runtime.sources.request import DataRequest
from danetc.runtime.system.errors import DataError


def open_source(request: DataRequest) -> DataSet:
    """A row is a sample: an image of the column ``file`` (its path is from the table's folder on), or
    the numbers of all other columns, F x 1 x 1. Raises DataError.
    """
    asked, path, columns = csv_place(request.argument)
    rows = _rows(path, columns)
    reading = Reading(None, asked.get("targets"), class_list(asked.get("classes")))
    labels = _labels(rows, columns, path)
    if columns.split is not None:
        place = columns.header.index(columns.split)
        parts = sides([row[place] for row in rows], asked, str(path))
    else:
        parts = _held_out(labels, reading, asked, path)
    if columns.file is not None:
        return _images(request, path, rows, columns, labels, parts, reading)
    features = _numbers(rows, columns.features, columns, path)
    names = (f"the numbers of {path}", f"the labels of {path}")
    train, test = (ArraySplit(features[part], labels[part], names) for part in parts)
    return array_set(request, train, test, reading, name=path.name)


def _rows(path: Path, columns: Columns) -> list[list[str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = [row for row in csv.reader(stream) if row][1:]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read: {reason(error)}") from error
    for number, row in enumerate(rows, 2):
        if len(row) != len(columns.header):
            raise DataError(
                f"{path}, row {number}: {len(row)} values, but the first line names "
                f"{len(columns.header)} columns"
            )
    if not rows:
        raise DataError(f"{path} has no rows below its first line")
    return rows


def _labels(rows: Sequence[Sequence[str]], columns: Columns, path: Path) -> np.ndarray:
    """Whole numbers, real ones, or names: [N], or [N, D] of several columns."""
    if len(columns.labels) > 1:
        return _numbers(rows, columns.labels, columns, path)
    place = columns.header.index(columns.labels[0])
    texts = [row[place].strip() for row in rows]
    for kind in (np.int64, np.float64):
        try:
            return np.array(texts).astype(kind)
        except ValueError:
            continue
    return np.array(texts)


def _numbers(
    rows: Sequence[Sequence[str]], names: Sequence[str], columns: Columns, path: Path
) -> np.ndarray:
    """The values of these columns, [N, F]. Raises DataError for a text among them."""
    places = [columns.header.index(name) for name in names]
    found = np.empty((len(rows), len(places)), np.float32)
    for number, row in enumerate(rows):
        for column, place in enumerate(places):
            try:
                found[number, column] = float(row[place])
            except ValueError as error:
                raise DataError(
                    f"{path}, row {number + 2}: `{row[place]}` in the column "
                    f"`{columns.header[place]}` is no number; if it is the label or a file, say so: "
                    f",label={columns.header[place]}"
                ) from error
    return found


def _held_out(
    labels: np.ndarray, reading: Reading, asked: Placed, path: Path
) -> tuple[list[int], list[int]]:
    share = asked.share
    assert share is not None
    train, test = hold_out(learned_of(labels, f"the labels of {path}", reading), share)
    return train.tolist(), test.tolist()


def _images(
    request: DataRequest,
    path: Path,
    rows: Sequence[Sequence[str]],
    columns: Columns,
    labels: np.ndarray,
    parts: tuple[list[int], list[int]],
    reading: Reading,
) -> DataSet:
    assert columns.file is not None
    place = columns.header.index(columns.file)
    root = path.absolute().parent
    files = [row[place].strip() for row in rows]
    missing = [number for number, name in enumerate(files) if not (root / name).is_file()]
    if missing:
        raise DataError(
            f"{path}, row {missing[0] + 2}: there is no image {root / files[missing[0]]} "
            f"({len(missing)} of {len(files)} are missing); paths are from the table's folder on"
        )
    whole = learned_of(labels, f"the labels of {path}", reading)
    names = class_names(reading, whole, whole, path.name)
    found = []
    for part in parts:
        own = Learned(whole.target, whole.labels[torch.tensor(part)])
        texts = Strings(files[number] for number in part)
        found.append(ImageFiles(texts, own.labels, request.policy, root))
    train, test = found
    return DataSet(
        name=path.name,
        text=request.text,
        class_names=names,
        train=train,
        test=test,
        shape=None,
        fingerprint=files_fingerprint(names, *((root, each.names, each.labels) for each in found)),
        target=whole.target,
        details={"channels": 3},
    )
