"""SpikeGPT with the sums of its equations, of all tokens before, in place of its recurrence."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from tests.surrogates import step
from tests.zoo.harness import Case
from tests.zoo.parts import Flatten, lif


def arctan(x: Tensor) -> Tensor:
    return 1 / (1 + (torch.pi * x) ** 2)


class Mixed(nn.Module):
    """A linear layer of m x[t] + (1 - m) x[t - 1]."""

    def __init__(self, width: int, made: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((width,), 0.5))
        self.linear = nn.Linear(width, made, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        before = torch.cat((torch.zeros_like(x[:1]), x[:-1]))
        out: Tensor = self.linear(x * self.weight + before * (1 - self.weight))
        return out


class TimeMix(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.r, self.v, self.k = (Mixed(width, width) for _ in range(3))
        self.now_learnt = nn.Parameter(torch.full((width,), -1.2))
        self.w_learnt = nn.Parameter(torch.zeros(width))
        self.last, self.fire = nn.Linear(width, width, bias=False), lif()

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        k, v = self.k(y), self.v(y)
        found = []
        for t in range(len(x)):
            age = t - 1 - torch.arange(t + 1, dtype=x.dtype)[:, None, None]
            old = torch.exp(k[: t + 1] - age * self.w_learnt.exp())
            own = torch.exp(self.now_learnt + k[t])
            share = torch.cat((old[:t], own[None]))
            found.append((share * v[: t + 1]).sum(0) / share.sum(0))
        out: Tensor = x + self.fire(self.last(self.r(y).sigmoid() * torch.stack(found)))
        return out


class ChannelMix(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.r, self.k = Mixed(width, width), Mixed(width, 4 * width)
        self.last, self.fire = nn.Linear(4 * width, width, bias=False), lif()

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        product = self.r(y).sigmoid() * self.last(self.k(y).relu().square())
        out: Tensor = x + self.fire(product)
        return out


class Embedding(nn.Module):
    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(vocabulary, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return step(self.linear(x), arctan)


def network(
    vocabulary: int = 50277,
    steps: int = 1024,
    width: int = 768,
    depth: int = 18,
    drop: float = 0.03,
) -> nn.Module:
    layers: list[nn.Module] = [Flatten(), Embedding(vocabulary, width), nn.LayerNorm(width)]
    for _ in range(depth):
        layers += [TimeMix(width), ChannelMix(width), nn.Dropout(drop)]
    return nn.Sequential(*layers, nn.LayerNorm(width), nn.Linear(width, vocabulary, bias=False))


@torch.no_grad()
def lively(network: nn.Module) -> None:
    """Decays and mixtures that differ, and sums that fire."""
    for module in network.modules():
        if isinstance(module, Mixed):
            module.weight.copy_(torch.linspace(0.1, 0.9, len(module.weight)))
        if isinstance(module, TimeMix):
            module.w_learnt.copy_(torch.linspace(-2, 1, len(module.w_learnt)))
            module.now_learnt.copy_(torch.linspace(math.log(0.3), 0.5, len(module.w_learnt)))
        if isinstance(module, (TimeMix, ChannelMix)):
            module.last.weight.mul_(12.0)
        if isinstance(module, nn.LayerNorm):
            module.weight.copy_(torch.linspace(0.8, 1.4, len(module.weight)))


CASE = Case(
    network,
    "the paper's sums over all tokens before",
    small=(
        {"vocabulary": 7, "width": 6, "steps": 6, "depth": 1, "drop": 0.0},
        {"vocabulary": 6, "width": 8, "steps": 8, "depth": 2, "drop": 0.0},
    ),
    prepare=lively,
)
