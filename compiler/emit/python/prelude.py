"""Layers that a standalone ``model.py`` is made of; what a model needs of them is copied into it.

Values that vary over time are [T, N, C, H, W] (or [T, N, C]), static ones [N, C, H, W]; ``rank``
is the number of dimensions of one sample, 3 for maps and 1 for vectors. This file is read as text:
it may use torch and the standard library, nothing of danetc.
"""

import hashlib
import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn


class Frames(nn.Module):
    """A layer of torch for each frame: all dimensions before a sample's become one."""

    rank = 3

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(0, -self.rank - 1)).unflatten(0, x.shape[: -self.rank])


class Chain(nn.Sequential):
    """Modules under their names, one after the other."""

    def __init__(self, **modules: nn.Module) -> None:
        super().__init__(OrderedDict(modules))


class Numbered(nn.Module):
    """A module that has children "0", "1", ...: ``self[0]``, ``self[1]``, ..."""

    def __getitem__(self, index: int) -> nn.Module:
        return self.get_submodule(str(index))


class Group(Numbered):
    """Modules under their names, called by the module around them."""

    def __init__(self, **modules: nn.Module) -> None:
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)


class Conv2d(Frames, nn.Conv2d): ...


class BatchNorm2d(Frames, nn.BatchNorm2d): ...


class BatchNorm1d(Frames, nn.BatchNorm1d):
    """Batch norm of vectors with statistics over T and N together."""

    rank = 1


class GroupNorm(Frames, nn.GroupNorm):
    """Group norm of each frame."""

    def __init__(self, groups: int, channels: int, rank: int = 3) -> None:
        super().__init__(groups, channels)
        self.rank = rank


class MaxPool2d(Frames, nn.MaxPool2d): ...


class AvgPool2d(Frames, nn.AvgPool2d): ...


class AdaptiveAvgPool2d(Frames, nn.AdaptiveAvgPool2d): ...


class UpsamplingNearest2d(Frames, nn.UpsamplingNearest2d): ...


class Heaviside(torch.autograd.Function):
    """1 where x >= 0, else 0; backward a surrogate stands for its derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, surrogate: nn.Module) -> Tensor:
        ctx.save_for_backward(x)
        ctx.surrogate = surrogate
        return (x >= 0.0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return grad * ctx.surrogate(x), None


class Round(torch.autograd.Function):
    """The nearest whole number (halves to even), with slope 1."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.round(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


def starting_at(weight: float, norm: nn.Module) -> nn.Module:
    """A norm whose weights start at another value than 1."""
    nn.init.constant_(norm.weight, weight)
    return norm


def drawn(layer: nn.Module, how: str, **given: Any) -> nn.Module:
    """A layer whose weights start from a function of nn.init, and whose bias starts at 0."""
    getattr(nn.init, how)(layer.weight, **given)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    vars(layer)["drawn"] = True
    return layer


class StaticBatchNorm2d(nn.BatchNorm2d):
    """Batch norm of a value that is the same at all ``steps``: computed once, counted T times."""

    def __init__(self, channels: int, steps: int, rank: int = 3, eps: float = 1e-5) -> None:
        super().__init__(channels, eps=eps)
        self.steps = steps
        self.rank = rank

    def forward(self, x: Tensor) -> Tensor:
        steps = self.steps if x.dim() == self.rank + 1 else 1
        flat = x.flatten(0, -self.rank - 1)
        count = flat.numel() // flat.shape[1]
        if self.training and count * steps == 1:
            raise ValueError("training needs more than one value a channel")
        counted = self.training and steps > 1 and count > 0
        variance = torch.zeros_like(self.running_var) if counted else self.running_var
        stats = (self.running_mean, variance, self.training, 0.1, self.eps)
        y = torch.batch_norm(flat, self.weight, self.bias, *stats, torch.backends.cudnn.enabled)
        if self.training:
            self.num_batches_tracked.add_(1)
        if counted:
            self.running_var.mul_(1 - 0.1)
        if counted and count > 1:
            share = (count - 1) / count * (count * steps) / (count * steps - 1)
            self.running_var.add_(variance, alpha=share)
        return y.reshape(x.shape)


