"""Spikes and counts in as few bits as they need, without loss.

What a layer keeps for its backward pass is most of a training step's memory. A spike is one bit and
a count up to ``bound`` is ``bit_length(bound)`` bits: 1/32 of a float32 and a few times that.
Plain tensor operations do it, on any device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

MAX_BITS = 8

# Byte i of a word of eight bytes in {0, 1} goes to bit i of the top byte of the product.
_GATHER = 0x0102040810204080


def bits_for(bound: int) -> int:
    """Bits that a whole number from 0 to ``bound`` takes; 0 where packing would not pay."""
    bits = bound.bit_length()
    return bits if 1 <= bits <= MAX_BITS else 0


def pack(x: Tensor, bits: int) -> Tensor:
    """Whole numbers 0 .. 2**bits - 1 (in any dtype) as a uint8 tensor [bits, ceil(n / 8)].

    The bits of a number lie in fields of 4, 2 and 1 bits, its lowest bits first. Single bits are
    gathered from eight neighbours by arithmetic on 64-bit words; a byte of larger fields holds
    numbers that lie far apart, so that the operations run along memory.
    """
    values = _whole(x.detach().reshape(-1), bits)
    rest = -values.numel() % 8
    if rest:
        values = torch.cat([values, values.new_zeros(rest)])
    if bits == MAX_BITS:
        return values.view(bits, -1)
    rows, shift = [], 0
    for width in _widths(bits):
        part = values >> shift if shift else values
        if shift + width < bits:
            part = part & (2**width - 1)
        if width == 1:
            packed = ((part.view(torch.int64) * _GATHER) >> 56).to(torch.uint8)
        else:
            *others, packed = part.view(8 // width, -1)
            for other in reversed(others):
                packed = torch.add(other, packed, alpha=2**width)
        rows.append(packed.view(width, -1))
        shift += width
    return rows[0] if len(rows) == 1 else torch.cat(rows)


def _widths(bits: int) -> list[int]:
    """The fields of a number of fewer than eight bits."""
    return [width for width in (4, 2, 1) if bits & width]


def _whole(x: Tensor, bits: int) -> Tensor:
    """Values as bytes. (From floats to int8 there are vector instructions, to uint8 there are not;
    what int8 does not hold goes through int32, whose low byte is the value.)"""
    if x.dtype == torch.uint8:
        return x
    if x.dtype.is_floating_point and bits == MAX_BITS:
        x = x.to(torch.int32)
    return x.to(torch.int8).view(torch.uint8)


def unpack(packed: Tensor, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """The values that ``pack`` got, in ``shape`` and ``dtype``."""
    bits = packed.shape[0]
    values: Tensor | None = packed.reshape(-1) if bits == MAX_BITS else None
    shift = row = 0
    for width in _widths(bits % MAX_BITS):
        part = _numbers(packed[row : row + width].reshape(-1), width)
        values = part if values is None else torch.add(values, part, alpha=2**shift)
        shift, row = shift + width, row + width
    assert values is not None
    return values[: math.prod(shape)].to(dtype).view(shape)


def _numbers(field: Tensor, width: int) -> Tensor:
    """The numbers in bytes that hold 8 / ``width`` each."""
    if width == 1:  # each byte as a word of eight bytes, its bits
        return _table(field.device).index_select(0, field.to(torch.int32)).view(torch.uint8)
    mask = 2**width - 1
    return torch.stack([(field >> place) & mask for place in range(0, 8, width)]).view(-1)


@lru_cache(maxsize=16)
def _table(device: torch.device) -> Tensor:
    """For each of 256 bytes the word whose byte i is bit i of it."""
    with torch.inference_mode(False), torch.no_grad():
        bytes = torch.arange(256, device=device).unsqueeze(1)
        bits = (bytes >> torch.arange(8, device=device)) & 1
        return bits.to(torch.uint8).view(torch.int64).squeeze(1)


class _Known(NamedTuple):
    """A tensor's values in bits, as long as its version is the same."""

    packed: Tensor
    bits: int
    version: int


_KNOWN = "_danetc_packed"
_PARTS = "_danetc_parts"


