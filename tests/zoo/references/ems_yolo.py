"""EMS-ResNet34 with its outputs at strides 16 and 32."""

from __future__ import annotations

import torch
from spikingjelly.activation_based import neuron, surrogate
from torch import Tensor, nn

from tests.zoo.harness import Case
from tests.zoo.parts import conv, maxpool, norm


def neurons() -> nn.Module:
    """u = 0.25 * u * (1 - s) + x, firing at 0.5, with a window of 1 as its derivative."""
    return neuron.LIFNode(  # type: ignore[no-any-return]
        tau=4 / 3,
        decay_input=False,
        v_threshold=0.5,
        detach_reset=True,
        surrogate_function=surrogate.Rect(alpha=1.0),
        step_mode="m",
    )


class Block(nn.Module):
    def __init__(self, channels: int, width: int, stride: int, widen: bool = False) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            *(neurons(), conv(channels, width, stride=stride), norm(width)),
            *(neurons(), conv(width, width), norm(width)),
        )
        self.widen = widen
        self.pool = maxpool(stride) if stride > 1 else nn.Identity()
        extra = width - channels if widen else width
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != width:
            self.shortcut = nn.Sequential(neurons(), conv(channels, extra, 1), norm(extra))

    def forward(self, x: Tensor) -> Tensor:
        if self.widen:
            around = self.pool(torch.cat((self.shortcut(x), x), 2))
        else:
            around = self.shortcut(self.pool(x))
        out: Tensor = self.branch(x) + around
        return out


class Network(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        w = width
        self.p4 = nn.Sequential(
            *(conv(3, w, 7, stride=2), norm(w), Block(w, w, 2), Block(w, w, 1), Block(w, w, 1)),
            *(Block(w, 2 * w, 2, widen=True), *(Block(2 * w, 2 * w, 1) for _ in range(3))),
            *(Block(2 * w, 4 * w, 2, widen=True), *(Block(4 * w, 4 * w, 1) for _ in range(5))),
        )
        self.p5 = nn.Sequential(
            Block(4 * w, 8 * w, 2, widen=True), *(Block(8 * w, 8 * w, 1) for _ in range(2))
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        medium = self.p4(x)
        return medium, self.p5(medium)


def network(image: int = 640, steps: int = 4, width: int = 64) -> nn.Module:
    return Network(width)


CASE = Case(
    network,
    "SpikingJelly's LIF in its authors' topology",
    small=({"width": 2, "image": 64, "steps": 2}, {"width": 3, "image": 32, "steps": 3}),
)
