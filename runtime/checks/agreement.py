"""Numerical equality of two models with the same weights: forward and backward, in float64."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from danetc.dsl.kinds import ANALOG, Kind
from danetc.runtime.layers.neuron import Neuron
from danetc.runtime.layers.time import DropPath
from danetc.runtime.layers.weight_layer import layers_of
from danetc.runtime.model.signature import outputs_of, random_input

TOLERANCE = 1e-9
"""Maximum relative difference between two equal models; rounding errors are about 1e-14."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """Result of a comparison.

    ``outputs`` and ``gradients`` are the largest differences, relative to the largest entry. ``silent`` names neurons of
    the left model that always or never fired, and weights that no gradient reached; with any, equality proves nothing.
    """

    size: tuple[int, ...]
    outputs: float
    gradients: float
    silent: tuple[str, ...]

    @property
    def same(self) -> bool:
        return max(self.outputs, self.gradients) <= TOLERANCE

    @property
    def proves(self) -> bool:
        """True if the models agree on values that reached the whole network."""
        return self.same and not self.silent


def agreement(
    left: nn.Module,
    right: nn.Module,
    pairs: Mapping[str, str],
    size: tuple[int, ...],
    seed: int = 0,
    kind: Kind = ANALOG,
) -> Agreement:
    """Compare a training step of two models on random input of ``size`` ([N, ...] or [T, N, ...]) and ``kind``.

    ``pairs`` maps the left model's parameters to the right one's. Both models are changed: they become float64, norms and
    neurons get random parameters, and the right model gets the left one's. Dropout is off. The loss is a random
    projection of the outputs, so that no symmetry hides a difference.
    """
    left, right = left.double().train(), right.double().train()
    for model in (left, right):
        for module in model.modules():
            if isinstance(module, (nn.Dropout, DropPath)):
                module.eval()
    generator = torch.Generator().manual_seed(seed)
    _move(left, generator)
    with torch.no_grad():
        for name, twin in pairs.items():
            right.get_parameter(twin).copy_(left.get_parameter(name))
    x = random_input(kind, size, generator, torch.float64)
    silent: list[str] = []

    def watch(name: str, module: nn.Module, inputs: object, y: Tensor) -> None:
        if bool(y.min() == y.max()):
            silent.append(name)

    for name, module in layers_of(left):
        if isinstance(module, Neuron):
            module.register_forward_hook(partial(watch, name))
    mine, other = _step(left, x, seed), _step(right, x, seed)
    for name, parameter in left.named_parameters():
        if parameter.dim() > 1 and (parameter.grad is None or not parameter.grad.any()):
            silent.append(name)
    gradients = [_gap(mine[1], other[1])]
    largest = max((_largest(p.grad) for p in left.parameters()), default=0.0)
    for name, twin in pairs.items():
        a, b = left.get_parameter(name).grad, right.get_parameter(twin).grad
        # The gradient of a bias before a norm is zero up to rounding, so it has no scale of its own.
        gradients.append(_gap(a, b, floor=1e-3 * largest))
    return Agreement(
        size,
        max(_gap(a, b) for a, b in zip(mine[0], other[0], strict=True)),
        max(gradients),
        tuple(silent),
    )


@torch.no_grad()
def _move(model: nn.Module, generator: torch.Generator) -> None:
    """Randomise the parameters of norms, biases and neurons so that neurons fire now and then."""
    for parameter in model.parameters():
        if parameter.dim() < 2:
            noise = torch.rand(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(0.1 * noise if parameter.dim() == 0 else 0.5 * noise)


def _step(model: nn.Module, x: Tensor, seed: int) -> tuple[list[Tensor], Tensor | None]:
    """Run forward and backward; return the outputs and the gradient of the input."""
    model.zero_grad()
    x = x.clone().requires_grad_(x.is_floating_point())
    with torch.random.fork_rng(devices=[]):  # encoders use the global generator
        torch.manual_seed(seed)
        result = model(x)
    outputs = outputs_of(result)
    generator = torch.Generator().manual_seed(seed + 1)
    terms = ((y * torch.randn(y.shape, generator=generator, dtype=y.dtype)).sum() for y in outputs)
    sum(terms, torch.zeros((), dtype=torch.float64)).backward()
    return [y.detach() for y in outputs], x.grad


def _largest(x: Tensor | None) -> float:
    return float(x.abs().max()) if x is not None and x.numel() else 0.0


def _gap(a: Tensor | None, b: Tensor | None, floor: float = 0.0) -> float:
    """The largest difference relative to the largest entry of either, at least ``floor``."""
    if a is None or b is None:
        return 0.0 if a is b else float("inf")
    scale = max(_largest(a), _largest(b), floor)
    gap = _largest(a - b)
    return gap / scale if scale else gap
