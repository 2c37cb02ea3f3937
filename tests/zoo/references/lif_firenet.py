"""LIF-FireNet: convolutions of events and, in two layers, of the layer's own spikes, step by step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.surrogates import step
from tests.zoo.harness import Case


class Layer(nn.Module):
    def __init__(self, channels: int, width: int, recurrent: bool = False) -> None:
        super().__init__()
        options = {"padding": 1, "bias": False}
        self.into = nn.Conv2d(channels, width, 3, **options)  # type: ignore[arg-type]
        self.back = nn.Conv2d(width, width, 3, **options) if recurrent else None  # type: ignore[arg-type]
        self.a_learnt = nn.Parameter(torch.full((width, 1, 1), -4.0))
        self.theta_learnt = nn.Parameter(torch.full((width, 1, 1), 0.8))

    def forward(self, x: Tensor) -> Tensor:
        leak, threshold = self.a_learnt.sigmoid(), self.theta_learnt.clamp_min(0.01)
        u = s = torch.zeros_like(self.into(x[0]))
        spikes = []
        for frame in x:
            current = self.into(frame)
            if self.back is not None:
                current = current + self.back(s)
            u = u * leak * (1 - s.detach()) + (1 - leak) * current
            s = step(u - threshold, lambda v: 1 / (1 + 10 * v * v))
            spikes.append(s)
        return torch.stack(spikes)


class Flow(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.conv(frame).tanh() for frame in x])


def network(height: int = 128, wide: int = 128, steps: int = 10, width: int = 32) -> nn.Module:
    layers = [Layer(2, width)]
    for _ in range(2):
        layers += [Layer(width, width, True), Layer(width, width), Layer(width, width)]
    return nn.Sequential(*layers, Flow(width))


@torch.no_grad()
def lively(network: nn.Module) -> None:
    """Currents that reach thresholds; leaks and thresholds that differ."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.weight.mul_(4.0)
        if isinstance(module, Layer):
            width = len(module.a_learnt)
            module.a_learnt.copy_(torch.linspace(-3, 1, width)[:, None, None])
            module.theta_learnt.copy_(torch.linspace(0.3, 0.9, width)[:, None, None])


CASE = Case(
    network,
    "its authors' equations in a loop",
    small=(
        {"width": 4, "height": 6, "wide": 5, "steps": 4},
        {"width": 5, "height": 5, "wide": 6, "steps": 6},
    ),
    prepare=lively,
)
