"""An LSTM whose gates are step functions of arctan's derivative, step by step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.surrogates import step
from tests.zoo.harness import Case


def arctan(x: Tensor) -> Tensor:
    return 1 / (1 + (torch.pi * x).square())


class LSTM(nn.Module):
    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.gates = nn.ModuleList(nn.Linear(inputs + width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        h = c = x.new_zeros(x.shape[1], self.width)
        found = []
        for frame in x:
            both = torch.cat([frame, h], 1)
            read, forget, write, new = (
                step(gate(both) - threshold, arctan)
                for gate, threshold in zip(self.gates, (0.0, 0.0, 0.0, 0.3), strict=True)
            )
            c = forget * c + write * new
            h = read * c
            found.append(h)
        return torch.stack(found)


class Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(0)


def network(classes: int = 10, inputs: int = 28, steps: int = 28, width: int = 1000) -> nn.Module:
    layers = LSTM(inputs, width), nn.Linear(width, classes)
    return nn.Sequential(nn.Flatten(2), *layers, Mean())


CASE = Case(
    network,
    "the paper's equations in a loop",
    small=({"inputs": 6, "width": 8, "steps": 4}, {"inputs": 6, "width": 11, "steps": 7}),
)
