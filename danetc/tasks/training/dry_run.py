"""``danetc train --dry-run``: what a training would be, and how long it would take.

Nothing is written. The plan is that of the training itself; the time is that of a few real steps of
its loop, on its data, with its processes.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

from danetc.compiler.plans.memory import COUNTED, show_size
from danetc.output.text import Note
from danetc.runtime.data import Batches
from danetc.runtime.data.augment import image_transform
from danetc.runtime.kernels.announcing import announced_by, announcer
from danetc.runtime.system.machine import free_memory
from danetc.runtime.training.distributed import World, split_evenly
from danetc.runtime.training.engine import fit
from danetc.runtime.training.optim import schedule
from danetc.runtime.training.signals import Stopped, StopRequest
from danetc.tasks.training.directory import state_of
from danetc.tasks.training.plan import phase_step, with_steps
from danetc.tasks.training.request import TrainingPlan, TrainingRequest
from danetc.tasks.training.teachers import teachers_of
from danetc.tasks.training.timed_steps import (
    TIMED,
    WARM,
    Compiling,
    Deadline,
    OutOfTime,
    Stopwatch,
    interrupted,
)
from danetc.tasks.training.trials import Trial, with_plan

if TYPE_CHECKING:
    from danetc.dsl.recipe.settings import Phase

PATIENCE = 10.0
"""Seconds for which a process that waits for others is given, beyond that, to find them gone."""
MORE = 4
"""How many steps' time must be left for two steps whose allocations are recorded."""
SAMPLES = 256
"""Points of a phase's schedule."""

Record = dict[str, Any]


def dry_run(
    request: TrainingRequest,
    *,
    note: Note,
    planned: Callable[[Record], None],
    late: Callable[[Record], None],
    seconds: float,
) -> Record:
    """The plan of a request as JSON data, with the time of ``TIMED`` steps of each phase.

    ``planned`` gets the plan before anything is timed. What is not over after ``seconds`` is not
    waited for, but for a layer, or a kernel being compiled, that has begun. Under torchrun every
    process calls this; where one of them runs out of time in the middle of a step, they cannot
    agree on anything any more: rank 0 hands the record to ``late``, and all end, with status 0.
    Raises as ``danetc.tasks.training.trials.run`` does.
    """

    def work(plan: TrainingPlan, world: World, say: Note) -> Record:
        record = describe(plan, world)
        if world.first:
            planned(record)
        world.from_first(None)  # all begin at once
        whole, over = Deadline(seconds), f"the {seconds:g} s for timing were over"
        phases: list[Record] = []
        for index, described in enumerate(record["phases"]):
            reason = over if whole.over else _too_large(described["memory"], world)
            reason = world.from_first(reason)
            if reason:
                phases.append({**described, "not_timed": reason})
                continue
            bound = Deadline(whole.left / (len(record["phases"]) - index))

            def leave(found: Record, index: int = index, described: Record = described) -> NoReturn:
                rest = [{**each, "not_timed": over} for each in record["phases"][index + 1 :]]
                known = _with_whole_phase(plan, plan.recipe.phases[index], described, found)
                now = [*phases, {**described, **known}, *rest]
                if world.first:
                    late(_summed(record, now, plan))
                _end(world)

            timed = {**described, **_timed(plan, index, described, world, bound, leave)}
            phases.append(_with_peak(plan, plan.recipe.phases[index], timed, world, bound))
        return _summed(record, phases, plan)

    return with_plan(request, note, work)


def _end(world: World) -> NoReturn:
    """End this process, whatever its other threads wait for."""
    if world.heartbeat is not None:
        world.heartbeat.done()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _summed(record: Record, phases: list[Record], plan: TrainingPlan) -> Record:
    """The record with its phases, and the seconds of all of them where they are known."""
    seconds: float | None = None
    if all("seconds" in phase for phase in phases):
        seconds = sum(phase["seconds"] for phase in phases) * len(plan.seeds)
    return {**record, "phases": phases, "seconds": seconds}


def describe(plan: TrainingPlan, world: World) -> Record:
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
        "settings": {
            key: value
            for key, value in plan.compiled.settings.items()
            if key in plan.request.settings
        },
        "parameters": plan.compiled.summary.parameters,
        "backend": plan.backend,
        "processes": world.size,
        "device": str(world.device.type),
        "data": plan.data.describe(),
        "directory": str(plan.directory),
        "state": world.on_first(lambda: _state(plan)),
        "seeds": list(plan.seeds),
        "recipe": {**recipe, "origins": origins},
        "phases": [_phase(plan, phase, world) for phase in plan.recipe.phases],
    }


def _state(plan: TrainingPlan) -> str:
    """What a training would find in its directory."""
    paths = [plan.directory]
    if plan.several:
        paths = [plan.directory / f"seed-{seed}" for seed in plan.seeds]
    messages = []
    for path, seed in zip(paths, plan.seeds, strict=True):
        found = state_of(path, plan.settings(seed), plan.request.allow_changed)
        messages.append(f"{path.name}: {found}" if plan.several else found)
    return "; ".join(messages)


def _phase(plan: TrainingPlan, phase: Phase, world: World) -> Record:
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


