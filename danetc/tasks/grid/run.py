"""Training of the runs of a grid, several at a time, with a progress display.

The output of a run is written to ``log-seed-K.txt`` next to its directory. A failed run does not stop
the others.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import suppress
from contextvars import copy_context
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from threading import Lock
from typing import Any, Literal

from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn

from danetc.errors import UserError
from danetc.output.console import terminal_bar
from danetc.output.echo import echo
from danetc.requests import GridRequest
from danetc.runtime.system.files import append_own, save_record
from danetc.runtime.training.signals import BY_CODE, StopRequest
from danetc.tasks.grid.engines import Engine
from danetc.tasks.grid.plan import GridRun
from danetc.tasks.grid.results import FORMAT
from danetc.tasks.model_directory import GRID, TRAINING
from danetc.tasks.training.progress import show_time


@dataclass(frozen=True)
class Outcome:
    """Outcome of a run; ``waiting`` if it has not started or was stopped."""

    state: Literal["waiting", "done", "failed"]
    error: str | None = None
    seconds: float = 0.0


class GridRecord:
    """The grid.json of a request's folder: the cells of all runs, with their outcomes so far.

    ``cells`` are those of an earlier record. ``keep`` may be called by several threads.
    """

    def __init__(self, request: GridRequest, cells: Iterable[Mapping[str, Any]] = ()) -> None:
        self._folder, self._lock = request.folder, Lock()
        axes = ["network", *(axis.name for axis in request.axes)]
        self._head = {
            "format": FORMAT,
            "danetc": version("danetc"),
            "data": request.data,
            "axes": axes,
            **({"select_on": "test"} if request.select_on == "test" else {}),
        }
        self._cells = {cell["name"]: dict(cell) for cell in cells}

    @classmethod
    def of(cls, request: GridRequest, runs: Iterable[GridRun]) -> GridRecord:
        """Return the record of these runs before they are trained."""
        record = cls(request)
        for run in runs:
            record.add(run, Outcome("done" if run.state == "done" else "waiting"))
        return record

    def add(self, run: GridRun, outcome: Outcome) -> None:
        """Set the outcome of a run."""
        cell = run.cell
        runs = {each["seed"]: each for each in self._cells.get(cell.name, {"runs": ()})["runs"]}
        runs[run.seed] = {
            "seed": run.seed,
            "directory": str(run.path.relative_to(self._folder)),
            "command": replace(run, state="new").request.command(),
            **asdict(outcome),
        }
        self._cells[cell.name] = {
            "name": cell.name,
            "spec": cell.request.spec,
            "axes": dict(cell.axes),
            "facts": dict(run.facts),
            "runs": list(runs.values()),
        }

    def as_dict(self) -> dict[str, Any]:
        return {**self._head, "cells": list(self._cells.values())}

    def save(self) -> None:
        save_record(self.as_dict(), self._folder / GRID)

    def keep(self, run: GridRun, outcome: Outcome) -> None:
        """Set the outcome of a run, and save the record."""
        with self._lock:
            self.add(run, outcome)
            self.save()


def train_run(
    run: GridRun, engine: Engine, stopping: Callable[[], bool], on_epoch: Callable[[int], object]
) -> Outcome:
    """Train a run until it ends, or until ``stopping`` returns True and its state is saved.

    ``on_epoch`` is called with the number of epochs on disk whenever their record has changed.
    """
    # The name must not match the pattern `grid/CELL/seed-*` of the directories of runs.
    log = run.path.with_name(f"log-{run.path.name}.txt")
    log.parent.mkdir(parents=True, exist_ok=True)
    with append_own(log) as stream:
        start = stream.seek(0, os.SEEK_END)
    seen = 0

    def look() -> bool:
        nonlocal seen
        # There may be no record yet, and a damaged one is written anew after the next epoch.
        with suppress(UserError, OSError):
            changed = (run.path / TRAINING).stat().st_mtime_ns
            if changed != seen:
                seen = changed
                on_epoch(run.epochs)
        return stopping()

    began = time.monotonic()
    status = engine.train(run, log, look)
    seconds = round(time.monotonic() - began, 1)
    stopped = look()
    if status == 0:
        return Outcome("done", None, seconds)
    if stopped and status in (128 + signal.SIGTERM, -signal.SIGTERM):
        return Outcome("waiting", None, seconds)
    with log.open("rb") as stream:
        stream.seek(start)
        text = stream.read().decode("utf-8", "replace")
    return Outcome("failed", _error(status, text.rstrip().splitlines()), seconds)


def _error(status: int | str, lines: Sequence[str]) -> str:
    """Return the error message of a failed run, from its exit status and its output."""
    own = [place for place, line in enumerate(lines) if line.startswith(("danetc: ", "error["))]
    text = "\n".join(lines[own[-1] :] if own else lines[-3:]).removeprefix("danetc: ")
    last = f"; its last message: {text}" if own else ""
    if isinstance(status, str):
        return f"{status}{last}"
    if status >= 0:
        return text or f"the process ended with status {status}"
    name = signal.Signals(-status).name
    memory = ", perhaps because memory ran out" if name == "SIGKILL" else ""
    return f"the process was killed by {name}{memory}{last}"


def in_parallel(tasks: Sequence[Callable[[], object]], jobs: int, stop: StopRequest) -> None:
    """Run tasks in order, ``jobs`` at a time, each in a thread.

    If a task raises or this thread is interrupted, the other tasks are stopped and waited for.
    """

    def run(task: Callable[[], object]) -> None:
        try:
            task()
        except BaseException:
            stop.signal = BY_CODE  # before this thread takes the next task
            raise

    with ThreadPoolExecutor(min(jobs, len(tasks) or 1)) as pool:
        waiting = {pool.submit(copy_context().run, run, task) for task in tasks}
        try:
            while waiting:
                done, waiting = wait(waiting, timeout=1.0, return_when=FIRST_COMPLETED)
                for each in done:
                    each.result()
        except BaseException:
            stop.signal = BY_CODE
            raise


class GridProgress:
    """Context manager that shows the progress of ``count`` runs, of which ``done`` have ended already.

    It prints to standard error: a bar on a terminal, otherwise a line for each run.
    """

    def __init__(self, count: int, done: int = 0, *, quiet: bool = False) -> None:
        self._count, self._over, self._quiet = count, done, quiet
        self._bar = terminal_bar(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            stream=sys.stderr,
            hidden=quiet,
        )
        self._bar.speed_estimate_period = float("inf")
        self._whole = self._bar.add_task("runs", total=count, completed=done)
        self._tasks: dict[Path, TaskID] = {}

    def __enter__(self) -> GridProgress:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def started(self, run: GridRun, number: int) -> None:
        self._tasks[run.path] = self._bar.add_task(f"{_name(run)}, epochs", total=run.total)
        self._say(f"[{number}/{self._count}] {_name(run)}")

    def moved(self, run: GridRun, epochs: int) -> None:
        self._bar.update(self._tasks[run.path], completed=epochs)
        shares = (each.percentage / 100 for each in self._bar.tasks if each.id != self._whole)
        self._bar.update(self._whole, completed=self._over + sum(shares))

    def ended(self, run: GridRun, number: int, outcome: Outcome) -> None:
        self._bar.remove_task(self._tasks.pop(run.path))
        match outcome.state:
            case "done":
                text = f"done in {show_time(outcome.seconds)}"
            case "waiting":
                text = f"{outcome.error or 'stopped'}, its state is saved"
            case "failed":
                text = f"failed: {outcome.error}"
        self.passed(f"[{number}/{self._count}] {_name(run)}: {text}")

    def passed(self, line: str) -> None:
        """Count a run that has ended, and print a line about it."""
        self._over += 1
        self._bar.update(self._whole, completed=self._over)
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
