"""DenseNet of events: layers of norm, convolution and neurons, whose spikes are concatenated."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.zoo.harness import Case
from tests.zoo.parts import conv, maxpool, norm
from tests.zoo.references.spiking_mobilenet import classifier, drive, neurons, stem


class Dense(nn.Module):
    """The input, and behind it the spikes of two layers more."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        narrow = [norm(channels), conv(channels, 4 * growth, 1), neurons()]
        window = [norm(4 * growth), conv(4 * growth, growth), neurons()]
        self.layers = nn.Sequential(*narrow, *window)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((x, self.layers(x)), 2)


def network(
    image: int = 64,
    steps: int = 5,
    width: int = 16,
    a: int = 6,
    b: int = 12,
    c: int = 24,
    d: int = 16,
) -> nn.Module:
    layers = stem(4, 2 * width)
    channels = 2 * width
    for number, count in enumerate((a, b, c, d)):
        if number:
            half = [norm(channels), conv(channels, channels // 2, 1), neurons(), maxpool()]
            layers += half
            channels //= 2
        for _ in range(count):
            layers.append(Dense(channels, width))
            channels += width
    return nn.Sequential(*layers, *classifier(channels, 2))


CASE = Case(
    network,
    "SpikingJelly's PLIF in its authors' topology",
    small=(
        {"image": 64, "width": 4, "steps": 2, "a": 2, "b": 2, "c": 1, "d": 1},
        {"image": 65, "width": 5, "steps": 3, "a": 1, "b": 2, "c": 2, "d": 2},
    ),
    prepare=drive,
    published={
        "1.76 M": {},
        "3.93 M": {"width": 24},
        "6.95 M": {"width": 32},
        "3.16 M": {"c": 32, "d": 32},
    },
)
