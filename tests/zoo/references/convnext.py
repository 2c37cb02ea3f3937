"""torchvision's ConvNeXt, which is an ANN: it sees each frame alone."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torchvision.models.convnext import CNBlock, CNBlockConfig, ConvNeXt

from tests.zoo.harness import Case, by_order


class Frames(nn.Module):
    """[T, N, C, H, W] to [T, N, classes]."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.network(x.flatten(0, 1))
        return out.unflatten(0, x.shape[:2])


def network(
    classes: int = 1000, image: int = 224, steps: int = 1, width: int = 96, drop: float = 0.1
) -> nn.Module:
    stages = [
        CNBlockConfig(width, 2 * width, 3),
        CNBlockConfig(2 * width, 4 * width, 3),
        CNBlockConfig(4 * width, 8 * width, 9),
        CNBlockConfig(8 * width, None, 3),
    ]
    return Frames(ConvNeXt(stages, stochastic_depth_prob=drop, num_classes=classes))


@torch.no_grad()
def scaled(network: nn.Module) -> None:
    """Factors that let branches count, and norms off 1."""
    for module in network.modules():
        if isinstance(module, CNBlock):
            count = module.layer_scale.numel()
            module.layer_scale.copy_(torch.linspace(0.4, 1.1, count).view_as(module.layer_scale))
        if isinstance(module, nn.LayerNorm):
            module.weight.copy_(torch.linspace(0.8, 1.4, module.weight.numel()))


CASE = Case(
    network,
    "torchvision's convnext_tiny",
    small=(
        {"width": 2, "image": 32, "steps": 1, "drop": 0.0, "classes": 5},
        {"width": 3, "image": 64, "steps": 2, "drop": 0.0, "classes": 5},
    ),
    published={"28.59 M": {}},
    prepare=scaled,
    pairs=partial(by_order, called={"kept.learn.weight": "layer_scale"}),
)
