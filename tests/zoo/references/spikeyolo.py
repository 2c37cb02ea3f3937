"""The backbone of SpikeYOLO, of neurons that give whole numbers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tests.zoo.harness import Case
from tests.zoo.parts import Neurons, Round, conv, maxpool, norm
from tests.zoo.references.meta_spikeformer import Padded
from tests.zoo.tokens import residual


class Fire(Neurons):
    """Up to four spikes at once, which are taken from the membrane."""

    def fire(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        v = 0.25 * states[0] + x
        s: Tensor = Round.apply(v.clamp(0, 4))  # type: ignore[no-untyped-call]
        return s, v - s.detach()


def behind(channels: int, width: int, kernel: int = 1, **options: Any) -> nn.Sequential:
    return nn.Sequential(Fire(), conv(channels, width, kernel, **options), norm(width))


def separable(width: int) -> nn.Module:
    wide = 2 * width
    last = conv(wide, width, 1), conv(width, width, padding=0, groups=width), norm(width)
    depthwise = behind(wide, wide, 7, groups=wide)
    return residual(behind(width, wide), depthwise, Fire(), Padded(wide), *last)


def merged(channels: int, width: int) -> nn.Sequential:
    depthwise = conv(channels, channels, padding=0, groups=channels)
    last = conv(channels, width, 1), norm(width), norm(width)
    return nn.Sequential(Fire(), conv(channels, channels, 1), Padded(channels), depthwise, *last)


def early(width: int) -> nn.Sequential:
    wide = behind(width, 4 * width, 3), behind(4 * width, width, 3)
    return nn.Sequential(separable(width), residual(*wide))


def late(width: int, ratio: int) -> nn.Sequential:
    wide = merged(width, ratio * width), merged(ratio * width, width)
    return nn.Sequential(separable(width), residual(*wide))


def down(width: int) -> nn.Sequential:
    return behind(width, 2 * width, 3, stride=2, bias=True)


class Pooled(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.last = behind(width, width // 2), behind(2 * width, width)
        self.pool = maxpool(5, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        found = [self.first(x)]
        for _ in range(3):
            found.append(self.pool(found[-1]))
        out: Tensor = self.last(torch.cat(found, 2))
        return out


class Network(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        w = width
        stem = conv(3, w, 7, stride=4, padding=2, bias=True), norm(w), early(w)
        self.p3 = nn.Sequential(*stem, down(w), early(2 * w), early(2 * w))
        self.p4 = nn.Sequential(down(2 * w), *(late(4 * w, 3) for _ in range(3)))
        self.p5 = nn.Sequential(down(4 * w), late(8 * w, 2), Pooled(8 * w))

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        p3 = self.p3(x)
        p4 = self.p4(p3)
        return self.p5(p4), p3, p4


def network(image: int = 640, steps: int = 1, width: int = 64) -> nn.Module:
    made = Network(width)
    for module in made.modules():
        if hasattr(module, "running_mean"):
            module.eps = 1e-3
    return made


CASE = Case(
    network,
    "its authors' topology in plain PyTorch",
    small=(
        {"width": 2, "image": 64, "steps": 1},
        {"width": 3, "image": 64, "steps": 2},
    ),
)
