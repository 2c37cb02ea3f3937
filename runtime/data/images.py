"""Image files as tensors."""

from __future__ import annotations

import warnings
from contextlib import suppress
from io import BytesIO
from typing import BinaryIO

import numpy as np
import PIL
import torch
import torchvision
from PIL import Image
from torch import Tensor
from torchvision.io import ImageReadMode, image

from danetc.dsl.reading import open_regular
from danetc.runtime.system.errors import UnreadableError

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Formats that are decoded, whatever the name of a file says. Pillow knows more, one of which starts
another program (Ghostscript, for EPS)."""
TORCHVISION_FORMATS = ("JPEG", "MPO", "PNG", "WEBP") * hasattr(torch.ops.image, "decode_image")
"""Formats that torchvision decodes, in two thirds of Pillow's time; Pillow decodes the others."""
DECODERS = f"torchvision {torchvision.__version__}, " * bool(TORCHVISION_FORMATS) + (
    f"Pillow {PIL.__version__}"
)
"""Libraries that decode images, with their versions. Decoded pixels may depend on them."""
_DEEP = ("I", "F")
"""Prefixes of Pillow's modes with more than 8 bits per value, such as I;16B."""


def open_image(stream: BinaryIO) -> Image.Image:
    """Open an image of one of ``FORMATS``. For damaged ones Pillow raises any exception."""
    return Image.open(stream, formats=FORMATS)


def read_image(path: str, where: str = "", start: int = 0, length: int = -1) -> Tensor:
    """Return the colour image [3, H, W] in a file, uint8: in all of it, or in ``length`` bytes from
    ``start``. Raises UnreadableError, which names ``where``, by default the file.
    """
    where = where or path
    try:
        with open_regular(path) as stream:
            stream.seek(start)
            data = stream.read(length)
    except OSError as error:
        raise UnreadableError(f"{where} cannot be read: {error.strerror or error}") from error
    return decode_image(data, where)


def decode_image(data: bytes, where: str) -> Tensor:
    """Decode a colour image [3, H, W], uint8, as torchvision's ImageFolder does.

    Grey images are converted to three equal channels and palettes to their colours; transparency
    and the orientation in EXIF data are dropped. Pillow reads the header, which limits the number of
    pixels, and decodes what torchvision does not. Raises UnreadableError, which names ``where``,
    unless the image is complete and has 8 bits a value.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about EXIF data, which are not used
            with open_image(BytesIO(data)) as opened:
                if opened.mode.startswith(_DEEP):
                    raise UnreadableError(
                        f"{where} has more than 8 bits a value (mode {opened.mode}), which a "
                        "colour image cannot keep; convert it to 8 bits"
                    )
                if opened.format in TORCHVISION_FORMATS:
                    encoded = torch.frombuffer(bytearray(data), dtype=torch.uint8)
                    with suppress(RuntimeError):  # Pillow says what is wrong, if anything is
                        pixels: Tensor = image.decode_image(encoded, ImageReadMode.RGB)
                        if pixels.dtype == torch.uint8:  # a PNG may have colours of 16 bits
                            return pixels
                array = np.asarray(opened.convert("RGB"))
    except UnreadableError:
        raise
    except Exception as error:
        raise UnreadableError(f"{where} cannot be read: {reason(error, len(data))}") from error
    return torch.from_numpy(array.copy()).permute(2, 0, 1)


def reason(error: BaseException, size: int | None = None) -> str:
    """Return why a file of ``size`` bytes cannot be decoded."""
    if size == 0:
        return "the file is empty"
    text = str(error).replace("\n", " ")
    if "cannot identify image file" in text:
        return f"it is not an image, or a damaged one (formats are {', '.join(FORMATS)})"
    return text or type(error).__name__
