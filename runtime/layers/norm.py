"""Normalisation layers that know time.

All take [T, N, C, H, W] or, where a value does not vary, [N, C, H, W]; with ``rank = 1`` the same
without H and W. A plain norm over T and N together of a sequence is torch.nn.BatchNorm2d itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

import danetc.runtime.kernels.composed_operators  # noqa: F401 (registers torch.ops.danetc)
from danetc.runtime.layers.leaf import Leaf, ReadsWhatItMoves


class StaticBatchNorm2d(Leaf, nn.BatchNorm2d):
    """Batch norm of a value computed once that stands for ``steps`` equal time steps.

    Its running variance is unbiased by the count T*N*H*W, so that its buffers are those of a norm
    that saw all T steps. A sequence [T, N, C, H, W] is normalised over T and N together.
    """

    def __init__(
        self, channels: int, steps: int, *, rank: int = 3, eps: float = 1e-5, momentum: float = 0.1
    ) -> None:
        super().__init__(channels, eps=eps, momentum=momentum)
        self.steps = steps
        self.rank = rank

    operator = torch.ops.danetc.batch_norm_static

    def forward(self, x: Tensor) -> Tensor:
        return self._normalised(x, self.steps)

    def _normalised(self, x: Tensor, steps: int) -> Tensor:
        out: Tensor = self.operator(
            x,
            self.weight,
            self.bias,
            self.running_mean,
            self.running_var,
            self.num_batches_tracked,
            self.training,
            self.momentum,
            self.eps,
            steps,
            self.rank,
        )
        return out

    def extra_repr(self) -> str:
        return f"{self.num_features}, steps={self.steps}, eps={self.eps}, momentum={self.momentum}"


class StepwiseBatchNorm2d(StaticBatchNorm2d):
    """Batch norm with the statistics of each time step by itself, and one set of weights.

    The running statistics move at each step; a static value counts as ``steps`` equal ones.
    """

    operator = torch.ops.danetc.batch_norm_stepwise

    def advance(self, inputs: Sequence[Tensor], before: None) -> tuple[Tensor, None]:
        """One time step of its input [N, ...]; there is no state."""
        (x,) = inputs
        return self._normalised(x, 1), None


class TemporalEffectiveBatchNorm2d(StaticBatchNorm2d):
    """TEBN (Duan et al., NeurIPS 2022): y[t] = scale[t] * BN(x)[t], BN over T and N together.

    ``scale`` [T] starts at 1. Gives [T, N, C, H, W] always; raises ValueError for a sequence of
    another length than ``steps``.
    """

    def __init__(
        self, channels: int, steps: int, *, rank: int = 3, eps: float = 1e-5, momentum: float = 0.1
    ) -> None:
        super().__init__(channels, steps, rank=rank, eps=eps, momentum=momentum)
        self.scale = nn.Parameter(torch.ones(steps))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = torch.ops.danetc.scale_steps(super().forward(x), self.scale, self.rank)
        return out

    def advance(self, inputs: Sequence[Tensor], before: int | None) -> tuple[Tensor, int]:
        """One time step of its input [N, ...]: the output, and how many steps there were by now."""
        (x,) = inputs
        now = before or 0
        if now >= self.steps:
            raise ValueError(f"the network has norms for {self.steps} steps, not for more")
        y = super().forward(x.unsqueeze(0))
        y = torch.ops.danetc.scale_steps(y, self.scale[now : now + 1], self.rank)
        return y.squeeze(0), now + 1


class StepBatchNorm2d(Leaf):
    """Batch norm with weights and statistics of its own for each time step, all [T, C].

    Gives [T, N, C, H, W] always; raises ValueError for a sequence of another length than
    ``steps``.
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
        out: Tensor = torch.ops.danetc.batch_norm_steps(
            x,
            self.weight,
            self.bias,
            self.running_mean,
            self.running_var,
            self.num_batches_tracked,
            self.training,
            self.momentum,
            self.eps,
            self.rank,
        )
        return out

    def advance(self, inputs: Sequence[Tensor], before: int | None) -> tuple[Tensor, int]:
        """One time step of its input [N, ...]: the output, and how many steps there were by now."""
        (x,) = inputs
        now = before or 0
        part = slice(now, now + 1)
        if now >= self.steps:
            raise ValueError(f"the network has norms for {self.steps} steps, not for more")
        y: Tensor = torch.ops.danetc.batch_norm_steps(
            x.unsqueeze(0),
            self.weight[part],
            None if self.bias is None else self.bias[part],
            self.running_mean[part],
            self.running_var[part],
            self.num_batches_tracked,
            self.training,
            self.momentum,
            self.eps,
            self.rank,
        )
        return y.squeeze(0), now + 1

    def extra_repr(self) -> str:
        steps, channels = self.weight.shape
        return f"{channels}, steps={steps}, eps={self.eps}, momentum={self.momentum}"


class RunningMean(ReadsWhatItMoves, Leaf):
    """The mean of each group of channels, averaged over training passes; no gradient.

    Of x [T, N, C, ...] or [N, C, ...] it gives [N, groups, 1, ...], the same for all samples. A
    training pass moves it by the share ``momentum`` towards the mean over T, N, the group's channels
    and pixels, the first one to that mean itself, and gives what it then is.
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
            batch = self.batch_mean(x)
            first = self.num_batches_tracked.eq(0).to(batch.dtype)
            self.num_batches_tracked.add_(1)
            self.mean.lerp_(batch, first + (1 - first) * self.momentum)
        mean = self.mean.to(x.dtype).view(-1, *[1] * (self.rank - 1))
        return mean.expand(x.shape[-self.rank - 1], *mean.shape).clone()  # the buffer will be moved

    def batch_mean(self, x: Tensor) -> Tensor:
        """The mean of each group of channels of a batch, [groups]."""
        groups = x.detach().unflatten(-self.rank, (self.groups, -1)).transpose(0, -self.rank - 1)
        mean: Tensor = groups.flatten(1).mean(1, dtype=self.mean.dtype)
        return mean

    def extra_repr(self) -> str:
        return f"{self.groups}, momentum={self.momentum}"


class BorderedBatchNorm2d(ReadsWhatItMoves, StaticBatchNorm2d):
    """A batch norm that may have no bias, or a border of ``pad`` pixels around its map.

    The border is what the running statistics make of 0, without a gradient.
    """

    def __init__(
        self,
        channels: int,
        steps: int,
        *,
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


class ChannelLayerNorm(Leaf):
    """Layer norm of the channels of each pixel: [..., C, H, W], or [..., C] with rank 1."""

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
