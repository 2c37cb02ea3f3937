"""``danetc train --dry-run``: the plan of a training, and how long it would take.

Nothing is written. The time is that of a few real steps of the training loop, on its data and with
its processes.
"""

from __future__ import annotations

import signal
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from danetc.dsl.recipe.text import write_setting
from danetc.errors import UserError
from danetc.output.echo import Note, echo
from danetc.output.figures import show_size
from danetc.output.table import print_table
from danetc.requests import TrainingRequest
from danetc.runtime.data import Batches
from danetc.runtime.data.augment import image_transform
from danetc.runtime.training.distributed import World, split_evenly
from danetc.runtime.training.engine import fit
from danetc.runtime.training.observer import Observer, PhasePlan, StepReport
from danetc.runtime.training.optim import schedule
from danetc.runtime.training.signals import Stopped, StopRequest
from danetc.tasks.memory import free_for, step_memory
from danetc.tasks.training.directory import state_of
from danetc.tasks.training.plan import phase_step, teachers_of, with_steps
from danetc.tasks.training.progress import HEADS, show_time
from danetc.tasks.training.request import TrainingPlan
from danetc.tasks.training.trials import Trial, with_plan

if TYPE_CHECKING:
    from danetc.dsl.recipe.settings import Phase

TIMED = 10
"""Number of steps that are timed in each phase."""
WARM = 2
"""Number of steps before them, in which kernels are compiled and memory is allocated."""
SAMPLES = 256
"""Number of learning rates in the record of a phase."""

Record = dict[str, Any]


def dry_run(request: TrainingRequest, *, note: Note, planned: Callable[[Record], None]) -> Record:
    """Return the plan of a request as JSON data, with the time of ``TIMED`` steps of each phase.

    ``planned`` gets the plan before anything is timed. Under torchrun every process calls this.
    Raises as ``danetc.tasks.training.trials.run`` does.
    """

    def work(plan: TrainingPlan, world: World, say: Note) -> Record:
        record = describe(plan, world)
        if world.first:
            planned(record)
        phases = [
            {**phase, **_time_phase(plan, index, phase, world)}
            for index, phase in enumerate(record["phases"])
        ]
        known = [phase["seconds"] for phase in phases if "seconds" in phase]
        seconds = sum(known) * len(plan.seeds) if len(known) == len(phases) else None
        return {**record, "phases": phases, "seconds": seconds}

    return with_plan(request, note, work)


def describe(plan: TrainingPlan, world: World) -> Record:
    """Return what is known without a step. Raises DataError, TrainingError."""
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
            key: value for key, value in plan.compiled.settings.items() if key in plan.request.set
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
    """Return a description of the existing runs in the directory."""
    paths = [plan.directory]
    if plan.several:
        paths = [plan.directory / f"seed-{seed}" for seed in plan.seeds]
    messages = []
    for path, seed in zip(paths, plan.seeds, strict=True):
        found = state_of(path, plan.settings(seed))
        messages.append(f"{path.name}: {found}" if plan.several else found)
    return "; ".join(messages)


def _phase(plan: TrainingPlan, phase: Phase, world: World) -> Record:
    part = split_evenly(phase.batch, world, "a batch")
    augment = image_transform(phase.augment, events=plan.data.events)
    batches = Batches(
        plan.data.train, augment, batch=part, seed=0, rank=world.rank, world=world.size, train=True
    )
    steps = len(batches)
    rate = phase.optimizer["lr"]
    times = [phase.epochs * sample / SAMPLES for sample in range(SAMPLES)]
    chosen = plan.policies[phase.name]
    step = phase_step(plan.request, plan.compiled, phase, plan.backend, world)
    try:
        memory = (chosen.step or step_memory(step, chosen.policy)).as_dict()
    except UserError as error:
        memory = {"policy": chosen.policy, "peak": None, "not_known": str(error)}
    return {
        "name": phase.name,
        "time_steps": with_steps(plan.compiled, phase).graph.steps,
        "epochs": phase.epochs,
        "steps_per_epoch": steps,
        "images_per_step": phase.batch,
        "images_per_process": part,
        "parts": phase.accumulate,
        "schedule": phase.schedule.name,
        "learning_rates": [[epoch, rate * schedule(phase, epoch, 1 / steps)] for epoch in times],
        "memory": memory,
    }


# -- time ------------------------------------------------------------------------------------------


class Stopwatch(Observer):
    """Measures the time between reports of steps, and requests a stop after ``TIMED`` steps."""

    def __init__(self, stop: StopRequest) -> None:
        self._stop = stop
        self._last: tuple[int, float] | None = None
        self._images = 0  # in the first step of an epoch
        self.seconds: list[float] = []
        self.shares: Mapping[str, float] = {}

    def begin(self, plan: PhasePlan) -> None:
        self._images = min(plan.batch, plan.images)

    def step(self, report: StepReport) -> None:
        now = time.perf_counter()
        if self._last is not None:
            epoch, before = self._last
            first = self._images / max(report.images_per_second, 1e-9)  # a test lies in between
            self.seconds.append(now - before if epoch == report.epoch else first)
        self._last = report.epoch, now
        self.shares = report.shares
        if len(self.seconds) >= WARM + TIMED:
            self._stop.request(signal.SIGINT)


