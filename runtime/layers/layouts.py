"""Memory layouts of values [T, N, C, ...]: channels before the pixels, or last."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from danetc.runtime.kernels.fusion_group import Term


def is_last(x: Tensor) -> bool:
    """True if channels come last in memory: the strides of torch.channels_last, with or without T."""
    return x.dim() > 3 and x.stride(-3) == 1 and not x.is_contiguous()


class MemoryLayout:
    """Shape of a value, and whether it is dense with its dimensions in order (``is_first``) or as
    [..., H, W, C] (``is_last``).

    Equal layouts are one object, which makes them cheap keys of a dictionary.
    """

    __slots__ = ("is_first", "is_last", "shape")

    def __init__(self, shape: torch.Size, strides: tuple[int, ...]) -> None:
        like = torch.empty_strided(shape, strides, device="meta")
        self.shape = shape
        self.is_first = like.is_contiguous()
        self.is_last = len(shape) > 3 and like.movedim(-3, -1).is_contiguous()


_layout = lru_cache(maxsize=4096)(MemoryLayout)


def layout_of(x: Tensor) -> MemoryLayout:
    return _layout(x.shape, x.stride())


def laid_out(x: Tensor, last: bool) -> Tensor:
    """Return ``x``, copied if necessary, with channels last in memory or all dimensions in order."""
    if not last:
        return x.contiguous()
    return x if layout_of(x).is_last else x.movedim(-3, -1).contiguous().movedim(-1, -3)


def new_value(
    shape: torch.Size, like: Tensor, last: bool, dtype: torch.dtype | None = None
) -> Tensor:
    """Return an uninitialised value in a layout."""
    if last:
        return like.new_empty_strided(shape, strides_of(shape), dtype=dtype)
    return like.new_empty(shape, dtype=dtype)


@lru_cache(maxsize=1024)
def strides_of(shape: torch.Size) -> tuple[int, ...]:
    """Return the strides of [..., C, H, W] with channels last in memory."""
    *lead, channels, height, width = shape
    if height * width == 1:
        # Contiguous, else convolutions would copy their weights to channels last.
        return torch.empty(shape, device="meta").stride()
    like = torch.empty(*lead, height, width, channels, device="meta")
    return like.movedim(-1, -3).stride()


# -- layouts of the arguments of ``fusion_group`` kernels ------------------------------------------


def flat_view(x: Tensor, term: Term, last: bool) -> Tensor:
    """Return [N, C, L] for a static input and [T, N, C, L] for one that varies, contiguous; L = 1 for vectors.

    With channels last [N, L, C] or [T, N, L, C]. Copies only if ``x`` has another layout.
    """
    lead = x.shape[: 1 if term.static else 2]
    channels, length = x.shape[len(lead)], x.shape[len(lead) + 1 :].numel()
    if last:
        return x.movedim(len(lead), -1).reshape(*lead, length, channels).contiguous()
    return x.reshape(*lead, channels, length).contiguous()


def unflat(flat: Tensor, shape: Sequence[int], last: bool) -> Tensor:
    """The inverse of ``flat_view``, to a shape [..., C, H, W] or [..., C]."""
    if not last:
        return flat.view(*shape)
    *lead, channels, height, width = shape
    return flat.view(*lead, height, width, channels).movedim(-1, -3)
