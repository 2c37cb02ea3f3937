"""EVSNN: a U-Net whose encoder's spikes stand beside the decoder's, and a membrane as its output."""

from __future__ import annotations

import torch
from spikingjelly.activation_based import neuron, surrogate
from torch import Tensor, nn

from tests.zoo.harness import Case
from tests.zoo.parts import Neurons, StepNorm, conv, lif


class Membrane(Neurons):
    """The neuron of the output, which never fires."""

    def fire(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        v = states[0] + (x - states[0]) / 2
        return v, v


class Twice(nn.Module):
    """Bilinear, corners not aligned: [T, N, C, H, W] to [T, N, C, 2 H, 2 W]."""

    def forward(self, x: Tensor) -> Tensor:
        wide = nn.functional.interpolate(
            x.flatten(0, 1), scale_factor=2, mode="bilinear", align_corners=False
        )
        return wide.unflatten(0, x.shape[:2])


def neurons() -> nn.Module:
    return lif(v_reset=None)


def layer(channels: int, width: int, stride: int = 1) -> nn.Module:
    return nn.Sequential(conv(channels, width, 5, stride=stride), StepNorm(width), neurons())


def up(channels: int, width: int) -> nn.Module:
    return nn.Sequential(Twice(), layer(channels, width))


class Residual(nn.Module):
    """Two convolutions whose spikes are those of one layer of neurons, called twice in each step."""

    def __init__(self, width: int) -> None:
        super().__init__()
        options = {"padding": 1, "bias": False}
        self.first = nn.Conv2d(width, width, 3, **options)  # type: ignore[arg-type]
        self.norm1 = nn.BatchNorm2d(width)
        self.second = nn.Conv2d(width, width, 3, **options)  # type: ignore[arg-type]
        self.norm2 = nn.BatchNorm2d(width)
        self.neurons = neuron.LIFNode(v_reset=None, surrogate_function=surrogate.ATan())

    def forward(self, x: Tensor) -> Tensor:
        found = []
        for frame in x:
            y = self.neurons(self.norm1(self.first(frame)))
            found.append(self.neurons(self.norm2(self.second(y)) + frame))
        return torch.stack(found)


class Network(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        w = width
        self.head = layer(1, w)
        self.down = nn.ModuleList(layer(f * w, 2 * f * w, 2) for f in (1, 2, 4))
        self.residual = Residual(8 * w)
        self.up = nn.ModuleList(up(4 * f * w, f * w) for f in (4, 2, 1))
        self.last = nn.Sequential(conv(2 * w, 1, 1), StepNorm(1), Membrane())

    def forward(self, x: Tensor) -> Tensor:
        found = [self.head(x)]
        for down in self.down:
            found.append(down(found[-1]))
        y = self.residual(found[-1])
        for up in self.up:
            y = up(torch.cat((y, found.pop()), 2))
        out: Tensor = self.last(torch.cat((y, found.pop()), 2))
        return out


def network(high: int = 184, wide: int = 240, steps: int = 5, width: int = 32) -> nn.Module:
    return Network(width)


CASE = Case(
    network,
    "SpikingJelly's LIF in its authors' topology",
    small=(
        {"high": 16, "wide": 24, "width": 2, "steps": 2},
        {"high": 24, "wide": 16, "width": 3, "steps": 3},
    ),
)
