"""Two recurrent layers of adaptive neurons, and membranes that are read out, step by step."""

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

    def forward(self, x: Tensor) -> Tensor:
        alpha, rho = math.exp(-1 / 20), math.exp(-1 / 150)
        u = a = s = x.new_zeros(x.shape[1], self.back.in_features)
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


class Membranes(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        alpha, u, found = math.exp(-1 / 20), torch.zeros_like(x[0]), []
        for frame in x:
            u = alpha * u + (1 - alpha) * frame
            found.append(u)
        return torch.stack(found).mean(0)


def network(classes: int = 20, inputs: int = 700, steps: int = 250, width: int = 128) -> nn.Module:
    layers = Recurrent(inputs, width), Recurrent(width, width), nn.Linear(width, classes)
    return nn.Sequential(nn.Flatten(2), *layers, Membranes())


CASE = Case(
    network,
    "the paper's equations in a loop",
    small=(
        {"inputs": 12, "width": 8, "steps": 6},
        {"inputs": 12, "width": 11, "steps": 9},
    ),
)
