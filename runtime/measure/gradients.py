"""Gradient norms, and their split into a spatial and a temporal part (Eqs. 4 to 9).

At each time step the gradient of a membrane potential V_t has two sources: its spike, through the
layers above (Eq. 5), and the state that it passes to the next step (Eq. 6):

    dL/dV_t = dL/dS_t * dS_t/dV_t  +  dL/dU_t * dU_t/dV_t

where dL/dS_t comes from the layers above alone, and dU_t/dV_t contains the reset. Both parts are
propagated to the weights before the layer, up to the previous neurons: the gradient of a weight is
the sum over the steps of the parts of the next neurons. The part that passes no neuron (the whole
gradient of the classifier) is the ``direct`` one. For any program, the parts are the vector-Jacobian
products of the spikes' gradients alone and of the states' gradients alone, whose sum is the whole
because the product is linear.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from math import hypot
from statistics import fmean

import torch
from torch import Tensor, nn

from danetc.runtime.kernels.composed_operators import is_static
from danetc.runtime.kernels.neuron import kernel, to_accumulate_dtype
from danetc.runtime.kernels.neuron_operators import inputs_over_time, is_timeless
from danetc.runtime.layers.neuron import Neuron
from danetc.runtime.measure.layout import Layout
from danetc.runtime.measure.observe import MeasureError

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, slots=True)
class GradientNorm:
    """Euclidean norms of a parameter's gradient and of its parts.

    ``residual`` is the norm of whole - (spatial + temporal + direct), which is due to rounding. (The
    gradient of layers before a norm with batch statistics may consist of rounding errors.)
    """

    parameter: str
    elements: int
    whole: float
    spatial: float
    temporal: float
    direct: float
    residual: float


@dataclass(frozen=True, slots=True)
class NeuronGradientNorm:
    """Norms of the gradient of a layer's input per image, over all time steps, and of its parts."""

    layer: str
    main: bool
    whole: float
    spatial: float
    temporal: float


