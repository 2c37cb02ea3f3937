"""Spikingformer: Spikformer with neurons before convolutions."""

from __future__ import annotations

from torch import nn

from tests.zoo.harness import Case
from tests.zoo.parts import MeanOverPixels, MeanOverTime, conv, maxpool, norm
from tests.zoo.tokens import SelfAttention, fire, fire_conv, mlp, residual, rouse, token


def network(
    classes: int = 10,
    image: int = 32,
    steps: int = 4,
    width: int = 384,
    heads: int = 12,
    depth: int = 4,
) -> nn.Module:
    tokenizer = (
        *(conv(3, width // 8), norm(width // 8)),
        fire_conv(width // 8, width // 4),
        fire_conv(width // 4, width // 2),
        *(fire(), maxpool(3, 2, 1), conv(width // 2, width), norm(width)),
        *(fire(), maxpool(3, 2, 1), conv(width, width), norm(width)),
    )
    blocks = []
    for _ in range(depth):
        blocks += [
            residual(fire(), SelfAttention(width, heads, False), *token(width, width)),
            mlp(width),
        ]
    head = MeanOverPixels(), MeanOverTime(), nn.Linear(width, classes)
    return nn.Sequential(*tokenizer, *blocks, *head)


CASE = Case(
    network,
    "its authors' topology with SpikingJelly's LIF",
    small=(
        {"width": 16, "heads": 1, "depth": 2, "image": 16, "steps": 2},
        {"width": 24, "heads": 2, "depth": 1, "image": 16, "steps": 3},
    ),
    prepare=rouse,
    published={"9.32 M": {}},
)
