"""Lazy concatenation: fused neurons read the slices, everybody else the whole tensor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, fx

from danetc.runtime.kernels import torch_internals as internals
from danetc.runtime.kernels.bit_packing import save_slices
from danetc.runtime.kernels.composed_operators import aligned
from danetc.runtime.layers.layouts import layout_of


def concat(values: Sequence[Tensor], dim: int) -> Tensor:
    """Concatenate values; fused neurons that read the result save the slices for backward."""
    if _is_traced(values):
        whole: Tensor = torch.ops.danetc.concat(list(values), dim)
        return whole
    slices = aligned(values, -dim)
    out = torch.cat(slices, dim)
    if torch.is_grad_enabled():
        save_slices(out, slices, dim)
    return out


def _is_traced(values: Sequence[object]) -> bool:
    return internals.is_traced() or any(isinstance(x, fx.Proxy) for x in values)


class SummedGradient:
    """The gradient of a value with several readers, to which they add one after another in a backward pass.

    The first reader returns ``value`` to autograd, the others nothing. Autograd waits for all readers before it
    uses the gradient, which is complete then; by itself it would sum a tensor per reader.
    """

    __slots__ = ("_left", "_pass", "readers", "value")

    def __init__(self) -> None:
        self.readers = 0
        self.value: Tensor | None = None
        self._left, self._pass = 0, -1

    def begin(self, like: Tensor) -> bool:
        """Return True for the first reader of a backward pass, which writes to ``value`` instead of adding."""
        now = internals.backward_pass()
        if now == self._pass and self.value is not None:
            return False
        self._left, self._pass = self.readers, now
        self.value = torch.empty_like(like)
        return True

    def end(self) -> None:
        """Report that a reader has added its gradient; the last one releases the tensor."""
        self._left -= 1
        if not self._left:
            self.value = None


class Slice:
    """A tensor that fused neurons read, alone or as a part of a concatenation.

    ``tensor`` is what they read, ``original`` the value for everybody else: a shared one has a ``sum`` of their
    gradients, which autograd knows only as the gradient of ``tensor``. ``statistics`` are its mean and biased
    variance [2, C], once a norm has computed them. ``dtype`` is None if C++ does not support the tensor.
    """

    __slots__ = ("dtype", "layout", "original", "statistics", "sum", "tensor")

    def __init__(self, x: Tensor, is_shared: bool = False) -> None:
        self.original = self.tensor = x
        self.layout = layout_of(x)
        supported = (
            x.is_cpu and x.dtype in (torch.float32, torch.bfloat16) and internals.is_known(x)
        )
        self.dtype = x.dtype if supported else None
        self.sum: SummedGradient | None = None
        self.statistics: Tensor | None = None
        if is_shared and torch.is_grad_enabled() and x.requires_grad and internals.tells_passes():
            self.tensor = x.view_as(x)
            self.sum = SummedGradient()


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
        """Shape of the concatenation; static slices are repeated if others vary."""
        longest = max([each.original for each in self.slices], key=Tensor.dim)
        sizes = list(longest.shape)
        sizes[self.dim] = sum([each.original.shape[self.dim] for each in self.slices])
        return torch.Size(sizes)

    @property
    def whole(self) -> Tensor:
        """The concatenation, computed at the first access."""
        if self._whole is None:
            self._whole = concat([each.original for each in self.slices], self.dim)
        return self._whole


Value = Tensor | LazyConcatenation


def shared_slice(x: Value, dim: int) -> Value:
    """Return ``x`` as a slice that several concatenations read; ``x`` itself while torch traces the model."""
    if isinstance(x, LazyConcatenation) or _is_traced([x]):
        return x
    return LazyConcatenation([Slice(x, is_shared=True)], dim)


def lazy_concat(values: Sequence[Value], dim: int) -> Value:
    """Concatenate values lazily; as a tensor while torch traces the model."""
    if _is_traced(values):
        return concat([whole(x) for x in values], dim)
    return LazyConcatenation([each for x in values for each in slices_of(x)], dim)


def slices_of(x: Value) -> tuple[Slice, ...]:
    return x.slices if isinstance(x, LazyConcatenation) else (Slice(x),)


def whole(x: Value) -> Tensor:
    return x.whole if isinstance(x, LazyConcatenation) else x


def distinct(terms: Sequence[tuple[Slice, ...]]) -> list[tuple[Slice, ...]]:
    """Replace repeated slices by copies, because a reader adds to the gradient of a slice once."""
    seen: set[Slice] = set()
    found = []
    for term in terms:
        own = []
        for each in term:
            own.append(Slice(each.original) if each in seen else each)
            seen.add(each)
        found.append(tuple(own))
    return found
