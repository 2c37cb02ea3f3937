"""Lossless packing of spikes and counts into bits.

Most memory of a training step holds tensors that layers save for the backward pass. A spike takes
one bit, and a value of ``low .. high`` units takes ``bit_length(high - low)`` bits, instead of 32
for a float32. The packed number is the number of units by which a value exceeds ``low``.

The bits of a number are split into fields of 8, 4, 2 and 1 bits, the lowest first. The values are
divided into eight streams in the order of memory. For eight numbers, one of each stream, a field of
w bits takes w bytes.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from danetc.dsl.kinds import MAX_BITS, Kind
from danetc.runtime.kernels import compiled, native
from danetc.runtime.kernels.compiled import CompiledFunction, scalar, shared
from danetc.runtime.kernels.neuron import HALF
from danetc.runtime.kernels.torch_internals import (
    base,
    has_values,
    is_fake,
    is_known,
    is_traced,
    version,
)

_STREAMS = 8


def pack(x: Tensor, kind: Kind) -> tuple[Tensor, bool]:
    """Pack values of a kind, in any dtype, into a uint8 tensor [bits, ceil(n / 8)]. Also return if all are of the kind.

    Dense values are packed in the order of memory. A hook or a replaced module can produce values
    of another kind than the graph states. On a GPU, where the check would synchronize, the result
    is always True.
    """
    count = x.numel()
    if not count:
        return x.new_empty(kind.bits, 0, dtype=torch.uint8), True
    dense = x if is_dense(x) else x.contiguous()
    if _is_native(x, x.dtype):
        packed = x.new_empty(kind.bits, -(-count // _STREAMS), dtype=torch.uint8)
        return packed, _run_natively("pack", dense, packed, count, kind)
    values = dense.detach().as_strided((count,), (1,))
    rest = -count % _STREAMS
    padded = torch.cat([values, values.new_zeros(rest)]) if rest else values
    streams = padded.view(_STREAMS, 1, 1, -1)  # [T, N, C, L], as kernels take it
    factor, start = (scalar(number, x, torch.float32) for number in (1 / kind.unit, 0.5 - kind.low))
    (packed,) = _packing(kind.bits)(streams, factor, start)
    return packed.view(kind.bits, -1), _are_of(values, kind)


def _are_of(values: Tensor, kind: Kind) -> bool:
    """True if values are of a kind, up to rounding. Only checked on CPUs."""
    if not (has_values(values) and values.is_cpu) or is_traced():
        return True
    units = values.to(torch.promote_types(values.dtype, torch.float32)) / kind.unit - kind.low
    whole = units.round()
    is_half = values.dtype in HALF
    rounding = 2 * torch.finfo(values.dtype).eps if is_half else 1e-5
    are_near = (units - whole).abs() <= rounding * (1 + whole)
    return bool((are_near & (whole >= 0) & (whole < 2**kind.bits)).all())


def unpack(
    packed: Tensor, shape: Sequence[int], dtype: torch.dtype, kind: Kind, strides: Sequence[int]
) -> Tensor:
    """Return the values that were packed, with ``shape``, ``dtype`` and dense ``strides``."""
    count = math.prod(shape)
    if not count or _is_native(packed, dtype):
        out = packed.new_empty_strided(shape, strides, dtype=dtype)
        if count:
            _run_natively("unpack", packed, out, count, kind)
        return out
    unit, low = (
        scalar(number, packed, torch.float32) for number in (kind.unit, kind.low * kind.unit)
    )
    (values,) = _unpacking(kind.bits, dtype)(packed.view(kind.bits, 1, 1, -1), unit, low)
    return values.as_strided(shape, strides)


# -- in C++ ----------------------------------------------------------------------------------------


def _is_native(x: Tensor, dtype: torch.dtype) -> bool:
    """True if C++ packs ``x`` or unpacks it to ``dtype``; fake tensors are treated like real ones."""
    return (
        dtype in (torch.float32, torch.bfloat16)
        and x.is_cpu
        and compiled.COMPILE
        and "cpu" not in compiled.DEVICES
        and is_known(x)
        and not x.is_neg()
        and _native("pack") is not None
    )


def _run_natively(name: str, x: Tensor, out: Tensor, count: int, kind: Kind) -> bool:
    """Call a function of ``bits.cpp``, as an operator for fake tensors. Return True if all values are of the kind."""
    given = x, out, name, count, kind.bits, kind.unit, kind.low
    if has_values(x):
        return bool(_convert(*given))
    torch.ops.danetc.convert_bits(*given)
    return True


def _convert(
    x: Tensor, out: Tensor, name: str, count: int, bits: int, unit: float, low: float
) -> Any:
    """Call a function of ``bits.cpp``."""
    function, threads = _native(name), torch.get_num_threads()
    assert function is not None
    half = (x if name == "pack" else out).dtype is torch.bfloat16
    return function(x.data_ptr(), out.data_ptr(), count, bits, unit, low, threads, half)


def _convert_only(*given: Any) -> None:
    _convert(*given)


# Dispatch modes see this operator; its fake kernel does nothing.
_OPERATOR = "danetc::convert_bits"
torch.library.define(
    _OPERATOR,
    "(Tensor x, Tensor(a!) out, str name, int count, int bits, float unit, float low) -> ()",
)
torch.library.impl(_OPERATOR, "CPU", _convert_only)
torch.library.register_fake(_OPERATOR, lambda *_: None)


@lru_cache(maxsize=2)
def _native(name: str) -> Callable[..., Any] | None:
    made = native.library("the packing of spikes", native.source("bits.cpp"))
    if made is None:
        return None
    function = made[name]
    function.argtypes = [
        *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 2, *[ctypes.c_float] * 2, ctypes.c_int64,
        ctypes.c_int,
    ]  # fmt: skip
    function.restype = ctypes.c_int if name == "pack" else None
    return function


# -- in operations of torch ------------------------------------------------------------------------


@lru_cache(maxsize=MAX_BITS)
def _fields(bits: int) -> tuple[tuple[int, int], ...]:
    """Return the width and the first bit of each field of a number."""
    fields, shift = [], 0
    for width in (8, 4, 2, 1):
        if bits & width:
            fields.append((width, shift))
            shift += width
    return tuple(fields)


@lru_cache(maxsize=MAX_BITS)
@shared
def _packing(bits: int) -> CompiledFunction:
    """Return the kernel ``(values [8, 1, 1, M], factor, start) -> bytes [bits, 1, 1, M]``."""

    def function(x: Tensor, factor: Tensor, start: Tensor) -> tuple[Tensor]:
        numbers = (x.to(torch.float32) * factor + start).to(torch.int32).unbind(0)
        rows = []
        for width, shift in _fields(bits):
            for first in range(0, _STREAMS, 8 // width):
                row = torch.zeros_like(numbers[0])
                for place in range(8 // width):
                    field = (numbers[first + place] >> shift) & (2**width - 1)
                    row = row | (field << (place * width))
                rows.append(row.to(torch.uint8))
        return (torch.stack(rows),)

    name = f"packing in {bits} bits"
    return CompiledFunction(function, name, (True,), name)


@lru_cache(maxsize=64)
@shared
def _unpacking(bits: int, dtype: torch.dtype) -> CompiledFunction:
    """Return the kernel ``(bytes [bits, 1, 1, M], unit, low) -> values [8, 1, 1, M]``."""

    def function(packed: Tensor, unit: Tensor, low: Tensor) -> tuple[Tensor]:
        rows = packed.to(torch.int32).unbind(0)
        values = []
        for stream in range(_STREAMS):
            number, above = torch.zeros_like(rows[0]), 0
            for width, shift in _fields(bits):
                together = 8 // width
                row, place = rows[above + stream // together], stream % together
                number = number | (((row >> (place * width)) & (2**width - 1)) << shift)
                above += width
            values.append((number.to(torch.float32) * unit + low).to(dtype))
        return (torch.stack(values),)

    name = f"unpacking of {bits} bits to {dtype}"
    return CompiledFunction(function, name, (True,), name)


# -- saved tensors ---------------------------------------------------------------------------------


class _PackedAs(NamedTuple):
    """Bits of a tensor, valid while its version is the same."""

    packed: Tensor
    kind: Kind
    version: int


class _Slices(NamedTuple):
    """Operands of a concatenation along ``axis`` < 0, valid while the version of the result is the same."""

    tensors: tuple[Tensor, ...]
    axis: int
    version: int


_PACKED = "_danetc_packed"
_SLICES = "_danetc_slices"


def save_slices(x: Tensor, slices: Sequence[Tensor], axis: int) -> None:
    """Save the slices of a concatenation ``x`` for backward instead of the result.

    If each of n layers reads the outputs of all earlier layers, the memory grows linearly with n.
    """
    whole: list[Tensor] = []
    for part in slices:
        known = _slices_of(part)
        whole += known.tensors if known is not None and known.axis == axis else (part,)
    if (now := version(x)) is not None:
        setattr(x, _SLICES, _Slices(tuple(whole), axis, now))


def _slices_of(x: Tensor) -> _Slices | None:
    known: _Slices | None = getattr(x if base(x) is None else _owner(x), _SLICES, None)
    return known if known is not None and known.version == version(x) else None


class SavedTensor:
    """A tensor saved for backward, packed if its kind has bits.

    All layers that save the same tensor share its bits. Strides are restored. A concatenation may
    be saved as its slices: ``split`` returns ``count`` tensors, which ``join`` takes.
    """

    __slots__ = ("axis", "count", "dtype", "kind", "packs", "shape", "strides")

    def __init__(self, x: Tensor, kind: Kind) -> None:
        self.kind = kind
        self.packs = bool(kind.bits)
        self.shape = x.shape
        self.dtype = x.dtype
        self.strides = (
            x if not self.packs or is_dense(x) else torch.empty(x.shape, device="meta")
        ).stride()
        self.axis = 0
        self.count = 1

    def split(self, x: Tensor) -> list[Tensor]:
        """Return what to save of ``x``: its slices, or the result of ``save``."""
        slices = None if self.packs else _slices_of(x)
        if slices is None:
            return [self.save(x)]
        self.axis, self.count = slices.axis, len(slices.tensors)
        return [part.detach() for part in slices.tensors]

    def join(self, saved: Sequence[Tensor]) -> Tensor:
        """Inverse of ``split``."""
        if self.axis:
            return torch.cat(list(saved), self.axis).view(self.shape)
        return self.restore(saved[0])

    def save(self, x: Tensor) -> Tensor:
        """Return what to save of ``x``: its bits, or ``x`` if it is not of the kind."""
        if not self.packs:
            return x
        packed = self.known(x)
        if packed is None:
            packed, self.packs = pack(x, self.kind)
            if not self.packs:
                return x
            self.remember(x, packed)
        return packed

    def known(self, x: Tensor) -> Tensor | None:
        """Return the bits of ``x`` if another layer has packed it."""
        known: _PackedAs | None = getattr(_owner(x), _PACKED, None)
        if known is not None and known.kind == self.kind and known.version == version(x):
            return known.packed
        return None

    def remember(self, x: Tensor, packed: Tensor) -> None:
        """Share the bits of ``x`` with layers that save it later."""
        owner = _owner(x)
        if is_fake(packed) and not is_fake(owner):
            return  # a real tensor may outlive the fake mode
        if (now := version(x)) is not None:
            setattr(owner, _PACKED, _PackedAs(packed, self.kind, now))

    def restore(self, saved: Tensor) -> Tensor:
        """Inverse of ``save``."""
        if not self.packs:
            return saved
        x = unpack(saved, self.shape, self.dtype, self.kind, self.strides)
        self.remember(x, saved)
        return x


def _owner(x: Tensor) -> Tensor:
    """Return the tensor of which ``x`` is a dense view with all elements, or ``x``."""
    whole = base(x)
    if whole is None or whole.numel() != x.numel() or not (is_dense(x) and is_dense(whole)):
        return x
    return whole


def is_dense(x: Tensor) -> bool:
    """True if ``x`` has no gaps in memory, for any order of the dimensions."""
    return x.is_contiguous() or _are_dense(x.shape, x.stride())


@lru_cache(maxsize=1024)
def _are_dense(shape: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    order = sorted(range(len(shape)), key=lambda axis: -strides[axis])
    return torch.empty_strided(shape, strides, device="meta").permute(order).is_contiguous()
