"""Normalisation layers that know time.

All take [T, N, C, H, W] or, if a value does not vary, [N, C, H, W]; with ``rank = 1`` the same without H and W. A
plain norm over T and N of a sequence is torch.nn.BatchNorm2d.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from danetc.runtime.kernels.composed_operators import is_static, per_step
from danetc.runtime.layers.leaf import Leaf, ReadsWhatItMoves
from danetc.runtime.layers.sync import (
    Synchronisable,
    is_synchronised,
    normalise,
    reduce_sum,
    summed,
)


class StaticBatchNorm2d(Leaf, Synchronisable, nn.BatchNorm2d):
    """Batch norm of a value computed once that stands for ``steps`` equal time steps.

    Its running variance is unbiased by the count T*N*H*W, so that its buffers equal those of a norm that saw all
    T steps. A sequence [T, N, C, H, W] is normalised over T and N together.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(
        self, channels: int, steps: int, *, rank: int = 3, eps: float = 1e-5, momentum: float = 0.1
    ) -> None:
        super().__init__(channels, eps=eps, momentum=momentum)
        self.steps = steps
        self.rank = rank

    def forward(self, x: Tensor) -> Tensor:
        if is_static(x, self.rank):
            return self.normalised(x, self.steps)
        return self.normalised(x.flatten(0, 1), 1).view(x.shape)

    def normalised(self, x: Tensor, steps: int) -> Tensor:
        """Normalise x [M, C, ...], which stands for ``steps`` equal values."""
        if is_synchronised(self):
            return normalise(self, x, steps)
        count_pass(self, x, steps)
        count = x.numel() // x.shape[1]
        counted = self.training and count * steps != count
        variance = torch.zeros_like(self.running_var) if counted else self.running_var
        stats = (self.running_mean, variance, self.training, self.momentum or 0.0, self.eps)
        y = torch.batch_norm(x, self.weight, self.bias, *stats, torch.backends.cudnn.enabled)
        if counted:
            move_variance(self.running_var, variance, stats[3], count, steps)
        return y

    def extra_repr(self) -> str:
        return f"{self.num_features}, steps={self.steps}, eps={self.eps}, momentum={self.momentum}"


def move_variance(running: Tensor, new: Tensor, momentum: float, count: int, repeats: int) -> None:
    """Update a running variance by ``new``, the momentum times that of ``count`` values, each at ``repeats`` steps."""
    running.mul_(1 - momentum)
    if count > 1:  # a single value has variance 0 and no unbiased estimate
        running.add_(new, alpha=(count - 1) * repeats / (count * repeats - 1))


class StepwiseBatchNorm2d(StaticBatchNorm2d):
    """Batch norm with the statistics of each time step and one set of weights.

    The running statistics are updated at each step; a static value is treated as ``steps`` equal values.
    """

    def forward(self, x: Tensor) -> Tensor:
        if is_static(x, self.rank) or not self.training:
            return super().forward(x)
        return torch.stack([self.normalised(each, 1) for each in x.unbind(0)])

    def normalised(self, x: Tensor, steps: int) -> Tensor:
        if is_synchronised(self):
            return [normalise(self, x) for _ in range(steps)][-1]  # each updates the statistics
        count_pass(self, x, passes=steps)
        momentum = self.momentum or 0.0
        share = momentum if steps == 1 else 1 - (1 - momentum) ** steps
        stats = (self.running_mean, self.running_var, self.training, share, self.eps)
        return torch.batch_norm(x, self.weight, self.bias, *stats, torch.backends.cudnn.enabled)

    def advance(self, inputs: Sequence[Tensor], before: None) -> tuple[Tensor, None]:
        """Return the output of one time step [N, ...]; there is no state."""
        (x,) = inputs
        return self.normalised(x, 1), None


class TemporalEffectiveBatchNorm2d(StaticBatchNorm2d):
    """TEBN (Duan et al., NeurIPS 2022): y[t] = scale[t] * BN(x)[t], BN over T and N together.

    ``scale`` [T] starts at 1. The output is [T, N, C, H, W]. Raises ValueError for a sequence of another length
    than ``steps``.
    """

    def __init__(self, channels: int, steps: int, **options: Any) -> None:
        super().__init__(channels, steps, **options)
        self.scale = nn.Parameter(torch.ones(steps))

    def forward(self, x: Tensor) -> Tensor:
        if not is_static(x, self.rank):
            check_steps(x, self.steps)
        return super().forward(x) * self.scale.view(-1, *[1] * (self.rank + 1))

    def advance(self, inputs: Sequence[Tensor], before: int | None) -> tuple[Tensor, int]:
        """Return the output of one time step [N, ...] and the number of steps so far."""
        (x,) = inputs
        now = before or 0
        if now >= self.steps:
            raise ValueError(f"the network has norms for {self.steps} steps, not for more")
        return super().forward(x.unsqueeze(0)).squeeze(0) * self.scale[now], now + 1