def _memory(plan: TrainingPlan, phase: Phase, world: World) -> Record:
    """What a process's training step holds, and its peak where that was measured."""
    step = phase_step(plan.request, plan.compiled, phase, plan.backend, world)
    chosen = plan.policies[phase.name]
    held = step.held(chosen.policy).as_dict() if plan.backend in COUNTED else None
    peak = None if chosen.measured is None else chosen.measured.peak
    return {"policy": chosen.policy, "held": held, "peak": peak}


def _too_large(memory: Record, world: World) -> str | None:
    """Why steps had better not be tried: on a CPU, whose memory runs out by killing processes."""
    if memory["held"] is None or world.device.type != "cpu":
        return None
    total, free = memory["held"]["total"] * world.size, free_memory()
    if total <= free:
        return None
    return f"a step holds at least {show_size(total)} and this machine has {show_size(free)} free"


def _with_peak(
    plan: TrainingPlan, phase: Phase, described: Record, world: World, bound: Deadline
) -> Record:
    """With the peak of a step, measured by two more steps where there is time for them."""
    seconds = described.get("seconds_per_step")
    if described["memory"]["peak"] is not None or seconds is None:
        return described
    wanted = world.from_first(bound.left > MORE * seconds)
    if not wanted:
        return described
    step = phase_step(plan.request, plan.compiled, phase, plan.backend, world)
    measured = step.measure(described["memory"]["policy"])
    peak = None if measured is None else measured.peak
    return {**described, "memory": {**described["memory"], "peak": peak}}


# -- time ------------------------------------------------------------------------------------------


def _timed(
    plan: TrainingPlan,
    index: int,
    described: Record,
    world: World,
    bound: Deadline,
    leave: Callable[[Record], NoReturn],
) -> Record:
    """Seconds of a step and of the whole phase, by steps that are taken and forgotten.

    A test image takes the share of a training image that its forward pass has. Where there are
    other processes and time is over in the middle of a step, what there is to say is given to
    ``leave``.
    """
    stop = StopRequest()
    watch = Stopwatch(stop, bound)
    compiling = Compiling(announcer(), bound)
    trial = Trial(plan, plan.seeds[0], 0, plan.directory, world, stop)
    phase = plan.recipe.phases[index]
    # Two epochs are enough where they are short, and what they are worth does not matter.
    short = replace(
        phase, epochs=min(phase.epochs, 1 + -(-(WARM + TIMED) // described["steps_per_epoch"]))
    )
    model, _ = trial.model(replace(phase, start=None))

    def found() -> Record:
        return _found(watch, compiling, bound)

    with ExitStack() as stack:
        stack.enter_context(announced_by(compiling))
        stack.enter_context(interrupted(model, bound))
        if world.size > 1:  # one that waits for a process that has left does not ask for the time
            timer = threading.Timer(max(bound.left, 0) + PATIENCE, lambda: leave(found()))
            timer.daemon = True
            timer.start()
            stack.callback(timer.cancel)
        try:
            # Not `with stop`: there is nothing to save, so a signal ends it at once.
            with suppress(Stopped):
                fit(model, plan.data, short, trial.settings(index), observer=watch, world=world,
                    stop=stop, teachers=teachers_of(short, plan.backend))  # fmt: skip
        except OutOfTime:
            if world.size > 1:
                leave(found())
        except RuntimeError:
            if world.size == 1 or bound.left > PATIENCE:
                raise
            leave(found())  # another process has left, as this one would have
    return _with_whole_phase(plan, phase, described, world.from_first(found()))


def _found(watch: Stopwatch, compiling: Compiling, bound: Deadline) -> Record:
    """What the steps that were taken say."""
    record: Record = {"timed_steps": watch.timed, "kernels_compiled": compiling.done}
    missed = _missed(watch, compiling, bound)
    if watch.seconds is None:
        return {**record, "not_timed": missed}
    return {
        **record,
        "seconds_per_step": watch.seconds,
        "shares": dict(watch.shares),
        "not_waited_for": missed,
    }


def _with_whole_phase(plan: TrainingPlan, phase: Phase, described: Record, found: Record) -> Record:
    """With the time that the phase takes, where that of a step is known."""
    if "seconds_per_step" not in found:
        return found
    seconds, shares = found["seconds_per_step"], found["shares"]
    tests = len(plan.data.test) / phase.batch
    epoch = seconds * (described["steps_per_epoch"] + tests * shares.get("forward", 0.0))
    return {
        **found,
        "images_per_second": phase.batch / seconds,
        "seconds": epoch * phase.epochs,
    }


def _missed(watch: Stopwatch, compiling: Compiling, bound: Deadline) -> str | None:
    """What there was no time for, in words. None where everything is as it was to be."""
    within = f"in the {max(bound.seconds, 0):.3g} s for it"
    if watch.timed >= TIMED or (watch.timed and not bound.over):
        return None
    if watch.timed:
        return f"{watch.timed} of {TIMED} steps were timed {within}"
    if compiling.unfinished:
        again = "; another dry run continues from there" if compiling.done else ""
        return f"{compiling.done} of {compiling.total} kernels were compiled {within}{again}"
    if not bound.over:
        return "it has a single step, and a first one is not timed"
    kernels = f" and {compiling.done} kernels were compiled" if compiling.done else ""
    steps = "one step was" if watch.taken else "no step was"
    return f"{steps} over{kernels} {within}, and none was timed"
