"""VGG-16 whose activation is clip(floor(x / h * L + 1 / 2) / L, 0, 1) * h with a learnt h."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tests.zoo.harness import Case
from tests.zoo.parts import Flatten, avgpool, linear
from tests.zoo.references.spiking_vgg16 import features

LEVELS = 4


class _Floor(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.floor()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


class Activation(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.height = nn.Parameter(torch.tensor(8.0))

    def forward(self, x: Tensor) -> Tensor:
        floor: Tensor = _Floor.apply(x / self.height * LEVELS + 0.5)  # type: ignore[no-untyped-call]
        return (floor / LEVELS).clamp(0, 1) * self.height


def network(classes: int = 10, image: int = 32, steps: int = 1, width: int = 64) -> nn.Module:
    hidden = 64 * width
    return nn.Sequential(
        *features(width, Activation, avgpool),
        *(Flatten(), linear(8 * width * (image // 32) ** 2, hidden), Activation()),
        *(linear(hidden, hidden), Activation(), linear(hidden, classes)),
    )


@torch.no_grad()
def low(network: nn.Module) -> None:
    """Heights at which activations use all of their levels."""
    for module in network.modules():
        if isinstance(module, Activation):
            module.height.fill_(2.5)


CASE = Case(
    network,
    "the authors' equations, whose gradient at both ends is that of the code",
    small=({"width": 2, "image": 32, "steps": 1}, {"width": 3, "image": 32, "steps": 2}),
    prepare=low,
)
