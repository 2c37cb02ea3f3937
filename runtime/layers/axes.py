"""Functions along axes of values. ``rank`` is the number of dimensions of one sample.

Values are [..., C, H, W] (rank 3) or [..., C] (rank 1), with T and N, or N alone, before these.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

DIMS = {"rows": (-2,), "columns": (-1,), "pixels": (-2, -1)}


def in_groups(x: Tensor, groups: int, rank: int = 3) -> Tensor:
    """Split the channels into groups x channels."""
    split: Tensor = x.unflatten(-rank, (groups, -1))
    return split


def sum_over(x: Tensor, over: str, groups: int, rank: int = 3) -> Tensor:
    """Return the sum over an axis, which keeps size 1; over channels one per group."""
    if over == "channels":
        return in_groups(x, groups, rank).sum(-rank)
    return x.sum(DIMS[over], keepdim=True)


def mean_over(x: Tensor, over: str, groups: int, rank: int = 3) -> Tensor:
    """Return the mean over an axis, which keeps size 1; over channels one per group."""
    if over == "channels":
        return in_groups(x, groups, rank).mean(-rank)
    return x.mean(DIMS[over], keepdim=True)


def max_over(x: Tensor, over: str, groups: int, rank: int = 3) -> Tensor:
    """Return the maximum over an axis; equal maxima share the gradient."""
    if over == "channels":
        return in_groups(x, groups, rank).amax(-rank)
    return x.amax(DIMS[over], keepdim=True)


def swap(x: Tensor, a: int, b: int) -> Tensor:
    """Transpose two axes of a sample."""
    return x.transpose(a, b).contiguous()


def steps_as_axis(x: Tensor, axis: int, rank: int = 3) -> Tensor:
    """Move time to an axis of size 1: [T, N, ...] to [N, ...]."""
    return x.squeeze(axis).movedim(0, axis).contiguous()


def axis_as_steps(x: Tensor, axis: int, rank: int = 3) -> Tensor:
    """Move an axis of size T to time: [N, ...] to [T, N, ...] with size 1 there."""
    return x.movedim(axis, 0).unsqueeze(axis).contiguous()


def swap_with_time(x: Tensor, axis: int, rank: int = 3) -> Tensor:
    """Swap the time axis with another axis of size T."""
    return x.transpose(0, axis).contiguous()


def repeat_channels(x: Tensor, scale: int, rank: int = 3) -> Tensor:
    """Repeat each channel ``scale`` times."""
    return x.repeat_interleave(scale, -rank)


def slice_channels(x: Tensor, first: int, last: int, rank: int = 3) -> Tensor:
    """Return the channels ``first`` to ``last``, both included."""
    return x.narrow(-rank, first, last + 1 - first).clone()


def shuffle(x: Tensor, groups: int, rank: int = 3) -> Tensor:
    """Interleave the channels of groups: the first of each group, then the second, and so on."""
    split = in_groups(x, groups, rank)
    return split.transpose(-rank - 1, -rank).flatten(-rank - 1, -rank)


def pad(x: Tensor, before: int, after: int, over: str) -> Tensor:
    """Pad rows, columns or both with 0."""
    rows = (before, after) if over != "columns" else (0, 0)
    columns = (before, after) if over != "rows" else (0, 0)
    return nn.functional.pad(x, (*columns, *rows))


def reshape(x: Tensor, channels: int, rows: int, columns: int, rank: int = 3) -> Tensor:
    """Reshape a sample to channels x rows x columns."""
    return x.reshape(*x.shape[:-rank], channels, rows, columns)


def as_map(x: Tensor) -> Tensor:
    """Reshape [..., C] to [..., C, 1, 1]."""
    return x.unsqueeze(-1).unsqueeze(-1)


def _count(size: int, like: Tensor) -> Tensor:
    """Return 0, 1, ..., in float64 unless the device of ``like`` has none."""
    dtype = torch.float32 if like.device.type == "mps" else torch.float64
    return torch.arange(size, dtype=dtype, device=like.device)


def basis(like: Tensor, by: str, size: int) -> Tensor:
    """Return an orthogonal matrix, on the device of ``like``: rows are basis vectors.

    ``dct`` is the DCT-II; ``haar`` of size 2n is [haar(n) x (1, 1); eye(n) x (1, -1)] / sqrt(2), with
    Kronecker products.
    """
    places = _count(size, like)
    if by == "dct":
        cosines: Tensor = (math.pi / size * torch.outer(places, places + 0.5)).cos()
        cosines *= (2 / size) ** 0.5
        cosines[0] *= 0.5**0.5
        return cosines
    matrix = torch.ones_like(places[:1, None])
    pair = 0.5**0.5 * places.new_tensor([[1.0, 1.0], [1.0, -1.0]])
    while len(matrix) < size:
        halves = torch.kron(torch.eye(len(matrix)).to(places), pair[1:])
        matrix = torch.cat([torch.kron(matrix, pair[:1]), halves])
    return matrix


class Transform(nn.Module):
    """Orthogonal transform of the axis ``dim``, or its inverse."""

    def __init__(self, by: str, over: str, inverse: bool, rank: int) -> None:
        super().__init__()
        self.by, self.inverse, self.rank = by, inverse, rank
        self.dim = -rank if over == "channels" else DIMS[over][0]

    def forward(self, x: Tensor) -> Tensor:
        matrix = basis(x, self.by, x.shape[self.dim]).to(x.dtype)
        axes = "chw"[: self.rank]
        axis = axes[self.dim]
        form = f"k{axis},...{axes}->...{axes.replace(axis, 'k')}"
        found: Tensor = torch.einsum(form, matrix.T if self.inverse else matrix, x)
        return found


def sinusoidal(x: Tensor, over: str, rank: int = 3) -> Tensor:
    """Return sinusoidal positions of a map with the shape of ``x``."""
    channels, rows, columns = x.shape[-3:]
    places = _count(rows * columns, x).reshape(rows, columns)
    if over != "pixels":
        places = places // columns if over == "rows" else places % columns
    channel = _count(channels, x)[:, None, None]
    angles = places * torch.exp(-math.log(10000.0) / channels * (channel - channel % 2))
    found: Tensor = torch.where(channel % 2 == 1, angles.cos(), angles.sin()).to(x.dtype)
    return torch.zeros_like(x) + found
