"""Batch norm with cumulative statistics over time (TAB: Jiang et al., ICLR 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from danetc.runtime.kernels.composed_operators import per_step
from danetc.runtime.layers.norm import StepBatchNorm2d
from danetc.runtime.layers.sync import is_synchronised, summed


class CumulativeBatchNorm2d(StepBatchNorm2d):
    """Batch norm of each time step t with the statistics of steps 0 to t, over N, H and W.

    Weights and running statistics are [T, C]; evaluation uses the latter.
    """

    bias: nn.Parameter

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        x = per_step(x, self.steps, self.rank)
        if len(x) != self.steps or x.numel() == x.shape[2]:
            return super().forward(x)  # raises an error
        wide = x.to(torch.promote_types(x.dtype, self.weight.dtype))
        return self.normalised(x, *self.moments(wide), slice(0, self.steps))

    def advance(self, inputs: Sequence[Tensor], before: Any) -> tuple[Tensor, Any]:
        """Return the output of one time step [N, ...], and mean and variance of the steps so far (in
        evaluation their number)."""
        if not self.training:
            return super().advance(inputs, before)
        x = inputs[0].unsqueeze(0)
        mean, variance, count = self.moments(x.to(self.weight.dtype))
        if before is not None:
            mean, variance = torch.cat([before[0], mean]), torch.cat([before[1], variance])
        now = len(mean)
        if now > self.steps:
            raise ValueError(f"the network has norms for {self.steps} steps, not for more")
        y = self.normalised(x, mean, variance, count, slice(now - 1, now))
        return y.squeeze(0), [mean, variance]

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor, float]:
        """Return mean and biased variance of each channel at each step of [T, N, C, ...], both [T, C],
        and the number of values of each."""
        variance, mean = torch.var_mean(x, [1, *range(3, x.dim())], correction=0)
        count = x[0].numel() // x.shape[2]
        if is_synchronised(self):
            return _of_all_processes(mean, variance, count)
        return mean, variance, count

    def normalised(
        self, x: Tensor, mean: Tensor, variance: Tensor, count: float, part: slice
    ) -> Tensor:
        """Normalise the steps ``part``, given the ``moments`` of each step up to the last of them."""
        steps = torch.arange(1, len(mean) + 1, dtype=mean.dtype, device=mean.device).unsqueeze(1)
        means = mean.cumsum(0) / steps
        past = torch.ones_like(mean[:, :1]).expand(-1, len(mean)).tril()
        around = (mean.unsqueeze(0) - means.unsqueeze(1)).square() + variance.unsqueeze(0)
        variances = ((around * past.unsqueeze(2)).sum(1) / steps)[part]
        means, values = means[part], count * steps[part]
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            self.running_mean[part].lerp_(means.to(self.running_mean.dtype), self.momentum)
            unbiased = variances * (values / (values - 1).clamp(min=1))
            self.running_var[part].lerp_(unbiased.to(self.running_var.dtype), self.momentum)
        scale = torch.rsqrt(variances + self.eps) * self.weight[part]
        shift = self.bias[part] - means * scale
        shape = (len(means), 1, -1, *[1] * (x.dim() - 3))
        return (x * scale.view(shape) + shift.view(shape)).to(x.dtype)


def _of_all_processes(mean: Tensor, variance: Tensor, count: float) -> tuple[Tensor, Tensor, float]:
    """Return the moments over all processes, through which gradients flow."""
    total = float(summed(mean.new_full((1,), count)))
    whole = summed(mean * count) / total
    return whole, summed((variance + (mean - whole).square()) * count) / total, total
