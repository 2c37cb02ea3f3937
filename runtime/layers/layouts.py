"""Values [T, N, C, ...] as kernels of fusion groups take them, with channels before or behind the pixels."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from danetc.runtime.kernels.fusion_group import Term
from danetc.runtime.layers.statistics import Affine


def is_last(x: Tensor) -> bool:
    """Whether channels come last in memory: the strides of torch.channels_last, with T or not."""
    return x.dim() > 3 and x.stride(-3) == 1 and not x.is_contiguous()


class Arrangement:
    """Sizes of a value, and how it lies in memory without gaps: with its dimensions in their order
    (``is_first``), or as [..., H, W, C] (``is_last``).

    Values that are alike in these have one object: in the key of a table it is found sooner than they are.
    """

    __slots__ = ("is_first", "is_last", "shape")

    def __init__(self, shape: torch.Size, strides: tuple[int, ...]) -> None:
        like = torch.empty_strided(shape, strides, device="meta")
        self.shape = shape
        self.is_first = like.is_contiguous()
        self.is_last = len(shape) > 3 and like.movedim(-3, -1).is_contiguous()


def arrangement_of(x: Tensor) -> Arrangement:
    return _arrangement(x.shape, x.stride())


_arrangement = lru_cache(maxsize=4096)(Arrangement)


def is_dense_last(x: Tensor) -> bool:
    """Whether ``x`` lies in memory as [..., H, W, C], without gaps."""
    return arrangement_of(x).is_last


def laid_out(x: Tensor, last: bool) -> Tensor:
    """``x`` with its channels last in memory, or all dimensions in their order."""
    if not last:
        return x.contiguous()
    return x if is_dense_last(x) else x.movedim(-3, -1).contiguous().movedim(-1, -3)


def new_value(shape: torch.Size, like: Tensor, last: bool) -> Tensor:
    """One without values, in a layout."""
    return like.new_empty_strided(shape, strides_of(shape)) if last else like.new_empty(shape)


@lru_cache(maxsize=1024)
def strides_of(shape: torch.Size) -> tuple[int, ...]:
    """Those of [..., C, H, W] with channels last in memory."""
    *lead, channels, height, width = shape
    like = torch.empty(*lead, height, width, channels, device="meta")
    return like.movedim(-1, -3).stride()


def flat_view(x: Tensor, term: Term, last: bool) -> Tensor:
    """[N, C, L] for a static input, [T, N, C, L] for one that varies; L = 1 for vectors.

    With channels last [N, L, C] or [T, N, L, C]. Contiguous; a copy only where ``x`` is laid out
    otherwise.
    """
    lead = x.shape[: 1 if term.static else 2]
    channels, length = x.shape[len(lead)], x.shape[len(lead) + 1 :].numel()
    if last:
        return x.movedim(len(lead), -1).reshape(*lead, length, channels).contiguous()
    if x.is_contiguous():
        return x.view(*lead, channels, length)  # the common case, and each call counts
    return x.reshape(*lead, channels, length).contiguous()


def unflat(flat: Tensor, like: Tensor, last: bool) -> Tensor:
    """The other way round: in the shape of ``like``."""
    if not last:
        return flat.view(like.shape)
    *lead, channels, height, width = like.shape
    return flat.view(*lead, height, width, channels).movedim(-1, len(lead))


def columns(affines: Sequence[Affine], last: bool) -> tuple[list[Tensor], list[Tensor]]:
    """Scales and shifts as kernels take them: [C, 1], or [C] with channels ``last``."""
    if last:
        return [a.scale for a in affines], [a.shift for a in affines]
    return [a.scale.unsqueeze(1) for a in affines], [a.shift.unsqueeze(1) for a in affines]


class StepLayout(NamedTuple):
    """How the values of one time step lie in memory: strides of [N, C, ...], and size and strides of the
    same as kernels take them, [N, C, L] or [N, L, C]."""

    strides: tuple[int, ...]
    last: bool
    flat: tuple[int, ...]
    flat_strides: tuple[int, ...]

    def flat_view(self, x: Tensor) -> Tensor:
        """As the function of this name, in one operation where ``x`` lies so."""
        if x.stride() == self.strides:
            return x.as_strided(self.flat, self.flat_strides)
        return flat_view(x, Term(False, True), self.last)


@lru_cache(maxsize=512)
def step_layout(shape: Sequence[int], last: bool) -> StepLayout:
    like = torch.empty(shape, device="meta")
    if last:
        like = like.contiguous(memory_format=torch.channels_last)
    flat = flat_view(like, Term(False, True), last)
    return StepLayout(like.stride(), last, tuple(flat.shape), flat.stride())
