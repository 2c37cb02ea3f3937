"""Small layers and functions over values that may vary in time."""

from __future__ import annotations

import torch
from torch import Tensor

import danetc.runtime.kernels.operators  # noqa: F401 (registers torch.ops.danetc)
from danetc.runtime.layers.leaf import Leaf


def affine(x: Tensor, factor: float, offset: float) -> Tensor:
    """``factor * x + offset``."""
    return factor * x + offset


class DropPath(Leaf):
    """Stochastic depth (Huang et al., ECCV 2016): in training a sample's branch is dropped with
    probability ``p``, at all its time steps, and what stays is divided by 1 - p.

    Takes and gives [N, ...] or [T, N, ...]; ``rank`` is the number of dimensions of one sample.
    """

    def __init__(self, p: float, rank: int) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"the probability to drop lies in 0 .. 1, not {p}")
        self.p = p
        self.rank = rank

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = torch.ops.danetc.drop_path(x, self.p, self.training, self.rank)
        return out

    def extra_repr(self) -> str:
        return f"p={self.p}"
