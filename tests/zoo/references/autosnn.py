"""The architecture that AutoSNN found: residual blocks of kernels 5, 5, 3 and 5, whose norms take one step."""

from __future__ import annotations

from spikingjelly.activation_based import layer
from torch import Tensor, nn

from tests.zoo.harness import Case
from tests.zoo.parts import (
    Flatten,
    MeanOverTime,
    StepNorm,
    conv,
    linear,
    maxpool,
    norm,
    plif,
)
from tests.zoo.references.plif_net import driven


class Residual(nn.Module):
    def __init__(self, channels: int, width: int, kernel: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            *(conv(channels, width, kernel), StepNorm(width), plif()),
            *(conv(width, width, kernel), StepNorm(width)),
        )
        self.shortcut: nn.Module = nn.Identity()
        if channels != width:
            self.shortcut = nn.Sequential(conv(channels, width, 1), StepNorm(width))
        self.neurons = plif()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.neurons(self.branch(x) + self.shortcut(x))
        return out


def network(classes: int = 10, image: int = 32, steps: int = 8, width: int = 128) -> nn.Module:
    return nn.Sequential(
        *(conv(3, width), norm(width), plif(), Residual(width, width, 5), maxpool()),
        *(Residual(width, 2 * width, 5), maxpool()),
        *(Residual(2 * width, 4 * width, 3), Residual(4 * width, 4 * width, 5), maxpool()),
        *(Flatten(), linear(4 * width * (image // 8) ** 2, 10 * classes, bias=False), plif()),
        *(layer.VotingLayer(10, step_mode="m"), MeanOverTime()),
    )


CASE = Case(
    network,
    "SpikingJelly's PLIF and voting layer in its authors' topology",
    small=(
        {"width": 3, "image": 8, "steps": 2, "classes": 3},
        {"width": 2, "image": 16, "steps": 3, "classes": 3},
    ),
    published={
        "20.92 M": {},
        "5.44 M": {"width": 64},
        "1.46 M": {"width": 32},
        "0.42 M": {"width": 16},
    },
    prepare=driven,
)
