"""Errors and warnings of specs, printed to stderr or as Python warnings."""

from __future__ import annotations

import os
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import field
from typing import TypeAlias

from danetc.dsl.diagnostics.diagnostic import Diagnostic, render
from danetc.dsl.record import record
from danetc.errors import UserError
from danetc.output.echo import echo, echo_diagnostics
from danetc.runtime.system.torchrun import is_first

DENIED = "a warning makes the status 1 (--deny-warnings)"


class SpecWarning(UserWarning):
    """Suspicious code in a spec that builds; ``diagnostic`` has the message and the place."""

    def __init__(self, diagnostic: Diagnostic) -> None:
        super().__init__(diagnostic)  # pickle creates it from its arguments
        self.diagnostic = diagnostic

    def __str__(self) -> str:
        return render(self.diagnostic)


Handler: TypeAlias = Callable[[Sequence[Diagnostic]], None]


def _as_python_warnings(found: Sequence[Diagnostic]) -> None:
    for item in found:
        warnings.warn(SpecWarning(item), stacklevel=_first_outside())


def _first_outside() -> int:
    """Return the stack level of the first frame outside danetc, seen from the caller."""
    frame = sys._getframe(1)
    level = 1
    while frame.f_back is not None and f"{frame.f_globals.get('__name__')}.".startswith("danetc."):
        frame, level = frame.f_back, level + 1
    return level


_handler: ContextVar[Handler] = ContextVar("_handler", default=_as_python_warnings)


def warn(found: Sequence[Diagnostic]) -> None:
    """Pass warnings of a spec to the handler: Python warnings, or that of ``handled_by``."""
    _handler.get()(found)


@contextmanager
def handled_by(handler: Handler) -> Iterator[None]:
    """Set the handler of ``warn`` inside the block."""
    token = _handler.set(handler)
    try:
        yield
    finally:
        _handler.reset(token)


@record(frozen=False)
class Printed:
    """Print warnings to stderr, each once, in the first of several processes.

    Raises UserError for any warning if ``deny`` is set.
    """

    deny: bool = False
    _seen: set[tuple[str, str, int, int]] = field(default_factory=set)

    def __call__(self, found: Sequence[Diagnostic]) -> None:
        new = []
        for item in found:
            key = (item.code, item.span.source.name, item.span.start, item.span.end)
            if key not in self._seen:
                self._seen.add(key)
                new.append(item)
        if new and is_first():
            show(new)
        if found and self.deny:
            raise UserError(DENIED)


def deny_warnings() -> None:
    """Make warnings that are printed from now on raise UserError."""
    handler = _handler.get()
    if isinstance(handler, Printed):
        handler.deny = True


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
