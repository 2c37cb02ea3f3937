"""ViT-S/16 with the mean over its tokens, of torch's attention and layer norms."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.zoo.harness import Case, by_order

EPS = 1e-6


class Encoder(nn.Module):
    """[N, tokens, width] to the same: attention, then two layers, each behind a norm."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(width, EPS)
        self.q, self.k, self.v, self.joined = (nn.Linear(width, width) for _ in range(4))
        self.norm2 = nn.LayerNorm(width, EPS)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        q, k, v = (
            layer(y).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.q, self.k, self.v)
        )
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + self.joined(mixed)
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """[..., 3, H, W] to [..., classes]."""

    def __init__(
        self,
        classes: int = 1000,
        image: int = 224,
        steps: int = 1,
        width: int = 384,
        heads: int = 6,
        depth: int = 12,
        patch: int = 16,
    ) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, width, patch, patch)
        self.position = nn.Parameter(torch.zeros(width, image // patch, image // patch))
        self.blocks = nn.Sequential(*(Encoder(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, EPS)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patches(x.flatten(0, -4)) + self.position
        tokens = patches.flatten(2).transpose(1, 2)
        y: Tensor = self.head(self.norm(self.blocks(tokens)).mean(1))
        return y.unflatten(0, x.shape[:-3])


@torch.no_grad()
def placed(network: nn.Module) -> None:
    """Embeddings that differ from token to token."""
    assert isinstance(network, ViT)
    generator = torch.Generator().manual_seed(3)
    network.position.copy_(torch.randn(network.position.shape, generator=generator))


def pairs(model: nn.Module, reference: nn.Module) -> dict[str, str]:
    return by_order(model, reference, {"learn.weight": "position"})


CASE = Case(
    ViT,
    "torch's attention and layer norms",
    small=(
        {"width": 8, "heads": 2, "depth": 2, "image": 12, "patch": 4, "steps": 1},
        {"width": 12, "heads": 3, "depth": 1, "image": 8, "patch": 4, "steps": 2},
    ),
    prepare=placed,
    pairs=pairs,
)