class BorderedBatchNorm2d(StaticBatchNorm2d):
    """A batch norm that may have no bias, or a border of ``pad`` pixels around its map.

    The border is what the running statistics make of 0, without a gradient.
    """

    def __init__(
        self,
        channels: int,
        steps: int,
        rank: int = 3,
        eps: float = 1e-5,
        bias: bool = True,
        pad: int = 0,
    ) -> None:
        super().__init__(channels, steps, rank=rank, eps=eps)
        if not bias:
            self.register_parameter("bias", None)
        self.pad = pad

    def forward(self, x: Tensor) -> Tensor:
        return self.bordered(super().forward(x))

    def bordered(self, y: Tensor) -> Tensor:
        if not self.pad:
            return y
        mean, variance = self.running_mean, self.running_var
        assert mean is not None
        assert variance is not None
        scale = self.weight.detach() / torch.sqrt(variance + self.eps)
        bias = 0.0 if self.bias is None else self.bias.detach()
        border = (bias - mean * scale).view(-1, 1, 1).to(y.dtype)
        more, (height, width) = 2 * self.pad, y.shape[-2:]
        result = border.expand(*y.shape[:-2], height + more, width + more).clone()
        result[..., self.pad : self.pad + height, self.pad : self.pad + width] = y
        return result


class StepwiseBatchNorm2d(nn.BatchNorm2d):
    """Batch norm with the statistics of each time step by itself, and one set of weights."""

    def __init__(self, channels: int, steps: int, rank: int = 3) -> None:
        super().__init__(channels)
        self.steps = steps
        self.rank = rank

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() == self.rank + 1:
            return self.normalised(x, self.steps)
        if self.training:
            return torch.stack([self.normalised(each, 1) for each in x])
        return self.normalised(x.flatten(0, 1), 1).view(x.shape)

    def step(self, x: Tensor, before: None) -> tuple[Tensor, None]:
        """One time step of [N, ...]."""
        return self.normalised(x, 1), None

    def normalised(self, x: Tensor, steps: int) -> Tensor:
        """Of so many equal steps, each of which moves the running statistics."""
        if self.training:
            if x.numel() == x.shape[1]:
                raise ValueError("training needs more than one value a channel")
            self.num_batches_tracked.add_(steps)
        share = 0.1 if steps == 1 else 1 - (1 - 0.1) ** steps
        stats = (self.running_mean, self.running_var, self.training, share, self.eps)
        return torch.batch_norm(x, self.weight, self.bias, *stats, torch.backends.cudnn.enabled)


class TemporalEffectiveBatchNorm2d(StaticBatchNorm2d):
    """Batch norm, then a learnt factor for each time step (TEBN)."""

    def __init__(self, channels: int, steps: int, rank: int = 3) -> None:
        super().__init__(channels, steps, rank)
        self.scale = nn.Parameter(torch.ones(steps))

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() == self.rank + 2 and len(x) != self.steps:
            raise ValueError(f"the norm knows {self.steps} time steps, not {len(x)}")
        return super().forward(x) * self.scale.view(-1, *[1] * (self.rank + 1))


