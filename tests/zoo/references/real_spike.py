"""SEW-ResNet-18 whose spikes are multiplied by a number of each channel."""

from __future__ import annotations

import torch
from spikingjelly.activation_based import neuron, surrogate
from torch import Tensor, nn

from tests.zoo.harness import Case
from tests.zoo.parts import (
    Make,
    MeanOverPixels,
    MeanOverTime,
    conv,
    maxpool,
    norm,
    stages,
)


class Factor(nn.Module):
    """Of [T, N, C, H, W]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight[:, None, None]


def fire() -> nn.Module:
    return neuron.IFNode(  # type: ignore[no-any-return]
        detach_reset=True, surrogate_function=surrogate.ATan(), step_mode="m"
    )


def layer(channels: int, width: int, stride: int) -> nn.Sequential:
    return nn.Sequential(conv(channels, width, stride=stride), norm(width), fire(), Factor(width))


class Block(nn.Module):
    def __init__(self, channels: int, width: int, stride: int, neurons: Make) -> None:
        super().__init__()
        self.branch = nn.Sequential(layer(channels, width, stride), layer(width, width, 1))
        self.shortcut: nn.Module = nn.Identity()
        if channels != width or stride != 1:
            projection = conv(channels, width, 1, stride=stride)
            self.shortcut = nn.Sequential(projection, norm(width), neurons())

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.branch(x) + self.shortcut(x)
        return out


def network(classes: int = 1000, image: int = 224, steps: int = 4, width: int = 64) -> nn.Module:
    widths = [width, 2 * width, 4 * width, 8 * width]
    stem = conv(3, width, 7, stride=2), norm(width), fire(), Factor(width), maxpool(3, 2, 1)
    return nn.Sequential(
        *(*stem, stages(width, widths, (2, 2, 2, 2), fire, block=Block)),
        *(MeanOverPixels(), MeanOverTime(), nn.Linear(8 * width, classes)),
    )


@torch.no_grad()
def scatter(network: nn.Module) -> None:
    """Factors that differ."""
    for module in network.modules():
        if isinstance(module, Factor):
            module.weight.copy_(torch.linspace(0.5, 1.5, len(module.weight)))


CASE = Case(
    network,
    "SpikingJelly's IFNode in its authors' topology",
    small=(
        {"width": 3, "image": 32, "steps": 2, "classes": 4},
        {"width": 4, "image": 32, "steps": 3, "classes": 3},
    ),
    prepare=scatter,
)
