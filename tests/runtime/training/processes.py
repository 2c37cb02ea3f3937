"""Trainings in processes of their own, alone or in a group, to be killed at a step."""

from __future__ import annotations

import multiprocessing as mp
import os
import signal
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

import danetc
from danetc.runtime.data.dataset import DataSet, Memory, Samples, Source
from danetc.runtime.kernels import compiled as compiler
from danetc.runtime.system.errors import DataError, TrainingError, UnreadableError
from danetc.runtime.training import distributed
from danetc.runtime.training.checkpoints import Checkpoints
from danetc.runtime.training.distributed import joined
from danetc.runtime.training.engine import PhaseRun, fit
from danetc.runtime.training.observer import RunSettings
from danetc.runtime.training.signals import Stopped, StopRequest
from tests.forked import as_rank, forked, free_port
from tests.runtime.training.common import NETWORK, TIMES, Watcher, digits, phase

KILLED = -signal.SIGKILL
NOISY = (NETWORK % "mean_over_time -> dropout(0.3) ->").replace("= LIF", "= LIF(v_threshold = 0.2)")
"""A network that draws random numbers in training, of which there are spikes to see."""
UNLIKE = (*TIMES, "warnings")
"""The figures of an epoch that are not compared."""


@dataclass(frozen=True)
class Job:
    """A training under ``folder``, whose checkpoints it goes on from. ``at`` says what happens to
    which rank after how many steps of this process: a signal that it sends itself.
    """

    folder: Path
    body: str
    text: str = NOISY
    seed: int = 3
    double: bool = False
    images: int = 200
    infinite: int | None = None  # an image that is not finite
    hole: int | None = None  # an image that cannot be read
    compiled: bool = False  # as people run it; a process takes a second to load kernels
    at: tuple[int, int, int] | None = None  # rank, step, signal
    settings: dict[str, Any] = field(default_factory=dict)

    def with_signal(self, rank: int, step: int, signum: int = signal.SIGKILL) -> Job:
        return replace(self, at=(rank, step, signum))

    def result(self, rank: int = 0) -> dict[str, Any]:
        """What a process that has ended well has left."""
        found: dict[str, Any] = torch.load(self.folder / f"result-{rank}.pt", weights_only=True)
        return found

    def said(self, rank: int = 0) -> str:
        return (self.folder / f"stderr-{rank}").read_text()


class _Signaller(StopRequest):
    """Is asked after each step, and then sends its own process a signal."""

    def __init__(self, at: tuple[int, int, int] | None, rank: int) -> None:
        super().__init__()
        self._left = at[1] if at is not None and at[0] == rank else -1
        self._signum = at[2] if at is not None else 0

    @property
    def wanted(self) -> bool:
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), self._signum)
        return self.signal is not None


def train(job: Job, rank: int = 0) -> None:
    """What a process does: a phase from the newest checkpoint on. Leaves its result on disk."""
    watcher = Watcher()
    model = danetc.build(text=job.text, seed=1)
    chosen = phase(job.body)
    settings = RunSettings(seed=job.seed, **job.settings)
    with joined(DataError, TrainingError, Stopped) as world:
        checkpoints = Checkpoints(
            job.folder / "checkpoints",
            watcher.notices.append,
            lambda path: watcher.kinds.append(path.name),
        )
        with _Signaller(job.at, world.rank) as stop:
            model = model.double() if job.double else model
            kept = checkpoints if world.first else None
            run = PhaseRun(model, _data(job), chosen, settings, watcher, world, kept, stop)
            fit(run, world.on_first(checkpoints.latest))
    figures = [{k: v for k, v in row.items() if k not in UNLIKE} for row in run.history]
    result = {
        "weights": dict(run.weights),
        "figures": figures,
        "notices": watcher.notices,
        "steps": len(watcher.steps),
        "communication": [row["shares"]["communication"] for row in run.history],
    }
    torch.save(result, job.folder / f"result-{rank}.pt")


@dataclass(frozen=True, eq=False)
class Holed:
    """Reads samples of which one cannot be read."""

    source: Source
    hole: int

    def read(self, number: int) -> tuple[torch.Tensor, None]:
        if number == self.hole:
            raise UnreadableError(f"{self.where(number)} cannot be read")
        return self.source[number][0], None

    def where(self, number: int) -> str:
        return f"image {number}"


def _data(job: Job) -> DataSet:
    data = digits(job.images)
    if job.hole is not None:
        train = data.train
        samples = Samples(Holed(train, job.hole), train.labels, torch.arange(len(train)))
        return replace(data, train=samples)
    if job.infinite is None:
        return data
    images = data.train.images.float()
    images[job.infinite] = torch.inf
    return replace(data, train=Memory(images, data.train.labels))


def start(job: Job, world: int = 1) -> list[Any]:
    """Processes that train together."""
    job.folder.mkdir(parents=True, exist_ok=True)
    context, port = forked(), free_port()
    group = [context.Process(target=_main, args=(job, rank, world, port)) for rank in range(world)]
    for process in group:
        process.start()
    return group


def together(job: Job, world: int = 1, timeout: float = 120) -> list[int]:
    """Train in so many processes; the status of each."""
    group = start(job, world)
    for process in group:
        process.join(timeout)
        if process.exitcode is None:
            for each in group:
                each.kill()
            raise AssertionError(f"the processes are stuck: {[p.exitcode for p in group]}")
    return [process.exitcode for process in group]


def _main(job: Job, rank: int, world: int, port: int) -> None:
    compiler.COMPILE, distributed.GRACE = job.compiled, 0.1
    mp.set_start_method("fork", force=True)  # of loaders, as in a process that a shell has started
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
