"""DS-ResNet-20 of units that fire at three levels, each with a membrane of its own."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.surrogates import rectangle, step
from tests.zoo.harness import Case
from tests.zoo.parts import Make, MeanOverPixels, MeanOverTime, Neurons, conv, linear, norm, stages


class Levels(Neurons):
    states = 3

    def fire(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        total, after = torch.zeros_like(x), []
        for threshold, state in zip((0.6, 1.6, 2.6), states, strict=True):
            v = 0.25 * state + x
            s = step(v - threshold, rectangle(1.0))
            total = total + s
            after.append(v * (1 - s))
        return total, *after


class Block(nn.Module):
    def __init__(self, channels: int, width: int, stride: int, neurons: Make) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            *(conv(channels, width, stride=stride), norm(width), neurons()),
            *(conv(width, width), norm(width), neurons()),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != width:
            self.shortcut = nn.Sequential(
                conv(channels, width, 1, stride=stride), norm(width), neurons()
            )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.branch(x) + self.shortcut(x)
        return out


def network(classes: int = 10, image: int = 32, steps: int = 4, width: int = 64) -> nn.Module:
    return nn.Sequential(
        *(conv(3, width), norm(width), Levels()),
        stages(width, (width, 2 * width, 4 * width), (3, 3, 3), Levels, Block),
        *(MeanOverPixels(), linear(4 * width, classes), MeanOverTime()),
    )


CASE = Case(
    network,
    "the paper's equations",
    small=({"width": 4, "image": 8, "steps": 2}, {"width": 5, "image": 8, "steps": 3}),
)
