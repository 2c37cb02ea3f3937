"""How the compilation of kernels shows itself: as ``compiling 14 kernels, 3 done``.

A first step may compile for minutes, in a process that never asked for it. By default a line on
standard error tells of it: one that counts on a terminal, a plain one elsewhere. A program that has
a display of its own takes the news instead (``announced_by``).
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from danetc.runtime.system.torchrun import is_first

if TYPE_CHECKING:
    from rich.progress import Progress


class Announcer(Protocol):
    """Is notified of kernels that are compiled one after the other. What it raises ends that."""

    def begin(self, total: int | None) -> None:
        """So many begin; None where their number is not known."""

    def compiled(self, done: int) -> None:
        """So many of them are done."""

    def end(self) -> None:
        """It is over, also after an error."""


def words(total: int | None, done: int) -> str:
    """``compiling 14 kernels, 3 done``."""
    what = "kernels" if total is None else f"{total} kernel{'' if total == 1 else 's'}"
    return f"compiling {what}, {done} done"


class Silent:
    """Says nothing."""

    def begin(self, total: int | None) -> None:
        pass

    def compiled(self, done: int) -> None:
        pass

    def end(self) -> None:
        pass


class OnBar:
    """Announces on a progress display of rich, as a line of its own for as long as it takes."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._task: Any = None
        self._total: int | None = None

    def begin(self, total: int | None) -> None:
        self._total = total
        # Columns of the display may show fields that its own tasks have.
        self._task = self._bar.add_task(words(total, 0), total=total, figures="", unit="")

    def compiled(self, done: int) -> None:
        self._bar.update(self._task, completed=done, description=words(self._total, done))

    def end(self) -> None:
        if self._task is not None:
            self._bar.remove_task(self._task)
            self._task = None


class OnStandardError:
    """The default: a display of its own on a terminal; elsewhere a line when it begins."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._line: OnBar | None = None
        self._said_some = False

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
        elif total is not None:
            self._say(f"compiling {total} kernel{'' if total == 1 else 's'}")
        elif not self._said_some:  # one by one: once is enough
            self._said_some = True
            self._say("compiling kernels")

    def compiled(self, done: int) -> None:
        if self._line is not None:
            self._line.compiled(done)

    def end(self) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._bar = self._line = None

    @staticmethod
    def _say(text: str) -> None:
        print(f"note: {text}", file=sys.stderr, flush=True)


_announcer: Announcer = OnStandardError()


def announcer() -> Announcer:
    """Whom to notify. Of the processes of a training, rank 0 alone prints."""
    return _announcer if is_first() else Silent()


@contextmanager
def announced_by(other: Announcer) -> Iterator[None]:
    """Notify ``other`` of the kernels that are compiled meanwhile, in all threads."""
    global _announcer
    before, _announcer = _announcer, other
    try:
        yield
    finally:
        _announcer = before


@contextmanager
def announced_on(bar: Progress, *, silent: bool) -> Iterator[None]:
    """Have a display of rich announce; where it is off, standard error does unless ``silent``."""
    if not bar.disable:
        chosen: Announcer = OnBar(bar)
    else:
        chosen = Silent() if silent else OnStandardError()
    with announced_by(chosen):
        yield
