"""Batch norm with cumulative statistics over time (TAB: Jiang et al., ICLR 2024)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from danetc.runtime.kernels.composed_operators import per_step
from danetc.runtime.kernels.neuron_operators import differentiable_gradients
from danetc.runtime.kernels.torch_internals import is_backward_transformed, is_transformed
from danetc.runtime.layers.leaf import refuse_second_order
from danetc.runtime.layers.norm import StepBatchNorm2d

Reduce = Callable[[Tensor], Tensor]
"""The sum over processes, or the identity."""


def _same(x: Tensor) -> Tensor:
    return x


def step_moments(x: Tensor, reduce: Reduce = _same) -> tuple[Tensor, Tensor, float]:
    """Return mean and biased variance of each channel at each step of [T, N, C, ...] over all processes, both [T, C],
    and the number of values of each."""
    axes = [1, *range(3, x.dim())]
    variance, mean = torch.var_mean(x, axes, correction=0)
    own = x[0].numel() // x.shape[2]
    if reduce is _same:
        return mean, variance, own
    count = float(reduce(x.new_full((1,), own)))
    whole = reduce(mean * own) / count
    variance = reduce((variance + (mean - whole).square()) * own) / count
    return whole, variance, count


def accumulated(mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance of steps 0 to t from those of each step, all [T, C]."""
    steps = len(mean)
    counts = torch.arange(1, steps + 1, dtype=mean.dtype, device=mean.device).unsqueeze(1)
    means = mean.cumsum(0) / counts
    past = torch.ones(steps, steps, dtype=mean.dtype, device=mean.device).tril()
    around = (mean.unsqueeze(0) - means.unsqueeze(1)).square() + variance.unsqueeze(0)
    return means, (around * past.unsqueeze(2)).sum(1) / counts