class StepBatchNorm2d(nn.Module):
    """Batch norm with weights and statistics of its own at each time step."""

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, channels: int, steps: int, rank: int = 3) -> None:
        super().__init__()
        self.steps = steps
        self.rank = rank
        self.weight = nn.Parameter(torch.ones(steps, channels))
        self.bias = nn.Parameter(torch.zeros(steps, channels))
        self.register_buffer("running_mean", torch.zeros(steps, channels))
        self.register_buffer("running_var", torch.ones(steps, channels))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        x = per_step(x, self.steps, self.rank)
        if len(x) != self.steps:
            raise ValueError(f"the norm knows {self.steps} time steps, not {len(x)}")
        flat = x.transpose(0, 1).flatten(1, 2)  # [N, T*C, ...]
        if self.training:
            if flat.numel() == flat.shape[1]:
                raise ValueError("training needs more than one value a channel")
            self.num_batches_tracked.add_(1)
        y: Tensor = torch.batch_norm(
            flat,
            self.weight.view(-1),
            self.bias.view(-1),
            self.running_mean.view(-1),
            self.running_var.view(-1),
            self.training,
            0.1,
            1e-5,
            torch.backends.cudnn.enabled,
        )
        y = y.unflatten(1, (self.steps, -1))
        return y.transpose(0, 1)

    def step(self, x: Tensor, now: int | None) -> tuple[Tensor, int]:
        """One time step of [N, ...], which is the next after ``now``."""
        t = now or 0
        if t >= self.steps:
            raise ValueError(f"the norm knows {self.steps} time steps, not more")
        if self.training:
            if x.numel() == x.shape[1]:
                raise ValueError("training needs more than one value a channel")
            self.num_batches_tracked.add_(1)
        stats = (self.running_mean[t], self.running_var[t], self.training, 0.1, 1e-5)
        cudnn = torch.backends.cudnn.enabled
        return torch.batch_norm(x, self.weight[t], self.bias[t], *stats, cudnn), t + 1


class CumulativeBatchNorm2d(StepBatchNorm2d):
    """Batch norm of each time step t with the statistics of steps 0 to t (TAB)."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        x = per_step(x, self.steps, self.rank)
        if len(x) != self.steps or x.numel() == x.shape[2]:
            return super().forward(x)  # which says what is wrong
        wide = x.to(torch.promote_types(x.dtype, self.weight.dtype))
        variance, mean = torch.var_mean(wide, [1, *range(3, x.dim())], correction=0)
        return self.normalised(x, mean, variance, slice(0, self.steps))

    def step(self, x: Tensor, before: Any) -> tuple[Tensor, Any]:
        """One time step of [N, ...]; in training the state are mean and variance of those before."""
        if not self.training:
            return super().step(x, before)
        wide, axes = x.to(self.weight.dtype), [0, *range(2, x.dim())]
        variance, mean = (each[None] for each in torch.var_mean(wide, axes, correction=0))
        if before is not None:
            mean, variance = torch.cat([before[0], mean]), torch.cat([before[1], variance])
        t = len(mean) - 1
        y = self.normalised(x[None], mean, variance, slice(t, t + 1))
        return y[0], [mean, variance]

    def normalised(self, x: Tensor, mean: Tensor, variance: Tensor, part: slice) -> Tensor:
        """Some steps [T, N, ...], from mean and variance of each step up to the last of them."""
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


class Delay(nn.Module):
    """What it took some time steps before: 0 at the first of them."""

    def __init__(self, steps: int, rank: int = 3) -> None:
        super().__init__()
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:
        late = min(self.steps, len(x))
        return torch.cat([torch.zeros_like(x[:late]), x[: len(x) - late]])

    def step(self, x: Tensor, before: list[Tensor] | None) -> tuple[Tensor, list[Tensor]]:
        """One time step of [N, ...]."""
        kept = [*(before or []), x]
        if len(kept) <= self.steps:
            return torch.zeros_like(x), kept
        return kept[0], kept[1:]


class Learnt(nn.Module):
    """Numbers that are trained, which a join repeats; [T, 1, ...] where each step has its own."""

    def __init__(
        self,
        raw: float,
        *size: int,
        steps: int = 0,
        above: float | None = None,
        below: float | None = None,
    ) -> None:
        super().__init__()
        self.steps, self.above, self.below = steps, above, below
        self.name = "weight" if above is None and below is None else "weight_raw"
        shape = (steps, *size) if steps else size
        self.register_parameter(self.name, nn.Parameter(torch.full(shape, raw)))

    def forward(self) -> Tensor:
        value: Tensor = getattr(self, self.name)
        if self.above is not None and self.below is not None:
            value = self.above + (self.below - self.above) * torch.sigmoid(value)
        elif self.above is not None:
            value = self.above + nn.functional.softplus(value)
        elif self.below is not None:
            value = self.below - nn.functional.softplus(value)
        return value.unsqueeze(1) if self.steps else value


class DropPath(nn.Module):
    """Stochastic depth: in training a sample is dropped at all its time steps."""

    def __init__(self, p: float, rank: int = 3) -> None:
        super().__init__()
        self.p = p
        self.rank = rank

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0.0:
            return x
        samples = x.shape[-self.rank - 1]
        draw = torch.rand((samples, *[1] * self.rank), dtype=x.dtype, device=x.device)
        return x * (draw.ge(self.p).to(x.dtype) / (1 - self.p))


class RunningMean(nn.Module):
    """The mean of each group of channels, averaged over training passes, as [N, groups, 1, 1]."""

    mean: Tensor
    num_batches_tracked: Tensor

    def __init__(self, groups: int, momentum: float, rank: int = 3) -> None:
        super().__init__()
        self.groups = groups
        self.momentum = momentum
        self.rank = rank
        self.register_buffer("mean", torch.ones(groups))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            batch = x.detach().unflatten(-self.rank, (self.groups, -1)).transpose(0, -self.rank - 1)
            batch = batch.flatten(1).mean(1, dtype=self.mean.dtype)
            first = self.num_batches_tracked.eq(0).to(batch.dtype)
            self.num_batches_tracked.add_(1)
            self.mean.lerp_(batch, first + (1 - first) * self.momentum)
        mean = self.mean.to(x.dtype).view(-1, *[1] * (self.rank - 1))
        return mean.expand(x.shape[-self.rank - 1], *mean.shape).clone()


class Scores(nn.Module):
    """Queries by keys, for each head: maps [..., C, H, W] to [..., heads, queries, keys]."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.heads = heads

    def forward(self, q: Tensor, k: Tensor) -> Tensor:
        return tokens(q, self.heads).mT @ tokens(k, self.heads)


