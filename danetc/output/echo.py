"""Printing. All output of danetc goes through this module, or through ``danetc.output.console``.

Hidden characters in text of others (names of files and data, texts of specs) are escaped
(``danetc.dsl.diagnostics.visible``), so that no name can control a terminal.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TextIO, TypeAlias

from danetc.dsl.diagnostics.diagnostic import Diagnostic, SpecError, render_all
from danetc.dsl.diagnostics.visible import visible_lines
from danetc.dsl.reading import MAX_FILE_BYTES, spec_text
from danetc.dsl.syntax.source import SourceFile
from danetc.errors import UserError

Note: TypeAlias = Callable[[str], None]
"""Function that tells the user something in addition to the result, such as ``note``."""


def echo(
    text: object = "",
    *,
    err: bool = False,
    nl: bool = True,
    file: TextIO | None = None,
    styled: bool = False,
) -> None:
    """Print text, by default to standard output; ``styled`` text is printed without escaping."""
    import click  # late: a browser checks and draws without it

    click.echo(str(text) if styled else visible_lines(str(text)), file=file, err=err, nl=nl)


def note(text: str) -> None:
    """Print a note to standard error."""
    echo(f"note: {text}", err=True)


def json_text(value: Any) -> str:
    """Return JSON of printable ASCII, with null for NaN and infinity."""
    finite = json.loads(json.dumps(value, default=dict), parse_constant=lambda name: None)
    text = json.dumps(finite, indent=2)
    return text.replace("\x7f", "\\u007f")  # json.dumps does not escape DEL


def read_standard_input() -> SourceFile:
    """Return the spec on standard input, called ``<stdin>``. Raises UserError if it is not text."""
    if sys.stdin is None:  # `<&-`
        raise UserError("there is no standard input to read a spec from")
    try:
        text = spec_text(sys.stdin.buffer.read(MAX_FILE_BYTES + 1), "<stdin>")
    except SpecError as error:
        raise UserError(f"{error.diagnostics[0].message}; {error.diagnostics[0].hint}") from error
    return SourceFile("<stdin>", text)


class SpecWarning(UserWarning):
    """Warnings about a spec; ``diagnostics`` has their messages and places."""

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        super().__init__(diagnostics)  # pickle calls the class with these arguments
        self.diagnostics = tuple(diagnostics)

    def __str__(self) -> str:
        return render_all(self.diagnostics)


def warn(found: Sequence[Diagnostic]) -> None:
    """Issue warnings of a spec as a Python warning, at the first frame outside danetc.

    The command line prints it as it prints errors.
    """
    if not found:
        return
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and f"{frame.f_globals.get('__name__')}.".startswith("danetc."):
        frame, level = frame.f_back, level + 1
    warnings.warn(SpecWarning(found), stacklevel=level)


def show_diagnostics(diagnostics: Sequence[Diagnostic]) -> None:
    """Print up to 50 diagnostics to stderr, in colour on a terminal, with the number of all and a hint."""
    colour = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    echo(render_all(diagnostics[:50], colour=colour) + "\n", err=True, styled=True)
    errors = (item.code for item in diagnostics if item.severity == "error")
    code = next(errors, diagnostics[0].code)
    echo(f"{counted(diagnostics)}; `danetc explain {code}` tells more", err=True)


def counted(diagnostics: Sequence[Diagnostic]) -> str:
    """Return a text like ``2 errors, 1 warning``."""
    counts = sorted(Counter(item.severity for item in diagnostics).items())
    return ", ".join(f"{count} {severity}{'s' * (count != 1)}" for severity, count in counts)
