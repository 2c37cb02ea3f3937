"""Helpers of the differential tests: they build networks in float64 and compare their results."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from scipy import stats
from torch import Tensor, nn

from danetc.compiler import check_file, check_text, graph_of
from danetc.compiler.emit.fx import emit
from danetc.compiler.emit.program import standalone
from danetc.compiler.emit.python import emit_python
from danetc.compiler.ir.graph import Graph
from danetc.compiler.passes import PIPELINE, Pass
from danetc.runtime.layers.neuron import Neuron
from danetc.runtime.model.built import Model
from danetc.runtime.model.weights import match


def spec(name: str, passes: tuple[Pass, ...] = PIPELINE, **settings: Any) -> Graph:
    return graph_of(check_file(name), settings=settings, passes=passes)


def text(source: str, passes: tuple[Pass, ...] = PIPELINE, **settings: Any) -> Graph:
    """The graph of the only network in a text without ``use std``."""
    return graph_of(check_text(f"use std\n{source}"), settings=settings, passes=passes)


def randn(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def built(graph: Graph, seed: int = 0) -> Model:
    """The model in float64, with its vector parameters moved by ``shake``."""
    model = emit(graph, seed).double()
    shake(model)
    return model


def model_py(graph: Graph) -> nn.Module:
    """The network of ``model.py`` in float64. Like a model, it also takes all inputs in one tensor."""
    model = standalone(emit_python(graph), "written").train().double()
    channels = [node.value.shape[0] for node in graph.inputs]

    def split(_: nn.Module, args: tuple[Tensor, ...]) -> Any:
        return args[0].split(channels, -3) if len(args) == 1 else None

    if len(channels) > 1:
        model.register_forward_pre_hook(split)
    return model


def streamed(model: Model, frames: Iterable[Any]) -> list[Any]:
    states, outputs = None, []
    for frame in frames:
        found, states = model.stream(frame, states)
        outputs.append(found)
    return outputs


@torch.no_grad()
def shake(model: nn.Module, seed: int = 7) -> None:
    """Move every vector parameter (weights and biases of norms, other biases) off its initial value.

    Norms with weight 1 and bias 0 would hide which norm a value passed through.
    """
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.dim() == 1:
            noise = torch.rand(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_((0.4 * noise - 0.1).to(parameter.dtype))


def with_weights_of(model: Model, other: nn.Module) -> Mapping[str, str]:
    """Load another network's weights, paired by order. Return a map from our names to the other's."""
    report = match(model, other.state_dict())
    assert report.how == "order"
    assert not report.unexpected
    model.load_state_dict(report.state)
    return report.matched  # type: ignore[no-any-return]


@dataclass
class Seen:
    """One forward and backward pass: outputs, gradients of parameters and input, buffers, spikes."""

    outputs: list[Tensor]
    gradients: dict[str, Tensor]
    buffers: dict[str, Tensor]
    spikes: list[Tensor]


def observe(
    model: nn.Module,
    x: Tensor,
    neurons: type[nn.Module] = Neuron,
    read: Callable[[Any], Any] = lambda y: y,
) -> Seen:
    """Run forward and backward. ``read`` converts the output to the value that is compared.

    The loss is a fixed random projection, so no symmetry of the network hides an error. Every
    parameter must have a gradient.
    """
    model.zero_grad()
    x = x.detach().clone().requires_grad_(x.is_floating_point())
    layers = [module for module in model.modules() if isinstance(module, neurons)]
    found: dict[nn.Module, Tensor] = {}
    hooks = [
        layer.register_forward_hook(lambda module, _, y: found.update({module: y.detach()}))
        for layer in layers
    ]
    result = read(model(x))
    for hook in hooks:
        hook.remove()
    outputs = list(result) if isinstance(result, tuple) else [result]
    sum((y * randn(*y.shape, seed=3 + i)).sum() for i, y in enumerate(outputs)).backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    missing = [name for name, gradient in gradients.items() if gradient is None]
    assert not missing, f"no gradient: {missing}"
    if x.grad is not None:
        gradients["x"] = x.grad
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    return Seen([y.detach() for y in outputs], gradients, buffers, [found[each] for each in layers])


def observe_each(models: Iterable[nn.Module], x: Tensor, training: bool = True) -> list[Seen]:
    """Observe several models, each with the same random seed."""
    seen = []
    for model in models:
        torch.manual_seed(0)
        seen.append(observe(model.train(training), x))
    return seen


def assert_close(
    mine: Tensor, other: Tensor, tolerance: float, what: str = "", floor: float = 0.0
) -> None:
    """Compare to ``tolerance`` times the largest entry or ``floor``. A tolerance of 0 compares exactly."""
    scale = max(floor, float(other.abs().max())) if tolerance else 0.0
    assert math.isfinite(scale), what
    torch.testing.assert_close(
        mine, other, rtol=0, atol=tolerance * scale, msg=lambda text: f"{what}: {text}"
    )


def assert_same(
    mine: Seen,
    other: Seen,
    names: Mapping[str, str] | None = None,
    *,
    outputs: float = 0,
    gradients: float = 0,
    buffers: float = 0,
) -> None:
    """Compare the results of two networks. ``names`` maps names in ``mine`` to names in ``other``.

    The scale of a gradient is its largest entry, but at least a thousandth of the network's largest
    one: a gradient that is zero except for rounding (a bias before a norm) has no scale of its own.
    """
    floor = 1e-3 * max(float(value.abs().max()) for value in other.gradients.values())
    assert len(mine.outputs) == len(other.outputs)
    for i, (a, b) in enumerate(zip(mine.outputs, other.outputs, strict=True)):
        assert_close(a, b, outputs, f"output {i}")
    pairs = names or {}
    assert len(mine.gradients) == len(other.gradients)
    for name, value in mine.gradients.items():
        twin = other.gradients[pairs.get(name, name)]
        assert_close(value, twin, gradients, f"gradient of {name}", floor)
    for name, value in mine.buffers.items():
        twin = other.buffers[pairs.get(name, name)]
        assert_close(value.double(), twin.double(), buffers, name)


def all_zero(tensors: Iterable[Tensor]) -> bool:
    return all(not tensor.any() for tensor in tensors)


def follows(values: Tensor, law: stats.rv_continuous, least: float = 1e-3) -> bool:
    """Whether numbers fit a distribution: the p-value of a Kolmogorov-Smirnov test is above ``least``."""
    return float(stats.kstest(values.flatten().numpy(), law.cdf).pvalue) > least
