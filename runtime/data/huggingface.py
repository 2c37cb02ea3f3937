"""``huggingface:PLACE``: data sets of the library ``datasets``, from a folder or by their name."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import redirect_stderr
from dataclasses import replace
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from danetc.dsl.files import open_regular
from danetc.runtime.data.arrays import Reading
from danetc.runtime.data.images import DECODING, open_image, reason
from danetc.runtime.data.own import SampleForm
from danetc.runtime.data.own_sets import own_set
from danetc.runtime.data.source import DataSet
from danetc.runtime.sources.huggingface import (
    IMAGES,
    LABELS,
    PARQUET,
    column,
    huggingface_place,
    splits,
)
from danetc.runtime.sources.options import class_list
from danetc.runtime.sources.request import DataRequest
from danetc.runtime.system.errors import DataError, UnreadableError

_SAVED = ("dataset_dict.json", "state.json")


def open_source(request: DataRequest) -> DataSet:
    """Columns of images and labels of a split to train and one to test on. Rows are read when they are
    asked for. By a name of the hub the library downloads what its cache does not have.

    Raises DataError.
    """
    asked = huggingface_place(request.argument)
    found = _opened(asked.place, asked.get("config"))
    train, test = splits(list(found), asked)
    there = list(found[train].column_names)
    image = column(there, asked.get("image"), IMAGES, "image")
    label = column(there, asked.get("label"), LABELS, "label")
    classes = class_list(asked.get("classes")) or _names(found[train].features[label])
    sides = [None if each is None else Rows(found[each], image, label) for each in (train, test)]
    name = Path(asked.place).name
    data = own_set(
        request,
        sides[0],
        sides[1],
        asked.share,
        SampleForm(asked.get("layout")),
        Reading(asked.get("layout"), asked.get("targets"), classes),
        name,
    )
    return replace(data, details={**data.details, "columns": [image, label]})


class Rows:
    """A table of ``datasets`` as pairs of an image and its label."""

    def __init__(self, table: Any, image: str, label: str) -> None:
        table = table.select_columns([image, label])  # no other is decoded
        table = _undecoded(_undecoded(table, image), label)
        self._table, self._image, self._label = table, image, label
        self._modes = {name: kind.mode for name, kind in table.features.items() if _is_image(kind)}
        if not _is_arrays(table.features[label]) and label not in self._modes:
            self.targets = list(table[label])

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        row: Mapping[str, Any] = self._table[index]
        return self._value(row, self._image, index), self._value(row, self._label, index)

    def _value(self, row: Mapping[str, Any], column: str, index: int) -> Any:
        value = row[column]
        if column not in self._modes or value is None:
            return value
        return _picture(value, self._modes[column], f"row {index} of the column `{column}`")


def _picture(file: Mapping[str, Any], mode: str | None, where: str) -> Image.Image:
    """An image from its bytes or its local path, as the library decodes it. Raises UnreadableError."""
    try:
        data = file["bytes"]
        if data is None:
            with open_regular(file["path"]) as stream:
                data = stream.read()
        image = open_image(BytesIO(data))
        image.load()
        image = ImageOps.exif_transpose(image)
        return image if mode in (None, image.mode) else image.convert(mode)
    except (*DECODING, TypeError) as error:
        raise UnreadableError(f"{where} cannot be read: {reason(error)}") from error


def _undecoded(table: Any, column: str) -> Any:
    """A table whose images stay files, which are decoded here: bytes, or bytes with a path, as
    parquet has them too. Raises DataError for lists of images, which the library would decode."""
    import datasets

    feature = table.features[column]
    if _is_image(feature):
        return table.cast_column(column, datasets.Image(mode=feature.mode, decode=False))
    is_file = isinstance(feature, Mapping) and "bytes" in feature
    if is_file or getattr(feature, "dtype", None) in ("binary", "large_binary"):
        return table.cast_column(column, datasets.Image(decode=False))
    if "Image(" in repr(feature):
        raise DataError(f"the column `{column}` holds lists of images, which are not read")
    return table


def _is_image(feature: Any) -> bool:
    return _kind(feature) == "Image"


def _is_arrays(feature: Any) -> bool:
    """Whether a column holds lists of numbers, or of lists."""
    return _kind(feature) in (
        "List",
        "LargeList",
        "Sequence",
        "list",
        "Array2D",
        "Array3D",
        "Array4D",
    )


def _kind(feature: Any) -> str:
    return type(feature).__name__


def _names(feature: Any) -> tuple[str, ...]:
    found = getattr(feature, "names", None)
    return tuple(found) if isinstance(found, list) and len(found) > 1 else ()


def _opened(place: str, config: str | None) -> Mapping[str, Any]:
    """All splits by their names. Raises DataError."""
    try:
        import datasets
    except ImportError as error:
        raise DataError(
            "`huggingface` needs the library datasets, which is not installed; "
            "pip install 'danetc[huggingface]'"
        ) from error
    path = Path(place).expanduser()
    try:
        with redirect_stderr(StringIO()):  # its bars
            if any((path / name).is_file() for name in _SAVED):
                found = datasets.load_from_disk(str(path))
            elif path.suffix.lower() == PARQUET:
                found = datasets.load_dataset("parquet", data_files={"train": str(path)})
            else:
                found = datasets.load_dataset(str(path) if path.is_dir() else place, config)
    except ConnectionError as error:
        raise DataError(
            f"`{place}` is not in the cache of the library datasets ({datasets.config.HF_DATASETS_CACHE}), "
            f"and the hub cannot be reached ({error}); where it can, "
            f'datasets.load_dataset("{place}").save_to_disk(DIR) writes what huggingface:DIR takes'
        ) from error
    except Exception as error:  # of its readers, of what is no data set
        reason = str(error).strip()
        if "Config name is missing" in reason:
            reason = f"it has several configurations; say ,config=NAME: {' '.join(reason.split())}"
        reason = reason.partition("\n")[0] or type(error).__name__
        raise DataError(f"{place} cannot be opened by the library datasets: {reason}") from error
    return found if isinstance(found, Mapping) else {"train": found}
