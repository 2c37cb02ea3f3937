"""The memory policy of a network: by its name, or by a budget and a training step that is measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F

from danetc.compiler.emit.fx import emit
from danetc.compiler.ir.graph import Graph
from danetc.compiler.plans.memory import COUNTED, POLICIES, Memory, StepMemory, step_memory
from danetc.dsl.recipe.items.optimizers import MOMENTUM
from danetc.errors import UserError
from danetc.runtime.kernels.torch_internals import MissingInternal
from danetc.runtime.model.built import Model
from danetc.runtime.model.signature import outputs_of
from danetc.runtime.system import machine
from danetc.runtime.training.distributed import alone, device_name
from danetc.runtime.training.guards import is_out_of_memory
from danetc.runtime.training.losses import over_time
from danetc.runtime.training.peak import Step
from danetc.tasks.inputs import taken
from danetc.tasks.memory_budget import DTYPES, Chosen, Measured, fitting


def choose(graph: Graph, memory: Memory, *, batch: int, backend: str) -> Chosen:
    """The policy of this name, or the cheapest one with which a step fits into a budget.

    The step is of float32 and SGD with momentum, on the GPU where there is one. Raises UserError
    where nothing fits.
    """
    if isinstance(memory, str):
        return Chosen(memory)
    device = alone().device

    def least(policy: str = "none", dtype: str = "float32") -> StepMemory:
        counted = backend if backend in COUNTED else "eager"
        return step_memory(graph, batch, counted, policy, dtype, "sgd" + MOMENTUM)

    def measure(policy: str) -> Measured | None:
        return measured_step(
            graph, backend, policy, lambda model: plain_step(graph, batch, device), "float32"
        )

    return fitting(graph, memory, backend, least, measure, free_for(device))


def plain_step(graph: Graph, batch: int, device: torch.device) -> Step:
    """A step of SGD with momentum: of the cross entropy where the one output is of classes, else of
    the squares of all outputs."""
    values = [graph[id].value for id in graph.outputs.values()]
    classes = len(values) == 1 and len(values[0].shape) == 1

    def loss(output: Any, labels: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        if classes:
            return F.cross_entropy(over_time(output), labels)
        return torch.stack([each.float().square().mean() for each in outputs_of(output)]).sum()

    return Step(
        random_images(graph, batch, device),
        torch.zeros(batch, dtype=torch.int64, device=device),
        loss,
        lambda model: torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9),
        frames=taken(graph).varies,
    )


def random_images(graph: Graph, batch: int, device: torch.device) -> torch.Tensor:
    """Images [N, C, H, W] of 0 to 1, or frames [T, N, C, H, W]; whole where the network's are."""
    value = taken(graph)
    steps = (graph.steps,) if value.varies else ()
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(*steps, batch, *value.shape, generator=generator)
    return (images.round() if value.kind.is_integer else images).to(device)


def measured_step(
    graph: Graph,
    backend: str,
    policy: str,
    make_step: Callable[[Model], Step],
    precision: str,
) -> Measured | None:
    """What a step takes under a policy; None where the device's memory runs out.

    Raises UserError where this torch does not say what it allocates.
    """
    try:
        model = emit(graph, 0, backend, policy)
    except (ImportError, ValueError) as error:  # a library, or a backend, that is not there
        raise UserError(str(error)) from error
    try:
        step = make_step(model)
        peak = step.peak(model)
    except MissingInternal as error:
        raise UserError(f"{error}; name a policy: {', '.join(POLICIES)}") from error
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return None
    return Measured(
        peak.total,
        peak.fixed,
        device_name(step.images.device),
        len(step.labels),
        step.parts,
        backend,
        DTYPES[precision],
    )


def free_for(device: torch.device, processes: int = 1) -> int | None:
    """What each process could have of a CPU's memory, which ends by killing processes. (A GPU's
    ends in an error.)"""
    return machine.free_memory() // processes if device.type == "cpu" else None