class _Parts(NamedTuple):
    """What a tensor was joined of along ``axis`` < 0, as long as its version is the same."""

    tensors: tuple[Tensor, ...]
    axis: int
    version: int


def note_parts(x: Tensor, parts: Sequence[Tensor], axis: int) -> None:
    """Have who keeps ``x``, which is ``parts`` side by side, keep the parts in place of it.

    Where many read the same parts, each joined with others, these are then kept once: what n
    densely connected layers keep grows with n, not with its square.
    """
    whole: list[Tensor] = []
    for part in parts:
        known = _parts_of(part)
        whole += known.tensors if known is not None and known.axis == axis else (part,)
    setattr(x, _PARTS, _Parts(tuple(whole), axis, x._version))


def _parts_of(x: Tensor) -> _Parts | None:
    known: _Parts | None = getattr(x if x._base is None else _owner(x), _PARTS, None)
    return known if known is not None and known.version == x._version else None


class Kept:
    """A tensor that a backward pass needs, in bits where it is whole-numbered.

    All who keep the same tensor share its bits: they are packed once, in the order in which they
    lie in memory, so that channels that come last do so again. What is joined of parts and is kept
    as it is may be kept as those: ``split`` and ``join`` take ``count`` tensors.
    """

    __slots__ = ("axis", "bits", "count", "dtype", "order", "shape")

    def __init__(self, x: Tensor, bits: int) -> None:
        self.bits = bits
        self.shape = x.shape
        self.dtype = x.dtype
        self.order = _order(x) if bits else None
        self.axis = 0
        self.count = 1

    def split(self, x: Tensor) -> list[Tensor]:
        """What to keep of ``x``: its parts, or what ``keep`` says."""
        parts = None if self.bits or torch.compiler.is_compiling() else _parts_of(x)
        if parts is None:
            return [self.keep(x)]
        self.axis, self.count = parts.axis, len(parts.tensors)
        return [part.detach() for part in parts.tensors]

    def join(self, kept: Sequence[Tensor]) -> Tensor:
        """``x`` again, of what ``split`` gave."""
        if self.axis:
            return torch.cat(list(kept), self.axis).view(self.shape)
        return self.restore(kept[0])

    def keep(self, x: Tensor) -> Tensor:
        """What to keep of ``x``."""
        if not self.bits:
            return x
        ordered = x if self.order is None else x.permute(self.order)
        if torch.compiler.is_compiling():
            return pack(ordered, self.bits)
        packed = self.known(x)
        if packed is None:
            packed = pack(ordered, self.bits)
            self.remember(x, packed)
        return packed

    def known(self, x: Tensor) -> Tensor | None:
        """The bits of ``x`` where somebody keeps them already."""
        known: _Known | None = getattr(_owner(x), _KNOWN, None)
        if known is not None and known.bits == self.bits and known.version == x._version:
            return known.packed
        return None

    def remember(self, x: Tensor, packed: Tensor) -> None:
        """Have all who keep ``x`` from now on share these bits of it."""
        setattr(_owner(x), _KNOWN, _Known(packed, self.bits, x._version))

    def restore(self, kept: Tensor) -> Tensor:
        """``x`` again, of what was kept of it."""
        if not self.bits:
            return kept
        if self.order is None:
            x = unpack(kept, self.shape, self.dtype)
        else:
            places = [self.order.index(axis) for axis in range(len(self.order))]
            shape = [self.shape[axis] for axis in self.order]
            x = unpack(kept, shape, self.dtype).permute(places)
        if not torch.compiler.is_compiling():
            self.remember(x, kept)
        return x


def _order(x: Tensor) -> list[int] | None:
    """The dimensions in the order of memory where that is not theirs and nothing lies between."""
    if x.is_contiguous():
        return None
    strides = x.stride()
    order = sorted(range(x.dim()), key=lambda axis: -strides[axis])
    return order if x.permute(order).is_contiguous() else None


def _owner(x: Tensor) -> Tensor:
    """The tensor of which ``x`` is another form with the same memory, or x."""
    base = x._base
    if base is None or base.numel() != x.numel() or not (_is_dense(x) and _is_dense(base)):
        return x
    return base


def _is_dense(x: Tensor) -> bool:
    return x.is_contiguous() or _order(x) is not None
