"""Notes on kernels that are compiled: ``note: compiling 14 kernels``. On a GPU, that may take minutes."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from danetc.runtime.system.torchrun import is_first

_is_silent = False
_has_told_of_some = False


def announce(total: int | None) -> None:
    """Say that ``total`` kernels are compiled; once if their number is not known."""
    global _has_told_of_some
    if total is not None or not _has_told_of_some:
        _has_told_of_some |= total is None
        what = "kernels" if total is None else f"{total} kernel{'s' * (total != 1)}"
        say(f"note: compiling {what}")


def say(note: str) -> None:
    """Print a note on standard error. Of several processes of a training, the first one does."""
    if not _is_silent and is_first() and sys.stderr is not None:
        print(note, file=sys.stderr, flush=True)


@contextmanager
def unannounced(silent: bool = True) -> Iterator[None]:
    """Say nothing of kernels within the context, in all threads."""
    global _is_silent
    before, _is_silent = _is_silent, _is_silent or silent
    try:
        yield
    finally:
        _is_silent = before
