"""How a grid of trainings shows itself: a bar on a terminal, a line a run elsewhere."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn

from danetc.output.console import terminal_bar
from danetc.output.echo import echo
from danetc.tasks.training.progress import show_time

if TYPE_CHECKING:
    from types import TracebackType

    from danetc.tasks.grid.attempt import Outcome
    from danetc.tasks.grid.plan import GridRun


class GridProgress:
    """Says which run is trained, as the how many-th of ``count``, and the time that is left. ``done`` are over.

    Everything goes to standard error. A context manager: bars are taken away on leaving.
    """

    def __init__(self, count: int, done: int = 0, *, quiet: bool = False) -> None:
        self._count, self._quiet = count, quiet
        self._bar = terminal_bar(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[status]}", markup=False),
            stream=sys.stderr,
            hidden=quiet,
        )
        self._whole = self._bar.add_task("runs", total=count, completed=done, status="")
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> GridProgress:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def started(self, run: GridRun, number: int) -> None:
        name = _name(run)
        self._tasks[name] = self._bar.add_task(name, total=sum(run.facts.epochs), status="epochs")
        self._say(f"[{number}/{self._count}] {name}")

    def moved(self, run: GridRun, epochs: int, total: int, left: float | None) -> None:
        self._bar.update(self._tasks[_name(run)], completed=epochs, total=total)
        if left is not None:
            self._bar.update(self._whole, status=f"{show_time(left)} left")

    def ended(self, run: GridRun, number: int, outcome: Outcome) -> None:
        self._bar.remove_task(self._tasks.pop(_name(run)))
        self._bar.update(self._whole, advance=1)
        line = f"[{number}/{self._count}] {_name(run)}: "
        match outcome.state:
            case "done":
                line += f"done in {show_time(outcome.seconds)}"
            case "waiting":
                line += f"{outcome.error or 'stopped'}, its state is saved"
            case "failed":
                line += f"failed: {outcome.error}"
        self._say(line)

    def passed(self, line: str) -> None:
        """One is over that was not trained."""
        self._bar.update(self._whole, advance=1)
        self._say(line)

    def _say(self, line: str) -> None:
        if self._quiet:
            return
        if self._bar.disable:
            echo(line, err=True)
        else:
            self._bar.console.print(line, soft_wrap=True)


def _name(run: GridRun) -> str:
    return f"{run.cell.name} seed {run.seed}"
