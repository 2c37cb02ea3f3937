"""ResNet-18 of a neuron whose step has Dspike's derivative, from -0.5 to 0.5 around the threshold."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from tests.zoo.harness import Case
from tests.zoo.parts import Decaying, MeanOverPixels, MeanOverTime, conv, linear, norm, stages


def slope(x: Tensor, b: float = 3.0) -> Tensor:
    """Of tanh(b x) / (2 tanh(b / 2)) + 1 / 2, which goes from 0 at -0.5 to 1 at 0.5."""
    inside = (x.abs() <= 0.5).to(x.dtype)
    return inside * b * (1 - torch.tanh(b * x) ** 2) / (2 * math.tanh(b / 2))


def neurons() -> nn.Module:
    return Decaying(slope, decay=0.5)


def network(classes: int = 10, image: int = 32, steps: int = 6, width: int = 64) -> nn.Module:
    widths = [factor * width for factor in (1, 2, 4, 8)]
    return nn.Sequential(
        *(conv(3, width), norm(width), neurons()),
        stages(width, widths, (2, 2, 2, 2), neurons),
        *(MeanOverPixels(), MeanOverTime(), linear(8 * width, classes)),
    )


CASE = Case(
    network,
    "the paper's equations",
    small=({"width": 3, "image": 8, "steps": 2}, {"width": 4, "image": 16, "steps": 3}),
)
