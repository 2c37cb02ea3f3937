"""Batch norms with statistics over all processes.

Each process sends mean, variance and count of its part, [2 C + 1] numbers, and all combine them in the same way.
torch.compile traces the collectives without a graph break. As everywhere in torch.distributed, gradients of weights
are those of the process's own part of the loss.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce

from danetc.runtime.kernels.neuron import HALF
from danetc.runtime.kernels.torch_internals import has_values
from danetc.runtime.layers.leaf import Leaf, refuse_second_order


class Synchronisable:
    """A norm, or another layer with running statistics, that can take those of a batch from all processes."""

    across_processes = False


def is_synchronised(norm: nn.Module) -> bool:
    """True if a norm takes the statistics of its batch from all processes."""
    shared = isinstance(norm, Synchronisable) and norm.across_processes
    return shared and norm.training and world_size() > 1


def world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def reduce_sum(x: Tensor) -> Tensor:
    """Return the sum of ``x`` over all processes."""
    total = x.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total


def global_statistics(
    x: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    momentum: float,
    eps: float,
    repeats: int = 1,
    own: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """Return mean and 1/sqrt(var + eps) per channel, [C], of x [M, C, ...] of all processes.

    ``repeats`` is the number of time steps with the same values; ``own`` are the results for this process, if known.
    Updates the running statistics; the variance is unbiased by the count T*N*H*W of all.
    """
    axes, _ = _axes(x)
    count, channels = x.numel() // x.shape[1] * repeats, x.shape[1]
    with torch.no_grad():
        if _has_kernels(x, running_mean):
            own = own or torch.batch_norm_stats(x, eps)
        else:
            dtype = torch.promote_types(x.dtype, running_mean.dtype)
            variance, mean = torch.var_mean(x.to(dtype), axes, correction=0)
            own = mean, variance
        # Newer versions of torch warn of the older name.
        gather: Any = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
        facts = torch.cat([*own, own[0].new_full((1,), count)]).unsqueeze(0)
        parts = facts.new_empty((world_size(), facts.shape[1]))
        gather(parts, facts)
        means, variances, counts = parts.split([channels, channels, 1], 1)
        if _has_kernels(x, running_mean):  # the second are 1/sqrt(var + eps)
            found: tuple[Tensor, Tensor] = torch.batch_norm_gather_stats_with_counts(
                x, means, variances, running_mean, running_var, momentum, eps, counts.flatten()
            )
            return found
        whole = counts.sum()
        mean = (means * counts).sum(0) / whole
        variance = ((variances + (means - mean).square()) * counts).sum(0) / whole
        running_mean.lerp_(mean.to(running_mean.dtype), momentum)
        unbiased = variance * (whole / (whole - 1))
        running_var.lerp_(unbiased.to(running_var.dtype), momentum)
        return mean, torch.rsqrt(variance + eps)


def input_gradient(
    grad: Tensor, x: Tensor, weight: Tensor, mean: Tensor, inverse: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of x, weight and bias, given that of the norm's output. All [M, C, ...] or [C]."""
    axes, shape = _axes(x)
    if _has_kernels(x, weight):
        grad = grad.contiguous(memory_format=_format(x))
        *own, grad_weight, grad_bias = torch.batch_norm_backward_reduce(
            grad, x, mean, inverse, weight, True, True, True
        )
    else:
        wide = grad.to(inverse.dtype)
        normed = (x - mean.view(shape)) * inverse.view(shape)
        own = [wide.sum(axes), (wide * normed).sum(axes)]
        grad_bias, grad_weight = (each.to(weight.dtype) for each in own)
    count = inverse.new_full((1,), x.numel() // x.shape[1])
    *sums, count = reduce_sum(torch.cat([*own, count])).split([x.shape[1], x.shape[1], 1])
    if _has_kernels(x, weight):
        elementwise: Any = torch.batch_norm_backward_elemt  # (its stub lacks the count)
        dx = elementwise(grad, x, mean, inverse, weight, *sums, count.int())
    else:
        means = [(value / count).view(shape) for value in sums]
        dx = (wide - means[0] - normed * means[1]) * (inverse * weight).view(shape)
    return dx.to(x.dtype), grad_weight, grad_bias


def _axes(x: Tensor) -> tuple[list[int], list[int]]:
    """All dimensions of x [M, C, ...] but C, and the shape in which [C] broadcasts with x."""
    return [axis for axis in range(x.dim()) if axis != 1], [1, -1, *[1] * (x.dim() - 2)]


def _has_kernels(x: Tensor, weight: Tensor) -> bool:
    """True if torch has kernels for the parts of a norm of ``x``; they count values in the weight's dtype."""
    return x.is_cuda and has_values(x) and weight.dtype not in HALF


def _format(x: Tensor) -> torch.memory_format:
    """The memory format in which those kernels read x [M, C, ...]."""
    last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


class _Normalise(torch.autograd.Function):
    """x [M, C, ...] normalised by statistics that depend on the x of all processes."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, inverse: Tensor
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean, inverse)
        if _has_kernels(x, weight):  # eps is included in ``inverse``
            return torch.batch_norm_elemt(x, weight, bias, mean, inverse, 0.0)
        _, shape = _axes(x)
        scale = inverse * weight
        return (x * scale.view(shape) + (bias - mean * scale).view(shape)).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_order(
            grads[0], "use one process, as statistics of several have first derivatives only"
        )
        return (*input_gradient(grads[0], *ctx.saved_tensors), None, None)


def normalise(norm: Any, x: Tensor, repeats: int = 1, part: slice | None = None) -> Tensor:
    """A norm in training, with parameters and running statistics of [C], or a ``part`` of [T, C] as [T * C]."""
    norm.num_batches_tracked.add_(1)
    bias = torch.zeros_like(norm.weight) if norm.bias is None else norm.bias
    values = norm.weight, bias, norm.running_mean, norm.running_var
    weight, bias, running_mean, running_var = (
        (value if part is None else value[part]).view(-1) for value in values
    )
    x = x.contiguous(memory_format=_format(x)) if _has_kernels(x, weight) else x
    mean, inverse = global_statistics(
        x, running_mean, running_var, norm.momentum, norm.eps, repeats
    )
    out: Tensor = _Normalise.apply(x, weight, bias, mean, inverse)
    return out


def summed(x: Tensor) -> Tensor:
    """Return the sum over all processes, through which gradients flow."""
    total: Tensor = all_reduce(x.contiguous())
    return total


class SyncBatchNorm2d(Leaf, Synchronisable, nn.BatchNorm2d):
    """torch.nn.BatchNorm2d of x [M, C, H, W] or [M, C]."""

    def forward(self, x: Tensor) -> Tensor:
        return normalise(self, x) if is_synchronised(self) else super().forward(x)

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() not in (2, 4):
            raise ValueError(f"the norm takes [M, C, H, W] or [M, C], not {list(input.shape)}")


def convert_sync(model: nn.Module) -> nn.Module:
    """Make every batch norm of a model, of any backend, take its statistics over all processes.

    Changes and returns the model; in one process, and in eval mode, its output stays the same. Call it before wrapping
    the model in DistributedDataParallel, and pass ``broadcast_buffers=False`` to that.
    """
    for module in model.modules():
        if type(module) in (nn.BatchNorm1d, nn.BatchNorm2d):
            module.__class__ = SyncBatchNorm2d
            module.__module__ = "torch.nn.modules"  # see Leaf
        if isinstance(module, Synchronisable):
            module.across_processes = True
    return model