@dataclass(frozen=True, slots=True)
class GradientNorms:
    """Means over batches of norms of the gradient of a batch's mean loss.

    ``residual`` is that of all parameters relative to the norm of the whole gradient, about 1e-6 in
    float32.
    """

    loss: float
    batches: int
    residual: float
    parameters: tuple[GradientNorm, ...]
    neurons: tuple[NeuronGradientNorm, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Gradients of one batch by the names of parameters, 0 without a gradient.

    ``inputs`` holds the spatial and temporal part of the gradient of each neuron layer's input.
    """

    loss: float
    whole: dict[str, Tensor]
    spatial: dict[str, Tensor]
    temporal: dict[str, Tensor]
    direct: dict[str, Tensor]
    inputs: dict[str, tuple[Tensor, Tensor]]


@dataclass(slots=True)
class _Passed:
    """Forward pass of a layer: its input, and the gradient of its output."""

    neuron: Neuron
    x: Tensor
    grad: Tensor | None = None


def split_gradients(
    model: nn.Module, layout: Layout, x: Tensor, labels: Tensor, loss: Loss, seed: int = 0
) -> Split:
    """Return the gradient of a batch's loss and its parts.

    Two forward passes run with the same random numbers: one for the whole gradient and those of the
    neurons' outputs, one cut at these outputs. Norms run in their current mode. The ``grad`` of
    parameters does not change.
    """
    parameters = {name: x for name, x in model.named_parameters() if x.requires_grad}

    def grads(
        roots: Sequence[Tensor], seeds: Sequence[Tensor | None], keep: bool = False
    ) -> dict[str, Tensor]:
        known = [pair for pair in zip(roots, seeds, strict=True) if pair[0].requires_grad]
        if not known:
            return {name: torch.zeros_like(value) for name, value in parameters.items()}
        outputs, given = zip(*known, strict=True)
        inputs = [*parameters.values()]
        found = torch.autograd.grad(outputs, inputs, given, keep, materialize_grads=True)
        return dict(zip(parameters, found, strict=True))

    with _hooks(model, layout, cut=False) as passes, torch.enable_grad():
        torch.manual_seed(seed)
        value = loss(model(x), labels)
        if not bool(torch.isfinite(value)):
            raise MeasureError("the loss is not finite: there are no gradients to measure")
        whole = grads([value], [None])
    parts = {name: _split_neuron(passed) for name, passed in passes.items()}
    with _hooks(model, layout, cut=True) as again, torch.enable_grad():
        torch.manual_seed(seed)
        same = loss(model(x), labels)
        inputs = [again[name].x for name in passes]
        spatial, temporal = (
            grads(inputs, [part[place][0] for part in parts.values()], keep=True)
            for place in range(2)
        )
        direct = grads([same], [None])
    for name, passed in passes.items():
        of = {id(own): each for each, own in passed.neuron.named_parameters()}
        for place, learnable in enumerate(passed.neuron.params(), 1):
            learnt = f"{name}.{of[id(learnable)]}"
            for total, part in zip((spatial, temporal), parts[name], strict=True):
                if learnt in total:
                    total[learnt] = total[learnt] + part[place]
    both = {name: (part[0][0], part[1][0]) for name, part in parts.items()}
    return Split(float(value.detach()), whole, spatial, temporal, direct, both)


@contextmanager
def _hooks(model: nn.Module, layout: Layout, cut: bool) -> Iterator[dict[str, _Passed]]:
    """Record the inputs of all layers of neurons, and either cut the graph at their outputs or record
    the gradients of these."""
    passes: dict[str, _Passed] = {}

    def hook(name: str, module: Neuron, args: tuple[Tensor, ...], out: Tensor) -> Tensor | None:
        passes[name] = passed = _Passed(module, args[0] if cut else args[0].detach())
        if cut:
            return out.detach()
        if out.requires_grad:
            out.register_hook(lambda grad: setattr(passed, "grad", grad))
        return None

    with ExitStack() as stack:
        for each in layout.neurons:
            layer = model.get_submodule(each.name)
            stack.enter_context(layer.register_forward_hook(partial(hook, each.name)))
        yield passes


def _split_neuron(passed: _Passed) -> tuple[list[Tensor], ...]:
    """Return the two parts of the gradients of a layer's input and parameters.

    The gradient of the states is propagated back through time. At each step its contribution is the
    temporal part, and that of the output's gradient the spatial one.
    """
    neuron, x = passed.neuron, passed.x
    params = [value.detach() for value in neuron.params()]
    parts = tuple([torch.zeros_like(value) for value in (x, *params)] for _ in range(2))
    if passed.grad is None:
        return parts
    run = kernel(neuron.program)
    static = is_static(x, neuron.input_rank)
    inputs = inputs_over_time(x, neuron.steps, neuron.input_rank, neuron.program)
    timeless = is_timeless(x, neuron.input_rank, neuron.program)
    grad = passed.grad.unsqueeze(0) if timeless else passed.grad
    states = run.initial_states(to_accumulate_dtype(inputs[0]))
    history = [states]
    for t, x_t in enumerate(inputs[:-1]):
        _, *states = run.step(to_accumulate_dtype(x_t), *states, *run.at(params, t))
        history.append(list(states))
    incoming = none = [torch.zeros_like(state) for state in history[0]]
    for t in range(len(inputs) - 1, -1, -1):
        above = to_accumulate_dtype(grad[t])
        before = (to_accumulate_dtype(inputs[t]), *history[t], *run.at(params, t))
        spatial = run.step_vjp(*before, above, *none)
        temporal = run.step_vjp(*before, torch.zeros_like(above), *incoming)
        count = len(incoming)
        for totals, found in zip(parts, (spatial, temporal), strict=True):
            (totals[0] if static else totals[0][t]).add_(found[0])
            for total, part in zip(run.at(totals[1:], t), found[1 + count :], strict=True):
                total.add_(part)
        incoming = [
            a + b for a, b in zip(spatial[1 : 1 + count], temporal[1 : 1 + count], strict=True)
        ]
    return parts


class GradientMeans:
    """Gathers norms over batches."""

    def __init__(self, model: nn.Module, layout: Layout, loss: Loss, seed: int) -> None:
        self._arguments = model, layout, loss, seed
        self._losses: list[float] = []
        self._residuals: list[float] = []
        self._elements: dict[str, int] = {}
        self._norms: dict[str, list[list[float]]] = defaultdict(list)
        self._inputs: dict[str, list[list[float]]] = defaultdict(list)

    def add(self, x: Tensor, labels: Tensor) -> None:
        """Measure one batch."""
        model, layout, loss, seed = self._arguments
        split = split_gradients(model, layout, x, labels, loss, seed)
        self._losses.append(split.loss)
        latest = []
        for name, whole in split.whole.items():
            parts = (split.spatial[name], split.temporal[name], split.direct[name])
            rest = whole - parts[0] - parts[1] - parts[2]
            latest.append([_norm(value) for value in (whole, *parts, rest)])
            self._elements[name] = whole.numel()
            self._norms[name].append(latest[-1])
        total, left = (hypot(*(norms[place] for norms in latest)) for place in (0, 4))
        self._residuals.append(left / total if total else 0.0)
        for name, (spatial, temporal) in split.inputs.items():
            scale = len(labels) ** 0.5
            parts = (spatial + temporal, spatial, temporal)
            self._inputs[name].append([scale * _norm(value) for value in parts])

    def result(self) -> GradientNorms:
        parameters = tuple(
            GradientNorm(name, self._elements[name], *_means(norms))
            for name, norms in self._norms.items()
        )
        neurons = tuple(
            NeuronGradientNorm(layer.name, layer.main, *_means(self._inputs[layer.name]))
            for layer in self._arguments[1].neurons
        )
        loss, residual = fmean(self._losses), fmean(self._residuals)
        return GradientNorms(loss, len(self._losses), residual, parameters, neurons)


def _norm(value: Tensor) -> float:
    return float(torch.linalg.vector_norm(value, dtype=torch.float64))


def _means(rows: Sequence[Sequence[float]]) -> list[float]:
    return [fmean(column) for column in zip(*rows, strict=True)]
