"""Batch norms of fusion groups in operations of torch: statistics, y = x * scale + shift, and gradients."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from danetc.runtime.kernels.compiled import CompiledFunction, is_compiled, scalar, shared
from danetc.runtime.kernels.neuron import HALF, to_accumulate_dtype
from danetc.runtime.kernels.torch_internals import is_fake, is_known
from danetc.runtime.layers.norm import StaticBatchNorm2d, move_variance
from danetc.runtime.layers.registered import has_hooks
from danetc.runtime.layers.sync import (
    SyncBatchNorm2d,
    global_statistics,
    input_gradient,
    is_synchronised,
    reduce_sum,
)

Norm = nn.BatchNorm2d | nn.BatchNorm1d

RUNNING, BATCH, SYNC = "running", "batch", "batches of all processes"
"""Sources of a norm's statistics."""


def mode_of(norm: Norm) -> str:
    """Return the source of a norm's statistics."""
    if not norm.training:
        return RUNNING
    return SYNC if is_synchronised(norm) else BATCH


def repeats_of(norm: Norm, static: bool) -> int:
    """Return the number of equal time steps that the values of a norm's input represent."""
    return norm.steps if static and isinstance(norm, StaticBatchNorm2d) else 1


def is_standard(norm: nn.Module | None, built: type[nn.Module], x: Tensor) -> bool:
    """True if fused code may take the place of ``norm(x)`` and update its buffers.

    ``built`` is the class that the norm was built as. (A subclass, such as that of a parametrized norm, may
    compute something else.)
    """
    is_converted = type(norm) is SyncBatchNorm2d and built in (nn.BatchNorm1d, nn.BatchNorm2d)
    same = type(norm) is built or is_converted
    if norm is None or not same or has_hooks(norm) or "forward" in norm.__dict__:
        return False
    parameters, buffers = norm._parameters, norm._buffers
    weight, count = parameters.get("weight"), buffers.get("num_batches_tracked")
    if weight is None or count is None or not norm.track_running_stats or norm.momentum is None:
        return False
    # Mixed precision is that of ``torch.autocast``: a batch in half precision, all else in float32.
    if not (weight.dtype is x.dtype or (weight.dtype is torch.float32 and x.dtype in HALF)):
        return False
    others = parameters.get("bias"), buffers.get("running_mean"), buffers.get("running_var")
    for value in (weight, *others):
        if (
            value is None
            or not is_known(value)
            or value.dtype is not weight.dtype
            or value.shape != weight.shape
            or value.device != x.device
            or not value.is_contiguous()
        ):
            return False
    is_count = is_known(count) and count.dtype is torch.int64 and count.numel() == 1
    return len(weight.shape) == 1 and is_count and count.device == x.device


class Affine(NamedTuple):
    """What a batch norm does to a batch, all [C]: mean, 1/sqrt(var + eps), and y = x * scale + shift."""

    mean: Tensor
    inverse: Tensor
    scale: Tensor
    shift: Tensor


@torch.no_grad()
def affine(norm: Any, x: Tensor, static: bool, last: bool = False) -> Affine:
    """Return what ``norm`` does to x [T, N, C, L] or, if ``static``, [N, C, L]; or with channels ``last``.

    In training, statistics are those of the batch, and the running ones are updated; a static input counts T
    times.
    """
    running_mean, running_var, momentum = norm.running_mean, norm.running_var, norm.momentum
    weight, bias, eps = norm.weight, norm.bias, norm.eps
    if not norm.training:
        return _finished(running_mean, running_var, weight, bias, eps)
    repeats = repeats_of(norm, static)
    synchronised = is_synchronised(norm)
    count = x.numel() // weight.numel()
    if not synchronised and count * repeats == 1:
        raise ValueError("training needs more than one value per channel, not 1")
    norm.num_batches_tracked.add_(1)
    own = None
    if is_compiled(x):
        (parts,) = _moments(static, last)(chunked(x) if last else x)
        scalars = [scalar(value, parts) for value in (eps, count * repeats)]
        variance, *found = _finishing(True)(parts, weight, bias, *scalars)
        if not synchronised:
            running_mean.lerp_(found[0].to(running_mean.dtype), momentum)
            running_var.lerp_(variance.to(running_var.dtype), momentum)
            return Affine(*found)
        own = found[0], found[1]
    channels_first = (x.transpose(-1, -2) if last else x).flatten(0, -3)
    if synchronised:
        mean, inverse = global_statistics(
            channels_first, running_mean, running_var, momentum, eps, repeats, own
        )
        scale = inverse * weight
        return Affine(mean, inverse, scale, bias - mean * scale)
    if is_fake(x):  # the operator below has no fake kernel
        mean, variance = torch.empty_like(running_mean), torch.empty_like(running_var)
        return _finished(mean, variance, weight, bias, eps)
    updated = running_var if repeats == 1 else torch.zeros_like(running_var)
    mean, variance = torch.ops.aten.batch_norm_update_stats.default(
        channels_first, running_mean, updated, momentum
    )
    if repeats > 1:
        move_variance(running_var, updated, momentum, count, repeats)
    return _finished(mean, variance, weight, bias, eps)


