"""Progress in a notebook: a bar and a table that grow in the output of the cell."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from html import escape
from types import TracebackType
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
    """Whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")


class CellOutput:
    """A piece of the cell's output that can be replaced."""

    def __init__(self) -> None:
        self._handle: Any = None
        self._shown = -PAUSE

    def show(self, html: str, *, now: bool = True) -> None:
        """Replace it; where that is not asked for ``now``, only if the last time is a while ago."""
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
    """A bar over images, gone when they are done."""
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
    """Observes a training: a row for each epoch, and a bar over the batches of the phase."""

    def __init__(self) -> None:
        self._output = CellOutput()
        self._rows: list[tuple[str, ...]] = []
        self._notes: list[str] = []
        self._plan: PhasePlan | None = None
        self._bar = ""
        self._stack = ExitStack()

    def __enter__(self) -> NotebookProgress:
        self._stack.enter_context(announced_by(Silent()))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
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
        self._rows.append(
            (
                epoch.phase,
                str(epoch.epoch),
                f"{epoch.learning_rate:.2e}",
                f"{epoch.train_loss:.4f}",
                percent(epoch.train_accuracy),
                f"{epoch.test_loss:.4f}",
                percent(epoch.test_accuracy),
                f"{epoch.images_per_second:,.0f}",
                f"{epoch.seconds:.1f}",
            )
        )
        for warning in epoch.warnings:
            self.note(f"warning: {warning}")
        self._show()

    def notice(self, text: str) -> None:
        self.note(text)

    def note(self, text: str) -> None:
        if text not in self._notes:
            self._notes.append(text)
            self._show()

    def _show(self, *, now: bool = True) -> None:
        notes = "".join(f"<p>{escape(visible(note))}</p>" for note in self._notes)
        table = ""
        if self._rows:
            head = "".join(f"<th>{name}</th>" for name in HEADS)
            rows = "".join(
                f"<tr>{''.join(f'<td>{escape(visible(cell))}</td>' for cell in row)}</tr>"
                for row in self._rows
            )
            table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        self._output.show(table + self._bar + notes, now=now)
