"""Rows of tables of the library ``datasets`` as pairs of an image and its label."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import Any

from PIL import ExifTags, ImageOps

from danetc.dsl.reading import open_regular
from danetc.runtime.data.images import decode_image, open_image, reason
from danetc.runtime.system.errors import DataError, UnreadableError

_ARRAYS = ("List", "LargeList", "Sequence", "list", "Array2D", "Array3D", "Array4D")
"""Types of columns whose values are arrays."""


class Rows:
    """A table as a Dataset, with ``targets`` unless the labels are arrays or images.

    Images are decoded here, since the library would decode formats that start programs.
    """

    def __init__(self, table: Any, image: str, label: str) -> None:
        table = table.select_columns([image, label])  # otherwise the library decodes all columns
        for column in (image, label):
            table = _undecoded(table, column)
        self._table, self._columns = table, (image, label)
        kinds = {name: type(kind).__name__ for name, kind in table.features.items()}
        self._modes = {
            name: table.features[name].mode for name, kind in kinds.items() if kind == "Image"
        }
        if kinds[label] not in _ARRAYS and label not in self._modes:
            self.targets = list(table[label])

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        row: Mapping[str, Any] = self._table[index]
        image, label = (self._value(row[name], name, index) for name in self._columns)
        return image, label

    def _value(self, value: Any, column: str, index: int) -> Any:
        """Return a value of a row; an image is decoded as the library does it."""
        if column not in self._modes or value is None:
            return value
        mode, where = self._modes[column], f"row {index} of the column `{column}`"
        try:
            data = value["bytes"]
            if data is None:
                with open_regular(value["path"]) as stream:
                    data = stream.read()
            image = open_image(BytesIO(data))
            upright = image.getexif().get(ExifTags.Base.Orientation, 1) == 1
            if upright and image.mode == "RGB" and mode in (None, "RGB"):
                return decode_image(data, where)
            image.load()
            image = ImageOps.exif_transpose(image)
            return image if mode in (None, image.mode) else image.convert(mode)
        except UnreadableError:
            raise
        except Exception as error:
            raise UnreadableError(f"{where} cannot be read: {reason(error)}") from error


def _undecoded(table: Any, column: str) -> Any:
    """Return the table with the images of a column as files: bytes, or bytes and a path.

    Raises DataError for lists of images, which the library would decode.
    """
    import datasets

    feature = table.features[column]
    if isinstance(feature, datasets.Image):
        return table.cast_column(column, datasets.Image(mode=feature.mode, decode=False))
    is_file = isinstance(feature, Mapping) and "bytes" in feature
    if is_file or getattr(feature, "dtype", None) in ("binary", "large_binary"):
        return table.cast_column(column, datasets.Image(decode=False))
    if "Image(" in repr(feature):
        raise DataError(f"the column `{column}` holds lists of images, which are not read")
    return table
