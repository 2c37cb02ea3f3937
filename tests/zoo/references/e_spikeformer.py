"""E-SpikeFormer: neurons of up to four spikes, attention with values four times as wide as keys."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from tests.zoo.harness import Case
from tests.zoo.parts import MeanOverPixels, Round, conv, linear, norm
from tests.zoo.tokens import attended, residual


class Spikes(nn.Module):
    """Up to ``top`` spikes of a ``unit`` each; the gradient passes between 0 and ``top``."""

    def __init__(self, unit: float = 0.25, top: int = 4) -> None:
        super().__init__()
        self.unit, self.top = unit, top

    def forward(self, x: Tensor) -> Tensor:
        fired: Tensor = Round.apply(x.clamp(0, self.top))  # type: ignore[no-untyped-call]
        return fired * self.unit


def behind(channels: int, width: int, kernel: int = 1, **options: Any) -> nn.Sequential:
    return nn.Sequential(Spikes(), conv(channels, width, kernel, **options), norm(width))


def separable(width: int, kernel: int) -> nn.Module:
    wide = 2 * width
    return residual(
        behind(width, wide), behind(wide, wide, kernel, groups=wide), behind(wide, width)
    )


def mlp(width: int) -> nn.Module:
    return residual(behind(width, 4 * width, bias=True), behind(4 * width, width, bias=True))


class Attention(nn.Module):
    def __init__(self, width: int, heads: int = 8) -> None:
        super().__init__()
        self.fire = Spikes()
        self.q, self.k, self.v = (
            nn.Sequential(conv(width, size, 1), norm(size), Spikes())
            for size in (width, width, 4 * width)
        )
        self.last = behind(4 * width, width)
        self.heads, self.scale = heads, 2 * (width / heads) ** -0.5

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.fire(x)
        mixed = attended(self.q(spikes), self.k(spikes), self.v(spikes), self.heads)
        passed: Tensor = self.last(self.scale * mixed)
        return x + passed


def network(
    classes: int = 1000, image: int = 224, steps: int = 1, width: int = 48, last: int = 240
) -> nn.Module:
    def convolutional(size: int) -> tuple[nn.Module, ...]:
        wide = residual(behind(size, 4 * size, 3), behind(4 * size, size, 3))
        return separable(size, 7), wide

    def encoder(size: int) -> tuple[nn.Module, ...]:
        return separable(size, 3), Attention(size), mlp(size)

    def down(size: int, wide: int, stride: int = 2) -> nn.Module:
        return behind(size, wide, 3, stride=stride, bias=True)

    half = width // 2
    parts = [conv(3, half, 7, stride=2, bias=True), norm(half), *convolutional(half)]
    parts += [down(half, width), *convolutional(width), down(width, 2 * width)]
    parts += [*convolutional(2 * width), *convolutional(2 * width), down(2 * width, 4 * width)]
    parts += [part for _ in range(6) for part in encoder(4 * width)]
    parts += [down(4 * width, last, stride=1)]
    parts += [part for _ in range(2) for part in encoder(last)]
    return nn.Sequential(*parts, MeanOverPixels(), Spikes(1.0), linear(last, classes))


CASE = Case(
    network,
    "its authors' topology in plain PyTorch",
    small=(
        {"width": 8, "last": 32, "image": 64, "steps": 1},
        {"width": 10, "last": 48, "image": 64, "steps": 2},
    ),
    published={
        "10.0 M": {},
        "5.1 M": {"width": 32, "last": 192},
        "19.0 M": {"width": 64, "last": 360},
    },
)
