"""Products of attention."""

import torch
from torch import Tensor, nn

from danetc.runtime.layers.attention import tokens


class Scores(nn.Module):
    """Scores of each head: maps [..., C, H, W] to [..., heads, queries, keys]."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, q: Tensor, k: Tensor) -> Tensor:
        return tokens(q, self.heads).mT @ tokens(k, self.heads)


class Mix(nn.Module):
    """Sum of values over keys, weighted by scores: a map with the pixels of ``like`` or ``v``."""

    def forward(self, a: Tensor, v: Tensor, like: Tensor | None = None) -> Tensor:
        mixed = tokens(v, a.shape[-3]) @ a.mT
        return mixed.flatten(-3, -2).unflatten(-1, (v if like is None else like).shape[-2:])


class KeysFirst(nn.Module):
    """Attention as q (k^T v), without scores.

    ``most`` is the largest integer in the computation if all numbers are integers. If the dtype
    cannot represent it, the scores are computed first.
    """

    def __init__(self, heads: int, most: int) -> None:
        super().__init__()
        self.heads = heads
        self.most = most

    def forward(self, q: Tensor, k: Tensor, v: Tensor, like: Tensor | None = None) -> Tensor:
        shape = (v if like is None else like).shape[-2:]
        q, k, v = tokens(q, self.heads), tokens(k, self.heads), tokens(v, self.heads)
        mixed = v @ k.mT
        if self.most <= {torch.float16: 2**11, torch.bfloat16: 2**8}.get(mixed.dtype, self.most):
            mixed = mixed @ q
        else:
            mixed = v @ (q.mT @ k).mT
        return mixed.flatten(-3, -2).unflatten(-1, shape)
