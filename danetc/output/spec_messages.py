"""Errors and warnings of specs, printed to stderr or as Python warnings."""

from __future__ import annotations

import os
import sys
import warnings
from collections import Counter
from collections.abc import Sequence

from danetc.dsl.diagnostics.diagnostic import Diagnostic, render_all
from danetc.output.echo import echo, echo_diagnostics

DENIED = "a warning makes the status 1 (--deny-warnings)"


class SpecWarning(UserWarning):
    """Suspicious code in a spec that builds; ``diagnostics`` have the messages and the places."""

    def __init__(self, diagnostics: Sequence[Diagnostic]) -> None:
        super().__init__(diagnostics)  # pickle creates it from its arguments
        self.diagnostics = tuple(diagnostics)

    def __str__(self) -> str:
        return render_all(self.diagnostics)


def warn(found: Sequence[Diagnostic]) -> None:
    """Issue warnings of a spec as a Python warning, at the first frame outside danetc.

    The command line prints it as it prints errors, and ``--deny-warnings`` turns it into one.
    """
    if not found:
        return
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and f"{frame.f_globals.get('__name__')}.".startswith("danetc."):
        frame, level = frame.f_back, level + 1
    warnings.warn(SpecWarning(found), stacklevel=level)


MOST_SHOWN = 50
"""Largest number of diagnostics that are printed; all of them are counted."""


def show(diagnostics: Sequence[Diagnostic]) -> None:
    """Print diagnostics to stderr, in colour on a terminal, with their number and a hint."""
    colour = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    echo_diagnostics(diagnostics[:MOST_SHOWN], colour=colour)
    code = next((item.code for item in diagnostics if item.severity == "error"), None)
    code = code or diagnostics[0].code
    more = f" (the first {MOST_SHOWN} are shown)" if len(diagnostics) > MOST_SHOWN else ""
    echo(f"{counted(diagnostics)}{more}; `danetc explain {code}` tells more", err=True)


def counted(diagnostics: Sequence[Diagnostic]) -> str:
    """Return a text like ``2 errors, 1 warning``."""
    counts = Counter(item.severity for item in diagnostics)
    return ", ".join(
        f"{counts[severity]} {severity}{'' if counts[severity] == 1 else 's'}"
        for severity in ("error", "warning")
        if counts[severity]
    )
