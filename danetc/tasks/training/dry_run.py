"""``danetc train --dry-run``: the plan of a training and its estimated time. Writes no files."""

from __future__ import annotations

import signal
import statistics
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

from danetc.dsl.recipe.text import write_setting
from danetc.errors import UserError
from danetc.output.echo import Note, echo
from danetc.output.figures import show_size
from danetc.output.table import print_table
from danetc.requests import TrainingRequest
from danetc.runtime.training.distributed import World
from danetc.runtime.training.engine import PhaseRun, fit
from danetc.runtime.training.observer import Callback, PhasePlan, StepReport
from danetc.runtime.training.signals import Stopped, StopRequest
from danetc.tasks.memory import free_for, step_memory
from danetc.tasks.training.directory import state_of
from danetc.tasks.training.plan import TrainingPlan, phase_step, teachers_of, with_steps
from danetc.tasks.training.progress import show_time
from danetc.tasks.training.trials import Trial, with_plan

TIMED = 10
"""Number of steps to time in each phase."""
WARM = 2
"""Number of steps before them, which compile kernels and allocate memory."""

Record = dict[str, Any]


def dry_run(request: TrainingRequest, note: Note) -> Record:
    """Return the plan of a request as JSON data. Runs and times ``TIMED`` steps of each phase.

    Under torchrun, every process calls this. Raises like ``danetc.tasks.training.trials.run``.
    """
    return with_plan(request, note, _describe)


def _describe(plan: TrainingPlan, world: World, note: Note) -> Record:
    def states() -> list[str]:
        return [state_of(place, plan.settings(seed)) for seed, place in plan.places()]

    phases = [_phase(plan, index, world) for index in range(len(plan.recipe.phases))]
    seconds = [phase["seconds"] for phase in phases]
    return {
        "network": plan.compiled.graph.name,
        "parameters": plan.compiled.summary.parameters,
        "backend": plan.backend,
        "processes": world.size,
        "device": world.device.type,
        "data": plan.data.describe(),
        "directory": str(plan.directory),
        "states": world.on_first(states),
        "seeds": list(plan.seeds),
        "recipe": plan.recipe.as_dict(),
        "phases": phases,
        "seconds": None if None in seconds else sum(seconds) * len(plan.seeds),
    }


def _phase(plan: TrainingPlan, index: int, world: World) -> Record:
    """Return the number of steps of a phase, the memory of a step, and the time of the phase."""
    phase = plan.recipe.phases[index]
    chosen, network = plan.policies[phase.name], with_steps(plan.compiled, phase)
    found: Record = {"name": phase.name, "time_steps": network.graph.steps}
    found |= dict.fromkeys(("steps", "seconds_per_step", "seconds"))
    try:
        step = phase_step(plan.request, plan.compiled, phase, plan.backend, world)
        found["memory"] = asdict(chosen.step or step_memory(step, chosen.policy))
    except UserError as error:
        found["memory"] = {"policy": chosen.policy, "peak": None, "not_known": str(error)}
    free, peak = world.from_first(free_for(world.device, world.size)), found["memory"]["peak"]
    if free is not None and peak is not None and peak > free:
        reason = f"a step needs {show_size(peak)}, but only {show_size(free)} are free"
        return {**found, "not_timed": reason}
    stop = StopRequest()
    watch, trial = _Stopwatch(stop), Trial(plan, world, stop)
    model, _ = trial.model(replace(phase, start=None))
    with suppress(Stopped):
        settings, teachers = trial.settings(index), teachers_of(phase, plan.backend)
        fit(PhaseRun(model, plan.data, phase, settings, watch, world, stop=stop, teachers=teachers))
    steps, times = world.from_first((watch.steps, watch.times))
    second = statistics.median(times[WARM:] or times)
    images = len(plan.data.split(plan.data.judged_on))
    tests = images / phase.batch / 3  # the forward pass is a third of a step
    found |= {"steps": steps * phase.epochs, "seconds_per_step": second}
    return {**found, "seconds": second * (steps + tests) * phase.epochs}


class _Stopwatch(Callback):
    """Measures the time of steps, and stops the training after ``TIMED`` of them."""

    def __init__(self, stop: StopRequest) -> None:
        self._stop, self._last = stop, 0.0
        self.steps, self.times = 0, list[float]()

    def on_phase_start(self, plan: PhasePlan) -> None:
        self._last, self.steps = time.perf_counter(), plan.steps

    def on_step_end(self, report: StepReport) -> None:
        now = time.perf_counter()
        self.times.append(now - self._last)
        self._last = now
        if len(self.times) >= WARM + TIMED:
            self._stop.signal = signal.SIGINT


def print_plan(record: Record) -> None:
    """Print the result of ``dry_run``."""
    data, seeds = record["data"], record["seeds"]
    counts = f"{data['train']:,} images to train on, {data['test']:,} to test"
    counts += f", {data['val']:,} to validate" if "val" in data else ""
    for what, value in (
        ("network", f"{record['network']}, {record['parameters']:,} parameters"),
        ("data", f"{data['text']}: {counts}"),
        ("runs on", f"{record['device']}, backend {record['backend']}"),
        ("processes", str(record["processes"])),
        ("directory", f"{record['directory']} ({'; '.join(record['states'])})"),
        ("seeds", ", ".join(map(str, seeds))),
    ):
        echo(f"{what:<11} {value}")
    echo()
    print_table(("setting", "value", "from"), list(settings(record["recipe"])), right=set())
    echo()
    heads = ("phase", "T", "steps", "peak memory", "s/step", "time")
    rows = [
        (phase["name"], str(phase["time_steps"]), *(
            "?" if value is None else show(value)
            for value, show in (
                (phase["steps"], "{:,}".format), (phase["memory"]["peak"], show_size),
                (phase["seconds_per_step"], "{:.3g}".format), (phase["seconds"], show_time),
            )
        ))
        for phase in record["phases"]
    ]  # fmt: skip
    print_table(heads, rows, right=set(range(1, len(heads))))
    for phase in record["phases"]:
        for reason in filter(None, (phase["memory"].get("not_known"), phase.get("not_timed"))):
            echo(f"phase {phase['name']}: {reason}")
    if record["seconds"] is not None:
        trials = f" for {len(seeds)} trials" if len(seeds) > 1 else ""
        echo(f"the whole training takes about {show_time(record['seconds'])}{trials}")


def settings(recipe: Record) -> Iterator[tuple[str, str, str]]:
    """Yield each setting with its value and origin, only once if all phases agree."""

    def row(values: Record, key: str, path: str) -> tuple[str, str]:
        """Return the value and origin of a setting, and arguments with other origins."""
        changed = (
            f"{name.removeprefix(f'{path}.')} from {origin}"
            for name, origin in recipe["origins"].items()
            if name.startswith(f"{path}.")
        )
        return write_setting(key, values[key]), ", ".join([recipe["origins"][path], *changed])

    phases = {phase["name"]: phase for phase in recipe["phases"]}
    for key in (key for key in recipe["phases"][0] if key != "name"):
        rows = {name: row(phase, key, f"{name}.{key}") for name, phase in phases.items()}
        agree = len(set(rows.values())) == 1
        yield from dict.fromkeys((key if agree else f"{n}.{key}", *r) for n, r in rows.items())
    shown = (key for key in recipe if key not in ("name", "phases", "origins", "seed", "trials"))
    yield from ((key, *row(recipe, key, key)) for key in shown)