class Mix(nn.Module):
    """Values summed over keys by scores: a map with the pixels of ``like``, else of ``v``."""

    def forward(self, a: Tensor, v: Tensor, like: Tensor | None = None) -> Tensor:
        mixed = tokens(v, a.shape[-3]) @ a.mT
        return mixed.flatten(-3, -2).unflatten(-1, (v if like is None else like).shape[-2:])


class KeysFirst(nn.Module):
    """Queries by keys, mixing values, as q (k^T v): scores are never made.

    ``most`` is the largest whole number that is computed with, if all are whole: where a precision
    does not have it, scores are made after all.
    """

    def __init__(self, heads: int, most: int) -> None:
        super().__init__()
        self.heads = heads
        self.most = most

    def forward(self, q: Tensor, k: Tensor, v: Tensor, like: Tensor | None = None) -> Tensor:
        shape = (v if like is None else like).shape[-2:]
        q, k, v = tokens(q, self.heads), tokens(k, self.heads), tokens(v, self.heads)
        mixed = v @ k.mT
        if self.most <= {torch.float16: 2**11, torch.bfloat16: 2**8}.get(mixed.dtype, self.most):
            mixed = mixed @ q
        else:
            mixed = v @ (q.mT @ k).mT
        return mixed.flatten(-3, -2).unflatten(-1, shape)


def tokens(x: Tensor, heads: int) -> Tensor:
    """A map [..., C, H, W] as [..., heads, C / heads, H * W]."""
    return x.unflatten(-3, (heads, -1)).flatten(-2)


