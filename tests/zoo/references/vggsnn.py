"""VGGSNN: eight convolutions with biases, norms and neurons, average pooling after each two."""

from __future__ import annotations

from torch import nn

from tests.surrogates import triangle
from tests.zoo.harness import Case
from tests.zoo.parts import Decaying, Flatten, avgpool, conv, linear, norm


def features(width: int) -> list[nn.Module]:
    layers: list[nn.Module] = []
    channels = 2
    for number, factor in enumerate((1, 2, 4, 4, 8, 8, 8, 8)):
        layers += [conv(channels, factor * width, bias=True), norm(factor * width)]
        layers += [Decaying(triangle), avgpool()] if number % 2 else [Decaying(triangle)]
        channels = factor * width
    return layers


def network(classes: int = 10, image: int = 48, steps: int = 10, width: int = 64) -> nn.Module:
    entries = 8 * width * (image // 16) ** 2
    return nn.Sequential(*features(width), Flatten(), linear(entries, classes))


CASE = Case(
    network,
    "the paper's equations",
    small=({"width": 3, "image": 16, "steps": 2}, {"width": 2, "image": 32, "steps": 3}),
)
