"""Reading and writing text files."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from danetc.dsl.source import SourceFile
from danetc.errors import UserError

MAX_BYTES = 1_000_000
"""The same limit as for spec files: more is something else, given by mistake."""


def read_standard_input() -> SourceFile:
    """The spec on standard input, called ``<stdin>``. Raises UserError for what is no text."""
    data = sys.stdin.buffer.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise UserError(f"standard input holds more than {MAX_BYTES} bytes, too many for a spec")
    try:
        return SourceFile("<stdin>", data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UserError(f"standard input is not UTF-8 text (byte {error.start})") from error


def replace_text(path: Path, text: str) -> None:
    """Write a text file as ``replace_bytes`` does."""
    replace_bytes(path, text.encode("utf-8"))


def replace_bytes(path: Path, data: bytes) -> None:
    """Write a file so that whoever looks finds the old one or the new one, whole.

    A symbolic link stays one, and the file keeps its permissions. Raises OSError.
    """
    target = path.resolve()
    handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, target.stat().st_mode & 0o7777 if target.exists() else 0o666 & ~umask())
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise


def umask() -> int:
    """The process's file mode mask (which can only be read by setting it)."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
