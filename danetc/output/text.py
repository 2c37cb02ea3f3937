"""Text that comes in and goes out: files, standard input, notes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from danetc.dsl.syntax.source import SourceFile
from danetc.errors import UserError
from danetc.output.echo import echo
from danetc.runtime.system.files import replace_file

MAX_BYTES = 1_000_000
"""The same limit as for spec files: more is something else, given by mistake."""


Note: TypeAlias = Callable[[str], None]
"""Tells the user something beside the result, as ``note`` does."""


def note(text: str) -> None:
    """Tell the user something beside the result, on standard error."""
    echo(f"note: {text}", err=True)


def read_standard_input() -> SourceFile:
    """The spec on standard input, called ``<stdin>``. Raises UserError for what is no text."""
    if sys.stdin is None:  # `<&-`
        raise UserError("there is no standard input to read a spec from")
    data = sys.stdin.buffer.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise UserError(f"standard input holds more than {MAX_BYTES} bytes, too many for a spec")
    try:
        return SourceFile("<stdin>", data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise UserError(f"standard input is not UTF-8 text (byte {error.start})") from error


def replace_text(path: Path, text: str) -> None:
    """Write a text file so that whoever looks finds the old one or the new one, whole.

    A symbolic link stays one, and the file keeps its permissions. Raises OSError with its name.
    """
    replace_file(path, text.encode("utf-8"), follow=True)
