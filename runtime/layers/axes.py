"""Functions along the axes of values. ``rank`` is the number of dimensions of one sample.

Values are [..., C, H, W] (rank 3) or [..., C] (rank 1), with T and N, or N alone, before these.
"""

from __future__ import annotations

from torch import Tensor, nn

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
