"""A run of a grid under way, and what an engine that trains runs is.

All engines train a run by the same command in the same directory, so that one may resume what another began.
The run's output is in ``log-seed-K.txt`` beside its directory.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from danetc.dsl.syntax.overrides import override_text
from danetc.errors import UserError
from danetc.runtime.system.files import append_own
from danetc.tasks.grid.plan import GridRun, epochs_of
from danetc.tasks.model_directory import TRAINING

if TYPE_CHECKING:
    from danetc.tasks.training.request import TrainingRequest


@dataclass(frozen=True)
class Outcome:
    """What became of a run. ``waiting``: it was stopped, or has not begun."""

    state: Literal["waiting", "done", "failed"]
    error: str | None = None
    seconds: float = 0.0


class Engine(Protocol):
    """Where runs are trained, ``jobs`` at a time. ``close`` is called at the end, whatever happened."""

    @property
    def jobs(self) -> int: ...
    def start(self, run: GridRun, number: int) -> Attempt: ...
    def close(self) -> None: ...


class Attempt:
    """A run under way. An engine says how it is started, stopped and waited for."""

    def __init__(self, run: GridRun, number: int) -> None:
        self.run, self.number = run, number
        self.epochs = 0 if run.state == "changed" else epochs_of(run)
        self._seen = _changed_at(run.path)
        # Not seed-K.log: `danetc measure grid/CELL/seed-*` shall name runs alone.
        self.log = run.path.with_name(f"log-{run.path.name}.txt")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with append_own(self.log) as stream:
            self._start = stream.seek(0, os.SEEK_END)
        self._began = time.monotonic()

    def ask_to_stop(self) -> None:
        """Have it save its state and end."""
        raise NotImplementedError

    def wait(self) -> None:
        """Until it has ended."""
        raise NotImplementedError

    def status(self) -> int | str | None:
        """How it ended: the exit status of its process, or what became of it; None while it runs."""
        raise NotImplementedError

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

    def outcome(self, stopping: bool) -> Outcome | None:
        """None while it runs."""
        status = self.status()
        if status is None:
            return None
        seconds = time.monotonic() - self._began
        if status == 0:
            return Outcome("done", None, seconds)
        if stopping and status in (128 + signal.SIGTERM, -signal.SIGTERM):
            return Outcome("waiting", None, seconds)
        return Outcome("failed", self._error(status), seconds)

    def _error(self, status: int | str) -> str:
        """What the process has said last."""
        with self.log.open("rb") as stream:
            stream.seek(self._start)
            lines = stream.read().decode("utf-8", "replace").rstrip().splitlines()
        own = [place for place, line in enumerate(lines) if line.startswith(("danetc: ", "error["))]
        text = "\n".join(lines[own[-1] :] if own else lines[-3:]).removeprefix("danetc: ")
        said = f"; it said: {text}" if own else ""
        if isinstance(status, str):
            return f"{status}{said}"
        if status >= 0:
            return text or f"the process ended with status {status}"
        name = signal.Signals(-status).name
        memory = ", perhaps for want of memory" if name == "SIGKILL" else ""
        return f"the process was killed by {name}{memory}{said}"


def _changed_at(path: Path) -> int:
    try:
        return (path / TRAINING).stat().st_mtime_ns
    except OSError:
        return 0


def process(arguments: Sequence[str]) -> list[str]:
    """The command of the process that trains a run. It imports nothing from the working directory
    (-P), which may be a stranger's."""
    return [sys.executable, "-P", "-m", "danetc.tasks.grid.process", *arguments]


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
        arguments += ["--set", f"{name}={override_text(setting)}"]
    arguments += ["--channels-last"] if request.channels_last else []
    arguments += [] if request.deterministic else ["--fastest"]
    if run.state == "changed":
        arguments += ["--fresh"] if request.fresh else ["--override"]
    return [*arguments, "--", request.spec]
