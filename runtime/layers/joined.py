"""Values side by side, joined where somebody needs them in one tensor."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, fx

from danetc.runtime.kernels.bit_packing import note_parts
from danetc.runtime.kernels.composed_operators import aligned


def joined(values: Sequence[Tensor], dim: int) -> Tensor:
    """Values side by side, of which the fused neurons that read them keep the parts."""
    if torch.compiler.is_compiling() or any(isinstance(x, fx.Proxy) for x in values):
        whole: Tensor = torch.ops.danetc.concat(list(values), dim)
        return whole
    parts = aligned(values, -dim)
    out = torch.cat(parts, dim)
    if torch.is_grad_enabled():
        note_parts(out, parts, dim)
    return out


class SideBySide:
    """Values side by side along ``dim`` < 0 that fused neurons alone read, which take the parts: where n
    layers read all that is before them, joining would write each of their values n times, and its
    gradient too. A hook on such a neuron gets this in place of a tensor; it has ``whole``.
    """

    __slots__ = ("_whole", "dim", "parts")

    def __init__(self, parts: Sequence[Tensor], dim: int) -> None:
        self.parts = tuple(parts)
        self.dim = dim
        self._whole: Tensor | None = None

    @property
    def shape(self) -> torch.Size:
        """That of one tensor; where some vary and some do not, of those that vary."""
        longest = max(self.parts, key=Tensor.dim)
        sizes = list(longest.shape)
        sizes[self.dim] = sum([x.shape[self.dim] for x in self.parts])
        return torch.Size(sizes)

    @property
    def whole(self) -> Tensor:
        """One tensor, made at the first time."""
        if self._whole is None:
            self._whole = joined(self.parts, self.dim)
        return self._whole


Value = Tensor | SideBySide


def to_be_joined(values: Sequence[Value], dim: int) -> Value:
    """Values side by side; one tensor where torch traces the model."""
    parts: list[Tensor] = []
    for x in values:
        parts += x.parts if isinstance(x, SideBySide) else (x,)
    if torch.compiler.is_compiling() or any(isinstance(x, fx.Proxy) for x in parts):
        return joined(parts, dim)
    return SideBySide(parts, dim)


def parts_of(x: Value) -> tuple[Tensor, ...]:
    return x.parts if isinstance(x, SideBySide) else (x,)


def whole(x: Value) -> Tensor:
    return x.whole if isinstance(x, SideBySide) else x
