"""The Spike-driven Transformer whose tokens attend to those of the other steps of a chunk."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.zoo.harness import Case
from tests.zoo.parts import MeanOverPixels, MeanOverTime, conv, linear, maxpool, norm
from tests.zoo.tokens import conv_fire, fire, fire_conv, linear_fire, mlp, residual, token


class Attention(nn.Module):
    def __init__(self, width: int, heads: int, chunk: int) -> None:
        super().__init__()
        self.fire = fire()
        self.q, self.k, self.v = (linear_fire(width, width, bias=False) for _ in range(3))
        self.mixed = fire(0.5)
        self.last = nn.Sequential(*token(width, width))
        self.heads, self.chunk = heads, chunk

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.fire(x)
        q, k, v = (
            part(spikes).unflatten(2, (self.heads, -1)).flatten(4)
            for part in (self.q, self.k, self.v)
        )
        found = []
        for first in range(0, len(x), self.chunk):
            steps = slice(first, first + self.chunk)
            both = torch.einsum("snhct,snhdt->nhcd", k[steps], v[steps])  # of all of its steps
            found.append(torch.einsum("snhct,nhcd->snhdt", q[steps], both))
        mixed = torch.cat(found).reshape(x.shape) / x.shape[-1]
        passed: Tensor = self.last(self.mixed(mixed))
        return x + passed


def network(
    image: int = 32,
    steps: int = 4,
    width: int = 512,
    heads: int = 8,
    depth: int = 2,
    chunk: int = 2,
) -> nn.Module:
    patches = (
        conv_fire(3, width // 8),
        conv_fire(width // 8, width // 4),
        conv_fire(width // 4, width // 2),
        *(maxpool(3, 2, 1), conv(width // 2, width), norm(width), maxpool(3, 2, 1)),
        residual(fire_conv(width, width)),
    )
    blocks = (part for _ in range(depth) for part in (Attention(width, heads, chunk), mlp(width)))
    head = MeanOverPixels(), fire(), linear(width, 10), MeanOverTime()
    return nn.Sequential(*patches, *blocks, *head)


@torch.no_grad()
def rouse(network: nn.Module) -> None:
    """Let queries, keys and values fire more, so that their products reach a threshold."""
    for module in network.modules():
        if isinstance(module, Attention):
            for part in (module.q, module.k, module.v):
                part[1].bias.add_(1.0)


CASE = Case(
    network,
    "the paper's sums over the steps of a chunk",
    small=(
        {"width": 16, "heads": 2, "depth": 1, "image": 8, "steps": 4, "chunk": 2},
        {"width": 24, "heads": 1, "depth": 1, "image": 8, "steps": 3, "chunk": 3},
    ),
    prepare=rouse,
)
