"""What the differential tests share: networks in float64, and what to compare of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from danetc.compiler import check_file, check_text, graph_of
from danetc.compiler.emit.fx import emit
from danetc.compiler.ir.graph import Graph
from danetc.compiler.passes import PIPELINE, Pass
from danetc.runtime.layers.neuron import Neuron
from danetc.runtime.model.built import Model
from danetc.runtime.model.weights import match


def spec(name: str, passes: tuple[Pass, ...] = PIPELINE, **settings: Any) -> Graph:
    """The graph of a shipped spec."""
    return graph_of(check_file(name), settings=settings, passes=passes)


def text(source: str, passes: tuple[Pass, ...] = PIPELINE, **settings: Any) -> Graph:
    """The graph of the one network of a text that is given without its ``use std``."""
    return graph_of(check_text(f"use std\n{source}"), settings=settings, passes=passes)


def randn(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def built(graph: Graph, seed: int = 0) -> Model:
    """The model in float64, all of its affine parameters away from 0 and 1."""
    model = emit(graph, seed).double()
    shake(model)
    return model


def streamed(model: Model, frames: Iterable[Any]) -> list[Any]:
    """The outputs of a stream, frame by frame."""
    states, outputs = None, []
    for frame in frames:
        found, states = model.stream(frame, states)
        outputs.append(found)
    return outputs


@torch.no_grad()
def shake(model: nn.Module, seed: int = 7) -> None:
    """Move every vector parameter (weights and biases of norms, biases) off its first value.

    Norms at weight 1 and bias 0 would hide which norm a value went through.
    """
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.dim() == 1:
            noise = torch.rand(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_((0.4 * noise - 0.1).to(parameter.dtype))


def with_weights_of(model: Model, other: nn.Module) -> Mapping[str, str]:
    """Load another network's weights, paired by order. Maps our names to the other's."""
    report = match(model, other.state_dict())
    assert report.how == "order"
    assert not report.unexpected
    model.load_state_dict(report.state)
    matched: Mapping[str, str] = report.matched
    return matched


@dataclass
class Seen:
    """Of one training step: outputs, gradients of parameters and input, buffers, spikes."""

    outputs: list[Tensor]
    gradients: dict[str, Tensor]
    buffers: dict[str, Tensor]
    spikes: list[Tensor] = field(default_factory=list)


def observe(
    model: nn.Module,
    x: Tensor,
    neurons: type[nn.Module] = Neuron,
    read: Callable[[Any], Any] = lambda y: y,
) -> Seen:
    """Run forward and backward; ``read`` makes of the output what is compared.

    The loss is a fixed random projection, so that no symmetry of the network hides an error. All
    gradients are asserted to exist.
    """
    model.zero_grad()
    x = x.detach().clone().requires_grad_(x.is_floating_point())
    spikes: list[Tensor] = []
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
    loss = sum((y * randn(*y.shape, seed=3 + i)).sum() for i, y in enumerate(outputs))
    loss.backward()
    spikes = [found[layer] for layer in layers]
    gradients: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        gradients[name] = parameter.grad
    if x.grad is not None:
        gradients["x"] = x.grad
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    return Seen([y.detach() for y in outputs], gradients, buffers, spikes)


def assert_close(
    mine: Tensor, other: Tensor, tolerance: float, what: str = "", floor: float = 0.0
) -> None:
    """Equal to ``tolerance`` times the largest entry or ``floor``; bit for bit for 0."""
    assert mine.shape == other.shape, what
    if tolerance == 0:
        assert torch.equal(mine, other), f"{what} differs by {_gap(mine, other):.2e}"
        return
    scale = max(floor, float(other.abs().max()))
    assert torch.isfinite(other).all(), what
    assert _gap(mine, other) <= tolerance * scale, f"{what}: {_gap(mine, other):.2e} of {scale:.2e}"


def assert_same(
    mine: Seen,
    other: Seen,
    names: Mapping[str, str] | None = None,
    *,
    outputs: float = 0,
    gradients: float = 0,
    buffers: float = 0,
) -> None:
    """Two networks did the same. ``names`` maps parameters and buffers of one to the other's.

    A gradient is held to its own largest entry, or to a thousandth of the network's largest: one
    that is zero but for rounding (a bias in front of a norm) has no scale of its own.
    """
    floor = 1e-3 * max(float(value.abs().max()) for value in other.gradients.values())
    assert len(mine.outputs) == len(other.outputs)
    for i, (a, b) in enumerate(zip(mine.outputs, other.outputs, strict=True)):
        assert_close(a, b, outputs, f"output {i}")
    pairs = names or {name: name for name in (*mine.gradients, *mine.buffers)}
    assert len(mine.gradients) == len(other.gradients)
    for name, value in mine.gradients.items():
        twin = "x" if name == "x" else pairs[name]
        assert_close(value, other.gradients[twin], gradients, f"gradient of {name}", floor)
    for name, value in mine.buffers.items():
        assert_close(value.double(), other.buffers[pairs[name]].double(), buffers, name)


def all_zero(tensors: Iterable[Tensor]) -> bool:
    return all(not tensor.any() for tensor in tensors)


def _gap(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max()) if a.numel() else 0.0