class StepBatchNorm2d(Leaf, Synchronisable):
    """Batch norm with weights and statistics of each time step, all [T, C].

    The output is [T, N, C, H, W]. Raises ValueError for a sequence of another length than ``steps``.
    """

    bias: nn.Parameter | None
    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(
        self,
        channels: int,
        steps: int,
        *,
        rank: int = 3,
        eps: float = 1e-5,
        momentum: float = 0.1,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.steps = steps
        self.rank = rank
        self.eps = eps
        self.momentum = momentum
        self.weight = nn.Parameter(torch.ones(steps, channels))
        self.bias = nn.Parameter(torch.zeros(steps, channels)) if bias else None
        self.register_buffer("running_mean", torch.zeros(steps, channels))
        self.register_buffer("running_var", torch.ones(steps, channels))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        x = per_step(x, self.steps, self.rank)
        check_steps(x, self.steps)
        flat = x.transpose(0, 1).flatten(1, 2)  # time among the channels: [N, T*C, ...]
        y = self.over(flat, slice(0, self.steps))
        return y.reshape(x.shape[1], self.steps, *x.shape[2:]).transpose(0, 1)

    def over(self, x: Tensor, part: slice) -> Tensor:
        """Normalise x [N, T*C, ...] of some of the steps."""
        if is_synchronised(self):
            return normalise(self, x, part=part)
        count_pass(self, x)
        weight, mean, variance = (
            each[part].view(-1) for each in (self.weight, self.running_mean, self.running_var)
        )
        bias = None if self.bias is None else self.bias[part].view(-1)
        stats = (mean, variance, self.training, self.momentum, self.eps)
        return torch.batch_norm(x, weight, bias, *stats, torch.backends.cudnn.enabled)

    def advance(self, inputs: Sequence[Tensor], before: int | None) -> tuple[Tensor, int]:
        """Return the output of one time step [N, ...] and the number of steps so far."""
        (x,) = inputs
        now = before or 0
        if now >= self.steps:
            raise ValueError(f"the network has norms for {self.steps} steps, not for more")
        return self.over(x, slice(now, now + 1)), now + 1

    def extra_repr(self) -> str:
        steps, channels = self.weight.shape
        return f"{channels}, steps={steps}, eps={self.eps}, momentum={self.momentum}"


def check_steps(x: Tensor, steps: int) -> None:
    """Raise ValueError if a sequence has another length."""
    if x.shape[0] != steps:
        raise ValueError(
            f"a norm with parameters for {steps} time steps got {x.shape[0]}: "
            "its network takes sequences of that length alone"
        )


def count_pass(norm: Any, x: Tensor, repeats: int = 1, passes: int = 1) -> None:
    """Count a pass in training. Raises ValueError if ``repeats`` equal batches x [M, C, ...] have no variance."""
    if norm.training:
        if x.numel() * repeats == x.shape[1]:
            raise ValueError(f"training needs more than one value per channel, not {list(x.shape)}")
        norm.num_batches_tracked.add_(passes)


class CumulativeBatchNorm2d(StepBatchNorm2d):
    """Batch norm of each time step t with the statistics of steps 0 to t, over N, H and W
    (TAB: Jiang et al., ICLR 2024).

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
            total = float(summed(mean.new_full((1,), count)))
            whole = summed(mean * count) / total
            return whole, summed((variance + (mean - whole).square()) * count) / total, total
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


class RunningMean(ReadsWhatItMoves, Leaf, Synchronisable):
    """Running mean of each group of channels over training passes, without a gradient.

    For x [T, N, C, ...] or [N, C, ...] the output is [N, groups, 1, ...], the same for all samples. In training, a pass
    first moves the mean by ``momentum`` towards its own; the first pass sets it to its own mean over T, N, the
    channels of the group and pixels.
    """

    mean: Tensor
    num_batches_tracked: Tensor

    def __init__(self, groups: int, momentum: float = 0.1, *, rank: int = 3) -> None:
        super().__init__()
        self.groups = groups
        self.momentum = momentum
        self.rank = rank
        self.register_buffer("mean", torch.ones(groups))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            groups = x.detach().unflatten(-self.rank, (self.groups, -1))
            groups = groups.transpose(0, -self.rank - 1).flatten(1)
            batch: Tensor = groups.mean(1, dtype=self.mean.dtype)
            if is_synchronised(self):
                samples = x.shape[-self.rank - 1]
                sums = reduce_sum(torch.cat([batch * samples, batch.new_full((1,), samples)]))
                batch = sums[:-1] / sums[-1]
            first = self.num_batches_tracked.eq(0).to(batch.dtype)
            self.num_batches_tracked.add_(1)
            self.mean.lerp_(batch, first + (1 - first) * self.momentum)
        mean = self.mean.to(x.dtype).view(-1, *[1] * (self.rank - 1))
        return mean.expand(x.shape[-self.rank - 1], *mean.shape).clone()  # the buffer will change

    def extra_repr(self) -> str:
        return f"{self.groups}, momentum={self.momentum}"


class BorderedBatchNorm2d(ReadsWhatItMoves, StaticBatchNorm2d):
    """Batch norm, possibly without a bias, with a border of ``pad`` pixels around its map.

    The border is the value that the running statistics map 0 to, without a gradient.
    """

    def __init__(
        self, channels: int, steps: int, *, bias: bool = True, pad: int = 0, **options: Any
    ) -> None:
        super().__init__(channels, steps, **options)
        if not bias:
            self.register_parameter("bias", None)
        self.pad = pad

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        if not self.pad:
            return y
        scale = self.weight.detach() / torch.sqrt(self.running_var + self.eps)
        bias = 0.0 if self.bias is None else self.bias.detach()
        border = (bias - self.running_mean * scale).view(-1, 1, 1).to(y.dtype)
        more, (height, width) = 2 * self.pad, y.shape[-2:]
        result = border.expand(*y.shape[:-2], height + more, width + more).clone()
        result[..., self.pad : self.pad + height, self.pad : self.pad + width] = y
        return result


class ChannelLayerNorm(Leaf):
    """Layer norm over the channels of each pixel: [..., C, H, W], or [..., C] with rank 1."""

    def __init__(self, channels: int, *, rank: int = 3, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.rank = rank
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        y = x.movedim(-self.rank, -1)
        y = nn.functional.layer_norm(y, self.weight.shape, self.weight, self.bias, self.eps)
        return y.movedim(-1, -self.rank).contiguous()
