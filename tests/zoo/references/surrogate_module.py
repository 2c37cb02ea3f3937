"""ResNet-19 with three heads without spikes, which read means over time."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn

from tests.zoo.harness import Case
from tests.zoo.parts import Decaying, OriginBlock, conv, norm


def slope(x: Tensor, temperature: float = 2.5) -> Tensor:
    """The derivative of tanh(t x) / (2 tanh(t)) from -1 to 1."""
    rise = (1 - torch.tanh(temperature * x) ** 2) * temperature / (2 * math.tanh(temperature))
    return rise * (x.abs() <= 1)


def neurons() -> nn.Module:
    return Decaying(slope)


class Head(nn.Module):
    def __init__(self, channels: int, width: int, classes: int, hidden: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for kernel, stride in ((7, 2), (5, 2), (3, 1)):
            made = nn.Conv2d(channels, width, kernel, stride, kernel // 2, bias=False)
            layers += [made, nn.BatchNorm2d(width), nn.LeakyReLU(0.01)]
            channels = width
        self.convolutions = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.last = nn.Sequential(
            *(nn.Linear(4 * width, hidden), nn.BatchNorm1d(hidden), nn.LeakyReLU(0.01)),
            nn.Linear(hidden, classes),
        )

    def forward(self, x: Tensor) -> Tensor:
        same = x.mean(0).expand(x.shape).flatten(0, 1)  # what norms count is T equal steps
        out: Tensor = self.last(self.convolutions(same))
        return out[: x.shape[1]]


class Network(nn.Module):
    def __init__(self, width: int, classes: int, hidden: int) -> None:
        super().__init__()
        w = width
        self.stem = nn.Sequential(conv(3, w // 2), norm(w // 2), neurons())
        sizes = [w // 2] + 3 * [w] + 3 * [2 * w] + 2 * [4 * w]
        self.blocks = nn.ModuleList(
            OriginBlock(a, b, 2 if i in (3, 6) else 1, neurons)
            for i, (a, b) in enumerate(itertools.pairwise(sizes))
        )
        self.hidden, self.fire = nn.Linear(4 * w, 2 * w), neurons()
        self.last = nn.Linear(2 * w, classes)
        self.heads = nn.ModuleList(Head(c, 2 * w, classes, hidden) for c in (w, 2 * w, 2 * w))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.stem(x)
        read = []
        for number, block in enumerate(self.blocks, 1):
            x = block(x)
            if number in (2, 4, 6):
                read.append(self.heads[len(read)](x))
        logits = self.last(self.fire(self.hidden(x.mean((3, 4)))))
        return logits.mean(0), *read


def network(
    classes: int = 10, image: int = 32, steps: int = 4, width: int = 128, hidden: int = 512
) -> nn.Module:
    return Network(width, classes, hidden)


@torch.no_grad()
def louder(network: nn.Module) -> None:
    assert isinstance(network, Network)
    network.hidden.weight.mul_(12.0)


CASE = Case(
    network,
    "its authors' topology in plain PyTorch",
    small=(
        {"width": 4, "image": 16, "steps": 2, "hidden": 6},
        {"width": 6, "image": 16, "steps": 3, "hidden": 5},
    ),
    prepare=louder,
)
