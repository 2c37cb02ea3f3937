"""Torch operators of a built model (namespace ``danetc``) that torch differentiates: time, joins and encoders.

``rank`` is the number of dimensions of one sample: 3 for [C, H, W], 1 for [C]. A tensor of ``rank + 1`` dimensions is
static, [N, ...]: the same at each of ``steps`` time steps. One of ``rank + 2`` is a sequence, [T, N, ...]. An operator
looks at the dimensions itself, so that a graph holds one call whatever its input is.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def is_static(x: Tensor, rank: int) -> bool:
    """True if ``x`` is [N, ...], False if [T, N, ...]. Raises ValueError if it is neither."""
    if x.dim() not in (rank + 1, rank + 2):
        raise ValueError(
            f"a value of {rank} dimensions a sample comes as [N, ...] or [T, N, ...], "
            f"not with {x.dim()} dimensions: {list(x.shape)}"
        )
    return x.dim() == rank + 1


def mean_over_time(x: Tensor, rank: int) -> Tensor:
    """Return the mean over T of [T, N, ...]; a static value is returned unchanged."""
    return x if is_static(x, rank) else x.mean(0)


def sum_over_time(x: Tensor, rank: int) -> Tensor:
    """Return the sum over T of [T, N, ...]. Raises ValueError for a static value."""
    return _steps(x, rank).sum(0)


def max_over_time(x: Tensor, rank: int) -> Tensor:
    """Return the maximum over T of [T, N, ...]; a static value is returned unchanged."""
    return x if is_static(x, rank) else x.amax(0)


def _steps(x: Tensor, rank: int) -> Tensor:
    if is_static(x, rank):
        raise ValueError(f"a sequence [T, N, ...] is needed, not {list(x.shape)}")
    return x


def aligned(xs: Sequence[Tensor], rank: int) -> list[Tensor]:
    """Repeat values [N, ...] over time if another one is [T, N, ...]."""
    longest = max(xs, key=Tensor.dim)
    lead = longest.shape[: longest.dim() - rank]
    return [x if x.dim() == longest.dim() else x.expand(*lead, *x.shape[-rank:]) for x in xs]


def beside(xs: list[Tensor], rank: int) -> Tensor:
    """Stack values [T, N, ...] or [N, ...] in a new last dimension; sizes broadcast."""
    return torch.stack(torch.broadcast_tensors(*aligned(xs, rank)), -1)


def concat(xs: list[Tensor], dim: int) -> Tensor:
    """Concatenate along ``dim`` < 0; static values are repeated over time if others vary."""
    return torch.cat(aligned(xs, -dim), dim)


def per_step(x: Tensor, steps: int, rank: int) -> Tensor:
    """Repeat [N, ...] to [steps, N, ...]; a sequence is returned unchanged."""
    return x.unsqueeze(0).expand(steps, *x.shape) if is_static(x, rank) else x


def drop_path(x: Tensor, p: float, training: bool, rank: int) -> Tensor:
    """Stochastic depth: each sample is dropped with probability ``p``, at all its time steps.

    Samples that are kept are divided by 1 - p. Takes and returns [N, ...] or [T, N, ...].
    """
    static = is_static(x, rank)
    if not training or p == 0.0:
        return x
    samples = x.shape[0] if static else x.shape[1]
    keep = torch.rand((samples, *[1] * rank), dtype=x.dtype, device=x.device).ge(p)
    return x * (keep.to(x.dtype) / (1 - p))


def poisson(x: Tensor, steps: int, rank: int) -> Tensor:
    """Rate coding: a spike at each step with the probability ``x``, clamped to 0 .. 1."""
    rate = per_step(x, steps, rank).clamp(0.0, 1.0)
    return torch.rand_like(rate, memory_format=torch.contiguous_format).lt(rate).to(x.dtype)


def latency(x: Tensor, steps: int, rank: int, tau: float) -> Tensor:
    """Time-to-first-spike coding: one spike at step floor(tau * ln(1 / x)), none from ``steps`` on.

    Values of 0 or less never spike, values of 1 or more spike at step 0. Each step of a sequence [T, N, ...] is coded
    by itself: a constant frame gives the same as [N, ...].
    """
    length = steps if is_static(x, rank) else x.shape[0]
    when = torch.floor(-tau * torch.log(x.clamp(min=0.0, max=1.0)))  # -log(0) is inf: never
    step = torch.arange(length, device=x.device, dtype=x.dtype).view(length, *[1] * (rank + 1))
    return when.eq(step).to(x.dtype)


for _function in (
    mean_over_time, sum_over_time, max_over_time, concat, beside, per_step, drop_path, poisson, latency,
):  # fmt: skip
    _name = f"danetc::{_function.__name__}"
    torch.library.define(_name, torch.library.infer_schema(_function, mutates_args=()))
    for _key in ("CompositeImplicitAutograd", "FuncTorchBatchedDecomposition"):  # and for vmap
        torch.library.impl(_name, _key, _function)
