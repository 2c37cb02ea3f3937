"""SpikingResformer: attention with patches, scaled by running firing rates, and grouped layers."""

from __future__ import annotations

from typing import Any

import torch
from spikingjelly.activation_based import surrogate
from torch import Tensor, nn

from tests.zoo import tokens
from tests.zoo.harness import Case
from tests.zoo.parts import MeanOverPixels, MeanOverTime, conv, linear, maxpool, norm


def fire() -> nn.Module:
    return tokens.fire(slope=surrogate.ATan())


def behind(channels: int, width: int, kernel: int = 1, **options: Any) -> nn.Sequential:
    return nn.Sequential(fire(), conv(channels, width, kernel, **options), norm(width))


class Rate(nn.Module):
    """The firing rate of each head [T, N, heads, ...], averaged over training passes."""

    mean: Tensor

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(heads))
        self.momentum = 0.001

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            rate = x.detach().mean((0, 1, 3, 4))
            before = self.mean if self.mean.any() else rate
            self.mean = before * (1 - self.momentum) + rate * self.momentum
        return self.mean.view(-1, 1, 1)


class Attention(nn.Module):
    def __init__(self, width: int, heads: int, patch: int) -> None:
        super().__init__()
        self.heads = heads
        self.fire, self.attending = fire(), fire()
        options = {"stride": patch, "padding": 0}
        self.k = nn.Sequential(conv(width, width, patch, **options), norm(width))
        self.v = nn.Sequential(conv(width, width, patch, **options), norm(width))
        self.rate, self.rate_of_scores = Rate(heads), Rate(heads)
        self.last = behind(width, width)

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.fire(x)
        k, v, s = (
            part.unflatten(2, (self.heads, -1)).flatten(4)
            for part in (self.k(spikes), self.v(spikes), spikes)
        )
        rate = self.rate(s)
        a = self.attending((k.transpose(-1, -2) @ s) / torch.sqrt(rate * s.shape[3]))
        mixed = (v @ a) / torch.sqrt(self.rate_of_scores(a) * v.shape[4])
        passed: Tensor = self.last(mixed.flatten(2, 3).view_as(x))
        return x + passed


class FeedForward(nn.Module):
    def __init__(self, width: int, group: int) -> None:
        super().__init__()
        wide = 4 * width
        self.up = behind(width, wide)
        self.middle = behind(wide, wide, 3, groups=wide // group)
        self.down = behind(wide, width)

    def forward(self, x: Tensor) -> Tensor:
        up = self.up(x)
        down: Tensor = self.down(up + self.middle(up))
        return x + down


def network(
    classes: int = 1000,
    image: int = 224,
    steps: int = 4,
    width: int = 64,
    wide: int = 192,
    d: int = 64,
) -> nn.Module:
    parts: list[nn.Module] = [conv(3, width, 7, stride=2), norm(width), maxpool(3, 2, 1)]
    before = width
    for size, patch, depth in ((width, 4, 1), (wide, 2, 2), (2 * wide, 1, 3)):
        if size != width:
            parts.append(behind(before, size, 3, stride=2))
        for _ in range(depth):
            parts += [Attention(size, size // d, patch), FeedForward(size, d)]
        before = size
    head = MeanOverPixels(), linear(before, classes, bias=False), MeanOverTime()
    return nn.Sequential(*parts, *head)


CASE = Case(
    network,
    "its paper's equations with SpikingJelly's LIF",
    small=(
        {"width": 8, "wide": 16, "d": 8, "image": 32, "steps": 2},
        {"width": 4, "wide": 12, "d": 4, "image": 32, "steps": 3},
    ),
)
