"""A network's backends and the same network in other libraries, measured side by side."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from danetc.compiler.emit import fx
from danetc.compiler.plans.memory import Memory
from danetc.errors import UserError
from danetc.runtime.bench.alone import Alone
from danetc.runtime.bench.memory import saved_bytes
from danetc.runtime.bench.steps import TrainingStep, mean_over_steps
from danetc.runtime.bench.timing import Sample, medians, ratio, time_interleaved
from danetc.runtime.kernels.cache import VARIABLE
from danetc.runtime.kernels.torch_internals import MissingInternal
from danetc.runtime.layers.spikingjelly import require
from danetc.tasks.counterparts import (
    Counterpart,
    spikingjelly_counterpart,
    torchvision_counterpart,
)
from danetc.tasks.inputs import taken
from danetc.tasks.memory import choose

if TYPE_CHECKING:
    from danetc.compiler.ir.graph import Graph

Progress = Callable[[str], None]
Command = Callable[[str, str], Sequence[str]]
"""The command line that measures the candidate of this name alone, under this memory policy, and
prints it as JSON."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """What all candidates are measured under: N images of one size [C, H, W], or N sequences."""

    images: int
    size: tuple[int, ...]
    device: str
    seed: int = 0

    @staticmethod
    def of(graph: Graph, images: int) -> Conditions:
        """The network's own size of images; a GPU where there is one."""
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return Conditions(images, taken(graph).shape, device)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One that takes part: ``make()`` builds its training step, on ``images`` images, under the
    memory policy ``memory``."""

    name: str
    images: int
    make: Callable[[], TrainingStep]
    memory: str = "none"


def candidates(
    graph: Graph, conditions: Conditions, backends: Sequence[str], memory: Memory = "none"
) -> tuple[dict[str, Candidate], list[str]]:
    """Who takes part, the counterparts first; and who does not, and why.

    torchvision's network has no time, so it gets T x N images where ours gets N. A budget of
    ``memory`` chooses the policy of each of our backends; one that nothing of it fits is left out.
    """
    found: dict[str, Candidate] = {}
    notes: list[str] = []
    images, steps = conditions.images, graph.steps
    for counterpart, many, make in (
        (torchvision_counterpart(graph), images * steps, _still_step),
        (spikingjelly_counterpart(graph), images, _sequence_step),
    ):
        if isinstance(counterpart, Counterpart):
            name = str(counterpart)
            found[name] = Candidate(name, many, partial(make, counterpart, graph, conditions))
        else:
            notes.append(str(counterpart))
    for backend in backends:
        reason = backend_missing(backend)
        if reason is not None:
            notes.append(f"left out: backend {backend}: {reason}")
            continue
        try:
            chosen = choose(graph, memory, batch=images, backend=backend)
        except UserError as error:
            notes.append(f"left out: backend {backend}: {error}")
            continue
        name = f"danetc {backend}"
        if memory != "none":
            notes.append(f"memory of {name}: {chosen}")
        make_ours = partial(_our_step, graph, backend, conditions, chosen.policy)
        found[name] = Candidate(name, images, make_ours, chosen.policy)
    if not any(name.startswith("danetc ") for name in found):
        raise UserError("there is nothing to measure: " + "; ".join(notes))
    return found, notes


def backend_missing(backend: str) -> str | None:
    """Why a backend cannot be used here; None where it can."""
    if backend not in fx.BACKENDS:
        return f"there is none of this name; there are {', '.join(fx.BACKENDS)}"
    if backend == "spikingjelly":
        try:
            require()
        except ImportError as error:
            return str(error)
    return None


def _our_step(graph: Graph, backend: str, conditions: Conditions, memory: str) -> TrainingStep:
    model = fx.emit(graph, conditions.seed, backend=backend, memory=memory)
    if len(graph.outputs) != 1:
        raise UserError(f"{graph.name} has {len(graph.outputs)} outputs; bench takes one")
    value = graph[next(iter(graph.outputs.values()))].value
    if len(value.shape) != 1:
        raise UserError(f"{graph.name} gives maps, and bench trains classifiers")
    x = _frames(graph, conditions)
    labels = _labels(conditions.images, value.shape[0], conditions)
    return TrainingStep(model, x, labels, read=mean_over_steps if value.varies else None)


def _still_step(counterpart: Counterpart, graph: Graph, conditions: Conditions) -> TrainingStep:
    """A network without time: the frames of all steps are its batch."""
    count = conditions.images * graph.steps
    x = _random(conditions, count, *conditions.size)
    return TrainingStep(_made(counterpart, conditions), x, _labels_like(graph, count, conditions))


def _sequence_step(counterpart: Counterpart, graph: Graph, conditions: Conditions) -> TrainingStep:
    """A network that takes a sequence: a static image is repeated at every step."""
    functional = import_module("spikingjelly.activation_based.functional")
    model = _made(counterpart, conditions)
    functional.set_step_mode(model, "m")
    repeat = None if taken(graph).varies else partial(_repeated, graph.steps)
    return TrainingStep(
        model,
        _frames(graph, conditions),
        _labels_like(graph, conditions.images, conditions),
        prepare=repeat,
        read=mean_over_steps,
        reset=lambda: functional.reset_net(model),
    )


def _made(counterpart: Counterpart, conditions: Conditions) -> torch.nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(conditions.seed)
        return counterpart.make()


def _repeated(steps: int, x: Tensor) -> Tensor:
    return x.unsqueeze(0).repeat(steps, *[1] * x.dim())


def _frames(graph: Graph, conditions: Conditions) -> Tensor:
    """Images [N, C, H, W], or sequences [T, N, C, H, W] where the network takes those."""
    if not taken(graph).varies:
        return _random(conditions, conditions.images, *conditions.size)
    x = _random(conditions, graph.steps, conditions.images, *conditions.size)
    return (x > 1).float() if taken(graph).kind.is_integer else x


def _random(conditions: Conditions, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(conditions.seed)
    return torch.randn(*shape, generator=generator).to(conditions.device)


def _labels_like(graph: Graph, count: int, conditions: Conditions) -> Tensor:
    classes = graph[next(iter(graph.outputs.values()))].value.shape[0]
    return _labels(count, classes, conditions)


def _labels(count: int, classes: int, conditions: Conditions) -> Tensor:
    generator = torch.Generator().manual_seed(conditions.seed + 1)
    return torch.randint(classes, (count,), generator=generator).to(conditions.device)


# -- measuring ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Result:
    """What was measured of a candidate. ``saved`` are bytes held for the backward pass, None where
    this torch does not tell."""

    name: str
    images: int
    samples: tuple[Sample, ...]
    saved: int | None
    alone: Alone

    @property
    def peak(self) -> int | None:
        """Bytes that a step needs beyond what is there between steps."""
        return self.alone.peak if self.alone.resident is None else self.alone.resident

    @property
    def compile_seconds(self) -> float:
        """What the first step of a process, with an empty cache of kernels, takes longer."""
        return max(0.0, self.alone.first - medians(self.samples).wall)


@dataclass(frozen=True, slots=True)
class Report:
    """A comparison; its ratios are to ``base``."""

    network: str
    steps: int
    conditions: Conditions
    threads: int
    base: str
    results: Mapping[str, Result]
    notes: tuple[str, ...]

    def time(self, name: str) -> float:
        samples = {key: result.samples for key, result in self.results.items()}
        return ratio(samples, name, self.base)

    def saved(self, name: str) -> float | None:
        return _share(self.results[name].saved, self.results[self.base].saved)

    def peak(self, name: str) -> float | None:
        return _share(self.results[name].peak, self.results[self.base].peak)

    def as_dict(self) -> dict[str, Any]:
        """All figures: seconds of each sample, bytes, and the ratios."""
        return {
            "network": self.network,
            "steps": self.steps,
            **asdict(self.conditions),
            "threads": self.threads,
            "torch": torch.__version__,
            "base": self.base,
            "candidates": [self._row(result) for result in self.results.values()],
            "notes": list(self.notes),
        }

    def _row(self, result: Result) -> dict[str, Any]:
        return {
            "name": result.name,
            "images": result.images,
            "median": asdict(medians(result.samples)),
            "samples": [asdict(sample) for sample in result.samples],
            "saved_bytes": result.saved,
            "peak_bytes": result.alone.peak,
            "resident_peak_bytes": result.alone.resident,
            "first_step_seconds": result.alone.first,
            "compile_seconds": result.compile_seconds,
            "time_ratio": self.time(result.name),
            "saved_ratio": self.saved(result.name),
            "peak_ratio": self.peak(result.name),
        }


def _share(size: int | None, base: int | None) -> float | None:
    return None if size is None or base is None else size / max(1, base)


def compare(
    graph: Graph,
    conditions: Conditions,
    backends: Sequence[str],
    *,
    memory: Memory = "none",
    rounds: int,
    command: Command,
    begin: Callable[[int], None] = lambda count: None,
    on_progress: Progress = lambda what: None,
) -> Report:
    """Measure all candidates: each alone in a process, then in this one against each other.

    ``begin`` gets how many times ``on_progress`` will be called. Raises UserError.
    """
    entries, notes = candidates(graph, conditions, backends, memory)
    begin(len(entries) * (rounds + 3))  # alone, its saved bytes, a warm-up, and the rounds
    apart: dict[str, Alone] = {}
    for name, entry in entries.items():
        on_progress(f"{name}, alone")
        apart[name] = in_own_process(command(name, entry.memory), name)
    steps = {name: entry.make() for name, entry in entries.items()}
    saved: dict[str, int | None] = {}
    for name, step in steps.items():
        on_progress(f"{name}, saved bytes")
        try:
            saved[name] = saved_bytes(step.loss)
        except MissingInternal as error:
            saved[name] = None
            notes += [] if str(error) in notes else [str(error)]
        step.optimizer.zero_grad()
    samples = time_interleaved(
        steps, torch.device(conditions.device), rounds, on_progress=on_progress
    )
    results = {
        name: Result(name, entry.images, tuple(samples[name]), saved[name], apart[name])
        for name, entry in entries.items()
    }
    return Report(
        graph.name,
        graph.steps,
        conditions,
        torch.get_num_threads(),
        next(iter(results)),
        results,
        tuple(notes),
    )


def in_own_process(command: Sequence[str], what: str, cache: Path | None = None) -> Alone:
    """Run a command that prints an ``Alone`` as JSON.

    Its cache of compiled kernels is the folder ``cache``, or an empty one. Raises UserError with
    what it wrote to stderr where it fails.
    """
    with tempfile.TemporaryDirectory(prefix="danetc-bench-") as empty:
        folder = cache or Path(empty)
        environment = {
            **os.environ,
            "PYTHONSAFEPATH": "1",  # nothing is imported from the working directory
            VARIABLE: str(folder),
            "TRITON_CACHE_DIR": str(folder / "triton"),  # of other libraries
        }
        done = subprocess.run(
            list(command), capture_output=True, encoding="utf-8", errors="replace", env=environment
        )
    if done.returncode:
        raise UserError(
            f"the process that measures {what} ended with status {done.returncode}"
            f"\n{done.stderr.strip()}"
        )
    return Alone(**json.loads(done.stdout.splitlines()[-1]))


def this_program(*arguments: str) -> list[str]:
    """A ``danetc`` command line in the Python that runs now."""
    return [sys.executable, "-m", "danetc", *arguments]
