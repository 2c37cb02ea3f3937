"""Two recurrent layers of adaptive neurons, and membranes whose softmax is summed, step by step."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from tests.surrogates import step
from tests.zoo.harness import Case


def multi_gaussian(x: Tensor, gamma: float = 0.5, width: float = 0.5) -> Tensor:
    def bell(mean: float, deviation: float) -> Tensor:
        return (
            torch.exp(-((x - mean) ** 2) / (2 * deviation**2)) / math.sqrt(2 * math.pi) / deviation
        )

    wide = 6.0 * width
    return gamma * (1.15 * bell(0.0, width) - 0.15 * (bell(width, wide) + bell(-width, wide)))


class Recurrent(nn.Module):
    """u = alpha u + (1 - alpha) (W x + R s') - theta s', with theta = 0.01 + 1.8 a of the spikes s'
    of the step before."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.into = nn.Linear(inputs, width)
        self.back = nn.Linear(width, width)
        self.alpha_learnt = nn.Parameter(torch.full((width,), 20.0))
        self.rho_learnt = nn.Parameter(torch.full((width,), 150.0))

    def forward(self, x: Tensor) -> Tensor:
        alpha, rho = torch.exp(-1 / self.alpha_learnt), torch.exp(-1 / self.rho_learnt)
        u = s = x.new_zeros(x.shape[1], self.back.in_features)
        a = torch.full_like(u, 0.01)
        before = s
        spikes = []
        for frame in x:
            current = self.into(frame) + self.back(before)
            a = rho * a + (1 - rho) * s
            theta = 0.01 + 1.8 * a
            u = alpha * u + (1 - alpha) * current - theta * s
            s = before = step(u - theta, multi_gaussian)
            spikes.append(s)
        return torch.stack(spikes)


class Shares(nn.Module):
    """The softmax of membranes, summed over all steps but the first ones."""

    def __init__(self, classes: int, skip: int) -> None:
        super().__init__()
        self.alpha_learnt = nn.Parameter(torch.full((classes,), 20.0))
        self.skip = skip

    def forward(self, x: Tensor) -> Tensor:
        alpha = torch.exp(-1 / self.alpha_learnt)
        u = total = torch.zeros_like(x[0])
        for number, frame in enumerate(x):
            u = alpha * u + (1 - alpha) * frame
            if number >= self.skip:
                total = total + u.softmax(1)
        return total


def network(
    classes: int = 20, inputs: int = 700, steps: int = 250, width: int = 128, skip: int = 11
) -> nn.Module:
    layers = Recurrent(inputs, width), Recurrent(width, width), nn.Linear(width, classes)
    return nn.Sequential(nn.Flatten(2), *layers, Shares(classes, skip))


@torch.no_grad()
def lively(network: nn.Module) -> None:
    """Time constants that differ, and outputs that vary."""
    for module in network.modules():
        if isinstance(module, nn.Linear):
            module.weight.mul_(3.0)
        if isinstance(module, Recurrent):
            width = len(module.alpha_learnt)
            module.alpha_learnt.copy_(torch.linspace(2, 20, width))
            module.rho_learnt.copy_(torch.linspace(150, 5, width))
        if isinstance(module, Shares):
            module.alpha_learnt.copy_(torch.linspace(2, 10, len(module.alpha_learnt)))


CASE = Case(
    network,
    "the paper's equations in a loop",
    small=(
        {"inputs": 12, "width": 8, "steps": 6, "skip": 2},
        {"inputs": 12, "width": 11, "steps": 9, "skip": 3},
    ),
    prepare=lively,
)
