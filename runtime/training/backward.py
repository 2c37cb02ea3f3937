"""Gradient rules: backpropagation through time over all steps, over groups of steps as they run, or as a CUDA graph.

In groups, the network runs as a stream: the memory of a training step does not grow with T, norms
use the statistics of one step, and no gradient passes through the states from group to group.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, fx, nn
from torch.func import functional_call

from danetc.dsl.neuron.opcodes import OPCODES
from danetc.dsl.neuron.reading import read_program
from danetc.dsl.neuron.ssa import Instruction
from danetc.dsl.recipe.item import Item
from danetc.dsl.recipe.settings import Phase
from danetc.runtime.kernels.neuron import Step, differentiable_step
from danetc.runtime.layers.loop import Loop
from danetc.runtime.layers.neuron import Neuron
from danetc.runtime.layers.weight_layer import layers_of
from danetc.runtime.model.built import Model
from danetc.runtime.model.signature import outputs_of
from danetc.runtime.system.errors import TrainingError
from danetc.runtime.training.distributed import World
from danetc.runtime.training.guards import is_out_of_memory
from danetc.runtime.training.losses import Objective, values_of


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


def make_backward(item: Item) -> Callable[[Part], tuple[Any, Tensor]]:
    """Return the function that learns from a part by a recipe's ``gradient``, and returns outputs and loss."""
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
    most = model.signature.steps
    if item.name == "online" and item["steps"] > most and not model.signature.sequence:
        raise TrainingError(
            f"`gradient = online(steps = {item['steps']})` exceeds the network's T of {most} time steps; use "
            f"at most {most}"
        )
    if item.name == "online" and item["update"] == "step" and accumulate > 1:
        raise TrainingError(
            "`update = step` changes the weights after each time step of a batch, which cannot have "
            f"{accumulate} parts; set `accumulate = 1`, or use `update = batch`"
        )
    how = f"`gradient = {item.name}` runs the network step by step"
    if whole := model.signature.whole:
        raise TrainingError(f"{how}, which it cannot: {whole}; use `gradient = bptt`")
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
    with ExitStack() as stack:
        for loop in _loops(part.model):
            stack.callback(setattr, loop, "detached", False)
            loop.detached = True
        return _bptt(part)


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
    """Compute weight gradients from the sum of a layer's inputs so far, decayed by ``trace`` a step.

    This is OTTT (Xiao et al., NeurIPS 2022, Eq. 9 to 11); only weights have other gradients.
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


# -- gradients of firing rates (DSR: Meng et al., CVPR 2022) ---------------------------------------
#
# A neuron ``v = leak * u + gain * x`` that gives ``height`` and subtracts ``reset`` when it fires has a mean output
# close to ``min(max(slope * mean of x, 0), height)`` with ``slope = gain * height / reset``, if step t of T has the
# weight leak^(T - t) in both means. The gradient of a layer is that of this function, which all steps of the input
# share equally, as in the authors' code: no surrogate and no state take part.


@contextmanager
def represented(model: nn.Module, slope: float = 0.0) -> Iterator[None]:
    """Give layers of neurons the gradients of their rates, with a ``slope`` in place of that of the equations.

    The context must include the backward pass, in which segments may run again.
    """
    with ExitStack() as stack:
        for _, layer in layers_of(model):
            if isinstance(layer, Neuron) and read_program(layer.program).has_step:
                hook = partial(_learn_rate, slope=slope)
                stack.enter_context(layer.register_forward_hook(hook, prepend=True))
        yield


def check_represented(model: nn.Module) -> None:
    """Raise TrainingError if the rate of a layer does not follow from its equations."""
    for name, layer in layers_of(model):
        if fault := _fault(layer):
            raise TrainingError(
                f"`gradient = representation` has no rate for `{name}`: {fault}; it is for neurons "
                "without loops that leak and subtract a constant, as IF and LIF with a soft reset do"
            )


def _learn_rate(layer: Neuron, inputs: Any, out: Tensor, slope: float) -> Tensor | None:
    """Forward hook of a layer: its output with the gradient of its rate."""
    if not torch.is_grad_enabled():
        return None
    x = values_of(layer, inputs, out, "current")
    leak, gain, height, reset = _probe(layer, x)[0]
    ages = torch.arange(len(x) - 1, -1, -1, device=x.device).view(-1, *[1] * (x.dim() - 1))
    weights = leak.detach() ** ages
    weights = weights / weights.sum(0)
    factor = slope or gain * height / reset
    rate = factor * (weights * x).sum(0)
    bounded = torch.where(rate > height, height, torch.zeros_like(rate))
    learning = torch.where((rate > 0) & (rate < height), factor * x.mean(0), bounded)
    change = len(x) * weights * (learning - learning.detach())  # 0, with a gradient
    return out.detach() + change.to(out.dtype)


@lru_cache(maxsize=256)
def _forced(program: str, spike: float) -> Step:
    """Return the step of a program whose neurons always or never fire."""
    parsed = read_program(program)
    ops: list[Instruction] = []
    for op in parsed.ops:
        if op.opcode == "heaviside":  # 0 times its argument, which keeps the shape
            ops.append(replace(op, name="_forced", opcode="mul", args=(*op.args, 0.0)))
            op = replace(op, opcode="add", args=("_forced", spike))
        ops.append(op)
    return differentiable_step(replace(parsed, ops=tuple(ops)).text())


def _probe(layer: Neuron, like: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Return leak, gain, height and reset in the type of ``like``: numbers, or one for each channel or neuron.

    Also return the values from which they are read: output and next state of neurons that never fire,
    and of those that always do, for (input, state) = (0, 0), (1, 0), (0, 1) and (0.7, -1.3).
    """
    pairs = like.new_tensor([[0.0, 1.0, 0.0, 0.7], [0.0, 0.0, 1.0, -1.3]])
    inputs = *pairs.view(2, 4, *[1] * layer.rank), *layer.params()
    values = [value for spike in (0.0, 1.0) for value in _forced(layer.program, spike)(*inputs)]
    _, silent, output, fired = values
    return [silent[2], silent[1], output[0], (silent - fired)[0]], values


