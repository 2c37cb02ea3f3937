"""How a training shows itself: a progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

import click
from danetc.runtime.training.observer import Observer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from danetc.runtime.training.observer import Epoch, PhasePlan, StepReport


class TrainingProgress(Observer):
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
        self._warned: tuple[str, ...] = ()

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

    def begin(self, plan: PhasePlan) -> None:
        self._phase, self._epochs = plan.phase.name, plan.epochs
        done = plan.epoch * plan.steps + plan.step
        self._bar.reset(self._task, total=plan.epochs * plan.steps, completed=done, loss="-")

    def step(self, report: StepReport) -> None:
        description = f"{report.phase} {report.epoch}/{self._epochs}"
        self._bar.update(self._task, advance=1, description=description, loss=f"{report.loss:.4f}")

    def epoch(self, epoch: Epoch) -> None:
        width = len(str(self._epochs))
        self._say(
            f"{epoch.phase} {epoch.epoch:{width}}/{self._epochs}  lr {epoch.learning_rate:.2e}  "
            f"train loss {epoch.train_loss:.4f} acc {epoch.train_accuracy:6.2%}  "
            f"test loss {epoch.test_loss:.4f} acc {epoch.test_accuracy:6.2%}  "
            f"{epoch.seconds:.1f} s"
        )
        if epoch.warnings != self._warned:  # what stays as it is has been said
            self._warned = epoch.warnings
            for warning in epoch.warnings:
                self._say(f"warning: {warning}")

    def notice(self, text: str) -> None:
        self.note(text)

    def note(self, text: str) -> None:
        """Say something on standard error, above the bar where there is one."""
        if self._bar.disable:
            click.echo(f"note: {text}", err=True)
        else:
            self._bar.console.print(f"note: {text}", highlight=False, soft_wrap=True, markup=False)

    def _say(self, line: str) -> None:
        if self._quiet:
            return
        if self._bar.disable:
            click.echo(line, file=self._stream)
            self._stream.flush()
        else:
            self._bar.console.print(line, highlight=False, soft_wrap=True)
