"""Printing. Everything that danetc prints goes through here, so that no name can control a terminal.

Text that others wrote (names of files, folders and data, texts of specs) is printed with hidden characters
written out (``danetc.dsl.diagnostics.visible``); only colours and bars of our own reach a terminal as control
sequences. Bars go through ``danetc.output.console``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO, TypeAlias

from danetc.dsl.diagnostics.diagnostic import Diagnostic, render_all
from danetc.dsl.diagnostics.visible import visible_lines
from danetc.dsl.syntax.source import SourceFile
from danetc.errors import UserError

if TYPE_CHECKING:
    import click

MAX_BYTES = 1_000_000
"""Largest size of a spec on standard input, as for files."""

Note: TypeAlias = Callable[[str], None]
"""Tells the user something beside the result, as ``note`` does."""


def echo(
    text: object = "", *, err: bool = False, nl: bool = True, file: TextIO | None = None
) -> None:
    """Print text, by default to standard output."""
    echo_styled(visible_lines(str(text)), err=err, nl=nl, file=file)


def echo_styled(
    text: str, *, err: bool = False, nl: bool = True, file: TextIO | None = None
) -> None:
    """Print text with styles of our own, in which names are visible already."""
    import click  # late: a browser checks and draws without it

    click.echo(text, file=file, err=err, nl=nl)


def note(text: str) -> None:
    """Tell the user something beside the result, on standard error."""
    echo(f"note: {text}", err=True)


def echo_diagnostics(diagnostics: Sequence[Diagnostic], *, colour: bool) -> None:
    """Print errors of a spec to standard error. Their quotations are made visible when rendered."""
    echo_styled(render_all(diagnostics, colour=colour) + "\n", err=True)


def echo_usage(error: click.ClickException) -> None:
    """Print an error of click, which quotes arguments, and the usage of the command."""
    import click

    if isinstance(error, click.UsageError) and error.ctx is not None:
        echo(error.ctx.get_usage(), err=True)
        echo(f"Try '{error.ctx.command_path} --help' for help.\n", err=True)
    echo(f"Error: {error.format_message()}", err=True)


def json_text(value: Any, *, indent: int | None = 2) -> str:
    """Return JSON of printable ASCII; null for NaN and infinity, which JSON lacks."""
    separators = (",", ":") if indent is None else None
    text = json.dumps(_finite(value), indent=indent, separators=separators, allow_nan=False)
    return text.replace("\x7f", "\\u007f")  # the one control character that JSON leaves as it is


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return value


def read_standard_input() -> SourceFile:
    """Return the spec on standard input, called ``<stdin>``. Raises UserError if it is no text."""
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
    """Write a text file so that readers find either the old or the new one, complete.

    A symbolic link stays one, and the file keeps its permissions. Raises OSError with its name.
    """
    from danetc.runtime.system.files import replace_file  # late: hashlib takes 5 ms

    replace_file(path, text.encode("utf-8"), follow=True)
