"""Progress in a notebook: a bar and a table that grow in the output of the cell."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from html import escape
from typing import TYPE_CHECKING, Any

from danetc.dsl.diagnostics.visible import visible
from danetc.output.figures import percent
from danetc.runtime.kernels.announcing import Silent, announced_by
from danetc.runtime.training.observer import Observer

if TYPE_CHECKING:
    from danetc.runtime.training.observer import Epoch, PhasePlan, StepReport

PAUSE = 0.2
"""Seconds between two changes of an output: each is a message to the browser."""
HEADS = (
    "phase", "epoch", "learning rate", "train loss", "train top-1", "test loss", "test top-1",
    "images/s", "seconds",
)  # fmt: skip


def in_notebook() -> bool:
    """Return True if this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")


class CellOutput:
    """A part of the cell's output that can be replaced."""

    def __init__(self) -> None:
        self._handle: Any = None
        self._shown = -PAUSE

    def show(self, html: str, *, now: bool = True) -> None:
        """Replace it; unless ``now``, only if the last time is a while ago."""
        from IPython.display import HTML, display

        moment = time.monotonic()
        if not now and moment - self._shown < PAUSE:
            return
        self._shown = moment
        if self._handle is None:
            self._handle = display(HTML(html), display_id=True)
        else:
            self._handle.update(HTML(html))


def bar(done: int, total: int, text: str) -> str:
    share = f'<progress value="{done}" max="{max(total, 1)}"></progress>'
    return f"<p>{share} {done}/{total} {escape(visible(text))}</p>"


@contextmanager
def image_bar_of_notebook(label: str, images: int) -> Iterator[Callable[[int], None]]:
    """Show a bar over images until they are done."""
    output, done = CellOutput(), 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        output.show(bar(done, images, f"images, {label}"), now=False)

    with announced_by(Silent()):
        try:
            yield advance
        finally:
            output.show("")


class NotebookProgress(Observer):
    """Show a row for each epoch of a training, and a bar over the batches of the phase."""

    def __init__(self) -> None:
        self._output = CellOutput()
        self._rows: list[tuple[object, ...]] = []
        self._notes: list[str] = []
        self._plan: PhasePlan | None = None
        self._bar = ""
        self._stack = ExitStack()

    def __enter__(self) -> NotebookProgress:
        self._stack.enter_context(announced_by(Silent()))
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()
        self._bar = ""
        self._show()

    def begin(self, plan: PhasePlan) -> None:
        self._plan = plan
        self._show()

    def step(self, report: StepReport) -> None:
        assert self._plan is not None
        text = (
            f"{report.phase}, epoch {report.epoch} of {self._plan.epochs}: loss {report.loss:.4f}, "
            f"top-1 {percent(report.top1, 1)}, {report.images_per_second:,.0f} images/s"
        )
        self._bar = bar(report.global_step, self._plan.epochs * self._plan.steps, text)
        self._show(now=False)

    def testing(self, done: int, batches: int) -> None:
        self._bar = bar(done, batches, "batches tested")
        self._show(now=False)

    def epoch(self, epoch: Epoch) -> None:
        speed, seconds = f"{epoch.images_per_second:,.0f}", f"{epoch.seconds:.1f}"
        self._rows.append(
            (
                epoch.phase, epoch.epoch, f"{epoch.learning_rate:.2e}", epoch.train_loss,
                percent(epoch.train_accuracy), epoch.test_loss, percent(epoch.test_accuracy), speed,
                seconds,
            )
        )  # fmt: skip
        for warning in epoch.warnings:
            self.notice(f"warning: {warning}")
        self._show()

    def notice(self, text: str) -> None:
        if text not in self._notes:
            self._notes.append(text)
            self._show()

    note = notice

    def _show(self, *, now: bool = True) -> None:
        from danetc.output.returned import html_table

        notes = "".join(f"<p>{escape(visible(note))}</p>" for note in self._notes)
        table = html_table(HEADS, self._rows) if self._rows else ""
        self._output.show(table + self._bar + notes, now=now)
