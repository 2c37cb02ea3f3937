"""Progress of kernel compilation: ``compiling 14 kernels, 3 done``.

The first step of a model may compile for minutes. By default a line on standard error reports it: one that
counts on a terminal, a plain one elsewhere. A program with a display of its own redirects the reports
(``announced_by``).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from danetc.runtime.system.torchrun import is_first

if TYPE_CHECKING:
    from rich.progress import Progress


class Announcer:
    """Is told of kernels that are compiled; ignores it. An exception ends the compilation."""

    def begin(self, total: int | None) -> None:
        """Compilation of ``total`` kernels begins; None if their number is not known."""

    def compiled(self, done: int) -> None:
        """``done`` kernels are compiled."""

    def end(self) -> None:
        """Compilation has ended, possibly by an error."""


Silent = Announcer


def words(total: int | None, done: int) -> str:
    """Return ``compiling 14 kernels, 3 done``."""
    what = "kernels" if total is None else f"{total} kernel{'' if total == 1 else 's'}"
    return f"compiling {what}, {done} done"


class OnBar(Announcer):
    """Shows a line of its own on a progress display of rich."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._task: Any = None
        self._total: int | None = None

    def begin(self, total: int | None) -> None:
        self._total = total
        # The display's columns may refer to fields of its own tasks.
        self._task = self._bar.add_task(words(total, 0), total=total, figures="", unit="")

    def compiled(self, done: int) -> None:
        self._bar.update(self._task, completed=done, description=words(self._total, done))

    def end(self) -> None:
        if self._task is not None:
            self._bar.remove_task(self._task)
            self._task = None


class OnStandardError(Announcer):
    """The default: a progress display on a terminal, elsewhere a line at the beginning."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._line = Announcer()
        self._is_announced = False

    def begin(self, total: int | None) -> None:
        if sys.stderr is None:  # a program without a console
            return
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress, TextColumn, TimeElapsedColumn

            columns = (TextColumn("{task.description}"), TimeElapsedColumn())
            self._bar = Progress(*columns, console=Console(file=sys.stderr), transient=True)
            self._bar.start()
            self._line = OnBar(self._bar)
            self._line.begin(total)
        elif total is not None or not self._is_announced:  # kernels found one by one: say it once
            self._is_announced |= total is None
            text = words(total, 0).partition(",")[0]
            print(f"note: {text}", file=sys.stderr, flush=True)

    def compiled(self, done: int) -> None:
        self._line.compiled(done)

    def end(self) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._bar, self._line = None, Announcer()


_announcer: Announcer = OnStandardError()


def announcer() -> Announcer:
    """Return the current announcer; a silent one in processes of a training other than rank 0."""
    return _announcer if is_first() else Silent()


@contextmanager
def announced_by(other: Announcer) -> Iterator[None]:
    """Report to ``other`` within the context, in all threads."""
    global _announcer
    before, _announcer = _announcer, other
    try:
        yield
    finally:
        _announcer = before


@contextmanager
def announced_on(bar: Progress, *, silent: bool) -> Iterator[None]:
    """Report on a display of rich; if that is disabled, on standard error unless ``silent``."""
    plain = Silent() if silent else OnStandardError()
    with announced_by(plain if bar.disable else OnBar(bar)):
        yield
