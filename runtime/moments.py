"""Mean and variance of each channel as one compiled kernel.

Torch's own pass over a batch on a CPU adds number after number; this one adds vectors of them, in
double precision as well, so that the rounding is no other.
"""

from __future__ import annotations

import torch
from danetc.runtime.compiled import Compiled, compiles
from torch import Tensor

_LEAST = 32
"""Values of a channel that lie side by side: with fewer, torch's own pass is faster."""


def moments(x: Tensor) -> tuple[Tensor, Tensor] | None:
    """Mean and biased variance [C] of x [M, C, ...]; None where torch's own pass is to be taken."""
    if x.dtype != torch.float32 or x.device.type != "cpu" or not compiles("cpu"):
        return None
    channels = x.shape[1]
    if x.is_contiguous():
        flat = x.view(x.shape[0], channels, -1)
        if flat.shape[2] < _LEAST:
            return None
        mean, variance = _kernel(flat, flat.new_empty(channels, 1))
        return mean, variance
    if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
        flat = x.movedim(1, -1).view(x.shape[0], -1, channels)
        mean, variance = _kernel(flat, flat.new_empty(channels))
        return mean, variance
    return None


def _moments(x: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """``like`` says with its shape where the channels are: [M, C, L] with [C, 1], [M, L, C] with
    [C]."""
    channels = 1 if like.dim() == 2 else 2
    others = (0, 3 - channels)
    wide = x.double()
    count = x.shape[0] * x.shape[3 - channels]
    mean = wide.sum(others, keepdim=True) / count
    variance = (wide - mean).square().sum(others) / count
    return mean.flatten().to(x.dtype), variance.to(x.dtype)


_kernel = Compiled(_moments, "mean and variance", (False,), "mean and variance of channels")
