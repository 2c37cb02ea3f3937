"""Spiking PointNet on points [T, N, 3, points, 1]."""

from __future__ import annotations

import math

import torch
from spikingjelly.activation_based import layer
from torch import Tensor, nn

from tests.zoo.harness import Case
from tests.zoo.parts import Decaying, Flatten, conv, linear, norm


def slope(x: Tensor) -> Tensor:
    """The derivative of tanh(5 x) / (2 tanh(5 / 2)) from -1 / 2 to 1 / 2."""
    rise = 5 * (1 - torch.tanh(5 * x) ** 2) / (2 * math.tanh(2.5))
    return rise * (x.abs() <= 0.5)


def fire() -> nn.Module:
    return Decaying(slope, decay=0.25, threshold=0.5)


def point(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(conv(channels, width, 1, bias=True), norm(width))


class Norm(nn.BatchNorm1d):
    """Of [T, N, C], over T and N."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input.flatten(0, 1)).reshape(input.shape)


def full(entries: int, width: int) -> nn.Sequential:
    return nn.Sequential(linear(entries, width), Norm(width), fire())


class Greatest(nn.Module):
    """Of all points; of equal ones the first has the gradient."""

    def forward(self, x: Tensor) -> Tensor:
        return x.squeeze(4).max(3).values


class Turned(nn.Module):
    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        w = width
        early = point(size, w), fire(), point(w, 2 * w), fire(), point(2 * w, 16 * w), fire()
        late = full(16 * w, 8 * w), full(8 * w, 4 * w), linear(4 * w, size * size)
        self.layers = nn.Sequential(*early, Greatest(), Flatten(), *late)
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        matrix = self.layers(x).unflatten(2, (self.size, self.size)) + torch.eye(self.size)
        return (x.squeeze(4).transpose(2, 3) @ matrix).transpose(2, 3).unsqueeze(4)


def network(
    classes: int = 40, points: int = 1024, steps: int = 4, width: int = 64, drop: float = 0.4
) -> nn.Module:
    w = width
    features = point(w, 2 * w), fire(), point(2 * w, 16 * w), Greatest(), Flatten()
    return nn.Sequential(
        *(Turned(3, w), point(3, w), fire(), Turned(w, w), *features, full(16 * w, 8 * w)),
        *(linear(8 * w, 4 * w), layer.Dropout(drop, step_mode="m"), Norm(4 * w), fire()),
        linear(4 * w, classes),
    )


@torch.no_grad()
def rarer(network: nn.Module) -> None:
    """Fewer spikes before maxima, which else are 1 for all clouds, so that norms divide by almost 0."""
    for module in network.modules():
        if isinstance(module, Turned):
            module.layers[4][1].bias.sub_(1.5)


CASE = Case(
    network,
    "its authors' topology in plain PyTorch",
    small=(
        {"width": 2, "points": 16, "steps": 2, "classes": 4, "drop": 0.0},
        {"width": 3, "points": 9, "steps": 3, "classes": 3, "drop": 0.0},
    ),
    prepare=rarer,
)
