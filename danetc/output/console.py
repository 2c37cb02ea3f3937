"""Consoles and progress bars of rich."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.segment import Segment

from danetc.dsl.diagnostics.visible import visible_lines
from danetc.runtime.kernels.announcing import unannounced


class VisibleConsole(Console):
    """Console that prints no markup, emoji codes or control sequences, except those of rich."""

    def __init__(self, file: TextIO, width: int | None = None) -> None:
        super().__init__(file=file, width=width, markup=False, emoji=False, highlight=False)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(visible_lines(segment.text), segment.style)


def terminal_bar(
    *columns: str | ProgressColumn, stream: TextIO, hidden: bool = False, expand: bool = False
) -> Progress:
    """Return a bar of these columns, which is shown only on a terminal and removed at its end."""
    return Progress(
        *columns,
        console=VisibleConsole(stream),
        disable=hidden or not stream.isatty(),
        expand=expand,
        transient=True,
    )


@contextmanager
def image_bar(label: str, images: int, *, silent: bool = False) -> Iterator[Callable[[int], None]]:
    """Show a bar over images on a terminal's standard error; yield its function of the size of a batch.

    Kernels that are compiled meanwhile are announced. If ``silent``, nothing is shown.
    """
    with (
        terminal_bar(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"),
            TimeRemainingColumn(),
            stream=sys.stderr,
            hidden=silent,
        ) as progress,
        unannounced(silent),
    ):
        task = progress.add_task(label, total=images, unit="images")
        yield lambda count: progress.advance(task, count)


def shows_progress(asked: bool | None) -> bool:
    """Return whether a function shows its progress: as asked, by default in the kernel of a notebook."""
    if asked is not None:
        return asked
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")
