"""KLIF neurons of SpikingJelly in the network of PLIF."""

from __future__ import annotations

import torch
from spikingjelly.activation_based import layer, neuron, surrogate
from torch import nn

from tests.zoo.harness import Case
from tests.zoo.parts import Flatten, MeanOverTime, linear
from tests.zoo.references.plif_net import pairs


def neurons() -> nn.Module:
    return neuron.KLIFNode(  # type: ignore[no-any-return]
        surrogate_function=surrogate.Sigmoid(alpha=4.0), step_mode="m"
    )


def network(classes: int = 10, image: int = 32, steps: int = 10, width: int = 256) -> nn.Module:
    entries = width * (image // 4) ** 2
    return nn.Sequential(
        *(*pairs(width, neurons), Flatten()),
        *(linear(entries, 8 * width), neurons(), linear(8 * width, 10 * classes), neurons()),
        *(layer.VotingLayer(10, step_mode="m"), MeanOverTime()),
    )


@torch.no_grad()
def driven(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Linear):
            module.weight.mul_(4)
        if isinstance(module, neuron.KLIFNode):
            module.k.fill_(1.25)


CASE = Case(
    network,
    "SpikingJelly's KLIFNode",
    small=(
        {"width": 4, "image": 8, "steps": 3, "classes": 3},
        {"width": 3, "image": 12, "steps": 2, "classes": 4},
    ),
    prepare=driven,
)