class SampleDropout(DropPath):
    """Dropout of the same numbers of a sample at all its time steps: [N, ...] or [T, N, ...]."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0.0:
            return x
        draw = torch.rand(x.shape[-self.rank - 1 :], dtype=x.dtype, device=x.device)
        return x * (draw.ge(self.p).to(x.dtype) / (1 - self.p))

    def step(self, x: Tensor, drawn: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """One time step of [N, ...], with what was drawn at the first."""
        if not self.training or self.p == 0.0:
            return x, drawn
        drawn = self(torch.ones_like(x)) if drawn is None else drawn
        return x * drawn, drawn


class ChannelLayerNorm(nn.Module):
    """Layer norm of the channels of each pixel: [..., C, H, W], or [..., C] with rank 1."""

    def __init__(self, channels: int, rank: int = 3, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.rank = rank
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        y = x.movedim(-self.rank, -1)
        y = nn.functional.layer_norm(y, self.weight.shape, self.weight, self.bias, self.eps)
        return y.movedim(-1, -self.rank).contiguous()


class TimeConv(nn.Conv1d):
    """A convolution over time of each pixel, with ``before`` and ``after`` steps of 0 at the ends."""

    def __init__(
        self,
        channels: int,
        width: int,
        kernel: int,
        before: int = 0,
        after: int = 0,
        groups: int = 1,
        dilation: int = 1,
        bias: bool = True,
        rank: int = 3,
    ) -> None:
        super().__init__(channels, width, kernel, dilation=dilation, groups=groups, bias=bias)
        self.before = before
        self.after = after
        self.rank = rank

    def forward(self, x: Tensor) -> Tensor:
        size = x.shape[3:]
        y = x.movedim(0, 2).reshape(*x.shape[1:3], len(x), -1)  # [N, C, T, pixels]
        y = nn.functional.pad(y, (0, 0, self.before, self.after))
        dilation = (*self.dilation, 1)
        y = nn.functional.conv2d(
            y, self.weight.unsqueeze(-1), self.bias, dilation=dilation, groups=self.groups
        )
        return y.movedim(2, 0).reshape(y.shape[2], x.shape[1], -1, *size)


class TimeLinear(nn.Linear):
    """y[t] = sum over k of weight[t, k] * x[k], plus bias[t]: of T steps T others."""

    def __init__(self, steps: int, bias: bool = True) -> None:
        super().__init__(steps, steps, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        if self.bias is None:
            return (self.weight @ flat).view(x.shape)
        return torch.addmm(self.bias.unsqueeze(1), self.weight, flat).view(x.shape)


class MaskedTimeLinear(nn.Linear):
    """y[t] = sum over k of weight[t, k] * x[k], plus bias[t], of the ``window`` latest steps k alone."""

    def __init__(self, steps: int, window: int, bias: bool = True, rank: int = 3) -> None:
        super().__init__(steps, steps, bias=bias)
        self.window = window
        self.rank = rank

    def forward(self, x: Tensor) -> Tensor:
        flat, weight = x.flatten(1), self.weight.tril().triu(1 - self.window)
        if self.bias is None:
            return (weight @ flat).view(x.shape)
        return torch.addmm(self.bias.unsqueeze(1), weight, flat).view(x.shape)


def band(x: Tensor, before: int | None, after: int | None, outside: float) -> Tensor:
    """``outside`` where a column is more than so many before or after the row's own."""
    rows, columns = x.shape[-2:]
    ahead = torch.arange(columns, device=x.device) - torch.arange(rows, device=x.device)[:, None]
    inside = ahead.ge(-rows if before is None else -before)
    return torch.where(inside & ahead.le(columns if after is None else after), x, outside)


def per_step(x: Tensor, steps: int, rank: int = 3) -> Tensor:
    """[N, ...] repeated to [T, N, ...]; a sequence stays as it is."""
    return x.expand(steps, *x.shape) if x.dim() == rank + 1 else x


def beside(xs: list[Tensor], rank: int = 3) -> Tensor:
    """What a neuron of several inputs takes: in a new last dimension; what is static is repeated."""
    longest = max(xs, key=Tensor.dim)
    lead = longest.shape[: longest.dim() - rank]
    wide = [x.expand(*lead, *x.shape[x.dim() - rank :]) for x in xs]
    return torch.stack(torch.broadcast_tensors(*wide), -1)


def concat(xs: list[Tensor], dim: int) -> Tensor:
    """Channels side by side; what is static, [N, ...], is the same at each step of the others."""
    longest = max(xs, key=Tensor.dim)
    lead = longest.shape[: longest.dim() + dim]
    return torch.cat([x.expand(*lead, *x.shape[dim:]) for x in xs], dim)


def mean_over_time(x: Tensor, rank: int = 3) -> Tensor:
    """[T, N, ...] averaged over T; what is static stays as it is."""
    return x if x.dim() == rank + 1 else x.mean(0)


