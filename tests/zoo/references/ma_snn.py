"""The network of MA-SNN for DVS128 Gesture: gates over time, channels and pixels, in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.surrogates import rectangle, step
from tests.zoo.harness import Case
from tests.zoo.parts import MeanOverTime, Neurons, avgpool, conv, norm


class Forgetful(Neurons):
    def fire(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        v = states[0] + x
        s = step(v - 0.3, rectangle(0.5))
        return s, 0.3 * (s * 0.3 + (1 - s) * v)


class Shared(nn.Sequential):
    """Two layers, without biases, that a mean and a greatest go through."""

    def __init__(self, size: int, ratio: int) -> None:
        inner = size // ratio
        first, second = nn.Linear(size, inner, bias=False), nn.Linear(inner, size, bias=False)
        super().__init__(first, nn.ReLU(), second)

    def both(self, mean: Tensor, most: Tensor) -> Tensor:
        return torch.sigmoid(self(mean) + self(most))


class Gates(nn.Module):
    """Of [T, N, C, H, W]; ``channels`` is 0 where there is the one over time alone."""

    def __init__(self, steps: int, channels: int, t: int, c: int) -> None:
        super().__init__()
        self.time = Shared(steps, t)
        self.channels = Shared(channels, c) if channels else None
        self.pixels = nn.Conv2d(2, 1, 3, padding=1, bias=False) if channels else None

    def forward(self, x: Tensor) -> Tensor:
        gate = self.time.both(x.mean((2, 3, 4)).T, x.amax((2, 3, 4)).T)  # [N, T]
        x = x * gate.T[..., None, None, None]
        if self.channels is not None and self.pixels is not None:
            gate = self.channels.both(x.mean((0, 3, 4)), x.amax((0, 3, 4)))  # [N, C]
            x = x * gate[..., None, None]
            gate = self.pixels(torch.stack((x.mean((0, 2)), x.amax((0, 2))), 1))
            x = x * torch.sigmoid(gate)
        return x.relu()


class Flat(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(2)


def network(
    classes: int = 11,
    image: int = 32,
    steps: int = 60,
    width: int = 64,
    c: int = 8,
    t: int = 5,
) -> nn.Module:
    layers: list[nn.Module] = []
    for channels, wide, pool in ((2, width, 1), (width, 2 * width, 2), (2 * width, 2 * width, 2)):
        layers += [conv(channels, wide, bias=True), norm(wide)]
        layers += [avgpool(pool)] if pool > 1 else []
        layers += [Gates(steps, wide, t, c), Forgetful()]
    for channels, wide, kernel in ((2 * width, 4 * width, image // 4), (4 * width, classes, 1)):
        layers += [conv(channels, wide, kernel, padding=0, bias=True), norm(wide)]
        layers += [Gates(steps, 0, t, c), Forgetful()]
    return nn.Sequential(*layers, Flat(), MeanOverTime())


@torch.no_grad()
def open_gates(network: nn.Module) -> None:
    """Three gates of one half would leave little of what neurons take."""
    for module in network.modules():
        if isinstance(module, Gates):
            for parameter in module.parameters():
                parameter.copy_(2 * parameter.abs())


CASE = Case(
    network,
    "the paper's equations in plain PyTorch",
    small=(
        {"width": 4, "image": 8, "steps": 4, "classes": 3, "c": 2, "t": 2},
        {"width": 6, "image": 8, "steps": 3, "classes": 4, "c": 3, "t": 1},
    ),
    prepare=open_gates,
)
