"""Parts of the references: layers and neurons in plain PyTorch, all of [T, N, ...] in float64.

The layers are SpikingJelly's, which apply torch's to T and N as one dimension; a neuron is a class
with its paper's equations of one time step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from spikingjelly.activation_based import layer, neuron, surrogate
from torch import Tensor, nn

from tests.surrogates import Slope, step


def conv(channels: int, width: int, kernel: int = 3, **options: Any) -> nn.Module:
    options = {"padding": kernel // 2, "bias": False, **options}
    return layer.Conv2d(channels, width, kernel, step_mode="m", **options)  # type: ignore[no-any-return]


def norm(channels: int) -> nn.Module:
    return layer.BatchNorm2d(channels, step_mode="m")  # type: ignore[no-any-return]


class StepNorm(nn.BatchNorm2d):
    """A batch norm that takes statistics of each step by itself."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([super(StepNorm, self).forward(frame) for frame in x])


def linear(entries: int, width: int, bias: bool = True) -> nn.Module:
    return layer.Linear(entries, width, bias=bias, step_mode="m")  # type: ignore[no-any-return]


def maxpool(kernel: int = 2, stride: int | None = None, padding: int = 0) -> nn.Module:
    return layer.MaxPool2d(kernel, stride, padding, step_mode="m")  # type: ignore[no-any-return]


def avgpool(kernel: int = 2) -> nn.Module:
    return layer.AvgPool2d(kernel, step_mode="m")  # type: ignore[no-any-return]


class Flatten(nn.Module):
    """[T, N, C, H, W] as [T, N, C * H * W]."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(2)


class MeanOverPixels(nn.Module):
    """[T, N, C, H, W] to [T, N, C]."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((3, 4))


class MeanOverTime(nn.Module):
    """[T, N, ...] to [N, ...]."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(0)


class Add(nn.Module):
    """The sum of what branches give of the same input."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        first, *others = self.branches
        total: Tensor = first(x)
        for branch in others:
            total = total + branch(x)
        return total


class Round(torch.autograd.Function):
    """torch.round, whose gradient passes as it is."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


class Neurons(nn.Module):
    """A layer of neurons, step by step: a subclass says what one time step does."""

    states = 1

    def fire(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """Of the input [N, ...] and the states of the step before: spikes and the new states."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        states: tuple[Tensor, ...] = tuple(torch.zeros_like(x[0]) for _ in range(self.states))
        spikes = []
        for frame in x:
            fired, *after = self.fire(frame, *states)
            states = tuple(after)
            spikes.append(fired)
        return torch.stack(spikes)


class Decaying(Neurons):
    """The neuron of many papers of direct training (STBP, tdBN, TET): u = decay * u * (1 - s) + x."""

    def __init__(
        self, slope: Slope, decay: float = 0.5, threshold: float = 1.0, strict: bool = False
    ) -> None:
        super().__init__()
        self.slope, self.decay, self.threshold, self.strict = slope, decay, threshold, strict

    def fire(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        v = self.decay * states[0] + x
        s = step(v - self.threshold, self.slope)
        if self.strict:  # fires above its threshold, not at it
            s = 1 - step(self.threshold - v, self.slope)
        return s, v * (1 - s)


def plif(**options: Any) -> nn.Module:
    """SpikingJelly's PLIF of its authors' defaults."""
    options = {"detach_reset": True, "surrogate_function": surrogate.ATan(), **options}
    return neuron.ParametricLIFNode(init_tau=2.0, step_mode="m", **options)  # type: ignore[no-any-return]


def lif(**options: Any) -> nn.Module:
    options = {"surrogate_function": surrogate.ATan(), **options}
    return neuron.LIFNode(step_mode="m", **options)  # type: ignore[no-any-return]


Make = Callable[[], nn.Module]
"""Makes a layer of neurons."""


class OriginBlock(nn.Module):
    """Two convolutions, added to their input before the last layer of neurons (spiking ResNets)."""

    def __init__(self, channels: int, width: int, stride: int, neurons: Make) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            conv(channels, width, stride=stride),
            norm(width),
            neurons(),
            conv(width, width),
            norm(width),
        )
        self.shortcut: nn.Module = nn.Identity()
        if channels != width or stride != 1:
            self.shortcut = nn.Sequential(conv(channels, width, 1, stride=stride), norm(width))
        self.neurons = neurons()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.neurons(self.branch(x) + self.shortcut(x))
        return out


def stages(
    channels: int,
    widths: Sequence[int],
    blocks: Sequence[int],
    neurons: Make,
    block: Callable[[int, int, int, Make], nn.Module] = OriginBlock,
    first_stride: int = 1,
) -> nn.Module:
    """Stages of blocks; each but the first opens with stride 2."""
    layers = []
    for number, (width, count) in enumerate(zip(widths, blocks, strict=True)):
        for i in range(count):
            stride = (2 if number else first_stride) if i == 0 else 1
            layers.append(block(channels, width, stride, neurons))
            channels = width
    return nn.Sequential(*layers)


def louder(factor: float) -> Callable[[nn.Module], None]:
    """Weights of linear layers and of convolutions without a norm, times a factor: they drive neurons
    that would rest with the weights that torch starts with."""

    @torch.no_grad()
    def change(network: nn.Module) -> None:
        for module in network.modules():
            if isinstance(module, nn.Linear):
                module.weight.mul_(factor)

    return change
