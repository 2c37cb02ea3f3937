"""One hidden layer of current-based LIF neurons and a readout that integrates."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from tests.surrogates import step
from tests.zoo.harness import Case
from tests.zoo.parts import Flatten, Neurons, linear

ALPHA, BETA = math.exp(-1 / 5), math.exp(-1 / 10)


class Current(Neurons):
    states = 2

    def fire(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        current, membrane = states
        s = step(membrane - 1, lambda z: 1 / (100 * z.abs() + 1) ** 2)
        return s, ALPHA * current + x, (BETA * membrane + current) * (1 - s.detach())


class Readout(Neurons):
    states = 2

    def fire(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        current, membrane = states
        membrane = BETA * membrane + current
        return membrane, ALPHA * current + x, membrane


def network(classes: int = 10, image: int = 28, steps: int = 100, width: int = 100) -> nn.Module:
    return nn.Sequential(
        *(Flatten(), linear(image * image, width, bias=False), Current()),
        *(linear(width, classes, bias=False), Readout()),
    )


@torch.no_grad()
def driven(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Linear):
            module.weight.mul_(4).add_(0.1)


CASE = Case(
    network,
    "the paper's equations",
    small=({"width": 8, "image": 5, "steps": 9}, {"width": 12, "image": 4, "steps": 7}),
    prepare=driven,
)
