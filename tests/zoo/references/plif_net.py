"""The network of PLIF for CIFAR-10: two stages of three convolutions, two linear layers, votes."""

from __future__ import annotations

from collections.abc import Callable

from spikingjelly.activation_based import layer
from torch import nn

from tests.zoo.harness import Case
from tests.zoo.parts import (
    Flatten,
    Make,
    MeanOverTime,
    StepNorm,
    conv,
    linear,
    maxpool,
    norm,
    plif,
)


def pairs(width: int, neurons: Make, norms: Callable[[int], nn.Module] = norm) -> list[nn.Module]:
    """Two stages of three convolutions. The first norm sees a static value."""
    layers: list[nn.Module] = []
    for i in range(6):
        layers += [conv(width if i else 3, width), norms(width) if i else norm(width), neurons()]
        layers += [maxpool()] if i % 3 == 2 else []
    return layers


def network(
    classes: int = 10, image: int = 32, steps: int = 8, width: int = 256, drop: float = 0.5
) -> nn.Module:
    entries = width * (image // 4) ** 2
    return nn.Sequential(
        *(*pairs(width, plif, StepNorm), Flatten(), nn.Dropout(drop)),
        *(linear(entries, 8 * width, bias=False), plif()),
        *(linear(8 * width, 10 * classes, bias=False), plif()),
        *(layer.VotingLayer(10, step_mode="m"), MeanOverTime()),
    )


def driven(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Linear):
            module.weight.data.mul_(4).add_(0.1)


CASE = Case(
    network,
    "SpikingJelly's PLIF and voting layer in its authors' topology",
    small=(
        {"width": 5, "image": 16, "steps": 3, "classes": 3, "drop": 0.0},
        {"width": 3, "image": 12, "steps": 2, "classes": 4, "drop": 0.0},
    ),
    prepare=driven,
)
