"""``danetc train --dry-run``: what a training would be, and how long it would take.

Nothing is written. The plan is that of the training itself; the time is that of a few real steps of
its loop, on its data, with its processes.
"""

from __future__ import annotations

import signal
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from danetc.compiler.memory import predict, show_size
from danetc.memory import DTYPES, PREDICTED, optimizer_of
from danetc.runtime.augment import image_transform
from danetc.runtime.data import Batches
from danetc.runtime.training.distributed import World, split_evenly
from danetc.runtime.training.engine import fit
from danetc.runtime.training.observer import Observer, PhasePlan, StepReport
from danetc.runtime.training.optim import schedule
from danetc.runtime.training.signals import Stopped, StopRequest
from danetc.training.directory import state_of
from danetc.training.plan import Note, Plan, Request, with_steps
from danetc.training.trials import Trial, with_plan

if TYPE_CHECKING:
    from danetc.dsl.recipe import Phase

TIMED = 10
WARM = 2
"""Steps that are taken first and not timed: kernels are compiled, memory is found."""
SECONDS = 120.0
"""After so many no further step is timed: where a step takes minutes, a few have to do."""
SAMPLES = 256
"""Points of a phase's schedule."""

Record = dict[str, Any]


def dry_run(request: Request, *, note: Note, planned: Callable[[Record], None]) -> Record:
    """The plan of a request as JSON data, with the time of ``TIMED`` steps of each phase.

    ``planned`` is told the plan before anything is timed. Under torchrun every process calls this.
    Raises as ``danetc.training.trials.run`` does.
    """

    def work(plan: Plan, world: World, told: Note) -> Record:
        record = describe(plan, world)
        if world.first:
            planned(record)
        phases = []
        for index, described in enumerate(record["phases"]):
            reason = world.from_first(_too_large(described["memory"], world))
            found = {"not_timed": reason} if reason else _timed(plan, index, described, world)
            phases.append({**described, **found})
        seconds: float | None = None
        if all("seconds" in phase for phase in phases):
            seconds = sum(phase["seconds"] for phase in phases) * len(plan.seeds)
        return {**record, "phases": phases, "seconds": seconds}

    return with_plan(request, note, work)


def describe(plan: Plan, world: World) -> Record:
    """What is known without a step. Raises DataError, TrainingError."""
    recipe = plan.recipe.as_dict()
    origins: Any = recipe["origins"]
    if plan.request.seed is not None:
        recipe, origins = {**recipe, "seed": plan.seeds[0]}, {**origins, "seed": "--seed"}
    if len(plan.seeds) != plan.recipe.trials:
        given = "--seed" if plan.request.seeds is None else "--seeds"
        recipe, origins = {**recipe, "trials": len(plan.seeds)}, {**origins, "trials": given}
    return {
        "network": plan.compiled.graph.name,
        "settings": dict(plan.compiled.settings),
        "parameters": plan.compiled.summary.parameters,
        "backend": plan.backend,
        "processes": world.size,
        "device": str(world.device.type),
        "parallel": plan.request.parallel,
        "data": plan.data.describe(),
        "directory": str(plan.directory),
        "state": world.on_first(lambda: _state(plan)),
        "seeds": list(plan.seeds),
        "recipe": {**recipe, "origins": origins},
        "phases": [_phase(plan, phase, world) for phase in plan.recipe.phases],
    }


def _state(plan: Plan) -> str:
    """What a training would find in its directory."""
    paths = [plan.directory]
    if plan.several:
        paths = [plan.directory / f"seed-{seed}" for seed in plan.seeds]
    told = []
    for path, seed in zip(paths, plan.seeds, strict=True):
        found = state_of(path, plan.settings(seed), plan.request.allow_changed)
        told.append(f"{path.name}: {found}" if plan.several else found)
    return "; ".join(told)


def _phase(plan: Plan, phase: Phase, world: World) -> Record:
    part = split_evenly(phase.batch, world, "a batch")
    augment = image_transform(phase.augment, events=plan.data.events)
    steps = len(
        Batches(plan.data.train, augment, batch=part, seed=0, rank=world.rank, world=world.size,
                train=True)
    )  # fmt: skip
    rate = phase.optimizer.number("lr")
    times = [phase.epochs * sample / SAMPLES for sample in range(SAMPLES)]
    graph = with_steps(plan.compiled, phase).graph
    return {
        "name": phase.name,
        "time_steps": graph.steps,
        "epochs": phase.epochs,
        "steps_per_epoch": steps,
        "images_per_step": phase.batch,
        "images_per_process": part,
        "parts": phase.accumulate,
        "schedule": phase.schedule.name,
        "learning_rates": [[epoch, rate * schedule(phase, epoch, 1 / steps)] for epoch in times],
        "memory": _memory(plan, phase, world),
    }


