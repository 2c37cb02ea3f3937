"""VGG-16 with MPBN: a norm of the membrane of each step, which only decides what fires."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.surrogates import step
from tests.zoo.harness import Case
from tests.zoo.parts import Flatten, MeanOverTime, avgpool, conv, linear, norm
from tests.zoo.references.dspike_resnet18 import slope


class MPBN(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        u = torch.zeros_like(x[0])
        spikes = []
        for frame in x:
            v = 0.25 * u + frame
            s = step(self.norm(v) - 0.5, slope)
            u = v * (1 - s)
            spikes.append(s)
        return torch.stack(spikes)


def network(classes: int = 10, image: int = 32, steps: int = 4, width: int = 64) -> nn.Module:
    layers, channels = nn.Sequential(), 3
    for count, factor in ((2, 1), (2, 2), (3, 4), (3, 8), (3, 8)):
        for _ in range(count):
            made = factor * width
            layers.extend((conv(channels, made, bias=True), norm(made), MPBN(made)))
            channels = made
        layers.append(avgpool())
    layers.extend((avgpool(image // 32), Flatten(), linear(channels, classes), MeanOverTime()))
    return layers


CASE = Case(
    network,
    "the equations of the authors' code",
    small=({"width": 2, "image": 32, "steps": 2}, {"width": 3, "image": 64, "steps": 3}),
)
