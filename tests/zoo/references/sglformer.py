"""SGLFormer: convolutions, attention within windows, attention to all, and one weight for each token."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tests.zoo.harness import Case
from tests.zoo.parts import conv, maxpool, norm
from tests.zoo.tokens import attended, conv_fire, fire, linear_fire, residual


def layer(channels: int, width: int, **options: Any) -> nn.Sequential:
    return nn.Sequential(conv(channels, width, **options), norm(width), fire())


class Attention(nn.Module):
    """Within n * n windows, of which each has every n-th row and column."""

    def __init__(self, width: int, heads: int, n: int) -> None:
        super().__init__()
        self.q, self.k, self.v = (linear_fire(width, width, bias=False) for _ in range(3))
        self.mixed, self.last = fire(0.5), linear_fire(width, width, bias=False)
        self.heads, self.n = heads, n

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.q(x), self.k(x), self.v(x)
        found = torch.zeros_like(x)
        for i in range(self.n):
            for j in range(self.n):
                one = (..., slice(i, None, self.n), slice(j, None, self.n))
                found[one] = attended(q[one], k[one], v[one], self.heads)
        passed: Tensor = self.last(self.mixed(0.125 * found))
        return x + passed


class Local(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        wide = 4 * width
        self.conv = layer(width, width, groups=width)
        self.inner = nn.Sequential(
            linear_fire(width, wide, bias=False),
            layer(wide, wide, groups=wide),
            linear_fire(wide, width, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        y = x + self.conv(x)
        out: Tensor = x + (y + self.inner(y))
        return out


def mlp(width: int) -> nn.Module:
    wide = 4 * width
    return residual(linear_fire(width, wide, bias=False), linear_fire(wide, width, bias=False))


class Head(nn.Module):
    """A window of all tokens and steps; its norm counts T equal steps of what it gives."""

    def __init__(self, width: int, tokens: int, steps: int, classes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, (tokens, steps), groups=width)
        self.norm, self.last = nn.BatchNorm2d(width), nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        steps, samples = x.shape[:2]
        one = self.conv(x.flatten(3).permute(1, 2, 3, 0))
        normed = self.norm(one.repeat(steps, 1, 1, 1))[:samples]
        out: Tensor = self.last(normed.flatten(1))
        return out


def network(
    classes: int = 100,
    image: int = 32,
    steps: int = 4,
    width: int = 384,
    heads: int = 16,
) -> nn.Module:
    w = width
    stem = conv_fire(3, w // 6), conv_fire(w // 6, w // 4), conv_fire(w // 4, w // 2)
    halved = (
        nn.Sequential(conv(size, w), norm(w), maxpool(3, 2, 1), fire()) for size in (w // 2, w)
    )
    blocks = (part for n in (2, 1, 1) for part in (Attention(w, heads, n), mlp(w)))
    return nn.Sequential(
        *stem, *halved, Local(w), *blocks, Head(w, (image // 4) ** 2, steps, classes)
    )


@torch.no_grad()
def rouse(network: nn.Module) -> None:
    """Let queries, keys and values fire more, so that their products reach a threshold."""
    for module in network.modules():
        if isinstance(module, Attention):
            for part in (module.q, module.k, module.v):
                part[1].bias.add_(1.0)


CASE = Case(
    network,
    "its authors' topology with SpikingJelly's LIF, window by window",
    small=(
        {"width": 24, "heads": 1, "image": 16, "steps": 2, "classes": 4},
        {"width": 36, "heads": 3, "image": 16, "steps": 3, "classes": 3},
    ),
    prepare=rouse,
)
