"""tdBN's ResNet-19. A norm of the paper, scaled by alpha * V_th, is one with weights that many times
as large, so batch norms stand for them."""

from __future__ import annotations

from torch import nn

from tests.surrogates import rectangle
from tests.zoo.harness import Case
from tests.zoo.parts import (
    Decaying,
    MeanOverPixels,
    MeanOverTime,
    conv,
    linear,
    louder,
    norm,
    stages,
)


def neurons() -> nn.Module:
    return Decaying(rectangle(1.0), decay=0.25, threshold=0.2)


def network(classes: int = 10, image: int = 32, steps: int = 6, width: int = 128) -> nn.Module:
    return nn.Sequential(
        *(conv(3, width // 2), norm(width // 2), neurons()),
        stages(width // 2, (width, 2 * width, 4 * width), (3, 3, 2), neurons),
        *(MeanOverPixels(), linear(4 * width, 2 * width), neurons()),
        *(linear(2 * width, classes), neurons(), MeanOverTime()),
    )


CASE = Case(
    network,
    "the paper's equations",
    small=(
        {"width": 4, "image": 8, "steps": 2},
        {"width": 6, "image": 8, "steps": 3},
    ),
    published={"12.63 M": {}},
    prepare=louder(2.0),
)
