"""VGG-9 with TAB: at step t the batch norm of steps 0 to t, whose last entry counts, times p[t]^2."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.surrogates import triangle
from tests.zoo.harness import Case, by_order
from tests.zoo.parts import Decaying, Flatten, MeanOverTime, avgpool, conv, linear


class Accumulated(nn.Module):
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, steps: int, width: int) -> None:
        super().__init__()
        self.momentum = 0.1
        self.p = nn.Parameter(torch.ones(steps))
        self.weight = nn.Parameter(torch.ones(steps, width))
        self.bias = nn.Parameter(torch.zeros(steps, width))
        self.register_buffer("running_mean", torch.zeros(steps, width))
        self.register_buffer("running_var", torch.ones(steps, width))

    def forward(self, x: Tensor) -> Tensor:
        known = zip(self.running_mean, self.running_var, self.weight, self.bias, strict=True)
        found = []
        for t, each in enumerate(known):
            so_far = x[: t + 1].flatten(0, 1)
            y = F.batch_norm(so_far, *each, self.training, self.momentum, 1e-5)
            found.append(self.p[t] ** 2 * y[-x.shape[1] :])
        return torch.stack(found)


def network(
    classes: int = 10, image: int = 32, steps: int = 4, width: int = 64, drop: float = 0.25
) -> nn.Module:
    layers: list[nn.Module] = []
    channels = 3
    for factor, count in ((1, 2), (2, 2), (4, 3)):
        for _ in range(count):
            layers += [conv(channels, factor * width), Accumulated(steps, factor * width)]
            layers.append(Decaying(triangle, decay=0.9))
            channels = factor * width
        layers.append(avgpool())
    hidden = 16 * width
    layers += [Flatten(), nn.Dropout(drop), linear(channels * (image // 8) ** 2, hidden)]
    return nn.Sequential(*layers, nn.Dropout(drop), linear(hidden, classes), MeanOverTime())


@torch.no_grad()
def scales(network: nn.Module) -> None:
    """Factors that differ from step to step."""
    for module in network.modules():
        if isinstance(module, Accumulated):
            module.p.copy_(torch.linspace(0.9, 1.2, len(module.p)))


CASE = Case(
    network,
    "the paper's equations, without dropout",
    small=(
        {"width": 3, "image": 8, "steps": 2, "drop": 0.0},
        {"width": 4, "image": 16, "steps": 3, "drop": 0.0},
    ),
    prepare=scales,
    pairs=partial(by_order, called={"scale.weight": "p"}),
)
