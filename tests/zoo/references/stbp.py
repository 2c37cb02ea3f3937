"""Two convolutions with average pooling and two linear layers, each with neurons and none with norms."""

from __future__ import annotations

from torch import nn

from tests.surrogates import rectangle
from tests.zoo.harness import Case
from tests.zoo.parts import Decaying, Flatten, MeanOverTime, avgpool, conv, linear


def neurons() -> nn.Module:
    return Decaying(rectangle(1.0), decay=0.2, threshold=0.5)


def network(
    classes: int = 10, image: int = 28, steps: int = 20, width: int = 32, code: str = "poisson"
) -> nn.Module:
    return nn.Sequential(
        *(conv(1, width, bias=True), neurons(), avgpool()),
        *(conv(width, width, bias=True), neurons(), avgpool(), Flatten()),
        *(linear(width * (image // 4) ** 2, 4 * width), neurons()),
        *(linear(4 * width, classes), neurons(), MeanOverTime()),
    )


CASE = Case(
    network,
    "the paper's equations, of an image that is not encoded",
    small=(
        {"width": 6, "image": 8, "steps": 3, "code": "identity"},
        {"width": 4, "image": 12, "steps": 4, "code": "identity"},
    ),
)
