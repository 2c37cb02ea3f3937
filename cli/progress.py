"""How a training shows itself: a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from danetc.runtime.train import Epoch


class TrainingProgress:
    """Observes a training: one line for each epoch, and a bar over all batches on a terminal.

    A context manager: the bar is taken away on leaving, also by an exception.
    """

    def __init__(self, stream: TextIO | None = None, *, quiet: bool = False) -> None:
        stream = stream if stream is not None else sys.stdout
        self._stream = stream
        self._quiet = quiet
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}"),
            TimeRemainingColumn(),
            console=Console(file=stream),
            disable=quiet or not stream.isatty(),
            transient=True,
        )
        self._task = self._bar.add_task("", loss="-", total=None)
        self._phase = ""
        self._epochs = 0

    def __enter__(self) -> TrainingProgress:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def begin(self, phase: str, epochs: int, batches: int) -> None:
        self._phase, self._epochs = phase, epochs
        self._bar.reset(self._task, total=epochs * batches, loss="-")

    def batch(self, epoch: int, loss: float) -> None:
        description = f"{self._phase} {epoch}/{self._epochs}"
        self._bar.update(self._task, advance=1, description=description, loss=f"{loss:.4f}")

    def epoch(self, epoch: Epoch) -> None:
        width = len(str(self._epochs))
        self._say(
            f"{epoch.phase} {epoch.epoch:{width}}/{self._epochs}  lr {epoch.learning_rate:.2e}  "
            f"train loss {epoch.train_loss:.4f} acc {epoch.train_accuracy:6.2%}  "
            f"test loss {epoch.test_loss:.4f} acc {epoch.test_accuracy:6.2%}  "
            f"{epoch.seconds:.1f} s"
        )

    def _say(self, line: str) -> None:
        if self._quiet:
            return
        if self._bar.disable:
            click.echo(line, file=self._stream)
            self._stream.flush()
        else:
            self._bar.console.print(line, highlight=False, soft_wrap=True)
