"""A ViT whose blocks read weighted sums of all before them, from the paper's equations."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.zoo.harness import Case, by_order
from tests.zoo.references.vit import ViT, placed


class Weight(nn.Module):
    """A number that weighs one value."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.tensor([start]))

    def forward(self, x: Tensor) -> Tensor:
        return self.alpha * x


class DepthWeighted(nn.Module):
    """X_{i+1} = B_i(Y_i) and Y_i = sum over j <= i of alpha_ij X_j, where Y_0 = X_0."""

    def __init__(self, blocks: nn.Sequential) -> None:
        super().__init__()
        self.blocks = blocks
        self.weights = nn.ModuleList(
            nn.ModuleList(Weight(float(j == 0)) for j in range(i + 2)) for i in range(len(blocks))
        )

    def forward(self, x: Tensor) -> Tensor:
        known = [x]
        for block, weights in zip(self.blocks, self.weights, strict=True):
            known.append(block(x))
            order = [known[-1], *known[:-1]]
            x = torch.stack([weigh(y) for weigh, y in zip(weights, order, strict=True)]).sum(0)
        return x


class DenseFormer(ViT):
    """[..., 3, H, W] to [..., classes]."""

    def __init__(self, depth: int = 12, **sizes: int) -> None:
        super().__init__(depth=depth, **sizes)
        self.blocks = DepthWeighted(self.blocks)  # type: ignore[assignment]


@torch.no_grad()
def weighed(network: nn.Module) -> None:
    """Numbers that let every block read every other."""
    placed(network)
    generator = torch.Generator().manual_seed(5)
    for module in network.modules():
        if isinstance(module, Weight):
            module.alpha.add_(0.5 * torch.rand(1, generator=generator))


def pairs(model: nn.Module, reference: nn.Module) -> dict[str, str]:
    ends = ("in0", "out0", "out1", "out2")
    called = {f".{end}.weight": "alpha" for end in ends}
    return by_order(model, reference, {**called, "tokens.learn.weight": "position"})


CASE = Case(
    DenseFormer,
    "the paper's equations around torch's attention",
    small=(
        {"width": 8, "heads": 2, "depth": 3, "image": 8, "patch": 4, "steps": 1},
        {"width": 12, "heads": 3, "depth": 2, "image": 8, "patch": 4, "steps": 2},
    ),
    prepare=weighed,
    pairs=pairs,
)
