"""What a batch norm does to a batch: its statistics, y = x * scale + shift, and its gradients.

On a CPU, torch's own pass over a batch adds number after number. The kernel here adds vectors of
them, in double precision as well, so that the rounding is no other, moves the running statistics
and makes scale and shift, all in one call. Torch's backward pass is taken where it is the faster.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from danetc.runtime.kernels.compiled import CompiledFunction, compiles
from danetc.runtime.kernels.neuron import HALF
from danetc.runtime.kernels.torch_internals import has_values, is_fake, is_known
from danetc.runtime.layers.norm import StaticBatchNorm2d
from danetc.runtime.layers.registered import has_hooks
from danetc.runtime.layers.sync import SYNCHRONISED, global_statistics, is_synchronised

Norm = nn.BatchNorm2d | nn.BatchNorm1d

RUNNING, BATCH, SYNC = "running", "batch", "batches of all processes"
"""Where a norm's statistics come from."""


def mode_of(norm: Norm) -> str:
    if not norm.training:
        return RUNNING
    return SYNC if is_synchronised(norm) else BATCH


def _keeps_running(norm: nn.Module) -> bool:
    """Whether a norm moves its running statistics by a constant share."""
    return bool(norm.track_running_stats) and norm.momentum is not None


def is_standard(norm: nn.Module | None, built: type[nn.Module], x: Tensor) -> bool:
    """Whether fused kernels compute what ``norm(x)`` does, and may read and move its buffers.

    ``built`` is the class that the norm was built as. (A subclass, such as that of a parametrized
    norm, may compute something else.)
    """
    if norm is None or type(norm) not in (built, SYNCHRONISED.get(built)) or has_hooks(norm):
        return False
    if "forward" in norm.__dict__:  # one that was set on this object alone
        return False
    parameters, buffers = norm._parameters, norm._buffers
    weight, count = parameters.get("weight"), buffers.get("num_batches_tracked")
    if weight is None or count is None or not _keeps_running(norm):
        return False
    # Mixed precision is that of ``torch.autocast``: a batch in half precision, all else in float32.
    if not (weight.dtype is x.dtype or (weight.dtype is torch.float32 and x.dtype in HALF)):
        return False
    shape = weight.shape
    others = parameters.get("bias"), buffers.get("running_mean"), buffers.get("running_var")
    for value in (weight, *others):
        if (
            value is None
            or not is_known(value)
            or value.dtype is not weight.dtype
            or value.shape != shape
            or value.device != x.device
            or not value.is_contiguous()
        ):
            return False
    return (
        len(shape) == 1
        and is_known(count)
        and count.dtype is torch.int64
        and count.numel() == 1
        and count.device == x.device
    )


_LEAST = 8
"""Values of a channel that lie side by side. With fewer, torch's own statistics are faster, and its
own gradients slower."""
_LARGE = 2**20
"""Values from which on torch's own gradients are slower, since they read all of them twice."""


class Affine(NamedTuple):
    """What a norm does to a batch, each [C]: mean, 1/sqrt(var + eps), and y = x * scale + shift."""

    mean: Tensor
    inverse: Tensor
    scale: Tensor
    shift: Tensor


@torch.no_grad()
def affine(norm: Norm, x: Tensor, static: bool, last: bool = False) -> Affine:
    """What ``norm`` does to x [M, C, L], or [M, L, C] with channels ``last``; contiguous.

    In training statistics are those of the batch, and the running ones move; a static input counts
    T times.
    """
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    weight, bias, eps = norm.weight, norm.bias, norm.eps
    if not norm.training:
        return _finished(mean, variance, weight, bias, eps)
    momentum = norm.momentum
    assert momentum is not None
    assert norm.num_batches_tracked is not None
    channels = 2 if last else 1
    count = x.shape[0] * x.shape[3 - channels]
    repeats = norm.steps if static and isinstance(norm, StaticBatchNorm2d) else 1
    if is_synchronised(norm):
        norm.num_batches_tracked.add_(1)
        channels_first = x.transpose(1, 2) if last else x
        mean, inverse = global_statistics(channels_first, mean, variance, momentum, eps, repeats)
        scale = inverse * weight
        return Affine(mean, inverse, scale, bias - mean * scale)
    if count * repeats == 1:
        raise ValueError("training needs more than one value a channel, not 1")
    norm.num_batches_tracked.add_(1)
    if (last or x.shape[2] >= _LEAST) and _is_ours(x, mean):
        numbers = _number(momentum, mean), _number(eps, mean), _number(repeats, mean, torch.float64)
        return Affine(*_whole(last)(x, weight, bias, mean, variance, *numbers))
    channels_first = x.transpose(1, 2) if last else x
    mean, variance = _torch_statistics(channels_first, mean, variance, momentum, repeats)
    return _finished(mean, variance, weight, bias, eps)


def _is_ours(x: Tensor, y: Tensor) -> bool:
    """Whether the kernels here are for these."""
    return (
        x.dtype == y.dtype == torch.float32 and x.device.type == "cpu" and compiles(x.device.type)
    )