def _fault(layer: nn.Module) -> str | None:
    """Return the reason why a layer of neurons has no rate of the form above, or None."""
    if isinstance(layer, Loop):
        return "it runs in a loop, in which an input is not known before the output"
    if not isinstance(layer, Neuron) or not (program := read_program(layer.program)).has_step:
        return None
    steps = [op for op in program.ops if OPCODES[op.opcode].step]
    if len(program.states) != 1 or program.inputs or program.per_step:
        return "it needs one state, one input, and the same numbers at all steps"
    if [op.opcode for op in steps] != ["heaviside"]:
        return "its output is not that of one heaviside"
    like = next(iter(layer.params()), torch.zeros(()))
    with torch.no_grad():
        (leak, gain, height, reset), (none, silent, output, fired) = _probe(layer, like)
        linear = silent[0].abs().max() < 1e-6 and torch.allclose(silent[3], 0.7 * gain - 1.3 * leak)
        if not linear or (leak < 0).any():
            return "its membrane is not a leak times the state plus a gain times the input"
        if not torch.allclose(silent - fired, reset) or (reset <= 0).any():
            return "what it subtracts when it fires is not a positive constant"
        if none.any() or not torch.allclose(output, height) or (height <= 0).any():
            return "its output is not a positive constant when it fires, and 0 when it does not"
    return None


# -- CUDA graphs: a training step is recorded once, and then takes one launch ----------------------
#
# Recorded kernels use the same memory at each replay, so inputs are copied to where they were, and gradients
# found there. The optimizer, clipping and the loss scaler, which read the host, run as usual.

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

    ``run`` must compute on the device alone and leave gradients in ``parameters``, which have none before.
    Inputs of any other form, as the last batch of an epoch, run as usual.
    """

    def __init__(self, run: Callable[..., object], parameters: Sequence[nn.Parameter]) -> None:
        self._run, self._parameters = run, parameters
        self._seen: Counter[object] = Counter()
        self._form: object = None

    def __call__(self, *inputs: Tensor, share: float) -> None:
        form = (*((x.shape, x.stride(), x.dtype) for x in inputs), share)
        self._seen[form] += 1
        if self._form is None and self._seen[form] > WARM_UP:
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
        self._graph: Any = torch.cuda.CUDAGraph()
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
