"""A recurrent layer of oscillating neurons and membranes that are read out, step by step."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from tests.surrogates import step
from tests.zoo.harness import Case
from tests.zoo.parts import Flatten

DT = 0.01


def slope(x: Tensor) -> Tensor:
    def normal(width: float) -> Tensor:
        return torch.exp(-((x / width) ** 2) / 2) / (width * math.sqrt(2 * math.pi))

    return 0.5 * (1.15 * normal(0.5) - 0.3 * normal(3.0))


class Resonators(nn.Module):
    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs + width, width, bias=False)
        self.w_learnt = nn.Parameter(torch.full((width,), 7.5))
        self.damp_learnt = nn.Parameter(torch.full((width,), 2.5))

    def forward(self, x: Tensor) -> Tensor:
        omega = self.w_learnt.abs()
        bound = (torch.sqrt(1 - (DT * omega) ** 2) - 1) / DT
        z = x.new_zeros(x.shape[1], len(omega), dtype=torch.complex128)
        q = s = z.real
        spikes = []
        for frame in x:
            current = self.linear(torch.cat((frame, s), 1))
            b = bound - self.damp_learnt.abs() - q
            z = z + DT * (torch.complex(b, omega.expand_as(b)) * z + current)
            s = step(z.real - 1 - q, slope)
            q = 0.9 * q + s
            spikes.append(s)
        return torch.stack(spikes)


class Readout(nn.Module):
    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, classes, bias=False)
        self.a_learnt = nn.Parameter(torch.full((classes,), 20.0))

    def forward(self, x: Tensor) -> Tensor:
        leak, found = torch.exp(-1 / self.a_learnt.abs()), []
        u = torch.zeros(())
        for frame in x:
            u = leak * u + (1 - leak) * self.linear(frame)
            found.append(u)
        return torch.stack(found)


def network(classes: int = 20, inputs: int = 700, steps: int = 250, width: int = 128) -> nn.Module:
    return nn.Sequential(Flatten(), Resonators(inputs, width), Readout(width, classes))


@torch.no_grad()
def lively(network: nn.Module) -> None:
    """Currents that reach the threshold in a few steps; frequencies and dampings that differ."""
    for module in network.modules():
        if isinstance(module, Resonators):
            module.linear.weight.mul_(120.0)
            module.w_learnt.copy_(torch.linspace(-9, 9, len(module.w_learnt)))
            module.damp_learnt.copy_(torch.linspace(3, -1, len(module.damp_learnt)))
        if isinstance(module, Readout):
            module.linear.weight.mul_(4.0)
            module.a_learnt.copy_(torch.linspace(2, 20, len(module.a_learnt)))


CASE = Case(
    network,
    "the paper's equations in complex numbers",
    small=(
        {"inputs": 8, "width": 8, "steps": 10, "classes": 4},
        {"inputs": 7, "width": 11, "steps": 14, "classes": 3},
    ),
    prepare=lively,
)
