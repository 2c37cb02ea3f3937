"""All that danetc prints goes through here, so that no name can do anything to a terminal.

What others wrote (names of files, folders and data, texts of specs) is printed with its hidden
characters written out (``danetc.dsl.diagnostics.visible``); only colours and bars of our own reach a terminal as
control sequences. Tables and bars go through ``danetc.output.console``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any, TextIO

from danetc.dsl.diagnostics.diagnostic import Diagnostic, render_all
from danetc.dsl.diagnostics.visible import visible_lines

if TYPE_CHECKING:
    import click


def echo(
    text: object = "", *, err: bool = False, nl: bool = True, file: TextIO | None = None
) -> None:
    """Print a text of one or more lines, to standard output unless asked otherwise."""
    import click  # late, here and below: a browser checks and draws without it

    click.echo(visible_lines(str(text)), file=file, err=err, nl=nl)


def echo_diagnostics(diagnostics: Sequence[Diagnostic], *, colour: bool) -> None:
    """Print errors of a spec to standard error; what they quote is made visible as they are rendered."""
    import click

    click.echo(render_all(diagnostics, colour=colour) + "\n", err=True)


def echo_usage(error: click.ClickException) -> None:
    """Print what click has to say about the arguments, which it quotes, and how the command is used."""
    import click

    if isinstance(error, click.UsageError) and error.ctx is not None:
        echo(error.ctx.get_usage(), err=True)
        echo(f"Try '{error.ctx.command_path} --help' for help.\n", err=True)
    echo(f"Error: {error.format_message()}", err=True)


def json_text(value: Any, *, indent: int | None = 2) -> str:
    """JSON of printable ASCII alone; null for the numbers that JSON has not, NaN and infinity."""
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
