"""DECOLLE: layers that learn from readouts of their own, step by step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.surrogates import step
from tests.zoo.harness import Case

ALPHA, BETA, REFRACTORY = 0.97, 0.92, 0.65


def fast_sigmoid(x: Tensor) -> Tensor:
    return 1 / (10 * x.abs() + 1) ** 2


class Layer(nn.Module):
    """Membranes, of traces of the input; nothing of an earlier step has a gradient."""

    def __init__(self, channels: int, width: int, pool: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, width, 7, padding=3)
        self.pool = nn.MaxPool2d(pool)

    def forward(self, x: Tensor) -> Tensor:
        p = q = torch.zeros_like(x[0])
        r = s = torch.zeros_like(self.conv(p))
        found = []
        for frame in x.detach():
            p = ALPHA * p + (1 - ALPHA) * q
            q = BETA * q + (1 - BETA) * frame
            r = REFRACTORY * r - (1 - REFRACTORY) * s
            u = self.conv(p) + r
            s = (u.detach() > 0).to(u)
            found.append(self.pool(u))
        return torch.stack(found)


class Network(nn.Module):
    def __init__(self, classes: int, image: int, width: int, drop: float) -> None:
        super().__init__()
        w = width
        sizes = ((2, w, 2), (w, 2 * w, 1), (2 * w, 2 * w, 2))
        self.layers = nn.ModuleList(Layer(*size) for size in sizes)
        self.drop = nn.Dropout(drop)
        entries = 2 * w * (image // 4) ** 2, w * (image // 2) ** 2, 2 * w * (image // 2) ** 2
        self.readouts = nn.ModuleList(nn.Linear(count, classes) for count in entries)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        found = []
        last, *others = self.readouts
        for layer, readout in zip(self.layers, (*others, last), strict=True):
            x = step(layer(x), fast_sigmoid)
            found.append(readout(self.drop(x).flatten(2)))
        return found[2], found[0], found[1]


def network(
    classes: int = 11, image: int = 32, steps: int = 500, width: int = 64, drop: float = 0.5
) -> nn.Module:
    return Network(classes, image, width, drop)


@torch.no_grad()
def even(network: nn.Module) -> None:
    """Membranes on both sides of the threshold, as traces are small."""
    assert isinstance(network, Network)
    for layer in network.layers:
        layer.conv.weight.mul_(10.0)  # type: ignore[union-attr]


CASE = Case(
    network,
    "its authors' equations in a loop",
    small=(
        {"width": 3, "image": 8, "steps": 4, "classes": 3, "drop": 0.0},
        {"width": 4, "image": 12, "steps": 6, "classes": 2, "drop": 0.0},
    ),
    prepare=even,
)
