"""A VGG whose neurons fire where a weighted sum of their last inputs reaches a threshold."""

from __future__ import annotations

import torch
from spikingjelly.activation_based import surrogate
from torch import Tensor, nn

from tests.zoo.harness import Case
from tests.zoo.parts import Flatten, avgpool, conv, linear, norm


class Sliding(nn.Module):
    """Of [T, N, ...]: S[t] = step(sum over j < k of w[j] * X[t - j], less the threshold)."""

    def __init__(self, k: int) -> None:
        super().__init__()
        starts = [*(0.5**j for j in range(k)), -1.0]  # the last one is the threshold
        self.numbers = nn.ParameterList(torch.tensor(start) for start in starts)
        self.fire = surrogate.ATan(2.0)

    def forward(self, x: Tensor) -> Tensor:
        *weights, bias = self.numbers
        total = torch.zeros_like(x)
        for j, weight in enumerate(weights[: len(x)]):
            total = total + weight * torch.cat([torch.zeros_like(x[:j]), x[: len(x) - j]])
        fired: Tensor = self.fire(total + bias)
        return fired


def network(
    classes: int = 10,
    image: int = 48,
    steps: int = 10,
    width: int = 64,
    k: int = 2,
    p: float = 0.25,
) -> nn.Module:
    widths = (width, 2 * width, 4 * width, 4 * width, *(8 * width,) * 4)
    channels, layers = 2, nn.Sequential()
    for place, count in enumerate(widths):
        layers.extend((conv(channels, count, bias=True), norm(count), Sliding(k)))
        if place % 2:
            layers.append(avgpool())
        channels = count
    layers.extend((Flatten(), nn.Dropout(p), linear(channels * (image // 16) ** 2, classes)))
    return layers


CASE = Case(
    network,
    "the paper's equations; SpikingJelly's SlidingPSN in tests/runtime",
    small=(
        {"width": 2, "image": 16, "steps": 3, "p": 0.0},
        {"width": 3, "image": 16, "steps": 4, "k": 3, "p": 0.0},
    ),
)
