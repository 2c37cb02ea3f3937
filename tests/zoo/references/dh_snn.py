"""Layers of neurons with four dendritic branches, step by step."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn

from tests.surrogates import step
from tests.zoo.harness import Case
from tests.zoo.parts import Flatten

BRANCHES = 4


def multi_gaussian(x: Tensor) -> Tensor:
    def normal(mean: float, width: float) -> Tensor:
        return torch.exp(-(((x - mean) / width) ** 2) / 2) / (width * math.sqrt(2 * math.pi))

    return 0.5 * (1.15 * normal(0, 0.5) - 0.15 * normal(0.5, 3.0) - 0.15 * normal(-0.5, 3.0))


class Leaky(nn.Module):
    """Of [T, N, C]: a leaky integrator, whose C leaks are learnt."""

    def __init__(self, width: int, start: float) -> None:
        super().__init__()
        self.t = nn.Parameter(torch.full((width,), start))

    def forward(self, x: Tensor) -> Tensor:
        leak, u = torch.sigmoid(self.t), torch.zeros_like(x[0])
        kept = []
        for frame in x:
            u = leak * u + (1 - leak) * frame
            kept.append(u)
        return torch.stack(kept)


class Soma(Leaky):
    """The same, with spikes that lower the potential of the next step by the threshold of 1."""

    def forward(self, x: Tensor) -> Tensor:
        leak, v, s = torch.sigmoid(self.t), torch.zeros_like(x[0]), torch.zeros_like(x[0])
        spikes = []
        for frame in x:
            v = leak * v + (1 - leak) * frame - s
            s = step(v - 1, multi_gaussian)
            spikes.append(s)
        return torch.stack(spikes)


class Branched(nn.Module):
    def __init__(self, entries: int, width: int) -> None:
        super().__init__()
        part = entries // BRANCHES
        self.branches = nn.ModuleList(
            nn.Sequential(nn.Linear(part, width), Leaky(width, 4.0)) for _ in range(BRANCHES)
        )
        self.soma = Soma(width, 2.0)

    def forward(self, x: Tensor) -> Tensor:
        parts = x.chunk(BRANCHES, -1)
        a, b, c, d = (branch(part) for branch, part in zip(self.branches, parts, strict=True))
        spikes: Tensor = self.soma((a + b) + (c + d))
        return spikes


class Shares(nn.Module):
    """The softmax of each step, summed over all steps but the first ones."""

    def __init__(self, skip: int) -> None:
        super().__init__()
        self.skip = skip

    def forward(self, x: Tensor) -> Tensor:
        return x[self.skip :].softmax(2).sum(0)


def network(
    classes: int = 20,
    inputs: int = 700,
    steps: int = 1000,
    width: int = 64,
    layers: int = 1,
    skip: int = 11,
) -> nn.Module:
    widths = [inputs] + layers * [width]
    hidden = (Branched(a, b) for a, b in itertools.pairwise(widths))
    return nn.Sequential(
        *(Flatten(), *hidden, nn.Linear(width, classes), Leaky(classes, 2.0), Shares(skip))
    )


@torch.no_grad()
def lively(network: nn.Module) -> None:
    """Currents that reach thresholds, and leaks that differ."""
    generator = torch.Generator().manual_seed(3)
    for module in network.modules():
        if isinstance(module, nn.Linear):
            module.weight.mul_(6)
        if isinstance(module, Leaky):
            noise = torch.randn(module.t.shape, generator=generator, dtype=torch.float64)
            module.t.copy_(noise)


CASE = Case(
    network,
    "the paper's equations",
    small=(
        {"width": 8, "inputs": 16, "steps": 6, "skip": 2},
        {"width": 12, "inputs": 20, "steps": 9, "layers": 2, "skip": 3},
    ),
    prepare=lively,
)
