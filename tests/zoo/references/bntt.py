"""VGG-9 whose norms have weights and statistics of each step."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.surrogates import step
from tests.zoo.harness import Case
from tests.zoo.parts import Flatten, MeanOverTime, Neurons, avgpool, conv, linear


class ThroughTime(nn.Module):
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, steps: int, width: int) -> None:
        super().__init__()
        self.momentum = 0.1
        self.weight = nn.Parameter(torch.ones(steps, width))
        self.register_buffer("running_mean", torch.zeros(steps, width))
        self.register_buffer("running_var", torch.ones(steps, width))

    def forward(self, x: Tensor) -> Tensor:
        frames = zip(x, self.running_mean, self.running_var, self.weight, strict=True)
        return torch.stack(
            [F.batch_norm(*each, None, self.training, self.momentum, 1e-4) for each in frames]
        )


class Leaky(Neurons):
    def fire(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        v = 0.95 * states[0] + x
        s = step(v - 1, lambda z: 0.3 * (1 - z.abs()).clamp(min=0))
        return s, v - s.detach()


def network(
    classes: int = 10, image: int = 32, steps: int = 25, width: int = 64, code: str = "poisson"
) -> nn.Module:
    layers: list[nn.Module] = []
    channels = 3
    for factor, count in ((1, 2), (2, 2), (4, 3)):
        for _ in range(count):
            layers += [conv(channels, factor * width), ThroughTime(steps, factor * width), Leaky()]
            channels = factor * width
        layers.append(avgpool())
    hidden = 16 * width
    return nn.Sequential(
        *(*layers, Flatten(), linear(channels * (image // 8) ** 2, hidden, bias=False)),
        *(ThroughTime(steps, hidden), Leaky(), linear(hidden, classes, bias=False)),
        MeanOverTime(),
    )


CASE = Case(
    network,
    "the paper's equations, of an image that is not encoded",
    small=(
        {"width": 3, "image": 8, "steps": 2, "code": "identity"},
        {"width": 4, "image": 16, "steps": 3, "code": "identity"},
    ),
)
