"""Two layers of adaptive neurons, and the softmax of membranes, summed over steps."""

from __future__ import annotations

import math

import torch
from spikingjelly.activation_based import layer
from torch import Tensor, nn

from tests.surrogates import rectangle, step
from tests.zoo.harness import Case
from tests.zoo.parts import Flatten, linear


def numbers(width: int, value: float) -> nn.Parameter:
    return nn.Parameter(torch.full((width,), value))


class Adaptive(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.alpha_learnt, self.beta_learnt = numbers(width, 0.9), numbers(width, 0.98)
        self.a_learnt, self.b_learnt = numbers(width, 0.0), numbers(width, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        alpha = self.alpha_learnt.clamp(math.exp(-1 / 5), math.exp(-1 / 25))
        beta = self.beta_learnt.clamp(math.exp(-1 / 30), math.exp(-1 / 120))
        a, b = self.a_learnt.clamp(-1, 1), self.b_learnt.clamp(0, 2)
        u = w = s = torch.zeros_like(x[0])
        spikes = []
        for frame in x:
            w = beta * w + a * u + b * s
            u = alpha * (u - s) + (1 - alpha) * (frame - w)
            s = step(u - 1, rectangle(1.0))
            spikes.append(s)
        return torch.stack(spikes)


class Shares(nn.Module):
    def __init__(self, classes: int) -> None:
        super().__init__()
        self.alpha_learnt = numbers(classes, 0.9)

    def forward(self, x: Tensor) -> Tensor:
        alpha = self.alpha_learnt.clamp(math.exp(-1 / 5), math.exp(-1 / 25))
        u = total = torch.zeros_like(x[0])
        for frame in x:
            u = alpha * u + (1 - alpha) * frame
            total = total + u.softmax(-1)
        return total


class Norm(nn.BatchNorm1d):
    """Of [T, N, C], over T and N."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.flatten(0, 1)).reshape(input.shape)


def network(
    classes: int = 20, inputs: int = 700, steps: int = 100, width: int = 1024, drop: float = 0.1
) -> nn.Module:
    layers: list[nn.Module] = [Flatten()]
    for entries in (inputs, width):
        layers += [linear(entries, width, bias=False), Norm(width), Adaptive(width)]
        layers.append(layer.Dropout(drop, step_mode="m"))
    return nn.Sequential(
        *(*layers, linear(width, classes, bias=False), Norm(classes), Shares(classes))
    )


@torch.no_grad()
def lively(network: nn.Module) -> None:
    """Membranes that fire, and numbers on both sides of their bounds."""
    for module in network.modules():
        if isinstance(module, Norm):
            module.weight.mul_(4.0)
        if isinstance(module, Adaptive):
            spread = torch.linspace(-1, 1, len(module.a_learnt), dtype=torch.float64)
            module.alpha_learnt.copy_(0.89 + 0.09 * spread)
            module.beta_learnt.copy_(0.979 + 0.015 * spread)
            module.a_learnt.copy_(1.2 * spread)
            module.b_learnt.copy_(1 - 1.2 * spread)
        if isinstance(module, Shares):
            module.alpha_learnt.copy_(torch.linspace(0.8, 0.97, len(module.alpha_learnt)))


CASE = Case(
    network,
    "the authors' equations, of states that start at 0",
    small=(
        {"width": 6, "inputs": 8, "steps": 8, "classes": 4, "drop": 0.0},
        {"width": 8, "inputs": 7, "steps": 11, "classes": 3, "drop": 0.0},
    ),
    prepare=lively,
)
