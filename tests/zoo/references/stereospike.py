"""StereoSpike: neurons that are reset at each step, and predictions that add up."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from tests.surrogates import step
from tests.zoo.harness import Case


class Fires(nn.Module):
    """A neuron without a state."""

    def __init__(self, gain: float) -> None:
        super().__init__()
        self.gain = gain

    def forward(self, x: Tensor) -> Tensor:
        return step(self.gain * x - 1, lambda v: 4 * torch.sigmoid(4 * v) * torch.sigmoid(-4 * v))


class Up(nn.Module):
    """Nearest pixels, as many more as the window takes away."""

    def __init__(self, channels: int, width: int, kernel: int, bias: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, kernel, bias=bias)
        self.more = kernel - 1

    def forward(self, x: Tensor, like: Tensor) -> Tensor:
        rows, columns = like.shape[-2:]
        wide = nn.functional.interpolate(x, (rows + self.more, columns + self.more))
        out: Tensor = self.conv(wide)
        return out


class Network(nn.Module):
    def __init__(self, channels: int, gain: float) -> None:
        super().__init__()
        c = channels
        widths = [c, 2 * c, 4 * c, 8 * c, 16 * c]
        options = {"padding": 2, "bias": False}
        self.bottom = nn.Conv2d(4, c, 5, **options)  # type: ignore[arg-type]
        self.encoder = nn.ModuleList(
            nn.Conv2d(a, b, 5, stride=2, **options)  # type: ignore[arg-type]
            for a, b in itertools.pairwise(widths)
        )
        self.blocks = nn.ModuleList(
            nn.ModuleList(nn.Conv2d(16 * c, 16 * c, 3, padding=1, bias=False) for _ in range(2))
            for _ in range(2)
        )
        self.decoder = nn.ModuleList(
            nn.ModuleList([Up(2 * w, w, 5), Up(w, 1, 3, bias=True)]) for w in widths[3::-1]
        )
        self.gain = gain
        self.fires = Fires(gain)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        steps = x.shape[:2]
        y = self.fires(self.bottom(x.flatten(0, 1)))
        skips = [y]
        for layer in self.encoder:
            y = self.fires(layer(y))
            skips.append(y)
        for first, second in self.blocks:  # type: ignore[misc]
            y = y + self.fires(second(self.fires(first(y))))
        total: Tensor | float = 0.0
        found = []
        for (up, depth), skip in zip(self.decoder, skips[3::-1], strict=True):  # type: ignore[misc]
            y = self.fires(up(y, skip)) + skip
            total = total + self.gain * depth(y, skips[0])
            found.append(total.unflatten(0, steps))
        return tuple(reversed(found))


def network(
    height: int = 260, width: int = 346, w: int = 32, steps: int = 1, gain: float = 1.0
) -> nn.Module:
    return Network(w, gain)


CASE = Case(
    network,
    "its authors' topology in plain PyTorch",
    small=(
        {"height": 20, "width": 27, "w": 2, "steps": 2, "gain": 8.0},
        {"height": 17, "width": 22, "w": 3, "steps": 3, "gain": 8.0},
    ),
)
