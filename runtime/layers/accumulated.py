"""Batch norm with cumulative statistics over time (TAB: Jiang et al., ICLR 2024)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from danetc.runtime.kernels.composed_operators import per_step
from danetc.runtime.layers.norm import StepBatchNorm2d
from danetc.runtime.layers.sync import is_synchronised, summed

Reduce = Callable[[Tensor], Tensor]
"""The differentiable sum over processes, or the identity."""


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
        return summed if is_synchronised(self) else _same

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        steps = self.weight.shape[0]
        x = per_step(x, steps, self.rank)
        if x.shape[0] != steps or x.numel() == x.shape[2]:
            return super().forward(x)  # raises an error
        wide = x.to(torch.promote_types(x.dtype, self.weight.dtype))
        *moments, count = step_moments(wide, self._reduce())
        mean, variance = accumulated(*moments)
        with torch.no_grad():
            self._move(slice(None), mean, variance, count)
        return normalised(x, self.weight, self.bias, mean, torch.rsqrt(variance + self.eps))

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
