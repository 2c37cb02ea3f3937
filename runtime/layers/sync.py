"""Batch norm over T and N of all processes together.

Each process sends mean, variance and count of its part, [2 C + 1] numbers, and all combine them in
the same way. torch.compile traces the collectives without a graph break. As everywhere in
torch.distributed, the gradients of weights are those of the process's own part of the loss.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

from danetc.runtime.kernels.composed_operators import is_static, per_step, scale_steps
from danetc.runtime.layers.accumulated import CumulativeBatchNorm2d, Reduce
from danetc.runtime.layers.first_order import refuse_second_order
from danetc.runtime.layers.leaf import Leaf
from danetc.runtime.layers.norm import (
    BorderedBatchNorm2d,
    RunningMean,
    StaticBatchNorm2d,
    StepBatchNorm2d,
    StepwiseBatchNorm2d,
    TemporalEffectiveBatchNorm2d,
)


def is_synchronised(norm: nn.Module) -> bool:
    """Whether a norm in training takes its statistics from all processes."""
    return isinstance(norm, _Synchronised) and norm.training and world_size() > 1


def world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def reduce_sum(x: Tensor) -> Tensor:
    """The sum of ``x`` over all processes."""
    total = x.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total


def _gather(x: Tensor) -> Tensor:
    """``x`` of all processes, [world, *x.shape]."""
    # Newer versions of torch call it so, and warn of the older name.
    gather: Any = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
    parts = x.new_empty((world_size(), *x.shape))
    gather(parts, x.unsqueeze(0).contiguous())
    return parts


def global_statistics(
    x: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    momentum: float,
    eps: float,
    repeats: int = 1,
) -> tuple[Tensor, Tensor]:
    """Mean and 1/sqrt(var + eps) per channel, [C], of x [M, C, ...] of all processes.

    ``repeats`` says at how many time steps the values are the same. Running statistics move, the
    variance unbiased by the count T*N*H*W of all.
    """
    axes, _ = _axes(x)
    dtype = torch.promote_types(x.dtype, running_mean.dtype)
    with torch.no_grad():
        variance, mean = torch.var_mean(x.to(dtype), axes, correction=0)
        count = x.new_full((1,), x.numel() // x.shape[1], dtype=dtype)
        parts = _gather(torch.cat([mean, variance, count]))
        channels = x.shape[1]
        means, variances, counts = parts.split([channels, channels, 1], 1)
        whole = counts.sum()
        mean = (means * counts).sum(0) / whole
        variance = ((variances + (means - mean).square()) * counts).sum(0) / whole
        running_mean.lerp_(mean.to(running_mean.dtype), momentum)
        unbiased = variance * (whole * repeats / (whole * repeats - 1))
        running_var.lerp_(unbiased.to(running_var.dtype), momentum)
        return mean, torch.rsqrt(variance + eps)


def input_gradient(
    grad: Tensor, x: Tensor, weight: Tensor, mean: Tensor, inverse: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, weight and bias, given that of the norm's output. All [M, C, ...] or [C]."""
    axes, shape = _axes(x)
    wide = grad.to(inverse.dtype)
    normed = (x - mean.view(shape)) * inverse.view(shape)
    grad_bias, grad_weight = wide.sum(axes), (wide * normed).sum(axes)
    count = inverse.new_full((1,), x.numel() // x.shape[1])
    *sums, count = reduce_sum(torch.cat([grad_bias, grad_weight, count])).split(
        [x.shape[1], x.shape[1], 1]
    )
    means = [(value / count).view(shape) for value in sums]
    dx = (wide - means[0] - normed * means[1]) * (inverse * weight).view(shape)
    return dx.to(x.dtype), grad_weight.to(weight.dtype), grad_bias.to(weight.dtype)


def _axes(x: Tensor) -> tuple[list[int], list[int]]:
    """All dimensions of x [M, C, ...] but C, and the shape in which [C] goes along with x."""
    return [axis for axis in range(x.dim()) if axis != 1], [1, -1, *[1] * (x.dim() - 2)]


_ONE_PROCESS = "use one process, as statistics of several have first derivatives only"


class _Normalise(torch.autograd.Function):
    """x [M, C, ...] by statistics that depend on the x of all processes."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, inverse: Tensor
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean, inverse)
        _, shape = _axes(x)
        scale = inverse * weight
        return (x * scale.view(shape) + (bias - mean * scale).view(shape)).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_order(grads[0], _ONE_PROCESS)
        return (*input_gradient(grads[0], *ctx.saved_tensors), None, None)


def _normalise(norm: Any, x: Tensor, repeats: int = 1) -> Tensor:
    """A norm with parameters and running statistics of [C], or [T, C] as [T * C], in training."""
    norm.num_batches_tracked.add_(1)
    own = torch.zeros_like(norm.weight) if norm.bias is None else norm.bias
    weight, bias, running_mean, running_var = (
        value.view(-1) for value in (norm.weight, own, norm.running_mean, norm.running_var)
    )
    mean, inverse = global_statistics(
        x, running_mean, running_var, norm.momentum, norm.eps, repeats
    )
    out: Tensor = _Normalise.apply(x, weight, bias, mean, inverse)
    return out


def _normalise_static(norm: StaticBatchNorm2d, x: Tensor) -> Tensor:
    static = is_static(x, norm.rank)
    flat = x if static else x.flatten(0, 1)
    return _normalise(norm, flat, norm.steps if static else 1).view(x.shape)


class _Synchronised(nn.Module):
    """What marks a norm whose statistics are those of all processes."""


class SyncBatchNorm2d(Leaf, _Synchronised, nn.BatchNorm2d):
    """torch.nn.BatchNorm2d of x [M, C, H, W], or of [M, C], over all processes."""

    def forward(self, x: Tensor) -> Tensor:
        return _normalise(self, x) if is_synchronised(self) else super().forward(x)

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() not in (2, 4):
            raise ValueError(f"the norm takes [M, C, H, W] or [M, C], not {list(input.shape)}")


class SyncStaticBatchNorm2d(_Synchronised, StaticBatchNorm2d):
    """StaticBatchNorm2d over all processes."""

    def forward(self, x: Tensor) -> Tensor:
        return _normalise_static(self, x) if is_synchronised(self) else super().forward(x)


class SyncBorderedBatchNorm2d(_Synchronised, BorderedBatchNorm2d):
    """BorderedBatchNorm2d over all processes."""

    def forward(self, x: Tensor) -> Tensor:
        if not is_synchronised(self):
            return super().forward(x)
        return self.bordered(_normalise_static(self, x))


class SyncStepwiseBatchNorm2d(_Synchronised, StepwiseBatchNorm2d):
    """StepwiseBatchNorm2d over all processes."""

    def _normalised(self, x: Tensor, steps: int) -> Tensor:
        if not is_synchronised(self):
            return super()._normalised(x, steps)
        if is_static(x, self.rank):  # equal steps: the first moves the running ones, the others too
            frames = [_normalise(self, x) for _ in range(steps)]
            return frames[0]
        return torch.stack([_normalise(self, each) for each in x.unbind(0)])


class SyncTemporalEffectiveBatchNorm2d(_Synchronised, TemporalEffectiveBatchNorm2d):
    """TemporalEffectiveBatchNorm2d over all processes."""

    def forward(self, x: Tensor) -> Tensor:
        if not is_synchronised(self):
            return super().forward(x)
        out: Tensor = scale_steps(_normalise_static(self, x), self.scale, self.rank)
        return out


class SyncStepBatchNorm2d(_Synchronised, StepBatchNorm2d):
    """StepBatchNorm2d over all processes."""

    def forward(self, x: Tensor) -> Tensor:
        steps = self.weight.shape[0]
        x = per_step(x, steps, self.rank)
        if not is_synchronised(self) or x.shape[0] != steps:  # the plain one says what is wrong
            return super().forward(x)
        flat = x.transpose(0, 1).flatten(1, 2)  # time among the channels: [N, T*C, ...]
        return _normalise(self, flat).view(x.shape[1], steps, *x.shape[2:]).transpose(0, 1)


class SyncCumulativeBatchNorm2d(_Synchronised, CumulativeBatchNorm2d):
    """CumulativeBatchNorm2d over all processes."""

    def _reduce(self) -> Reduce:
        return _summed if is_synchronised(self) else super()._reduce()


class SyncRunningMean(_Synchronised, RunningMean):
    """RunningMean over all processes."""

    def batch_mean(self, x: Tensor) -> Tensor:
        mean, samples = super().batch_mean(x), x.shape[-self.rank - 1]
        if not is_synchronised(self):
            return mean
        sums = reduce_sum(torch.cat([mean * samples, mean.new_full((1,), samples)]))
        return sums[:-1] / sums[-1]


def _summed(x: Tensor) -> Tensor:
    """The sum over all processes, through which gradients flow."""
    total: Tensor = all_reduce(x.contiguous())
    return total


SYNCHRONISED: dict[type[nn.Module], type[nn.Module]] = {
    nn.BatchNorm1d: SyncBatchNorm2d,
    nn.BatchNorm2d: SyncBatchNorm2d,
    StaticBatchNorm2d: SyncStaticBatchNorm2d,
    BorderedBatchNorm2d: SyncBorderedBatchNorm2d,
    TemporalEffectiveBatchNorm2d: SyncTemporalEffectiveBatchNorm2d,
    StepBatchNorm2d: SyncStepBatchNorm2d,
    StepwiseBatchNorm2d: SyncStepwiseBatchNorm2d,
    CumulativeBatchNorm2d: SyncCumulativeBatchNorm2d,
    RunningMean: SyncRunningMean,
}
"""For each class of norms, the one that takes its statistics over all processes."""


def convert_sync(model: nn.Module) -> nn.Module:
    """Make every batch norm of a model, of any backend, take its statistics over all processes.

    Changes the model and gives it back. Parameters, buffers and their names stay; in one process,
    and in eval mode, nothing is different. Call it before the model is wrapped in
    DistributedDataParallel, and give that ``broadcast_buffers=False``.
    """
    new: dict[nn.Module, nn.Module] = {}

    def converted(norm: nn.Module) -> Any:
        if norm not in new:
            kind = SYNCHRONISED.get(type(norm))
            new[norm] = norm if kind is None else _recast(norm, kind)
        return new[norm]

    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            setattr(parent, name, converted(child))
    return model


def _recast(norm: nn.Module, kind: type[nn.Module]) -> nn.Module:
    """A module of another class with the same attributes, parameters and buffers."""
    result = kind.__new__(kind)
    result.__dict__.update(norm.__dict__)
    result.__module__ = "torch.nn.modules"  # as Leaf has it
    return result
