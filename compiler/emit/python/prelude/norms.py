"""Norms of values that vary over time, and first weights."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from danetc.runtime.kernels.composed_operators import per_step
from danetc.runtime.layers.norm import StepBatchNorm2d


def starting_at(weight: float, norm: nn.Module) -> nn.Module:
    """Set the first weights of a norm."""
    nn.init.constant_(norm.weight, weight)
    return norm


def drawn(layer: nn.Module, how: str, **given: Any) -> nn.Module:
    """Draw the first weights of a layer by a function of nn.init; its bias starts at 0."""
    getattr(nn.init, how)(layer.weight, **given)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    vars(layer)["drawn"] = True
    return layer


class StaticBatchNorm2d(nn.BatchNorm2d):
    """Batch norm of a value that is the same at all ``steps``: computed once, counted T times."""

    def __init__(self, channels: int, steps: int, rank: int = 3, **given: float) -> None:
        super().__init__(channels, **given)
        self.steps = steps
        self.rank = rank

    def forward(self, x: Tensor) -> Tensor:
        steps = self.steps if x.dim() == self.rank + 1 else 1
        frames = x.flatten(0, -self.rank - 1)
        count = frames.numel() // frames.shape[1]
        if self.training and count * steps == 1:
            raise ValueError("training needs more than one value per channel")
        counted = self.training and steps > 1 and count > 0
        variance = torch.zeros_like(self.running_var) if counted else self.running_var
        stats = (self.running_mean, variance, self.training, self.momentum, self.eps)
        y = torch.batch_norm(frames, self.weight, self.bias, *stats, torch.backends.cudnn.enabled)
        if self.training:
            self.num_batches_tracked.add_(1)
        if counted:
            self.running_var.mul_(1 - self.momentum)
        if counted and count > 1:
            share = (count - 1) / count * (count * steps) / (count * steps - 1)
            self.running_var.add_(variance, alpha=share)
        return y.view(x.shape)


class CumulativeBatchNorm2d(StepBatchNorm2d):
    """Batch norm of each time step t with the statistics of steps 0 to t (TAB)."""

    bias: nn.Parameter

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        x = per_step(x, self.steps, self.rank)
        if len(x) != self.steps or x.numel() == x.shape[2]:
            return super().forward(x)  # raises an error
        wide = x.to(torch.promote_types(x.dtype, self.weight.dtype))
        variance, mean = torch.var_mean(wide, [1, *range(3, x.dim())], correction=0)
        return self.normalised(x, mean, variance, slice(0, self.steps))

    def advance(self, inputs: Sequence[Tensor], before: Any) -> tuple[Tensor, Any]:
        """One time step of [N, ...]. In training the state is the mean and variance so far."""
        if not self.training:
            return super().advance(inputs, before)
        (x,) = inputs
        wide, axes = x.to(self.weight.dtype), [0, *range(2, x.dim())]
        variance, mean = (each[None] for each in torch.var_mean(wide, axes, correction=0))
        if before is not None:
            mean, variance = torch.cat([before[0], mean]), torch.cat([before[1], variance])
        t = len(mean) - 1
        y = self.normalised(x[None], mean, variance, slice(t, t + 1))
        return y[0], [mean, variance]

    def normalised(self, x: Tensor, mean: Tensor, variance: Tensor, part: slice) -> Tensor:
        """Normalise steps [T, N, ...] by the mean and variance of each step up to the last."""
        counts = torch.arange(1, len(mean) + 1, dtype=mean.dtype, device=mean.device).unsqueeze(1)
        means = mean.cumsum(0) / counts
        past = torch.ones_like(mean[:, :1]).expand(-1, len(mean)).tril()
        around = (mean.unsqueeze(0) - means.unsqueeze(1)).square() + variance.unsqueeze(0)
        variances = (around * past.unsqueeze(2)).sum(1) / counts
        means, variances, counts = means[part], variances[part], counts[part]
        self.num_batches_tracked.add_(1)
        values = counts * (x[0].numel() // x.shape[2])
        with torch.no_grad():
            self.running_mean[part].lerp_(means, 0.1)
            unbiased = variances * (values / (values - 1).clamp(min=1))
            self.running_var[part].lerp_(unbiased, 0.1)
        inverse = torch.rsqrt(variances + 1e-5)
        scale = inverse * self.weight[part]
        along = (len(means), 1, -1, *[1] * (x.dim() - 3))
        shift = self.bias[part] - means * scale
        return (x * scale.view(along) + shift.view(along)).to(x.dtype)
