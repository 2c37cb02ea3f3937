"""Layers whose synapses are convolutions over time with one Gaussian each."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from spikingjelly.activation_based import layer
from torch import Tensor, nn

from tests.surrogates import step
from tests.zoo.harness import Case, by_order
from tests.zoo.parts import Flatten, Neurons


class Delayed(nn.Module):
    """[T, N, inputs] to [T, N, width]: y[t] = sum of w * g[j - d] * x[t - j], d = (taps - 1) / 2 - early."""

    def __init__(self, inputs: int, width: int, taps: int, sigma: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(width, inputs) / inputs**0.5)
        self.early = nn.Parameter(torch.zeros(width, inputs))
        self.taps, self.sigma = taps, sigma

    def forward(self, x: Tensor) -> Tensor:
        gap = torch.arange(self.taps) - (self.taps - 1) / 2 + self.early[..., None]
        bell = torch.exp(-((gap / self.sigma) ** 2) / 2)
        kernel = self.weight[..., None] * bell / (bell.sum(-1, keepdim=True) + 1e-7)
        past = F.pad(x.permute(1, 2, 0), (self.taps - 1, 0))
        return F.conv1d(past, kernel.flip(-1)).permute(2, 0, 1)


class Norm(nn.BatchNorm1d):
    """Of [T, N, C], over T and N."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.flatten(0, 1)).reshape(input.shape)


class Membrane(Neurons):
    def fire(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        v = (1 - 1 / 1.005) * states[0] + x
        return v, v


def arctan(x: Tensor) -> Tensor:
    return 2.5 / (1 + (torch.pi / 2 * 5 * x) ** 2)


class Fire(Neurons):
    def fire(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        v = (1 - 1 / 1.005) * states[0] + x
        s = step(v - 1, arctan)
        return s, v * (1 - s.detach())


def network(
    classes: int = 20,
    inputs: int = 140,
    steps: int = 100,
    width: int = 256,
    taps: int = 25,
    sigma: float = 12.27,
    drop: float = 0.4,
) -> nn.Module:
    layers: list[nn.Module] = [Flatten()]
    for entries in (inputs, width):
        layers += [Delayed(entries, width, taps, sigma), Norm(width), Fire()]
        layers.append(layer.Dropout(drop, step_mode="m"))
    return nn.Sequential(*layers, Delayed(width, classes, taps, sigma), Membrane())


@torch.no_grad()
def lively(network: nn.Module) -> None:
    """Delays that differ, some of them beyond the window."""
    generator = torch.Generator().manual_seed(3)
    for module in network.modules():
        if isinstance(module, Delayed):
            noise = torch.rand(module.early.shape, generator=generator, dtype=torch.float64)
            module.early.copy_((module.taps + 1) * (noise - 0.5))
            module.weight.mul_(3.0)


def pairs(model: nn.Module, reference: nn.Module) -> dict[str, str]:
    """A synapse's channel is that of its output, and in it of its input."""
    return by_order(model, reference, {"each.spike.d_learnt": "early"})


CASE = Case(
    network,
    "convolutions over time with the paper's kernels",
    small=(
        {"width": 5, "inputs": 6, "steps": 7, "classes": 3, "taps": 3, "sigma": 0.7, "drop": 0.0},
        {"width": 6, "inputs": 5, "steps": 9, "classes": 2, "taps": 4, "sigma": 1.0, "drop": 0.0},
    ),
    prepare=lively,
    pairs=pairs,
)
