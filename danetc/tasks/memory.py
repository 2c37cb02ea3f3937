"""Memory of a training step, computed without running it.

``step_memory`` runs a forward and a backward pass under torch's ``FakeTensorMode``, where tensors
have shapes and no values, and counts the storages that are alive. The saved bytes equal those of a
real step. The peak does not include the workspace of operators.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from danetc.arguments import Memory
from danetc.compiler.emit.fx import emit
from danetc.compiler.ir.at_node import taken
from danetc.compiler.ir.graph import Graph
from danetc.compiler.passes.recompute import POLICIES
from danetc.dsl.recipe.item import Item
from danetc.errors import UserError
from danetc.output.figures import show_size
from danetc.runtime.kernels.torch_internals import MissingInternal, find, watching
from danetc.runtime.layers.segments import SEGMENT, Recomputed
from danetc.runtime.model.built import Model, to_channels_last
from danetc.runtime.model.signature import outputs_of
from danetc.runtime.system import machine
from danetc.runtime.system.devices import find_device
from danetc.runtime.training.backward import Part, make_backward
from danetc.runtime.training.losses import Objective, over_time
from danetc.runtime.training.optim import freeze, make_optimizer
from danetc.runtime.training.state import autocast, random_state

DTYPES = {"float32": "float32", "tf32": "float32", "bf16": "bfloat16", "fp16": "float16"}
"""Type of activations by a recipe's ``precision``."""


@dataclass(frozen=True, slots=True)
class StepMemory:
    """Bytes of tensors in a training step of ``batch`` samples under a memory policy.

    ``weights`` (with buffers) and the state of the ``optimizer`` are held all the time, ``saved`` from
    the forward to the backward pass, without the outputs. ``peak`` is the most at a time, ``fixed``
    the share of it that does not depend on the batch.
    """

    policy: str
    backend: str
    dtype: str
    batch: int
    weights: int
    optimizer: int
    saved: int
    fixed: int
    peak: int

    def __str__(self) -> str:
        return (
            f"{show_size(self.peak)} at the peak of a step (batch of {self.batch}, {self.backend}, "
            f"{self.dtype})"
        )


@dataclass(frozen=True, slots=True)
class Step:
    """Training step of a network in one of ``processes``.

    Args:
        batch: samples of this process, computed in ``accumulate`` parts.
        loss: makes the loss function of a model and its teachers.
        gradient: Method for gradients through time, as in a recipe.
        frozen: Paths of the parts that are not trained.
        averaged: True if a running mean of the weights is kept.
        on_cpu: True if the step is one of a training on a CPU, where the batches read meanwhile,
            copies of the weights and the checkpoint being written lie in the same memory.
    """

    graph: Graph
    backend: str
    batch: int
    loss: Callable[[Model, Mapping[str, Model]], Callable[..., Tensor]]
    optimizer: Item
    precision: str = "float32"
    gradient: Item = Item("bptt")
    accumulate: int = 1
    averaged: bool = False
    processes: int = 1
    on_cpu: bool = False
    channels_last: bool = False
    teachers: Callable[[], Mapping[str, Model]] = dict
    frozen: Collection[str] = ()


def plain_step(
    graph: Graph,
    backend: str,
    batch: int,
    precision: str = "float32",
    optimizer: str = "sgd_momentum",
) -> Step:
    """Return a step on the cross entropy if the only output is a vector of classes, else on the
    squares of all outputs. ``optimizer`` is a name in recipes, or ``sgd_momentum``."""
    values = [graph[id].value for id in graph.outputs.values()]
    momentum = (("momentum", 0.9),) if optimizer == "sgd_momentum" else ()
    item = Item(optimizer.removesuffix("_momentum"), (("lr", 0.1), *momentum))

    def loss(output: Any, labels: Tensor, images: Tensor) -> Tensor:
        if len(values) == len(values[0].shape) == 1:
            return F.cross_entropy(over_time(output), labels)
        return torch.stack([each.float().square().mean() for each in outputs_of(output)]).sum()

    return Step(graph, backend, batch, lambda model, teachers: loss, item, precision)


