"""A network's backends and the same network of other libraries, as candidates of a measurement."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module

import torch
from counterparts import (
    Counterpart,
    spikingjelly_counterpart,
    torchvision_counterpart,
)
from steps import TrainingStep, mean_over_steps
from torch import Tensor

from danetc.compiler.emit import fx
from danetc.compiler.ir.at_node import taken
from danetc.compiler.ir.graph import Graph
from danetc.errors import UserError
from danetc.runtime.layers.spikingjelly import require


@dataclass(frozen=True, slots=True)
class Conditions:
    """Conditions of a measurement: N images of one size [C, H, W], or N sequences of them."""

    images: int
    size: tuple[int, ...]
    device: str
    seed: int = 0

    @staticmethod
    def of(graph: Graph, images: int) -> Conditions:
        """Return those of a network: its own size of images, and a GPU if there is one."""
        device = "cuda" if torch.cuda.is_available() else "cpu"
        return Conditions(images, taken(graph).shape, device)


@dataclass(frozen=True, slots=True)
class Candidate:
    """A network to measure. ``make()`` builds its training step on ``images`` images."""

    name: str
    images: int
    make: Callable[[], TrainingStep]


def candidates(
    graph: Graph, conditions: Conditions, backends: Sequence[str]
) -> tuple[dict[str, Candidate], list[str]]:
    """Return the candidates by name, those of other libraries first, and why others are missing.

    torchvision's network has no time, so it gets T x N images while ours gets N.
    """
    found: dict[str, Candidate] = {}
    notes: list[str] = []
    images = conditions.images
    for counterpart, many, make in (
        (torchvision_counterpart(graph), images * graph.steps, _still_step),
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
        name = f"danetc {backend}"
        found[name] = Candidate(name, images, partial(_our_step, graph, backend, conditions))
    return found, notes


def backend_missing(backend: str) -> str | None:
    """Return why a backend cannot be used here, or None if it can."""
    if backend not in fx.BACKENDS:
        return f"there is none of this name; there are {', '.join(fx.BACKENDS)}"
    if backend == "spikingjelly":
        try:
            require()
        except ImportError as error:
            return str(error)
    return None


def _our_step(graph: Graph, backend: str, conditions: Conditions) -> TrainingStep:
    model = fx.emit(graph, conditions.seed, backend=backend)
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