def _time_phase(plan: TrainingPlan, index: int, described: Record, world: World) -> Record:
    """Return the time of a step and of the whole phase in seconds.

    The time of a test image is estimated from the share of the forward pass.
    """
    free, peak = free_for(world.device, world.size), described["memory"]["peak"]
    if world.from_first(None not in (free, peak) and peak > free):
        return {
            "not_timed": f"a step takes {show_size(peak)} and this machine has {show_size(free or 0)} free"
        }
    stop = StopRequest()
    watch = Stopwatch(stop)
    trial = Trial(plan, world, stop)
    phase = plan.recipe.phases[index]
    # The number of epochs that contain enough steps. The weights are not used.
    enough = 1 + -(-(WARM + TIMED) // described["steps_per_epoch"])
    short = replace(phase, epochs=min(phase.epochs, enough))
    model, _ = trial.model(replace(phase, start=None))
    with suppress(
        Stopped
    ):  # without `with stop`, a signal ends it at once: there is nothing to save
        fit(
            model,
            plan.data,
            short,
            trial.settings(index),
            observer=watch,
            world=world,
            stop=stop,
            teachers=teachers_of(short, plan.backend),
        )
    timed = watch.seconds[WARM : WARM + TIMED] or watch.seconds
    if not timed:
        return {"not_timed": "it has a single step, and a first one is not timed"}
    seconds = world.from_first(statistics.median(timed))
    shares = world.from_first(dict(watch.shares))
    tests = len(plan.data.test) / phase.batch
    epoch = seconds * (described["steps_per_epoch"] + tests * shares.get("forward", 0.0))
    return {
        "timed_steps": len(timed),
        "seconds_per_step": seconds,
        "shares": shares,
        "images_per_second": phase.batch / seconds,
        "seconds": epoch * phase.epochs,
    }


# -- text ------------------------------------------------------------------------------------------


def print_plan(record: Record) -> None:
    """Print what is known before a step is timed."""
    data = record["data"]
    images = f"{data['train']:,} images to train on, {data['test']:,} to test"
    processes = f"{record['processes']} process{'es' if record['processes'] > 1 else ''}"
    changed = ", ".join(f"{name} = {value}" for name, value in record["settings"].items())
    for what, value in (
        ("network", record["network"] + (f" with {changed} from --set" if changed else "")),
        ("parameters", f"{record['parameters']:,}"),
        ("data", f"{data['text']}: {images}, {data['classes']} classes"),
        ("runs on", f"{processes}, {record['device']}, backend {record['backend']}"),
        ("directory", f"{record['directory']} ({record['state']})"),
        ("seeds", ", ".join(map(str, record["seeds"]))),
        ("recipe", record["recipe"]["name"]),
    ):
        echo(f"{what:<11} {value}")
    echo()
    print_table(("setting", "value", "from"), list(settings(record["recipe"])), right=set())
    echo()
    heads = (
        "phase", "T", "epochs", "images/step", "per process", "steps/epoch", "steps", "peak memory"
    )  # fmt: skip
    rows = [
        (
            phase["name"],
            str(phase["time_steps"]),
            str(phase["epochs"]),
            f"{phase['images_per_step']:,}"
            + (f" in {phase['parts']} parts" if phase["parts"] > 1 else ""),
            str(phase["images_per_process"]),
            f"{phase['steps_per_epoch']:,}",
            f"{phase['steps_per_epoch'] * phase['epochs']:,}",
            ("not known" if phase["memory"]["peak"] is None else show_size(phase["memory"]["peak"]))
            + ("" if phase["memory"]["policy"] == "none" else f" ({phase['memory']['policy']})"),
        )
        for phase in record["phases"]
    ]
    print_table(heads, rows, right=set(range(1, len(heads))))
    echo()


def print_time(record: Record) -> None:
    """Print the times of the steps."""
    for phase in record["phases"]:
        if "not_timed" in phase:
            echo(f"phase {phase['name']} is not timed: {phase['not_timed']}")
    timed = [phase for phase in record["phases"] if "not_timed" not in phase]
    if timed:
        parts = list(timed[0]["shares"])
        heads = (
            "phase", "timed steps", "s/step", "images/s",
            *(HEADS.get(part, part) for part in parts), "whole phase",
        )  # fmt: skip
        rows = [
            (
                phase["name"],
                str(phase["timed_steps"]),
                f"{phase['seconds_per_step']:.3g}",
                f"{phase['images_per_second']:,.0f}",
                *(f"{phase['shares'][part]:.1%}" for part in parts),
                show_time(phase["seconds"]),
            )
            for phase in timed
        ]
        print_table(heads, rows, right=set(range(1, len(heads))))
    if record["seconds"] is not None:
        trials = len(record["seeds"])
        several = f" for {trials} trials" if trials > 1 else ""
        echo(f"the whole training takes about {show_time(record['seconds'])}{several}")


def settings(recipe: Record) -> Iterator[tuple[str, str, str]]:
    """Yield each setting, its value and its origin; once if all phases agree."""
    origins = recipe["origins"]
    phases = recipe["phases"]
    for key in (key for key in phases[0] if key != "name"):
        rows = [
            (write_setting(key, phase[key]), _origin(origins, f"{phase['name']}.{key}"))
            for phase in phases
        ]
        if len(set(rows)) == 1:
            yield key, *rows[0]
            continue
        for phase, row in zip(phases, rows, strict=True):
            yield f"{phase['name']}.{key}", *row
    for key in (key for key in recipe if key not in ("name", "phases", "origins")):
        yield key, write_setting(key, recipe[key]), _origin(origins, key)


def _origin(origins: Mapping[str, str], key: str) -> str:
    """Return where a setting comes from, and its arguments that come from elsewhere."""
    changed = [
        f"{name.removeprefix(key + '.')} from {origin}"
        for name, origin in origins.items()
        if name.startswith(f"{key}.")
    ]
    return ", ".join([origins[key], *changed])