class _Live:
    """Size of the storages that operators have allocated and not freed."""

    def __init__(self, before: Iterable[Tensor]) -> None:
        self.now = self.peak = 0
        self._known = {x.untyped_storage()._cdata for x in before}

    def see(self, x: Tensor) -> None:
        storage = x.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key not in self._known:
            self._known.add(key)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._free, key, size).atexit = False

    def _free(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


def step_memory(step: Step, policy: str = "none") -> StepMemory:
    """Return the memory of a training step under a memory policy.

    Raises UserError if the backend is missing, or if the step needs the values of tensors.
    """
    teachers = step.teachers()
    with _without_values():
        model = emit(step.graph, backend=step.backend, memory=policy).train()
        freeze(model, step.frozen)
        if step.channels_last:
            to_channels_last(model)
        value = taken(step.graph)
        size = (*[step.graph.steps] * value.varies, step.batch, *value.shape)
        x = torch.empty(size, dtype=torch.int64 if value.kind.is_token else None)
        loss = step.loss(model, teachers)
        pixels = loss.shape[1:] if isinstance(loss, Objective) else ()
        data = x, torch.zeros(step.batch, *pixels, dtype=torch.int64)
        optimizer = make_optimizer(model, step.optimizer)
        for parameter in filter(lambda p: p.requires_grad, model.parameters()):
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()  # makes its state
        weights = [*model.parameters(), *model.buffers()]
        values = (x for each in optimizer.state.values() for x in each.values())
        state = [x for x in values if torch.is_tensor(x)]
        if step.averaged:
            state += [torch.empty_like(x) for x in weights]
            state.append(torch.zeros((), dtype=torch.int64))  # the number of averages
        gradients = [x.grad for x in model.parameters() if x.grad is not None]
        held = [*weights, *state]
        if step.processes > 1:  # distributed training keeps the gradients
            held += gradients
        optimizer.zero_grad(set_to_none=step.processes == 1)
        live = _Live([*held, *data])
        with watching(live.see):
            saved = _run(step, model, loss, data, live)
            optimizer.step()
    drawing = {  # segments that save a random state, which no operator allocates
        (module, node.meta[SEGMENT].index)
        for module in model.modules()
        if isinstance(module, Recomputed)
        for node in module.graph.nodes
        if SEGMENT in node.meta and node.meta[SEGMENT].random
    }
    saved += len(drawing) * torch.get_rng_state().nbytes
    standing, batch = size_of(held), size_of(data)
    if step.on_cpu:
        batch *= 3  # the one before, and the next
        standing = 2 * standing + size_of(weights)
        standing += 2 * size_of(random_state(torch.device("cpu")).values())
    return StepMemory(
        policy,
        step.backend,
        DTYPES[step.precision],
        step.batch,
        size_of(weights),
        size_of(state),
        saved,
        standing + (size_of(gradients) if step.processes == 1 else 0),
        standing + batch + live.peak,
    )


def _run(
    step: Step, model: Model, loss: Callable[..., Tensor], data: tuple[Tensor, Tensor], live: _Live
) -> int:
    """Run forward and backward passes of images and labels; return the bytes that the first forward pass saves."""
    saved: list[int] = []
    other = 0

    def loss_of(
        images: Tensor, labels: Tensor, outputs: Any, share: float, first: int = 0
    ) -> Tensor:
        nonlocal other
        value = loss(outputs, labels, images) * share
        other = size_of([*outputs_of(outputs), value])
        return value

    def backward(value: Tensor) -> None:
        gc.collect()
        saved.append(live.now - other)
        (value / step.accumulate).backward()

    run = make_backward(step.gradient)
    for x, y in zip(
        data[0].tensor_split(step.accumulate, int(taken(step.graph).varies)),
        data[1].tensor_split(step.accumulate),
        strict=True,
    ):
        precision = partial(autocast, step.precision, torch.device("cpu"))
        run(Part(model, model, x, partial(loss_of, x, y), backward, precision))
    return saved[0]


@contextmanager
def _without_values() -> Iterator[None]:
    """Context of tensors without values. Raises UserError if a computation needs values."""
    try:
        with find("FakeTensorMode")(allow_non_fake_inputs=True):
            yield
    except (ImportError, ValueError) as error:  # a library or a backend that is missing
        raise UserError(str(error)) from error
    except RuntimeError as error:
        values = type(error).__module__ == "torch._subclasses.fake_tensor"
        if not values and not isinstance(error, MissingInternal):
            raise
        why = f"the loss of the step reads values of tensors ({error})" if values else str(error)
        raise UserError(f"{why}; name a policy: {', '.join(POLICIES)}") from error


def size_of(tensors: Iterable[Tensor]) -> int:
    """Return the bytes of tensors, counting a shared storage once."""
    storages = {x.untyped_storage()._cdata: x.untyped_storage().nbytes() for x in tensors}
    return sum(storages.values())


@dataclass(frozen=True, slots=True)
class Chosen:
    """A memory policy, and the step and budget that it was chosen for (None if it was named)."""

    policy: str
    step: StepMemory | None = None
    budget: int | None = None

    def __str__(self) -> str:
        if self.step is None or self.budget is None:
            return self.policy
        return f"{self.policy}: {self.step}; the budget is {show_size(self.budget)}"


def choose(graph: Graph, memory: Memory, *, batch: int, backend: str) -> Chosen:
    """Return the policy for a plain step in float32 with SGD and momentum, as ``fitting`` does."""
    return fitting(plain_step(graph, backend, batch), memory, free_for(find_device()))


def fitting(step: Step, memory: Memory, free: int | None) -> Chosen:
    """Return the named policy, or the cheapest one whose step fits into a budget and into ``free``
    bytes (None if not known).

    Raises UserError with a suggestion if nothing fits.
    """
    if isinstance(memory, str):
        return Chosen(memory)
    room = memory if free is None else min(memory, free)
    tried = []
    for policy in POLICIES:
        found = step_memory(step, policy)
        if found.peak <= room:
            return Chosen(policy, found, memory)
        tried.append(found)
    best = min(tried, key=lambda each: each.peak)
    part = -(-step.batch // step.accumulate)
    fits = part * (room - best.fixed) // max(1, best.peak - best.fixed)
    advice = (
        "a smaller network or image, or fewer steps: not even a batch of 1 fits (the weights, their "
        f"gradients and the optimizer alone are {show_size(best.fixed)})"
    )
    if fits > 0:
        parts = -(-step.batch // fits)
        half = " or precision = bf16" if step.precision in ("float32", "tf32") else ""
        advice = f"a batch of about {fits * step.accumulate}, or accumulate = {parts}{half}"
    raise UserError(
        f"{step.graph.name} does not fit into {show_size(room)}"
        f"{', all that this machine has free' if room < memory else ''}: a step takes {best} with the "
        f"policy {best.policy}; take {advice}"
    )


def free_for(device: torch.device, processes: int = 1) -> int | None:
    """Return the share of a CPU's free memory that each process can have; None on a GPU, which
    reports that its memory is exhausted instead of ending processes."""
    return machine.free_memory() // processes if device.type == "cpu" else None
