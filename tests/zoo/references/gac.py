"""MS-ResNet-18 behind gated attention coding, in plain PyTorch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.surrogates import triangle
from tests.zoo.harness import Case
from tests.zoo.parts import Decaying, Make, MeanOverPixels, MeanOverTime, conv, linear, norm, stages


class Coding(nn.Module):
    def __init__(self, width: int, steps: int) -> None:
        super().__init__()
        options = {"padding": "same", "bias": False}
        self.space = nn.Sequential(
            nn.Conv2d(width, width, 4, **options),
            nn.ReLU(),
            nn.Conv2d(width, width, 4, **options),
        )
        self.time = nn.Sequential(
            nn.Linear(steps, steps // 2, bias=False),
            nn.ReLU(),
            nn.Linear(steps // 2, steps, bias=False),
        )
        self.neurons = neurons()

    def forward(self, x: Tensor) -> Tensor:
        mean, most = x.mean((2, 3, 4)).T, x.amax((2, 3, 4)).T  # [N, T]
        time = (self.time(mean) + self.time(most)).T[..., None, None, None]
        space = torch.stack([self.space(frame) for frame in x])
        return torch.sigmoid(time * space) * self.neurons(x)


class Block(nn.Module):
    def __init__(self, channels: int, width: int, stride: int, neurons: Make) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            *(neurons(), conv(channels, width, stride=stride), norm(width)),
            *(neurons(), conv(width, width), norm(width)),
        )
        self.shortcut: nn.Module = nn.Identity()
        if channels != width or stride != 1:
            self.shortcut = nn.Sequential(conv(channels, width, 1, stride=stride), norm(width))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.branch(x) + self.shortcut(x)
        return out


def neurons() -> nn.Module:
    return Decaying(triangle, strict=True)


def network(classes: int = 10, image: int = 32, steps: int = 6, width: int = 128) -> nn.Module:
    return nn.Sequential(
        *(conv(3, width // 2), norm(width // 2), Coding(width // 2, steps)),
        stages(width // 2, (width, 2 * width, 4 * width), (3, 3, 2), neurons, Block),
        *(neurons(), MeanOverPixels(), linear(4 * width, classes), MeanOverTime()),
    )


@torch.no_grad()
def open_gates(network: nn.Module) -> None:
    """Gates of one half would let nothing through to neurons with a threshold of 1."""
    for module in network.modules():
        if isinstance(module, Coding):
            for parameter in module.parameters():
                parameter.copy_(2 * parameter.abs())


CASE = Case(
    network,
    "the paper's equations in plain PyTorch",
    small=(
        {"width": 4, "image": 8, "steps": 4},
        {"width": 6, "image": 8, "steps": 3},
    ),
    prepare=open_gates,
)
