"""VGGSNN with TEBN: y[t] = p[t] * BN(x)[t], the statistics over all steps together."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.surrogates import triangle
from tests.zoo.harness import Case
from tests.zoo.parts import Decaying, Flatten, avgpool, conv, linear, norm


class TEBN(nn.Module):
    def __init__(self, steps: int, width: int) -> None:
        super().__init__()
        self.norm = norm(width)
        self.scale = nn.Parameter(torch.ones(steps))

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x) * self.scale.view(-1, 1, 1, 1, 1)  # type: ignore[no-any-return]


def network(classes: int = 10, image: int = 48, steps: int = 10, width: int = 64) -> nn.Module:
    layers: list[nn.Module] = []
    channels = 2
    for number, factor in enumerate((1, 2, 4, 4, 8, 8, 8, 8)):
        layers += [conv(channels, factor * width, bias=True), TEBN(steps, factor * width)]
        layers += [Decaying(triangle), avgpool()] if number % 2 else [Decaying(triangle)]
        channels = factor * width
    entries = 8 * width * (image // 16) ** 2
    return nn.Sequential(*layers, Flatten(), linear(entries, classes))


@torch.no_grad()
def scales(network: nn.Module) -> None:
    """Factors that differ from step to step."""
    for module in network.modules():
        if isinstance(module, TEBN):
            module.scale.copy_(torch.linspace(0.8, 1.3, len(module.scale)))


CASE = Case(
    network,
    "the paper's equations",
    small=({"width": 3, "image": 16, "steps": 2}, {"width": 2, "image": 32, "steps": 3}),
    prepare=scales,
)
