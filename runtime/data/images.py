"""Image files as tensors, and tables of the library ``datasets`` with images."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from contextlib import suppress
from io import BytesIO
from typing import Any

import numpy as np
import PIL
import torch
import torchvision
from PIL import ExifTags, Image, ImageOps
from torch import Tensor
from torchvision.io import ImageReadMode, image

from danetc.dsl.reading import open_regular
from danetc.runtime.data.request import reported
from danetc.runtime.system.errors import DataError, UnreadableError

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Formats that are decoded, whatever the name of a file says. Pillow knows more, one of which starts
another program (Ghostscript, for EPS)."""
TORCHVISION_FORMATS = ("JPEG", "MPO", "PNG", "WEBP") * hasattr(torch.ops.image, "decode_image")
"""Formats that torchvision decodes, in two thirds of Pillow's time; Pillow decodes the others."""
DECODERS = f"torchvision {torchvision.__version__}, " * bool(TORCHVISION_FORMATS) + (
    f"Pillow {PIL.__version__}"
)
"""Libraries that decode images, with their versions. Decoded pixels may depend on them."""


def read_image(path: str, where: str = "", start: int = 0, length: int = -1) -> Tensor:
    """Return the colour image [3, H, W], uint8, in a file, or in ``length`` bytes of it from ``start``.

    Raises UnreadableError, which names ``where``, by default the file.
    """
    where = where or path
    with reported(f"{where} cannot be read", "", UnreadableError), open_regular(path) as stream:
        stream.seek(start)
        data = stream.read(length)
    return decode_image(data, where)


def decode_image(data: bytes, where: str) -> Tensor:
    """Decode a colour image [3, H, W], uint8, as torchvision's ImageFolder does.

    Grey images get three equal channels and palettes their colours; transparency and the orientation in
    EXIF data are dropped. Pillow reads the header, which limits the number of pixels, and decodes what
    torchvision does not. Raises UnreadableError unless the image is complete and has 8 bits a value.
    """
    with reported(f"{where} cannot be read", reason, UnreadableError), warnings.catch_warnings():
        if not data:
            raise EOFError("the file is empty")
        warnings.simplefilter("ignore")  # about EXIF data, which are not used
        with Image.open(BytesIO(data), formats=FORMATS) as opened:
            if opened.mode.startswith(("I", "F")):  # such as I;16B
                raise UnreadableError(
                    f"{where} has more than 8 bits a value (mode {opened.mode}), which a colour "
                    "image cannot keep; convert it to 8 bits"
                )
            if opened.format in TORCHVISION_FORMATS:
                encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
                with suppress(RuntimeError):  # Pillow says what is wrong, if anything is
                    pixels: Tensor = image.decode_image(encoded, ImageReadMode.RGB)
                    if pixels.dtype == torch.uint8:  # a PNG may have colours of 16 bits
                        return pixels
            array = np.asarray(opened.convert("RGB"))
    return torch.from_numpy(array.copy()).permute(2, 0, 1)


def reason(error: Exception) -> str:
    """Return why an image cannot be decoded."""
    text = str(error).replace("\n", " ")
    if "cannot identify image file" in text:
        return f"it is not an image, or a damaged one (formats are {', '.join(FORMATS)})"
    return text or type(error).__name__


class Rows:
    """A table as a Dataset, with ``classes``, and ``targets`` if labels are single values. Images are decoded here,
    since the library would decode formats that start programs."""

    def __init__(self, table: Any, image: str, label: str) -> None:
        table = table.select_columns([image, label])  # otherwise the library decodes all columns
        self._table = table = _undecoded(_undecoded(table, image), label)
        self._columns, kinds = (image, label), table.features
        self._modes = {
            name: kind.mode for name, kind in kinds.items() if type(kind).__name__ == "Image"
        }
        names = getattr(kinds[label], "names", None)
        self.classes = names if isinstance(names, list) and len(names) > 1 else ()
        if type(kinds[label]).__name__ in ("ClassLabel", "Value"):
            self.targets = list(table[label])

    def __len__(self) -> int:
        return len(self._table)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        row = self._table[index]
        image, label = (self._value(row[name], name, index) for name in self._columns)
        return image, label

    def _value(self, value: Any, column: str, index: int) -> Any:
        if column not in self._modes or value is None:
            return value
        mode, where = self._modes[column], f"row {index} of the column `{column}`"
        with reported(f"{where} cannot be read", reason, UnreadableError):
            data = value["bytes"]
            if data is None:
                with open_regular(value["path"]) as stream:
                    data = stream.read()
            image: Image.Image = Image.open(BytesIO(data), formats=FORMATS)
            upright = image.getexif().get(ExifTags.Base.Orientation, 1) == 1
            if upright and image.mode == "RGB" and mode in (None, "RGB"):
                return decode_image(data, where)
            image.load()
            image = ImageOps.exif_transpose(image)
            return image if mode in (None, image.mode) else image.convert(mode)


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
