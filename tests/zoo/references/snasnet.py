"""SNASNet of CIFAR-100, step by step: SpikingJelly's LIF, and norms of each step."""

from __future__ import annotations

import torch
from spikingjelly.activation_based import neuron, surrogate
from torch import Tensor, nn
from torch.nn import functional as F

from tests.zoo.harness import Case


def lif() -> nn.Module:
    options = {"tau": 4 / 3, "detach_reset": True, "surrogate_function": surrogate.ATan()}
    return neuron.LIFNode(step_mode="s", **options)  # type: ignore[no-any-return]


def conv(channels: int, width: int, kernel: int = 3) -> nn.Sequential:
    weights = nn.Conv2d(channels, width, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(weights, nn.BatchNorm2d(width))


def node(width: int, kernel: int = 3) -> nn.Sequential:
    return nn.Sequential(lif(), *conv(width, width, kernel))


class Cell(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.third = nn.Sequential(node(width), node(width))
        self.back = node(width)
        self.short = node(width, 1)
        self.last = node(width)

    def forward(self, x: Tensor, before: Tensor | float) -> tuple[Tensor, Tensor]:
        first = x + before
        third = self.third(first)
        return self.short(first) + self.last(third), self.back(third)


class Network(nn.Module):
    def __init__(self, classes: int, image: int, width: int, hidden: int) -> None:
        super().__init__()
        self.classes = classes
        self.stem = conv(3, width)
        self.one = Cell(width)
        self.between = nn.Sequential(nn.BatchNorm2d(width), lif(), *conv(width, 2 * width))
        self.two = Cell(2 * width)
        self.after = nn.Sequential(nn.BatchNorm2d(2 * width), lif())
        first = nn.Linear(2 * width * (image // 4) ** 2, hidden, bias=False)
        self.head = nn.Sequential(first, lif(), nn.Linear(hidden, 5 * classes))

    def forward(self, x: Tensor) -> Tensor:
        a: Tensor | float = 0.0
        b: Tensor | float = 0.0
        found = []
        stem = self.stem(x.flatten(0, 1)).unflatten(0, x.shape[:2])
        for frame in stem:
            y, a = self.one(frame, a)
            y, b = self.two(F.avg_pool2d(self.between(y), 2), b)
            y = self.head(F.avg_pool2d(self.after(y), 2).flatten(1))
            found.append(y.view(-1, self.classes, 5).mean(2))
        return torch.stack(found).mean(0)


def network(
    classes: int = 100,
    image: int = 32,
    steps: int = 5,
    width: int = 128,
    hidden: int = 1024,
    drop: float = 0.5,
) -> nn.Module:
    return Network(classes, image, width, hidden)


@torch.no_grad()
def prepare(model: nn.Module) -> None:
    """Let the neurons of the head fire, whose inputs have no norm."""
    assert isinstance(model, Network)
    model.head[0].weight.mul_(8.0)


CASE = Case(
    network,
    "SpikingJelly's LIF in its authors' topology",
    small=(
        {"width": 4, "steps": 3, "image": 8, "hidden": 12, "classes": 4, "drop": 0},
        {"width": 5, "steps": 4, "image": 8, "hidden": 10, "classes": 3, "drop": 0},
    ),
    prepare=prepare,
)
