"""Spikes and counts in as few bits as they need, without loss.

What a layer keeps for its backward pass is most of a training step's memory. A spike is one bit and
a count up to ``bound`` is ``bit_length(bound)`` bits: 1/32 of a float32 and a few times that.
Eight values are packed at once by integer arithmetic on 64-bit words, so that plain tensor
operations do it on any device.
"""

from __future__ import annotations

import torch
from torch import Tensor

MAX_BITS = 8

# Byte i of a word of eight bytes in {0, 1} goes to bit i of the top byte of the product.
_GATHER = 0x0102040810204080
# Eight copies of a byte, then bit i of copy i, then any set bit to the top bit of its byte.
_COPIES = 0x0101010101010101
_SELECT = 0x8040201008040201 - (1 << 64)
_CARRY = 0x7F7F7F7F7F7F7F7F


def bits_for(bound: int) -> int:
    """Bits that a whole number from 0 to ``bound`` takes; 0 where packing would not pay."""
    bits = bound.bit_length()
    return bits if 1 <= bits <= MAX_BITS else 0


def pack(x: Tensor, bits: int) -> Tensor:
    """Whole numbers 0 .. 2**bits - 1 (in any dtype) as a uint8 tensor [bits, ceil(n / 8)]."""
    values = x.detach().reshape(-1).to(torch.uint8)
    rest = -values.numel() % 8
    if rest:
        values = torch.cat([values, values.new_zeros(rest)])
    if bits == 1:
        return _plane(values).unsqueeze(0)
    return torch.stack([_plane((values >> j) & 1) for j in range(bits)])


def _plane(values: Tensor) -> Tensor:
    words = values.view(torch.int64)
    return ((words * _GATHER) >> 56).to(torch.uint8)


def unpack(packed: Tensor, shape: torch.Size | tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """The values that ``pack`` got, in ``shape`` and ``dtype``."""
    count = 1
    for extent in shape:
        count *= extent
    values = _bytes(packed[0])
    for j in range(1, packed.shape[0]):
        values = values | (_bytes(packed[j]) << j)
    return values[:count].to(dtype).view(shape)


def _bytes(plane: Tensor) -> Tensor:
    words = plane.to(torch.int64).mul_(_COPIES).bitwise_and_(_SELECT)
    words = words.add_(_CARRY).bitwise_right_shift_(7).bitwise_and_(_COPIES)
    # Copy i holds bit i, and byte i is copy i: the order in which they were packed.
    return words.view(torch.uint8)
