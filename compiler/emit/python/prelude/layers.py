"""Layers and functions over values that may vary in time."""

import torch
from torch import Tensor, nn

from danetc.runtime.layers.attention import tokens


class DropPath(nn.Module):
    """Stochastic depth: in training a sample is dropped at all its time steps."""

    def __init__(self, p: float, rank: int = 3) -> None:
        super().__init__()
        self.p = p
        self.rank = rank

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0.0:
            return x
        samples = x.shape[-self.rank - 1]
        draw = torch.rand((samples, *[1] * self.rank), dtype=x.dtype, device=x.device)
        return x * (draw.ge(self.p).to(x.dtype) / (1 - self.p))


class Scores(nn.Module):
    """Queries by keys, for each head: maps [..., C, H, W] to [..., heads, queries, keys]."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, q: Tensor, k: Tensor) -> Tensor:
        return tokens(q, self.heads).mT @ tokens(k, self.heads)


class Mix(nn.Module):
    """Values summed over keys by scores: a map with the pixels of ``like``, else of ``v``."""

    def forward(self, a: Tensor, v: Tensor, like: Tensor | None = None) -> Tensor:
        mixed = tokens(v, a.shape[-3]) @ a.mT
        return mixed.flatten(-3, -2).unflatten(-1, (v if like is None else like).shape[-2:])


class KeysFirst(nn.Module):
    """Queries by keys, mixing values, as q (k^T v): scores are never made.

    ``most`` is the largest whole number that is computed with, if all are whole: where a precision
    does not have it, scores are made after all.
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


def per_step(x: Tensor, steps: int, rank: int = 3) -> Tensor:
    """[N, ...] repeated to [T, N, ...]; a sequence stays as it is."""
    return x.expand(steps, *x.shape) if x.dim() == rank + 1 else x


def beside(xs: list[Tensor], rank: int = 3) -> Tensor:
    """What a neuron of several inputs takes: in a new last dimension; what is static is repeated."""
    longest = max(xs, key=Tensor.dim)
    lead = longest.shape[: longest.dim() - rank]
    wide = [x.expand(*lead, *x.shape[x.dim() - rank :]) for x in xs]
    return torch.stack(torch.broadcast_tensors(*wide), -1)


def concat(xs: list[Tensor], dim: int) -> Tensor:
    """Channels side by side; what is static, [N, ...], is the same at each step of the others."""
    longest = max(xs, key=Tensor.dim)
    lead = longest.shape[: longest.dim() + dim]
    return torch.cat([x.expand(*lead, *x.shape[dim:]) for x in xs], dim)


def mean_over_time(x: Tensor, rank: int = 3) -> Tensor:
    """[T, N, ...] averaged over T; what is static stays as it is."""
    return x if x.dim() == rank + 1 else x.mean(0)


def sum_over_time(x: Tensor, rank: int = 3) -> Tensor:
    """[T, N, ...] summed over T."""
    return x.sum(0)


def max_over_time(x: Tensor, rank: int = 3) -> Tensor:
    """The greatest of the steps of [T, N, ...]; what is static stays as it is."""
    return x if x.dim() == rank + 1 else x.amax(0)


def poisson(x: Tensor, steps: int, rank: int = 3) -> Tensor:
    """At each time step a spike with probability x."""
    rate = per_step(x, steps, rank).clamp(0.0, 1.0)
    draw = torch.rand_like(rate, memory_format=torch.contiguous_format)
    return draw.lt(rate).to(x.dtype)


def latency(x: Tensor, steps: int, rank: int, tau: float) -> Tensor:
    """One spike, at time step floor(tau * ln(1 / x)); gives [T, N, ...]."""
    length = steps if x.dim() == rank + 1 else x.shape[0]
    when = torch.floor(-tau * torch.log(x.clamp(min=0.0, max=1.0)))
    step = torch.arange(length, device=x.device, dtype=x.dtype)
    return when.eq(step.view(length, *[1] * (rank + 1))).to(x.dtype)
