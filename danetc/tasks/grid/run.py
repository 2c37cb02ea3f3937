"""Training the cells of a grid, each run in a process of its own.

A run that fails ends alone: its error is noted and the others continue. Its output is in
``log-seed-K.txt`` beside its directory.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from danetc.errors import UserError
from danetc.model_directory import TRAINING
from danetc.runtime.system.machine import usable_cores
from danetc.tasks.grid.cells import show
from danetc.tasks.grid.plan import GridRun, epochs_of

if TYPE_CHECKING:
    from danetc.runtime.training.signals import StopRequest
    from danetc.tasks.training.request import TrainingRequest

POLL = 0.2
"""Seconds between two looks at the processes."""


@dataclass(frozen=True)
class Outcome:
    """What became of a run. ``waiting``: it was stopped, or has not begun."""

    state: Literal["waiting", "done", "failed"]
    error: str | None = None
    seconds: float = 0.0


class GridObserver(Protocol):
    """Is notified of the progress of the runs."""

    def started(self, run: GridRun, number: int) -> None: ...
    def moved(self, run: GridRun, epochs: int, total: int, left: float | None) -> None: ...
    def ended(self, run: GridRun, number: int, outcome: Outcome) -> None: ...


def train_all(
    runs: Sequence[GridRun],
    *,
    jobs: int,
    stop: StopRequest,
    shown: GridObserver,
    record: Callable[[GridRun, Outcome], None],
) -> None:
    """Train runs, ``jobs`` at a time, in their order. ``record`` gets each outcome at once.

    Returns when all are over, or those under way have saved their state after a signal.
    """
    clock = _Clock(runs)
    waiting = list(enumerate(runs, 1))
    active: list[_Process] = []
    threads = _threads(jobs)
    try:
        while active or (waiting and not stop.wanted):
            while waiting and len(active) < jobs and not stop.wanted:
                number, run = waiting.pop(0)
                active.append(_Process(run, number, threads))
                shown.started(run, number)
            if stop.wanted:
                for process in active:
                    process.ask_to_stop()
            for process in list(active):
                if process.has_moved():
                    clock.epochs[process.run.path] = process.epochs
                    total = sum(process.run.facts.epochs)
                    shown.moved(process.run, process.epochs, total, clock.left())
                outcome = process.outcome(stop.wanted)
                if outcome is not None:
                    active.remove(process)
                    clock.over(process.run)
                    record(process.run, outcome)
                    shown.ended(process.run, process.number, outcome)
            time.sleep(POLL)
    finally:  # whatever happened here, no training is left alone
        for process in active:
            process.ask_to_stop()
        for process in active:
            process.wait()


def train_arguments(run: GridRun) -> list[str]:
    """What stands behind ``danetc train`` for a run. It can be given by hand too."""
    request: TrainingRequest = run.cell.request
    arguments = ["--data", request.data, "-o", str(run.path), "--seed", str(run.seed)]
    for option, value in (
        ("--network", request.network),
        ("--recipe", request.recipe),
        ("--classes", request.classes),
        ("--subset-seed", request.subset_seed or None),
        ("--init", request.init),
        ("--backend", request.backend),
        ("--train-output", request.train_output),
        ("--memory", None if request.memory == "none" else request.memory),
        ("--on-unreadable", None if request.on_unreadable == "stop" else request.on_unreadable),
        *(("--allow-changed", name) for name in request.allow_changed),
    ):
        arguments += [] if value is None else [option, str(value)]
    for name, setting in request.settings.items():
        arguments += ["--set", f"{name}={show(setting)}"]
    arguments += ["--channels-last"] if request.channels_last else []
    arguments += [] if request.deterministic else ["--fastest"]
    if run.state == "changed":
        arguments += ["--fresh"] if request.fresh else ["--override"]
    return [*arguments, "--", request.spec]


def _threads(jobs: int) -> int | None:
    """Threads of each process where several share the cores and nothing else is said."""
    if jobs == 1 or "OMP_NUM_THREADS" in os.environ:
        return None
    return max(1, usable_cores() // jobs)


class _Process:
    """A run under way."""

    def __init__(self, run: GridRun, number: int, threads: int | None) -> None:
        self.run, self.number = run, number
        self.epochs = 0 if run.state == "changed" else epochs_of(run)
        self._seen = _changed_at(run.path)
        # Not seed-K.log: `danetc measure grid/CELL/seed-*` shall name runs alone.
        self._log = run.path.with_name(f"log-{run.path.name}.txt")
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self._began = time.monotonic()
        self._asked = False
        environment = dict(os.environ)
        if threads is not None:
            environment["OMP_NUM_THREADS"] = str(threads)
        with self._log.open("ab") as stream:
            self._start = stream.seek(0, os.SEEK_END)
            # Ctrl-C goes to this process alone, which asks the others to save and stop. The pipe
            # ends with this process even where it is killed, and the training with the pipe.
            self._child = subprocess.Popen(
                [sys.executable, "-m", "danetc.tasks.grid.process", *train_arguments(run)],
                stdin=subprocess.PIPE,
                stdout=stream,
                stderr=stream,
                env=environment,
                start_new_session=True,
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
            )

    def has_moved(self) -> bool:
        """Whether there are figures of another epoch since the last time."""
        changed = _changed_at(self.run.path)
        if changed == self._seen:
            return False
        self._seen = changed
        try:
            self.epochs = epochs_of(self.run)
        except UserError:
            return False  # the training writes the file anew after its next epoch
        return True

    def ask_to_stop(self) -> None:
        if not self._asked and self._child.poll() is None:
            self._asked = True
            self._hang_up()

    def _hang_up(self) -> None:
        """End the pipe that the training watches. (Windows has no SIGTERM to send.)"""
        assert self._child.stdin is not None
        self._child.stdin.close()

    def wait(self) -> None:
        self._child.wait()

    def outcome(self, stopping: bool) -> Outcome | None:
        """None while it runs."""
        status = self._child.poll()
        if status is None:
            return None
        self._hang_up()
        seconds = time.monotonic() - self._began
        if status == 0:
            return Outcome("done", None, seconds)
        if stopping and status in (128 + signal.SIGTERM, -signal.SIGTERM):
            return Outcome("waiting", None, seconds)
        return Outcome("failed", self._error(status), seconds)

    def _error(self, status: int) -> str:
        """What the process has said last."""
        with self._log.open("rb") as stream:
            stream.seek(self._start)
            lines = stream.read().decode("utf-8", "replace").rstrip().splitlines()
        own = [place for place, line in enumerate(lines) if line.startswith(("danetc: ", "error["))]
        text = "\n".join(lines[own[-1] :] if own else lines[-3:]).removeprefix("danetc: ")
        if status >= 0:
            return text or f"the process ended with status {status}"
        name = signal.Signals(-status).name
        memory = ", perhaps for want of memory" if name == "SIGKILL" else ""
        return f"the process was killed by {name}{memory}" + (f"; it said: {text}" if own else "")


def _changed_at(path: Path) -> int:
    try:
        return (path / TRAINING).stat().st_mtime_ns
    except OSError:
        return 0


@dataclass
class _Clock:
    """The time that is left, by the operations done since it was made."""

    runs: Sequence[GridRun]
    epochs: dict[Path, int] = field(default_factory=dict)
    _began: float = field(default_factory=time.monotonic)
    _first: dict[Path, int] = field(default_factory=dict)
    _over: set[Path] = field(default_factory=set)

    def __post_init__(self) -> None:
        for run in self.runs:
            self._first[run.path] = 0 if run.state == "changed" else epochs_of(run)

    def over(self, run: GridRun) -> None:
        self._over.add(run.path)

    def left(self) -> float | None:
        """Seconds. None before the first epoch."""
        done = left = 0.0
        for run in self.runs:
            first = self._first[run.path]
            now = max(first, self.epochs.get(run.path, first))
            each = run.facts.work / max(1, sum(run.facts.epochs))
            done += each * (now - first)
            if run.path not in self._over:
                left += each * (sum(run.facts.epochs) - now)
        return (time.monotonic() - self._began) / done * left if done else None


def as_record(outcome: Outcome) -> dict[str, Any]:
    return {"state": outcome.state, "error": outcome.error, "seconds": round(outcome.seconds, 1)}
