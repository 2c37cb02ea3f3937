"""An image file as a tensor."""

from __future__ import annotations

import struct
import warnings
import zlib
from io import BytesIO
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from danetc.runtime.system.errors import UnreadableError

# What Pillow raises on bytes that are no image, or only the beginning of one.
DECODING = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    OverflowError,
    zlib.error,
    struct.error,
    Image.DecompressionBombError,
)
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""Formats that are decoded, whatever the name of a file says. Pillow knows more, and starts another
program for one of them (Ghostscript, for EPS)."""
_DEEP = ("I", "F")  # and I;16, I;16B, ...: more than 8 bits a value


def open_image(stream: BinaryIO) -> Image.Image:
    """An image of one of ``FORMATS``. Raises what ``DECODING`` lists."""
    return Image.open(stream, formats=FORMATS)


def decode_image(data: bytes, where: str) -> Tensor:
    """A file's bytes as a colour image [3, H, W], uint8, as torchvision's ImageFolder gives it.

    Grey images get three equal channels, palettes their colours; transparency is left out.
    Raises UnreadableError, with ``where``, for what is no whole image of 8 bits a value.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on EXIF data, which are not looked at
            with open_image(BytesIO(data)) as image:
                if image.mode.startswith(_DEEP):
                    raise UnreadableError(
                        f"{where} has more than 8 bits a value (mode {image.mode}), which a "
                        "colour image cannot keep; convert it to 8 bits"
                    )
                pixels = np.asarray(image.convert("RGB"))
    except UnreadableError:
        raise
    except DECODING as error:
        raise UnreadableError(f"{where} cannot be read: {reason(error, len(data))}") from error
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).contiguous()


def reason(error: BaseException, size: int | None = None) -> str:
    """Why a file of so many bytes is no image."""
    if size == 0:
        return "the file is empty"
    text = str(error).replace("\n", " ")
    if "cannot identify image file" in text:
        return f"it is no image, or a damaged one (read are {', '.join(FORMATS)})"
    return text or type(error).__name__
