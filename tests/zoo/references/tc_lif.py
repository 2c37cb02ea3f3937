"""Layers of two-compartment neurons on a sequence of single pixels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.surrogates import step, triangle
from tests.zoo.harness import Case
from tests.zoo.parts import Flatten, Neurons, linear


class TwoCompartments(Neurons):
    states = 2

    def __init__(self, gamma: float = 0.5) -> None:
        super().__init__()
        self.gamma = gamma
        self.to_dendrite = nn.Parameter(torch.tensor(0.0))
        self.to_soma = nn.Parameter(torch.tensor(0.0))

    def fire(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        dendrite, soma = states
        dendrite = dendrite - self.to_dendrite.sigmoid() * soma + x
        soma = soma + self.to_soma.sigmoid() * dendrite
        s = step(soma - 1, triangle)
        return s, dendrite - self.gamma * s, soma - s


class SumOverTime(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.sum(0)


def network(classes: int = 10, steps: int = 784, width: int = 64) -> nn.Module:
    return nn.Sequential(
        *(Flatten(), linear(1, width), TwoCompartments()),
        *(linear(width, 4 * width), TwoCompartments()),
        *(linear(4 * width, 4 * width), TwoCompartments()),
        *(linear(4 * width, classes), SumOverTime()),
    )


CASE = Case(
    network,
    "the paper's equations",
    small=({"width": 4, "steps": 12}, {"width": 6, "steps": 9}),
    published={"85.1 k": {}},
)
