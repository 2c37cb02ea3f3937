"""Progress of a training, as a progress bar on a terminal or as lines of text, and its results."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TextIO

from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.table import Column

from danetc.output.console import terminal_bar
from danetc.output.echo import echo, note
from danetc.output.figures import percent, scores
from danetc.output.table import print_table
from danetc.runtime.training.observer import Callback

if TYPE_CHECKING:
    from danetc.runtime.training.observer import Epoch, PhasePlan, StepReport

QUIET = 60.0
"""Minimum number of seconds between two lines about the progress of an epoch."""


class TrainingProgress(Callback):
    """Prints a line for each epoch, and shows the progress within an epoch.

    On a terminal, this is a progress bar over all batches; elsewhere, a line every ``every``
    seconds. A context manager, which removes the bar at the end.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        quiet: bool = False,
        every: float = QUIET,
    ) -> None:
        self._stream = stream = sys.stdout if stream is None else stream
        self._quiet = quiet
        self._bar = terminal_bar(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}", markup=False, table_column=Column(no_wrap=True)),
            TimeRemainingColumn(table_column=Column(no_wrap=True, min_width=7)),
            stream=stream,
            hidden=quiet,
            expand=True,
        )
        self._task = self._bar.add_task("", figures="", total=None)
        self._plan: PhasePlan | None = None
        self._began = self._said = time.monotonic()
        self._first: int | None = None  # step before the first of this process
        self._every = every
        self._warned: Sequence[str] = []

    def __enter__(self) -> TrainingProgress:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def on_phase_start(self, plan: PhasePlan) -> None:
        self._plan = plan
        self._first = plan.epoch * plan.steps + plan.step
        self._began = self._said = time.monotonic()
        total = plan.phase.epochs * plan.steps
        self._bar.reset(self._task, total=total, completed=self._first, figures="")
        if (run := plan.settings).trials > 1:
            self._say(f"trial {run.trial + 1} of {run.trials}, seed {run.seed}")

    def on_step_end(self, report: StepReport) -> None:
        figures = (
            f"loss {report.loss:.4f} top-1 {percent(report.top1, 1)} top-5 {percent(report.top5, 1)} "
            f"{report.images_per_second:,.0f} images/s"
        )
        if not self._bar.disable:
            where = f"{report.phase} {report.epoch}/{self._epochs}"
            self._bar.update(self._task, advance=1, description=where, figures=figures)
            return
        now = time.monotonic()
        if now - self._said >= self._every:
            self._said = now
            self._say(
                f"{report.phase} {report.epoch}/{self._epochs}  step {report.step}/{report.steps}  "
                f"{figures}  {self._left(report, now)}"
            )

    def on_test_batch(self, done: int, batches: int) -> None:
        if not self._bar.disable:
            self._bar.update(self._task, figures=f"evaluating: {done}/{batches}")

    def on_epoch_end(self, epoch: Epoch) -> None:
        self._said = time.monotonic()
        width = len(str(self._epochs))
        figures = (
            f"{split} loss {loss:.4f} top-1 {percent(top1, width=6)} top-5 {percent(top5, width=6)}  "
            + (f"{scores(more)}  " if more else "")
            for split, loss, top1, top5, more in epoch.evaluations()
        )
        self._say(
            f"{epoch.phase} {epoch.epoch:{width}}/{self._epochs}  lr {epoch.learning_rate:.2e}  "
            f"train loss {epoch.train_loss:.4f} top-1 {percent(epoch.train_accuracy, width=6)}  "
            f"{''.join(figures)}{epoch.images_per_second:,.0f} images/s  {epoch.seconds:.1f} s"
        )
        if epoch.warnings != self._warned:  # repeated warnings are printed once
            self._warned = epoch.warnings
            for warning in epoch.warnings:
                self._say(f"warning: {warning}")

    def on_notice(self, text: str) -> None:
        """Print a note on standard error, or above the bar."""
        if self._bar.disable:
            note(text)
        else:
            self._bar.console.print(f"note: {text}", soft_wrap=True)

    @property
    def _epochs(self) -> int:
        return self._plan.phase.epochs if self._plan is not None else 0

    def _left(self, report: StepReport, now: float) -> str:
        """Return the estimated time left in the phase."""
        assert self._plan is not None
        assert self._first is not None
        done = report.global_step - self._first
        rest = self._plan.phase.epochs * self._plan.steps - report.global_step
        return f"{show_time((now - self._began) / max(1, done) * rest)} left"

    def _say(self, line: str) -> None:
        if self._quiet:
            return
        if self._bar.disable:
            echo(line, file=self._stream)
            self._stream.flush()
        else:
            self._bar.console.print(line, soft_wrap=True)


def show_time(seconds: float) -> str:
    """Return a text such as ``0:03:20`` or ``2 days, 4:10:00``."""
    return str(timedelta(seconds=round(seconds)))


def result(record: Mapping[str, Any]) -> str:
    """Return a line with the accuracies; for trials, the mean and sample standard deviation."""
    if "trials" not in record:
        last = record["epochs"][-1]
        return "; ".join(
            _result(split, last[f"{split}_loss"], last[f"{split}_accuracy"], last.get(more))
            for split, more in (("test", "scores"), ("val", "val_scores"))
            if last.get(f"{split}_loss") is not None
        )
    if record["test_accuracy"] is None:
        return f"{len(record['trials'])} trials"
    accuracy = f"test accuracy {percent(record['test_accuracy'])}"
    spread = "" if record["deviation"] is None else f" ± {record['deviation']:.2%}"
    return f"{accuracy}{spread} over {len(record['trials'])} trials"


def _result(
    split: str, loss: float, accuracy: float | None, more: Mapping[str, float] | None
) -> str:
    """Return the accuracy on a split, or the loss if there is no accuracy, and other scores."""
    figure = f"loss {loss:.4f}" if accuracy is None else f"accuracy {percent(accuracy)}"
    return f"{split} {figure}" + (f", {scores(more)}" if more else "")


def print_trials(record: Mapping[str, Any]) -> None:
    """Print the accuracy of each trial, the mean and the standard deviation."""
    rows = [
        (str(trial["seed"]), percent(trial["test_accuracy"]), trial["directory"])
        for trial in record["trials"]
    ]
    rows.append(("mean", percent(record["test_accuracy"]), ""))
    if record["deviation"] is not None:
        rows.append(("deviation", f"{record['deviation']:.2%}", ""))
    echo()
    print_table(("seed", "test top-1", "directory"), rows, right={1})
