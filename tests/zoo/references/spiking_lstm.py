"""An LSTM whose gates and cell are step functions, step by step."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from tests.surrogates import Slope, step
from tests.zoo.harness import Case


def gaussian(width: float, height: float = 0.3) -> Slope:
    return lambda x: torch.exp(-x * x / width) / math.sqrt(height * math.pi)


class LSTM(nn.Module):
    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.width = width
        self.gates = nn.ModuleList(nn.Linear(inputs + width, width) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        h = c = x.new_zeros(x.shape[1], self.width)
        narrow, wide = gaussian(0.3), gaussian(1.0)
        found = []
        for frame in x:
            both = torch.cat([frame, h], 1)
            read, forget, write, new = (
                step(gate(both) - 0.1, slope)
                for gate, slope in zip(self.gates, (narrow, narrow, narrow, wide), strict=True)
            )
            c = step(forget * c + write * new - 0.1, wide)
            h = read * c
            found.append(h)
        return torch.stack(found)


class Last(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x[-1]


def network(classes: int = 10, inputs: int = 28, steps: int = 28, width: int = 200) -> nn.Module:
    layers = LSTM(inputs, width), nn.Linear(width, classes)
    return nn.Sequential(nn.Flatten(2), *layers, Last())


CASE = Case(
    network,
    "its authors' equations in a loop",
    small=({"inputs": 6, "width": 8, "steps": 4}, {"inputs": 6, "width": 11, "steps": 7}),
)
