"""Patches, and blocks that mix tokens by a learnt matrix of each head."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.zoo.harness import Case, by_order
from tests.zoo.parts import Decaying, MeanOverPixels, MeanOverTime, conv, linear, norm
from tests.zoo.references.surrogate_module import slope


def fire() -> nn.Module:
    return Decaying(slope)


def behind(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(fire(), conv(channels, width, 1), norm(width))


def layer(channels: int, width: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(conv(channels, width, stride=stride), norm(width), fire())


class Patches(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        w = width
        early = layer(3, w // 8), layer(w // 8, w // 4), layer(w // 4, w // 2)
        last = layer(w // 2, w, 2), conv(w, 7 * w // 8, stride=2), norm(7 * w // 8)
        self.main = nn.Sequential(*early, *last)
        self.short = nn.Sequential(conv(3, w // 8, 4, stride=4, padding=0), norm(w // 8))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((self.short(x), self.main(x)), 2)


class Mixer(nn.Module):
    def __init__(self, width: int, heads: int, tokens: int) -> None:
        super().__init__()
        self.first = nn.Sequential(behind(width, width), fire())
        self.matrix = nn.Parameter(torch.randn(heads, tokens, tokens) / tokens**0.5)
        self.last = behind(width, width)
        self.mlp = nn.Sequential(behind(width, 4 * width), behind(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        split = self.first(x).flatten(3).unflatten(2, (len(self.matrix), -1))
        mixed = torch.einsum("hab,tnhcb->tnhca", self.matrix, split).reshape(x.shape)
        x = x + self.last(mixed)
        out: Tensor = x + self.mlp(x)
        return out


def network(
    classes: int = 100,
    image: int = 32,
    steps: int = 2,
    width: int = 256,
    heads: int = 16,
    depth: int = 4,
) -> nn.Module:
    blocks = (Mixer(width, heads, (image // 4) ** 2) for _ in range(depth))
    head = MeanOverPixels(), linear(width, classes), MeanOverTime()
    return nn.Sequential(Patches(width), *blocks, *head)


def pairs(model: nn.Module, reference: nn.Module) -> dict[str, str]:
    """A head's matrix is a group of our convolution."""
    return by_order(model, reference, {"z.conv.weight": "matrix"})


CASE = Case(
    network,
    "its authors' topology in plain PyTorch",
    small=(
        {"width": 16, "heads": 2, "depth": 1, "image": 8, "steps": 2, "classes": 4},
        {"width": 24, "heads": 3, "depth": 1, "image": 12, "steps": 3, "classes": 3},
    ),
    pairs=pairs,
)