def _memory(plan: Plan, phase: Phase, world: World) -> Record | None:
    """The predicted peak of a process's training step. None where the backend's is not predicted."""
    chosen = plan.policies[phase.name]
    if chosen.plan is not None:
        return chosen.plan.as_dict()
    if plan.backend not in PREDICTED:
        return None
    return predict(
        with_steps(plan.compiled, phase).graph,
        max(1, phase.batch // world.size),
        plan.backend,
        chosen.policy,
        DTYPES[phase.precision],
        optimizer_of(phase),
        phase.accumulate,
        phase.ema is not None,
    ).as_dict()


def _too_large(memory: Record | None, world: World) -> str | None:
    """Why steps had better not be tried: on a CPU, whose memory runs out by killing processes."""
    if memory is None or world.device.type != "cpu":
        return None
    total, free = memory["total"] * world.size, _free_memory()
    if free is None or total <= free:
        return None
    return f"a step is predicted to need {show_size(total)} and this machine has {show_size(free)} free"


def _free_memory() -> int | None:
    """Bytes that a process could have without others losing theirs; None where it is not known."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        words = next(line for line in lines if line.startswith("MemAvailable:")).split()
        return int(words[1]) * 1024
    except (OSError, StopIteration, ValueError, IndexError):
        return None


# -- time ------------------------------------------------------------------------------------------


class Stopwatch(Observer):
    """Times steps from one report to the next, and asks for a stop when there are enough."""

    def __init__(self, stop: StopRequest) -> None:
        self._stop = stop
        self._last: tuple[int, float] | None = None
        self._seconds: list[float] = []
        self._shares: Mapping[str, float] = {}
        self._speed = 0.0
        self._batch = 1
        self._until = time.perf_counter() + SECONDS

    def begin(self, plan: PhasePlan) -> None:
        self._batch = plan.batch

    def step(self, report: StepReport) -> None:
        now = time.perf_counter()
        if self._last is not None and self._last[0] == report.epoch:
            self._seconds.append(now - self._last[1])
        self._last = report.epoch, now
        self._shares, self._speed = report.shares, report.images_per_second
        if len(self._seconds) >= WARM + TIMED or (self._seconds and now > self._until):
            self._stop.request(signal.SIGINT)

    @property
    def timed(self) -> int:
        return len(self._kept())

    @property
    def shares(self) -> Mapping[str, float]:
        return self._shares

    @property
    def seconds(self) -> float:
        """Of a step: the median. Where no epoch has two, by the speed of the last one."""
        kept = self._kept()
        return statistics.median(kept) if kept else self._batch / max(self._speed, 1e-9)

    def _kept(self) -> list[float]:
        return self._seconds[WARM : WARM + TIMED] if len(self._seconds) > WARM else self._seconds


def _timed(plan: Plan, index: int, described: Record, world: World) -> Record:
    """Seconds of a step and of the whole phase, by steps that are taken and forgotten.

    A test image takes the share of a training image that its forward pass has.
    """
    stop = StopRequest()
    watch = Stopwatch(stop)
    trial = Trial(plan, plan.seeds[0], 0, plan.directory, world, stop)
    phase = plan.recipe.phases[index]
    # Two epochs are enough where they are short, and what they are worth does not matter.
    short = replace(
        phase, epochs=min(phase.epochs, 1 + -(-(WARM + TIMED) // described["steps_per_epoch"]))
    )
    model, _ = trial.model(replace(phase, start=None))
    # Not `with stop`: there is nothing to save, so a signal ends it at once and not after the step.
    with suppress(Stopped):
        fit(model, plan.data, short, trial.settings(index), observer=watch, world=world, stop=stop)
    seconds, shares, timed = world.from_first((watch.seconds, dict(watch.shares), watch.timed))
    tests = len(plan.data.test) / phase.batch
    epoch = seconds * (described["steps_per_epoch"] + tests * shares.get("forward", 0.0))
    return {
        "timed_steps": timed,
        "seconds_per_step": seconds,
        "images_per_second": phase.batch / seconds,
        "shares": shares,
        "seconds": epoch * phase.epochs,
    }
