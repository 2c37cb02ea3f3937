"""Torch operators of a built model (namespace ``danetc``) that torch differentiates: time, joins and encoders.

``rank`` is the number of dimensions of one sample: 3 for [C, H, W], 1 for [C]. A tensor with ``rank
+ 1`` dimensions, [N, ...], is static: it has the same value at each of ``steps`` time steps. A
tensor with ``rank + 2`` dimensions, [T, N, ...], is a sequence. Operators accept both, so that a
graph does not depend on its input.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def is_static(x: Tensor, rank: int) -> bool:
    """True for [N, ...], False for [T, N, ...]. Raises ValueError for another number of dimensions."""
    if x.dim() not in (rank + 1, rank + 2):
        raise ValueError(
            f"expected [N, ...] or [T, N, ...] with {rank} dimensions per sample, "
            f"not {x.dim()} dimensions: {list(x.shape)}"
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
        raise ValueError(f"expected a sequence [T, N, ...], not {list(x.shape)}")
    return x


def aligned(xs: Sequence[Tensor], rank: int) -> list[Tensor]:
    """Repeat static values [N, ...] over time if another value is a sequence [T, N, ...]."""
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
    """Stochastic depth: drop each sample with probability ``p``, at all time steps.

    The other samples are divided by 1 - p. Takes and returns [N, ...] or [T, N, ...].
    """
    static = is_static(x, rank)
    if not training or p == 0.0:
        return x
    samples = x.shape[0] if static else x.shape[1]
    keep = torch.rand((samples, *[1] * rank), dtype=x.dtype, device=x.device).ge(p)
    return x * (keep.to(x.dtype) / (1 - p))


def poisson(x: Tensor, steps: int, rank: int) -> Tensor:
    """Rate coding: a spike at each step with probability ``x``, clamped to 0 .. 1."""
    rate = per_step(x, steps, rank).clamp(0.0, 1.0)
    return torch.rand_like(rate, memory_format=torch.contiguous_format).lt(rate).to(x.dtype)


def latency(x: Tensor, steps: int, rank: int, tau: float) -> Tensor:
    """Time-to-first-spike coding: one spike at step floor(tau * ln(1 / x)), if that is below ``steps``.

    Values of 0 or less never spike, values of 1 or more spike at step 0. In a sequence [T, N, ...],
    step t of the result depends on step t of the input only, so a constant sequence has the same
    result as [N, ...].
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
    for _key in ("CompositeImplicitAutograd", "FuncTorchBatchedDecomposition"):  # also for vmap
        torch.library.impl(_name, _key, _function)
