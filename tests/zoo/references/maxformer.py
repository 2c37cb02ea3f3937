"""Max-Former for CIFAR, of the parts that spiking transformers share."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.zoo.harness import Case
from tests.zoo.parts import Add, MeanOverPixels, MeanOverTime, conv, linear, maxpool, norm
from tests.zoo.tokens import SelfAttention, fire, fire_conv, mlp, residual, rouse, token


class Down(nn.Module):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.fire = fire()
        branch = conv(channels, width), norm(width), maxpool(3, 2, 1), fire_conv(width, width)
        shortcut = conv(channels, width, 1), norm(width), maxpool(3, 2, 1)
        self.both = Add(nn.Sequential(*branch), nn.Sequential(*shortcut))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.both(self.fire(x))
        return out


def network(
    classes: int = 10, image: int = 32, steps: int = 4, width: int = 384, heads: int = 8
) -> nn.Module:
    w = width
    shortcut = nn.Sequential(fire(), conv(w // 8, w // 4, 1), norm(w // 4))
    stem = conv(3, w // 8), norm(w // 8), Add(fire_conv(w // 8, w // 4), shortcut)
    depthwise = fire(), conv(w // 2, w // 2, groups=w // 2, bias=True), norm(w // 2)
    early = mlp(w // 4), Down(w // 4, w // 2), residual(*depthwise), mlp(w // 2)
    attention = (
        part
        for _ in range(2)
        for part in (residual(fire(), SelfAttention(w, heads, False), *token(w, w)), mlp(w))
    )
    head = MeanOverPixels(), fire(), linear(w, classes), MeanOverTime()
    return nn.Sequential(*stem, *early, Down(w // 2, w), *attention, *head)


@torch.no_grad()
def more(network: nn.Module) -> None:
    """There are four tokens alone, whose spikes are to reach a threshold."""
    rouse(network)
    rouse(network)


CASE = Case(
    network,
    "its authors' topology with SpikingJelly's LIF",
    small=(
        {"width": 16, "heads": 2, "image": 8, "steps": 2},
        {"width": 24, "heads": 1, "image": 8, "steps": 3},
    ),
    prepare=more,
)