def sum_over_time(x: Tensor, rank: int = 3) -> Tensor:
    """[T, N, ...] summed over T."""
    return x.sum(0)


def max_over_time(x: Tensor, rank: int = 3) -> Tensor:
    """The greatest of the steps of [T, N, ...]; what is static stays as it is."""
    return x if x.dim() == rank + 1 else x.amax(0)


DIMS = {"rows": (-2,), "columns": (-1,), "pixels": (-2, -1)}


def in_groups(x: Tensor, groups: int, rank: int = 3) -> Tensor:
    """The channels as groups x channels."""
    split: Tensor = x.unflatten(-rank, (groups, -1))
    return split


def sum_over(x: Tensor, over: str, groups: int, rank: int = 3) -> Tensor:
    """The sum over an axis, which keeps one entry; of channels one for each group."""
    if over == "channels":
        return in_groups(x, groups, rank).sum(-rank)
    return x.sum(DIMS[over], keepdim=True)


def mean_over(x: Tensor, over: str, groups: int, rank: int = 3) -> Tensor:
    """The mean over an axis, which keeps one entry; of channels one for each group."""
    if over == "channels":
        return in_groups(x, groups, rank).mean(-rank)
    return x.mean(DIMS[over], keepdim=True)


def max_over(x: Tensor, over: str, groups: int, rank: int = 3) -> Tensor:
    """The greatest over an axis; of several that are equal each gets its share of the gradient."""
    if over == "channels":
        return in_groups(x, groups, rank).amax(-rank)
    return x.amax(DIMS[over], keepdim=True)


def swap(x: Tensor, a: int, b: int) -> Tensor:
    """Two axes of a sample change places."""
    return x.transpose(a, b).contiguous()


def steps_as_axis(x: Tensor, axis: int, rank: int = 3) -> Tensor:
    """[T, N, ...] with one entry along an axis as [N, ...] with T entries there."""
    return x.squeeze(axis).movedim(0, axis).contiguous()


def axis_as_steps(x: Tensor, axis: int, rank: int = 3) -> Tensor:
    """[N, ...] with T entries along an axis as [T, N, ...] with one there."""
    return x.movedim(axis, 0).unsqueeze(axis).contiguous()


def swap_with_time(x: Tensor, axis: int, rank: int = 3) -> Tensor:
    """[T, N, ...] with T entries along an axis: that and time change places."""
    return x.transpose(0, axis).contiguous()


def repeat_channels(x: Tensor, scale: int, rank: int = 3) -> Tensor:
    """Each channel ``scale`` times, one behind the other."""
    return x.repeat_interleave(scale, -rank)


def slice_channels(x: Tensor, first: int, last: int, rank: int = 3) -> Tensor:
    """The channels from ``first`` to ``last``, both included."""
    return x.narrow(-rank, first, last + 1 - first).clone()


def shuffle(x: Tensor, groups: int, rank: int = 3) -> Tensor:
    """The first channel of each group, then the second of each, and so on."""
    split = in_groups(x, groups, rank)
    return split.transpose(-rank - 1, -rank).flatten(-rank - 1, -rank)


def pad(x: Tensor, before: int, after: int, over: str) -> Tensor:
    """A border of 0 at both ends of rows, columns or both."""
    rows = (before, after) if over != "columns" else (0, 0)
    columns = (before, after) if over != "rows" else (0, 0)
    return nn.functional.pad(x, (*columns, *rows))


def reshape(x: Tensor, channels: int, rows: int, columns: int, rank: int = 3) -> Tensor:
    """The numbers of a sample in their order, as channels x rows x columns."""
    return x.reshape(*x.shape[:-rank], channels, rows, columns)


def as_map(x: Tensor) -> Tensor:
    """[..., C] as [..., C, 1, 1]."""
    return x.unsqueeze(-1).unsqueeze(-1)


def poisson(x: Tensor, steps: int, rank: int = 3) -> Tensor:
    """At each time step a spike with probability x."""
    rate = per_step(x, steps, rank).clamp(0.0, 1.0)
    draw = torch.rand_like(rate, memory_format=torch.contiguous_format)
    return draw.lt(rate).to(x.dtype)


