"""Spikformer, from its paper's equations: patches, attention of spikes, layers over channels."""

from __future__ import annotations

from torch import nn

from tests.zoo.harness import Case
from tests.zoo.parts import MeanOverPixels, MeanOverTime, maxpool
from tests.zoo.tokens import conv_fire, mlp_of_spikes, residual, rouse, spikes_added


def network(
    classes: int = 10,
    image: int = 32,
    steps: int = 4,
    width: int = 384,
    heads: int = 12,
    depth: int = 4,
) -> nn.Module:
    patches = (
        conv_fire(3, width // 8),
        conv_fire(width // 8, width // 4),
        conv_fire(width // 4, width // 2),
        maxpool(3, 2, 1),
        conv_fire(width // 2, width),
        maxpool(3, 2, 1),
        residual(conv_fire(width, width)),
    )
    blocks = (
        part
        for _ in range(depth)
        for part in (spikes_added(width, heads, True), mlp_of_spikes(width))
    )
    head = MeanOverPixels(), MeanOverTime(), nn.Linear(width, classes)
    return nn.Sequential(*patches, *blocks, *head)


CASE = Case(
    network,
    "the paper's equations with SpikingJelly's LIF",
    small=(
        {"width": 16, "heads": 1, "depth": 2, "image": 16, "steps": 2},
        {"width": 24, "heads": 2, "depth": 1, "image": 16, "steps": 3},
    ),
    prepare=rouse,
    published={"9.32 M": {}},
)
