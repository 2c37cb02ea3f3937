"""Two recurrent layers whose adaptation reads the membrane of the same step."""

from __future__ import annotations

import math

import torch
from spikingjelly.activation_based import layer
from torch import Tensor, nn

from tests.surrogates import step
from tests.zoo.harness import Case
from tests.zoo.parts import Flatten


def slope(x: Tensor) -> Tensor:
    return 0.4 * 5 / 2 * torch.exp(-5 * x.abs())


class Adaptive(nn.Module):
    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.into, self.back = nn.Linear(inputs, width), nn.Linear(width, width, bias=False)
        self.a_learnt = nn.Parameter(torch.full((width,), 0.5))
        self.b_learnt = nn.Parameter(torch.full((width,), 0.5))
        self.w_learnt = nn.Parameter(torch.full((width,), 0.5))
        self.w_learnt_ = nn.Parameter(torch.full((width,), 1.0))

    def forward(self, x: Tensor) -> Tensor:
        alpha = torch.exp(-1 / (5 * (1 - self.a_learnt) + 25 * self.a_learnt))
        beta = torch.exp(-1 / (60 * (1 - self.b_learnt) + 300 * self.b_learnt))
        u = w = s = x.new_zeros(x.shape[1], len(alpha))
        spikes = []
        for frame in x:
            current = self.into(frame) + self.back(s)
            v = alpha * u + (1 - alpha) * (current - w)
            s = step(v - 1, slope)
            u = v * (1 - s.detach())
            w = beta * w + (1 - beta) * (self.w_learnt * u + self.w_learnt_ * s) * 120
            spikes.append(s)
        return torch.stack(spikes)


class Membranes(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        decay, u, found = math.exp(-1 / 15), torch.zeros_like(x[0]), []
        for frame in x:
            u = decay * u + (1 - decay) * frame
            found.append(u)
        return torch.stack(found)


def network(
    classes: int = 20, inputs: int = 140, steps: int = 250, width: int = 360, drop: float = 0.15
) -> nn.Module:
    def dropped() -> nn.Module:
        return layer.Dropout(drop, step_mode="m")  # type: ignore[no-any-return]

    return nn.Sequential(
        *(Flatten(), Adaptive(inputs, width), dropped(), Adaptive(width, width), dropped()),
        *(nn.Linear(width, classes), Membranes()),
    )


@torch.no_grad()
def lively(network: nn.Module) -> None:
    """Currents that reach the threshold; leaks and adaptations that differ."""
    for module in network.modules():
        if isinstance(module, Adaptive):
            module.into.weight.mul_(20.0)
            spread = torch.linspace(0, 1, len(module.a_learnt), dtype=torch.float64)
            module.a_learnt.copy_(spread)
            module.b_learnt.copy_(1 - spread)
            module.w_learnt.copy_(0.1 * spread)
            module.w_learnt_.copy_(0.2 + 0.2 * spread)


CASE = Case(
    network,
    "the paper's equations in a loop",
    small=(
        {"inputs": 8, "width": 8, "steps": 8, "classes": 4, "drop": 0.0},
        {"inputs": 7, "width": 11, "steps": 11, "classes": 3, "drop": 0.0},
    ),
    prepare=lively,
)
