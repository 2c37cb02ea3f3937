"""Training in separate processes, alone or in a group, which can be killed at a step."""

from __future__ import annotations

import multiprocessing as mp
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import torch

import danetc
from danetc.runtime.data.dataset import DataSet
from danetc.runtime.kernels import compiled as compiler
from danetc.runtime.system.errors import DataError, TrainingError
from danetc.runtime.training import distributed
from danetc.runtime.training.checkpoints import Checkpoints
from danetc.runtime.training.distributed import joined
from danetc.runtime.training.engine import PhaseRun, fit
from danetc.runtime.training.observer import RunSettings
from danetc.runtime.training.signals import Stopped, StopRequest
from tests.forked import as_rank, forked, free_port
from tests.runtime.training.common import STILL, TIMES, digits, phase, told

KILLED = -signal.SIGKILL
NOISY = STILL.replace("mean_over_time", "mean_over_time -> dropout(0.3)").replace(
    "= LIF", "= LIF(v_threshold = 0.2)"
)
"""A network that draws random numbers in training and whose neurons fire."""
UNLIKE = (*TIMES, "warnings")
"""The figures of an epoch that are not compared."""


@dataclass(frozen=True)
class Job:
    """A training in ``folder``, which resumes from the checkpoints there. ``at`` names a rank and a
    signal that this process sends itself after so many steps.
    """

    folder: Path
    body: str
    text: str = NOISY
    data: Callable[[], DataSet] = digits
    double: bool = False
    compiled: bool = False  # as users run it; loading kernels takes a second per process
    at: tuple[int, int, int] = (-1, 0, 0)  # rank, step, signal
    grace: float = 0.1
    settings: dict[str, Any] = field(default_factory=dict)

    def with_signal(self, rank: int, step: int, signum: int = signal.SIGKILL) -> Job:
        return replace(self, at=(rank, step, signum))

    def result(self, rank: int = 0) -> dict[str, Any]:
        found: dict[str, Any] = torch.load(self.folder / f"result-{rank}.pt", weights_only=True)
        return found

    def said(self, rank: int = 0) -> str:
        return (self.folder / f"stderr-{rank}").read_text()


class _Signaller(StopRequest):
    """Sends its own process a signal at the given one of its checks."""

    def __init__(self, at: tuple[int, int, int], rank: int) -> None:
        super().__init__()
        self._left = at[1] if at[0] == rank else -1
        self._signum = at[2]

    @property
    def wanted(self) -> bool:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), self._signum)
        return self.signal is not None


def train(job: Job, rank: int = 0) -> None:
    """Train a phase from the newest checkpoint in this process, and write the result to disk."""
    observer, notices = Mock(), list[str]()
    model = danetc.build(text=job.text, seed=1)
    model = model.double() if job.double else model
    settings = RunSettings(seed=3, **job.settings)
    with joined(DataError, TrainingError, Stopped) as world:
        checkpoints = Checkpoints(job.folder / "checkpoints", notices.append, lambda path: None)
        with _Signaller(job.at, world.rank) as stop:
            kept = checkpoints if world.first else None
            run = PhaseRun(
                model, job.data(), phase(job.body), settings, observer, world, kept, stop
            )
            fit(run, world.on_first(checkpoints.latest))
    result = {
        "weights": dict(run.weights),
        "figures": [{k: v for k, v in row.items() if k not in UNLIKE} for row in run.history],
        "notices": [*notices, *told(observer, "notice")],
        "steps": observer.on_step_end.call_count,
        "communication": [row["shares"]["communication"] for row in run.history],
    }
    torch.save(result, job.folder / f"result-{rank}.pt")


def together(job: Job, world: int = 1) -> list[int]:
    """Train in ``world`` processes and return their exit codes."""
    job.folder.mkdir(parents=True, exist_ok=True)
    context, port = forked(), free_port()
    group = [context.Process(target=_main, args=(job, rank, world, port)) for rank in range(world)]
    for process in group:
        process.start()
    for process in group:
        process.join(120)
        if process.exitcode is None:
            for each in group:
                each.kill()
            raise AssertionError(f"the processes are stuck: {[p.exitcode for p in group]}")
    return [process.exitcode for process in group]


def _main(job: Job, rank: int, world: int, port: int) -> None:
    compiler.COMPILE, distributed.GRACE = job.compiled, job.grace
    mp.set_start_method("fork", force=True)  # for loaders, as in a process started by a shell
    if world > 1:
        as_rank(rank, world, port)
    torch.set_num_threads(1)
    log = os.open(job.folder / f"stderr-{rank}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 2)
    try:
        train(job, rank)
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        sys.exit(stopped.status)
