"""VGG-16 without norms and biases, whose neurons learn leak and threshold."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.surrogates import step
from tests.zoo.harness import Case
from tests.zoo.parts import Flatten, Neurons, avgpool, conv, linear
from tests.zoo.references.tc_lif import SumOverTime


class Diet(Neurons):
    states = 2

    def __init__(self) -> None:
        super().__init__()
        self.threshold = nn.Parameter(torch.tensor(1.0))
        self.leak = nn.Parameter(torch.tensor(1.0))

    def fire(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        u, o = states
        u = self.leak * u + x - self.threshold * o.detach()
        s = step(u / self.threshold - 1, lambda z: 0.3 * (1 - z.abs()).clamp(min=0))
        return s, u, s


def network(
    classes: int = 10, image: int = 32, steps: int = 5, width: int = 64, drop: float = 0.2
) -> nn.Module:
    layers: list[nn.Module] = []
    channels = 3
    for factor, count, pool in ((1, 2, 1), (2, 2, 1), (4, 3, 1), (8, 3, 1), (8, 3, 0)):
        for i in range(count):
            layers += [conv(channels, factor * width), Diet()]
            last = i == count - 1 and pool
            layers += [avgpool()] if last else [nn.Dropout(drop)]
            channels = factor * width
    hidden = 64 * width
    entries = 8 * width * (image // 16) ** 2
    return nn.Sequential(
        *(*layers, Flatten(), linear(entries, hidden, bias=False), Diet(), nn.Dropout(drop)),
        *(linear(hidden, hidden, bias=False), Diet(), nn.Dropout(drop)),
        *(linear(hidden, classes, bias=False), SumOverTime()),
    )


@torch.no_grad()
def driven(network: nn.Module) -> None:
    """Weights with which neurons fire through all layers, and parameters that differ."""
    for number, module in enumerate(network.modules()):
        if isinstance(module, nn.Conv2d | nn.Linear):
            fan = module.weight[0].numel()
            module.weight.normal_(0.42 / fan**0.5, 2.4 / fan**0.5)
        if isinstance(module, Diet):
            module.leak.fill_(0.9 - 0.01 * (number % 5))
            module.threshold.fill_(0.9 + 0.02 * (number % 4))


CASE = Case(
    network,
    "the paper's equations",
    small=(
        {"width": 3, "image": 16, "steps": 4, "drop": 0.0},
        {"width": 4, "image": 16, "steps": 3, "drop": 0.0},
    ),
    prepare=driven,
)
