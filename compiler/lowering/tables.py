"""Tables of numbers from NumPy files beside a spec, ``table("positions.npy")``.

A table is text: the sizes of its axes and its numbers in base64. Specs of model directories contain
it in place of the path, so that they do not depend on the file.
"""

from __future__ import annotations

import re
import zipfile
from base64 import b64decode, b64encode
from io import BytesIO
from math import isfinite, prod
from pathlib import Path
from struct import unpack

from danetc.dsl.diagnostics.visible import visible
from danetc.dsl.reading import open_regular
from danetc.dsl.syntax import tree as s

MAX_BYTES = 2**20
MAX_NUMBERS = 2**15
TEXT = re.compile(r"f8:(\d{1,6}(?:x\d{1,6}x\d{1,6})?):([A-Za-z0-9+/]+={0,2})", re.ASCII)
"""A table as text: sizes of axes, and little-endian float64 numbers in base64."""


class TableError(Exception):
    """A file contains no table. The arguments are a message and a hint."""


def table_of(call: s.Call) -> str:
    """Return the text of the table of ``table(PLACE, ENTRY)``. Raises TableError.

    The place is the text of a table, or an .npy file, or an .npz file with the array of the entry,
    inside the folder of the spec. Pickled objects are refused.
    """
    texts = [arg.value.value for arg in call.args if isinstance(arg.value, s.String)]
    if len(texts) < len(call.args) or not 1 <= len(texts) <= 2:
        raise TableError("`table` takes a path in quotes", 'write `table("FILE.npy")`')
    place, folder = texts[0], Path(call.span.source.name).parent
    if (text := TEXT.fullmatch(place)) is not None:
        count = prod(map(int, text[1].split("x")))
        data = b64decode(text[2]) if len(text[2]) % 4 == 0 else b""
        fits = 0 < count <= MAX_NUMBERS and len(data) == 8 * count
        if not fits or not all(map(isfinite, unpack(f"<{count}d", data))):
            message = f"the text of a table does not hold {count:,} finite numbers"
            raise TableError(message, "write the path of its file")
        return place
    shown = f"`{visible(place)}`"
    if not place.endswith((".npy", ".npz")):
        raise TableError(f"{shown} is not a .npy or .npz file", 'write `table("FILE.npy")`')
    try:
        file = (folder / place).resolve()
        inside = file.is_relative_to(folder.resolve())
    except (OSError, ValueError, RuntimeError):
        inside = False
    if not inside:
        raise TableError(f"{shown} is outside of the spec's folder", "copy it beside the spec")
    try:
        with open_regular(file) as opened:
            data = opened.read(MAX_BYTES + 1)
    except (OSError, ValueError):
        data = b""
    if not data:
        raise TableError(f"{shown} cannot be read", "paths are relative to the spec")
    if place.endswith(".npz") and len(data) <= MAX_BYTES:
        data = _entry(data, (*texts, None)[1], shown)
    if len(data) > MAX_BYTES:
        raise TableError(f"{shown} is larger than 1 MiB", "tables are small: up to 32,768 numbers")
    return _text(data, shown)


def _entry(data: bytes, entry: str | None, shown: str) -> bytes:
    """Return the .npy file of an array in an .npz file."""
    try:
        with zipfile.ZipFile(BytesIO(data)) as archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            if entry is None and len(names) == 1:
                (entry,) = names
            if entry not in names:
                listed = ", ".join(f'`"{visible(name)}"`' for name in names[:8])
                message = f"{shown} has several arrays" if entry is None else "no such array"
                raise TableError(message, f"name one of {listed}")
            with archive.open(f"{entry}.npy") as opened:
                return opened.read(MAX_BYTES + 1)
    except (zipfile.BadZipFile, KeyError, NotImplementedError, RuntimeError, OSError, EOFError):
        raise TableError(f"{shown} is not a .npz file of numpy", "write it by `np.savez`") from None


def _text(data: bytes, shown: str) -> str:
    """Return the text of an .npy file."""
    import numpy as np  # late: few specs have tables

    stream = BytesIO(data)
    try:
        form = np.lib.format
        version = form.read_magic(stream)
        read = form.read_array_header_1_0 if version == (1, 0) else form.read_array_header_2_0
        shape, _, dtype = read(stream)
        if dtype.kind not in "fiub":
            raise TableError(f"{shown} has no real numbers but {dtype}", "save an array of numbers")
        if len(shape) not in (1, 3) or 0 in shape:
            message = f"{shown} has the shape {shape}"
            raise TableError(message, "a table has [channels] or [channels, height, width]")
        if np.prod(shape, dtype=object) > MAX_NUMBERS:
            raise TableError(f"{shown} has the shape {shape}", "tables have up to 32,768 numbers")
        array = np.load(BytesIO(data), allow_pickle=False).astype("<f8")
    except (ValueError, EOFError, OSError):
        raise TableError(f"{shown} is not a .npy file of numpy", "write it by `np.save`") from None
    if not np.isfinite(array).all():
        raise TableError(f"{shown} has numbers that are not finite", "tables are finite")
    sizes = "x".join(map(str, shape))
    return f"f8:{sizes}:{b64encode(np.ascontiguousarray(array).tobytes()).decode()}"
