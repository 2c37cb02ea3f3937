"""MobileNet of events: border, norm, convolution, in this order, and counts of spikes."""

from __future__ import annotations

import torch
from spikingjelly.activation_based import surrogate
from torch import Tensor, nn

from tests.zoo.harness import Case
from tests.zoo.parts import conv, maxpool, norm, plif


class Border(nn.Module):
    """One row and column of zeros around [T, N, C, H, W]."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.pad(x, (1, 1, 1, 1))


class Count(nn.Module):
    """Spikes of all steps and pixels: [T, N, C, H, W] to [N, C]."""

    def forward(self, x: Tensor) -> Tensor:
        return x.sum((0, 3, 4))


@torch.no_grad()
def drive(network: nn.Module) -> None:
    """Larger weights: no norm stands between a convolution and its neurons."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.mul_(3.0)


def neurons() -> nn.Module:
    return plif(detach_reset=False, surrogate_function=surrogate.Sigmoid(alpha=1.0))


def stem(channels: int, width: int) -> list[nn.Module]:
    window = conv(channels, width, stride=2, padding=0)
    return [Border(), norm(channels), window, neurons(), maxpool(3, 2, 1)]


def classifier(channels: int, classes: int) -> list[nn.Module]:
    return [norm(channels), conv(channels, classes, 1), neurons(), Count()]


def separable(channels: int, width: int, stride: int) -> list[nn.Module]:
    depthwise = conv(channels, channels, stride=stride, padding=0, groups=channels)
    pointwise = [norm(channels), conv(channels, width, 1)]
    return [Border(), norm(channels), depthwise, *pointwise, neurons()]


def full(channels: int, width: int, stride: int) -> list[nn.Module]:
    return [Border(), norm(channels), conv(channels, width, stride=stride, padding=0), neurons()]


def network(
    classes: int = 2,
    image: int = 64,
    steps: int = 5,
    width: int = 64,
    layer: str = "separable",
) -> nn.Module:
    make = {"separable": separable, "full": full}[layer]
    layers = stem(4, width)
    channels = width
    for factor in (2, 4, 8, 16):
        for number in range(2):
            stride = 2 if factor > 2 and number == 0 else 1
            layers += make(channels, factor * width, stride)
            channels = factor * width
    return nn.Sequential(*layers, *classifier(channels, classes))


CASE = Case(
    network,
    "SpikingJelly's PLIF in its authors' topology",
    small=(
        {"image": 32, "width": 2, "steps": 2},
        {"image": 33, "width": 3, "steps": 3, "layer": "full"},
    ),
    prepare=drive,
    published={
        "18.81 M": {"layer": "full"},
        "1.18 M": {"width": 16, "layer": "full"},
    },
)