def latency(x: Tensor, steps: int, rank: int, tau: float) -> Tensor:
    """One spike, at time step floor(tau * ln(1 / x)); gives [T, N, ...]."""
    length = steps if x.dim() == rank + 1 else x.shape[0]
    when = torch.floor(-tau * torch.log(x.clamp(min=0.0, max=1.0)))
    step = torch.arange(length, device=x.device, dtype=x.dtype)
    return when.eq(step.view(length, *[1] * (rank + 1))).to(x.dtype)


def share_layers(model: nn.Module, layers: dict[str, str]) -> None:
    """Let layers be others: one module, whose weights the state dict has once."""
    same: dict[str, str] = {}
    for later, first in layers.items():
        holder, _, name = later.rpartition(".")
        model.get_submodule(holder).add_module(name, layer := model.get_submodule(first))
        entries = [*layer.named_parameters(), *layer.named_buffers()]
        same |= {f"{later}.{key}": f"{first}.{key}" for key, _ in entries}

    def leave_out(_: nn.Module, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        for key in same:
            state.pop(prefix + key, None)

    def put_in(_: nn.Module, state: dict[str, Any], prefix: str, *rest: Any) -> None:
        for key, first in same.items():
            if prefix + first in state:
                state.setdefault(prefix + key, state[prefix + first])

    model.register_state_dict_post_hook(leave_out)
    model.register_load_state_dict_pre_hook(put_in)


class Model(nn.Module):
    """Stands for the model in this file; it is not copied."""


def check_input(model: nn.Module, x: Tensor, size: tuple[int, ...], sequence: bool = False) -> None:
    """Raise an error that says what the model takes, where x is something else."""
    if torch.compiler.is_compiling() or isinstance(x, torch.fx.Proxy):
        return
    sizes = ", ".join(map(str, size))
    takes = f"the model takes {'' if sequence else f'[N, {sizes}] or '}[T, N, {sizes}]"
    if not isinstance(x, Tensor):
        raise TypeError(f"{takes}, a tensor, not a {type(x).__name__}")
    leading = x.dim() - len(size)
    if leading not in (1 + sequence, 2) or x.shape[leading:] != size:
        raise ValueError(f"{takes}, not {list(x.shape)}")
    dtype = next((p.dtype for p in model.parameters()), x.dtype)
    mixed = torch.is_autocast_enabled(x.device.type) and x.dtype != torch.float64
    if not x.is_floating_point() or (x.dtype != dtype and not mixed):
        raise ValueError(f"the model takes {dtype}, as its weights are, not {x.dtype}")


def check_alike(steps: int, *given: tuple[Tensor, int]) -> None:
    """Raise an error where inputs, each with the rank of a sample, differ in T or N."""
    if torch.compiler.is_compiling() or any(isinstance(x, torch.fx.Proxy) for x, _ in given):
        return
    leads = [[*[steps] * (x.dim() == rank + 1), *x.shape[:-rank]] for x, rank in given]
    if any(lead != leads[0] for lead in leads):
        raise ValueError(f"the inputs have other [T, N]: {leads}")


def load(path: str = "weights.safetensors") -> Model:
    """The network with the weights of a safetensors file; a SHA-256 in its header is checked."""
    file = bytearray(Path(path).read_bytes())
    start = 8 + int.from_bytes(file[:8], "little")
    header = json.loads(file[8:start])
    known = header.pop("__metadata__", {}).get("sha256")
    if known and hashlib.sha256(file.replace(known.encode(), b"0" * 64, 1)).hexdigest() != known:
        raise ValueError(f"{path} is damaged: it has another SHA-256")
    types = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
    types |= {"F64": torch.float64, "I64": torch.int64}
    weights = {}
    for name, entry in header.items():
        first, last = (start + offset for offset in entry["data_offsets"])
        values = torch.frombuffer(file[first:last], dtype=types[entry["dtype"]])
        weights[name] = values.reshape(entry["shape"])
    model = Model()
    model.load_state_dict(weights)
    return model
