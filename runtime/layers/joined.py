"""Values side by side, joined where somebody needs them in one tensor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, fx

from danetc.runtime.kernels import torch_internals as internals
from danetc.runtime.kernels.bit_packing import note_parts
from danetc.runtime.kernels.composed_operators import aligned
from danetc.runtime.layers.layouts import arrangement_of


def joined(values: Sequence[Tensor], dim: int) -> Tensor:
    """Values side by side, of which the fused neurons that read them keep the parts."""
    if internals.is_traced() or any(isinstance(x, fx.Proxy) for x in values):
        whole: Tensor = torch.ops.danetc.concat(list(values), dim)
        return whole
    parts = aligned(values, -dim)
    out = torch.cat(parts, dim)
    if torch.is_grad_enabled():
        note_parts(out, parts, dim)
    return out


class SummedGradient:
    """The gradient of a value that several layers read, which add theirs to it one after another in a backward
    pass. (Autograd would have each make one of its own, and add them up.)

    Who comes first gives ``value`` to autograd, the others nothing: it is complete when autograd goes on with
    it, which waits for all of them.
    """

    __slots__ = ("_left", "_pass", "readers", "value")

    def __init__(self) -> None:
        self.readers = 0
        self.value: Tensor | None = None
        self._left, self._pass = 0, -1

    def begin(self, like: Tensor) -> bool:
        """Whether the caller is the first of this backward pass, who is to write to ``value`` and not to add."""
        now = internals.backward_pass()
        if now == self._pass and self.value is not None:
            return False
        self._left, self._pass = self.readers, now
        self.value = torch.empty_like(like)
        return True

    def end(self) -> None:
        """The caller has added its own; the last one lets go of it."""
        self._left -= 1
        if not self._left:
            self.value = None


class Operand:
    """A value as fused neurons read it, alone or beside others.

    ``tensor`` is what they read, ``original`` the value for everybody else: what several read has a ``sum`` of
    their gradients, of which autograd is to know nothing but that it is the gradient of ``tensor``.
    ``statistics`` are its mean and biased variance [2, C], once a norm has taken them.
    """

    __slots__ = ("arrangement", "is_plain", "original", "statistics", "sum", "tensor")

    def __init__(self, x: Tensor, is_shared: bool = False) -> None:
        self.original = self.tensor = x
        self.arrangement = arrangement_of(x)
        self.is_plain = is_plain(x)
        self.sum: SummedGradient | None = None
        self.statistics: Tensor | None = None
        if is_shared and torch.is_grad_enabled() and x.requires_grad and internals.tells_passes():
            self.tensor = x.view_as(x)
            self.sum = SummedGradient()


def is_plain(x: Tensor) -> bool:
    """Whether ``x`` is float32 on a CPU, or of a call that is looked through."""
    return internals.is_known(x) and x.dtype is torch.float32 and x.is_cpu


class SideBySide:
    """Values side by side along ``dim`` < 0 that fused neurons alone read, which take the parts: where n
    layers read all that is before them, joining would write each of their values n times, and its
    gradient too. A hook on such a neuron gets this in place of a tensor; it has ``whole``.
    """

    __slots__ = ("_whole", "dim", "parts")

    def __init__(self, parts: Sequence[Operand], dim: int) -> None:
        self.parts = tuple(parts)
        self.dim = dim
        self._whole: Tensor | None = None

    @property
    def shape(self) -> torch.Size:
        """That of one tensor; where some vary and some do not, of those that vary."""
        longest = max([part.original for part in self.parts], key=Tensor.dim)
        sizes = list(longest.shape)
        sizes[self.dim] = sum([part.original.shape[self.dim] for part in self.parts])
        return torch.Size(sizes)

    @property
    def whole(self) -> Tensor:
        """One tensor, made at the first time."""
        if self._whole is None:
            self._whole = joined([part.original for part in self.parts], self.dim)
        return self._whole


Value = Tensor | SideBySide


def beside_others(x: Value, dim: int) -> Value:
    """What stands beside others in several values that neurons read; the tensor where torch traces the model."""
    if isinstance(x, SideBySide | fx.Proxy) or internals.is_traced():
        return x
    return SideBySide([Operand(x, is_shared=True)], dim)


def to_be_joined(values: Sequence[Value], dim: int) -> Value:
    """Values side by side; one tensor where torch traces the model."""
    if internals.is_traced() or any(isinstance(x, fx.Proxy) for x in values):
        return joined([whole(x) for x in values], dim)
    return SideBySide([part for x in values for part in parts_of(x)], dim)


def parts_of(x: Value) -> tuple[Operand, ...]:
    return x.parts if isinstance(x, SideBySide) else (Operand(x),)


def whole(x: Value) -> Tensor:
    return x.whole if isinstance(x, SideBySide) else x


def distinct(terms: Sequence[tuple[Operand, ...]]) -> list[tuple[Operand, ...]]:
    """The same, with none of them twice: who reads one adds to its gradient once."""
    parts = [part for parts in terms for part in parts]
    if len(set(parts)) == len(parts):
        return list(terms)
    seen: set[Operand] = set()
    found = []
    for term in terms:
        own = []
        for part in term:
            own.append(Operand(part.original) if part in seen else part)
            seen.add(part)
        found.append(tuple(own))
    return found
