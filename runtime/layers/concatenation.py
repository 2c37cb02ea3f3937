"""Lazy concatenation: fused neurons read the slices, other layers the whole tensor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from danetc.runtime.kernels.bit_packing import save_slices
from danetc.runtime.kernels.composed_operators import aligned
from danetc.runtime.kernels.torch_internals import is_known, is_traced
from danetc.runtime.layers.layouts import layout_of
from danetc.runtime.model.stepping import is_step_under_way


def concat(values: Sequence[Tensor], dim: int) -> Tensor:
    """Concatenate values; fused neurons that read the result save the slices for backward."""
    if is_traced(*values):
        whole: Tensor = torch.ops.danetc.concat(list(values), dim)
        return whole
    slices = aligned(values, -dim)
    out = torch.cat(slices, dim)
    if torch.is_grad_enabled():
        save_slices(out, slices, dim)
    return out


class Slice:
    """A tensor that a fused neuron reads, alone or as a part of a concatenation. ``dtype`` is None if C++ does not support
    the tensor."""

    __slots__ = ("dtype", "layout", "tensor")

    def __init__(self, x: Tensor) -> None:
        self.tensor = x
        self.layout = layout_of(x)
        supported = x.is_cpu and x.dtype in (torch.float32, torch.bfloat16) and is_known(x)
        self.dtype = x.dtype if supported else None


class LazyConcatenation:
    """Slices along ``dim`` < 0 that only fused neurons read.

    If n layers read everything before them, concatenating would copy each value, and its gradient, n times.
    A hook on such a neuron receives this object; its ``whole`` is the tensor.
    """

    __slots__ = ("_whole", "dim", "slices")

    def __init__(self, slices: Sequence[Slice], dim: int) -> None:
        self.slices = tuple(slices)
        self.dim = dim
        self._whole: Tensor | None = None

    @property
    def shape(self) -> torch.Size:
        """Shape of the concatenation, with static slices repeated over time if another one varies."""
        longest = max([each.tensor for each in self.slices], key=Tensor.dim)
        sizes = list(longest.shape)
        sizes[self.dim] = sum([each.tensor.shape[self.dim] for each in self.slices])
        return torch.Size(sizes)

    @property
    def whole(self) -> Tensor:
        """The concatenation, computed at the first access."""
        if self._whole is None:
            self._whole = concat([each.tensor for each in self.slices], self.dim)
        return self._whole


Value = Tensor | LazyConcatenation


def lazy_concat(values: Sequence[Value], dim: int) -> Value:
    """Concatenate values lazily; as a tensor while torch traces the model, and in a stream."""
    if is_traced(*values) or is_step_under_way():
        return concat([whole(x) for x in values], dim)
    return LazyConcatenation([each for x in values for each in slices_of(x)], dim)


def slices_of(x: Value) -> tuple[Slice, ...]:
    return x.slices if isinstance(x, LazyConcatenation) else (Slice(x),)


def whole(x: Value) -> Tensor:
    return x.whole if isinstance(x, LazyConcatenation) else x
