"""Gradient rules: backpropagation through time over all steps, over groups of steps as they run, or as a CUDA graph.

In groups, the network runs as a stream: the memory of a training step does not grow with T, norms
use the statistics of one step, and no gradient passes through the states from group to group.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, fx, nn
from torch.func import functional_call

from danetc.dsl.recipe.item import Item
from danetc.dsl.recipe.settings import Phase
from danetc.runtime.layers.loop import Loop
from danetc.runtime.layers.weight_layer import layers_of
from danetc.runtime.model.built import Model
from danetc.runtime.model.signature import outputs_of
from danetc.runtime.system.errors import TrainingError
from danetc.runtime.training.distributed import World
from danetc.runtime.training.guards import is_out_of_memory
from danetc.runtime.training.losses import Objective
from danetc.runtime.training.representation import check_represented, represented


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a batch: images ``x`` [N, ...] or [T, N, ...].

    ``shared`` is called in place of ``model``: the model, or DDP around it. ``loss`` returns the loss of
    the model's outputs, times their ``share`` of the steps (a keyword), and ``backward`` runs its backward pass.
    ``update`` lets the optimizer change the weights between two time steps.
    """

    shared: nn.Module
    model: Model
    x: Tensor
    loss: Callable[..., Tensor]
    backward: Callable[[Tensor], object]
    autocast: Callable[[], AbstractContextManager[object]]
    update: Callable[[], object] = lambda: None


Backward = Callable[[Part], tuple[Any, Tensor]]
"""Adds the gradients of a part to those of the weights; returns the outputs and the loss."""


def make_backward(item: Item) -> Backward:
    """Return the function that a recipe's ``gradient`` names."""
    return partial(BACKWARD[item.name], **dict(item.arguments))


def check_backward(item: Item, model: Model, objective: Objective, accumulate: int) -> None:
    """Raise TrainingError if the network, the loss or the parts of a batch do not fit the gradient."""
    if item.name == "eprop" and not _loops(model):
        raise TrainingError(
            "`gradient = eprop` cuts the gradient of loops over time between layers, such as "
            "`h -> delay(1) -> linear(64)`, of which the network has none; use `gradient = bptt`"
        )
    if item.name == "representation":
        check_represented(model)
    if item.name in ("bptt", "eprop", "representation"):
        return
    given, most = dict(item.arguments), model.signature.steps
    drawn = given.get("steps") if item.name == "online" else None
    if isinstance(drawn, int) and drawn > most and not model.signature.sequence:
        raise TrainingError(
            f"`gradient = online(steps = {drawn})` exceeds the network's T of {most} time steps; use "
            f"at most {most}"
        )
    if given.get("update") == "step" and accumulate > 1:
        raise TrainingError(
            "`update = step` changes the weights after each time step of a batch, which cannot have "
            f"{accumulate} parts; set `accumulate = 1`, or use `update = batch`"
        )
    how = f"`gradient = {item.name}` runs the network step by step"
    if model.signature.whole:
        raise TrainingError(
            f"{how}, which it cannot: {model.signature.whole}; use `gradient = bptt`"
        )
    if objective.reads_neurons:
        raise TrainingError(
            f"{how}, in which terms of the loss cannot read neurons; leave them out, or use "
            "`gradient = bptt`"
        )


def _bptt(part: Part) -> tuple[Any, Tensor]:
    with part.autocast():
        outputs = part.shared(part.x)
        loss = part.loss(outputs, share=1.0)
    part.backward(loss)
    return outputs, loss.detach()


def _eprop(part: Part) -> tuple[Any, Tensor]:
    loops = _loops(part.model)
    for loop in loops:
        loop.detached = True
    try:
        return _bptt(part)
    finally:
        for loop in loops:
            loop.detached = False


def _loops(model: nn.Module) -> list[Loop]:
    return [module for module in model.modules() if isinstance(module, Loop)]


def _truncated(part: Part, steps: int, only: int = 0, update: str = "batch") -> tuple[Any, Tensor]:
    """The loss is the mean over groups of ``steps`` steps, weighted by their numbers of steps.

    Gradients are those of ``only`` random groups, or of all if it is 0.
    """
    signature = part.model.signature
    frames = part.x.dim() == len(signature.input) + 2
    count = len(part.x) if frames else signature.steps
    states: Any = None
    given: list[tuple[Tensor, ...]] = []
    losses: list[Tensor] = []
    starts = range(0, count, steps)
    learning = [*starts]
    if only:
        drawn = torch.randperm(len(starts))[:only].to(part.x.device)
        if dist.is_available() and dist.is_initialized():
            dist.broadcast(drawn, 0)  # norms of all processes exchange sums in a backward pass
        learning = sorted(steps * group for group in drawn.tolist())
    for first in starts:
        with part.autocast(), nullcontext() if first in learning else torch.no_grad():
            for t in range(first, min(first + steps, count)):
                found, states = part.model.stream(part.x[t] if frames else part.x, states)
                given.append(outputs_of(found))
            share = (len(given) - first) / count
            loss = part.loss(_together(given[first:]), share=share, first=first)
        if first in learning:
            part.backward(loss)
            if update == "step" and first < learning[-1]:
                part.update()
        states = fx.node.map_aggregate(states, lambda x: x.detach() if isinstance(x, Tensor) else x)
        given[first:] = [tuple(y.detach() for y in outputs) for outputs in given[first:]]
        losses.append(loss.detach())
    return _together(given), sum(losses[1:], losses[0])