# -- compiled --------------------------------------------------------------------------------------


def chunked(x: Tensor) -> Tensor:
    """Return x [..., N, L, C] as [..., N * chunks, L / chunks, C], for sums over each chunk.

    An image is divided into about 1024 / C chunks of at least 32 pixels, which use all processors of a GPU.
    """
    *lead, length, channels = x.shape
    least = max(32, length * channels / 1024)
    size = next((n for n in range(1, length) if not length % n and n >= least), length)
    return x.view(*lead[:-1], lead[-1] * length // size, size, channels)


@lru_cache(maxsize=4)
@shared
def _moments(static: bool, last: bool) -> CompiledFunction:
    """The kernel ``x -> parts [2, N, 1, C]``: mean and variance of each [T, L] or, if static, [L]."""

    def moments(x: Tensor) -> tuple[Tensor]:
        wide = to_accumulate_dtype(x.transpose(-1, -2) if last else x)
        variance, mean = torch.var_mean(wide, -1 if static else (0, -1), correction=0)
        return (torch.stack([mean, variance]).unsqueeze(2),)

    name = f"statistics of a {'static ' * static}norm{', channels last' * last}"
    return CompiledFunction(moments, name, (not static,), name)


@lru_cache(maxsize=2)
@shared
def _finishing(of_parts: bool) -> CompiledFunction:
    """The kernel ``(mean, var, weight, bias, eps) -> inverse, scale, shift``, all [C]; or ``(parts, weight, bias, eps,
    count) -> var, mean, inverse, scale, shift``, of which the variance is unbiased."""

    def finish(mean: Tensor, variance: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        weight, bias, eps = others
        inverse = torch.rsqrt(variance + eps)
        scale = inverse * weight
        return inverse, scale, bias - mean * scale

    def merge(parts: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
        means, variances = parts.flatten(1, 2)
        mean = means.mean(0)
        variance = (variances + (means - mean).square()).mean(0)
        *rest, count = others
        return variance * (count / (count - 1)), mean, *finish(mean, variance, *rest)

    name = f"scale and shift of a norm{' from parts' * of_parts}"
    return CompiledFunction(merge if of_parts else finish, name, (True,) * of_parts, name)


def total_of(rows: Tensor, mode: str, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of bias and weight, ``rows`` [2, C], over the whole batch, and for each channel 1 / M for
    statistics of a batch of M values, else 0."""
    if mode == SYNC:
        sums = reduce_sum(torch.cat([rows.flatten(), scalar(float(count), rows).view(1)]))
        return (*sums[:-1].view_as(rows), sums[-1].reciprocal())
    return (*rows, scalar(0.0 if mode == RUNNING else 1 / count, rows))


# -- by operations of torch ------------------------------------------------------------------------


def _finished(mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Affine:
    return Affine(mean, *_finishing(False)(mean, variance, weight, bias, scalar(eps, variance)))


def norm_backward(
    grad: Tensor, x: Tensor, weight: Tensor, mean: Tensor, inverse: Tensor, mode: str, last: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of a norm's input, weight and bias, given that of its output.

    ``grad`` and ``x`` are [..., C, L], or [..., L, C] with channels ``last``.
    """
    shape = grad.shape
    grad, x = (
        value.reshape(-1, *shape[-2:]).unsqueeze(-1).transpose(1, 2 if last else 1)
        for value in (grad, x)
    )  # [M, C, L, 1], as the norms of torch take it
    if mode == SYNC:
        dx, dw, db = input_gradient(grad, x, weight, mean, inverse)
    else:
        # eps is included in it; statistics of the batch are not taken from there.
        variance = inverse if mode == BATCH else inverse.reciprocal().square()
        dx, dw, db = torch.ops.aten.native_batch_norm_backward.default(
            grad, x, weight, mean, variance, mean, inverse, mode == BATCH, 0.0, [True] * 3
        )
    return dx.transpose(1, 2 if last else 1).contiguous().view(shape), dw, db