class _Normalise(torch.autograd.Function):
    """x [T, N, C, ...] normalised by statistics of steps 0 to t, ``mean`` and ``inverse`` [T, C], with ``count`` values
    per step and channel."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, inverse: Tensor,
        count: float, reduce: Reduce, eps: float,
    ) -> Tensor:  # fmt: skip
        # vectors, which recomputed segments save
        ctx.save_for_backward(x, weight, mean.flatten(), inverse.flatten())
        ctx.count, ctx.reduce, ctx.eps = count, reduce, eps
        return normalised(x, weight, bias, mean, inverse)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, *vectors = ctx.saved_tensors
        if is_backward_transformed(grads[0]):
            return _gradients_again(ctx, x, weight, grads[0])
        mean, inverse = (vector.view(weight.shape) for vector in vectors)
        axes = [1, *range(3, x.dim())]
        grad, away = grads[0].to(inverse.dtype), x - over(mean, x)
        grad_bias, product = grad.sum(axes), (grad * away).sum(axes)
        total, of_products = ctx.reduce(torch.stack([grad_bias, product])).unbind(0)
        counts = ctx.count * torch.arange(1, len(x) + 1, dtype=mean.dtype, device=mean.device)
        slope = -weight * inverse.pow(3) * of_products / counts.unsqueeze(1)
        level = -weight * inverse * total / counts.unsqueeze(1) - slope * mean
        level, slope = (each.flip(0).cumsum(0).flip(0) for each in (level, slope))
        dx = grad * over(inverse * weight, x) + over(level, x) + over(slope, x) * x
        return (
            dx.to(x.dtype),
            (product * inverse).to(weight.dtype),
            grad_bias.to(weight.dtype),
            *[None] * 5,
        )


def _gradients_again(
    ctx: Any, x: Tensor, weight: Tensor, grad: Tensor
) -> tuple[Tensor | None, ...]:
    """The gradients of ``_Normalise``, differentiable again."""
    if ctx.reduce is not _same:
        refuse_second_order(grad, "use one process")

    def run(x: Tensor, weight: Tensor) -> list[Tensor]:
        return [_from_batch(x, weight, torch.zeros_like(weight), ctx.eps)]

    dx, dw = differentiable_gradients(run, (x, weight), [grad])
    axes = [1, *range(3, x.dim())]
    return dx, dw, grad.sum(axes).to(weight.dtype), *[None] * 5


def _from_batch(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """The norm of a batch of this process, in operations that torch differentiates."""
    *moments, _ = step_moments(x.to(torch.promote_types(x.dtype, weight.dtype)))
    mean, variance = accumulated(*moments)
    return normalised(x, weight, bias, mean, torch.rsqrt(variance + eps))


def over(value: Tensor, x: Tensor) -> Tensor:
    """Reshape [T, C] to broadcast with x [T, N, C, ...]."""
    steps, channels = value.shape
    return value.view(steps, 1, channels, *[1] * (x.dim() - 3))


def normalised(x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, inverse: Tensor) -> Tensor:
    scale = inverse * weight
    return (x * over(scale, x) + over(bias - mean * scale, x)).to(x.dtype)


class CumulativeBatchNorm2d(StepBatchNorm2d):
    """Batch norm of each time step t with the statistics of steps 0 to t, over N, H and W.

    Weights and running statistics are [T, C]; evaluation uses the latter.
    """

    bias: torch.nn.Parameter

    def _reduce(self) -> Reduce:
        return _same

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        steps = self.weight.shape[0]
        x = per_step(x, steps, self.rank).contiguous()  # saved for backward
        if x.shape[0] != steps or x.numel() == x.shape[2]:
            return super().forward(x)  # raises an error
        with torch.no_grad():
            wide = x.to(torch.promote_types(x.dtype, self.weight.dtype))
            *moments, count = step_moments(wide, self._reduce())
            mean, variance = accumulated(*moments)
            self._move(slice(None), mean, variance, count)
            inverse = torch.rsqrt(variance + self.eps)
        if is_transformed() and self._reduce() is _same:
            return _from_batch(x, self.weight, self.bias, self.eps)
        out: Tensor = _Normalise.apply(
            x, self.weight, self.bias, mean, inverse, count, self._reduce(), self.eps
        )
        return out

    def _move(self, steps: slice, mean: Tensor, variance: Tensor, count: float) -> None:
        """Update the running statistics of some steps with ``count`` values each."""
        self.num_batches_tracked.add_(1)
        last = self.steps if steps.stop is None else steps.stop
        first = 0 if steps.start is None else steps.start
        each = torch.arange(first + 1, last + 1, dtype=mean.dtype, device=mean.device)
        values = count * each.unsqueeze(1)
        unbias = values / (values - 1).clamp(min=1)
        self.running_mean[steps].lerp_(mean.to(self.running_mean.dtype), self.momentum)
        unbiased = (variance * unbias).to(self.running_var.dtype)
        self.running_var[steps].lerp_(unbiased, self.momentum)

    def advance(self, inputs: Sequence[Tensor], before: Any) -> tuple[Tensor, Any]:
        """Return the output of one time step [N, ...], and mean and variance of the steps so far (in evaluation their
        number)."""
        if not self.training:
            return super().advance(inputs, before)
        x = inputs[0].unsqueeze(0)
        mean, variance, count = step_moments(x.to(self.weight.dtype), self._reduce())
        if before is not None:
            mean, variance = (
                torch.cat(pair) for pair in zip(before, (mean, variance), strict=True)
            )
        now = len(mean)
        if now > self.steps:
            raise ValueError(f"the network has norms for {self.steps} steps, not for more")
        part = slice(now - 1, now)
        means, variances = (each[part] for each in accumulated(mean, variance))
        with torch.no_grad():
            self._move(part, means, variances, count)
        inverse = torch.rsqrt(variances + self.eps)
        y = normalised(x, self.weight[part], self.bias[part], means, inverse)
        return y.squeeze(0), [mean, variance]