def _online(
    part: Part, trace: float, trace_first: bool, steps: int, update: str
) -> tuple[Any, Tensor]:
    with _traced(part.model, trace, () if trace_first else part.model.signature.first):
        return _truncated(part, 1, steps, update)


def _represented(part: Part, slope: float) -> tuple[Any, Tensor]:
    with represented(part.model, slope):
        return _bptt(part)


BACKWARD: Mapping[str, Callable[..., tuple[Any, Tensor]]] = {
    "bptt": _bptt,
    "truncated": _truncated,
    "online": _online,
    "eprop": _eprop,
    "representation": _represented,
}
"""Functions of a part and of the arguments of the row in ``dsl.recipe.items``, by name."""


def _together(steps: list[tuple[Tensor, ...]]) -> Any:
    """Stack the outputs of steps to [T, N, ...]; a tuple if there are several outputs."""
    outputs = tuple(torch.stack(output) for output in zip(*steps, strict=True))
    return outputs[0] if len(outputs) == 1 else outputs


@contextmanager
def _traced(model: nn.Module, trace: float, untraced: Container[str]) -> Iterator[None]:
    """Compute weight gradients from the sum of a layer's inputs so far, decayed by ``trace`` a step,
    except in the layers named by ``untraced``.

    This is OTTT (Xiao et al., NeurIPS 2022, Eq. 9 to 11). Outputs and the gradients of inputs do
    not change.
    """
    sums: dict[nn.Module, Tensor] = {}
    running: set[nn.Module] = set()

    def follow(module: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> Tensor | None:
        if module in running:
            return None  # the call below, whose weights are detached
        x = inputs[0].detach()
        past = sums.get(module)
        sums[module] = x if past is None else trace * past + x
        weights = {name: value.detach() for name, value in module.named_parameters()}
        running.add(module)
        value: Tensor = functional_call(module, weights, inputs)
        running.discard(module)
        learning: Tensor = module.forward(sums[module])
        return value + (learning - learning.detach())

    with ExitStack() as stack:
        for name, layer in layers_of(model):
            if trace and isinstance(layer, nn.Conv2d | nn.Linear) and name not in untraced:
                stack.enter_context(layer.register_forward_hook(follow))
        yield


# -- CUDA graphs: a training step is recorded once, and then takes one launch ----------------------
#
# Recorded kernels read and write the same memory at each replay, so inputs are copied to where they were
# recorded, and gradients are found where they were. The optimizer, clipping and the loss scaler, which
# read the host, run as usual.

DEVICES = ("cuda",)
"""Types of devices that have graphs."""
WARM_UP = 3
"""Steps before the recorded one, in which kernels are compiled and algorithms are chosen."""


def check_graphs(phase: Phase, world: World) -> None:
    """Raise TrainingError if the steps of a phase cannot be recorded."""
    gradient = phase.gradient.name
    reasons = {
        f"the device is {world.device.type}": world.device.type not in DEVICES,
        f"{world.size} processes exchange gradients in the backward pass": world.size > 1,
        f"`accumulate = {phase.accumulate}` adds the gradients of parts": phase.accumulate > 1,
        f"`gradient = {gradient}` is not `bptt`": gradient != "bptt",
    }
    if found := [reason for reason, holds in reasons.items() if holds]:
        raise TrainingError(
            f"phase `{phase.name}` cannot use CUDA graphs: {'; '.join(found)}; train it without "
            "--cuda-graphs"
        )


class GraphedPass:
    """A function of tensors that is recorded as a CUDA graph when inputs of a form come for the fourth time.

    ``run(*inputs, share=share)`` must compute on the device alone and leave gradients in ``parameters``, which
    have none before. Inputs of any other form, as the last batch of an epoch, run as usual.
    """

    def __init__(self, run: Callable[..., object], parameters: Sequence[nn.Parameter]) -> None:
        self._run, self._parameters = run, parameters
        self._seen: Counter[object] = Counter()
        self._form: object = None
        self._graph: Any = None
        self._inputs: list[Tensor] = []
        self._grads: list[Tensor | None] = []

    def __call__(self, *inputs: Tensor, share: float) -> None:
        form = (*((x.shape, x.stride(), x.dtype) for x in inputs), share)
        self._seen[form] += 1
        if self._graph is None and self._seen[form] > WARM_UP:
            self._form = form
            self._record(inputs, share)
        if form != self._form:
            self._run(*inputs, share=share)
            return
        for place, x in zip(self._inputs, inputs, strict=True):
            place.copy_(x)
        self._graph.replay()
        for parameter, grad in zip(self._parameters, self._grads, strict=True):
            parameter.grad = grad

    def _record(self, inputs: Sequence[Tensor], share: float) -> None:
        self._inputs = [torch.empty_like(x).copy_(x) for x in inputs]
        self._graph = torch.cuda.CUDAGraph()
        try:
            # Other threads, which pin memory for the loader, may go on.
            with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
                self._run(*self._inputs, share=share)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            raise TrainingError(
                "the step cannot be recorded as a CUDA graph, since something in it reads values of the "
                f"device, as a hook, a loss or a layer of your own may do: {error}; train without "
                "--cuda-graphs"
            ) from error
        self._grads = [parameter.grad for parameter in self._parameters]