def norm_backward(
    grad: Tensor, x: Tensor, weight: Tensor, known: Affine, batch: bool, last: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of a norm's input, weight and bias, from that of its output; both inputs are as
    ``affine`` takes them. ``batch`` says that the statistics were those of the batch.
    """
    mean, inverse = known.mean, known.inverse
    short = 1 < x.shape[2] < _LEAST
    if batch and not last and (short or x.numel() > _LARGE) and _is_ours(x, weight):
        dx, dw, db = _gradients()(grad, x, weight, mean, inverse)
        return dx, dw, db
    # With eps in it; statistics of the batch are not taken from there.
    variance = inverse if batch else inverse.reciprocal().square()
    grad, x = maps(grad, last), maps(x, last)
    dx, dw, db = torch.ops.aten.native_batch_norm_backward.default(
        grad, x, weight, mean, variance, mean, inverse, batch, 0.0, [True] * 3
    )
    return unmapped(dx, last), dw, db


def maps(x: Tensor, last: bool) -> Tensor:
    """[M, C, L, 1] of what ``affine`` takes, as the norms of torch have it."""
    return x.unsqueeze(-1).transpose(1, 2) if last else x.unsqueeze(-1)


def unmapped(x: Tensor, last: bool) -> Tensor:
    """The other way round; contiguous."""
    return (x.transpose(1, 2) if last else x).squeeze(-1).contiguous()


def _torch_statistics(
    x: Tensor, running_mean: Tensor, running_var: Tensor, momentum: float, repeats: int
) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of x [M, C, L] by torch's own pass; the running ones move."""
    if is_fake(x):  # for which torch does not have the operator below
        return torch.empty_like(running_mean), torch.empty_like(running_var)
    count = x.numel() // x.shape[1]
    moved = running_var if repeats == 1 else torch.zeros_like(running_var)
    mean, variance = torch.ops.aten.batch_norm_update_stats.default(
        x, running_mean, moved, momentum
    )
    if repeats > 1:
        running_var.mul_(1 - momentum)
        if count > 1:  # a single value has the variance 0, and no unbiased one
            unbias = (count - 1) * repeats / (count * repeats - 1)
            running_var.add_(moved, alpha=unbias)
    return mean, variance


def _finished(mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Affine:
    return Affine(mean, *_finishing()(mean, variance, weight, bias, _number(eps, variance)))


def _finish(
    mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor, eps: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """1/sqrt(var + eps), scale and shift, as torch computes them on a CPU."""
    inverse = torch.rsqrt(variance + eps)
    scale = inverse * weight
    return inverse, scale, bias - mean * scale


@lru_cache(maxsize=64)
def _kept(value: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.tensor(value, dtype=dtype, device=device)


def _number(value: float, like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    """A number as kernels take it, so that one kernel serves for all; of the dtype of ``like``."""
    if has_values(like):
        return _kept(value, dtype or like.dtype, like.device)
    return like.new_full((), value, dtype=dtype)


@lru_cache(maxsize=1)
def _finishing() -> CompiledFunction:
    """The kernel ``(mean, var, weight, bias, eps) -> inverse, scale, shift``, all [C]."""
    name = "scale and shift of a norm"
    return CompiledFunction(_finish, name, (), name, recipe=_finishing)


@lru_cache(maxsize=2)
def _whole(last: bool) -> CompiledFunction:
    """The kernel ``(x, weight, bias, running mean and var, momentum, eps, repeats) -> mean, inverse,
    scale, shift``, which moves the running ones."""
    channels = 2 if last else 1

    def function(
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        running_mean: Tensor,
        running_var: Tensor,
        momentum: Tensor,
        eps: Tensor,
        repeats: Tensor,
    ) -> tuple[Tensor, ...]:
        others = (0, 3 - channels)
        wide = x.double()
        count = x.shape[0] * x.shape[3 - channels]
        mean = wide.sum(others, keepdim=True) / count
        squares = (wide - mean).square().sum(others)
        mean, variance = mean.flatten().to(x.dtype), (squares / count).to(x.dtype)
        unbiased = (squares * repeats / (count * repeats - 1)).to(x.dtype)
        running_mean.copy_(running_mean + momentum * (mean - running_mean))
        running_var.copy_(running_var + momentum * (unbiased - running_var))
        return mean, *_finish(mean, variance, weight, bias, eps)

    name = f"statistics of a norm, channels {'last' if last else 'first'}"
    return CompiledFunction(function, name, (False,), name, last=last, recipe=partial(_whole, last))


def _norm_gradients(
    grad: Tensor, x: Tensor, weight: Tensor, mean: Tensor, inverse: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Of x [M, C, L] under statistics of the batch."""
    count = x.shape[0] * x.shape[2]
    wide = grad.double()
    total = wide.sum((0, 2))
    product = (wide * (x.double() - mean.double().unsqueeze(1))).sum((0, 2))
    slope = (product * inverse.double().square() / count).to(x.dtype).unsqueeze(1)
    level = (total / count).to(x.dtype).unsqueeze(1)
    scale = (inverse * weight).unsqueeze(1)
    dx = (grad - level - (x - mean.unsqueeze(1)) * slope) * scale
    return dx, (product * inverse).to(x.dtype), total.to(x.dtype)


@lru_cache(maxsize=1)
def _gradients() -> CompiledFunction:
    name = "gradients of a norm"
    return CompiledFunction(
        _norm_gradients, name, (False, False), name, last=False, recipe=_gradients
    )
