"""Spikes and counts in as few bits as they need, without loss.

What a layer keeps for its backward pass is most of a training step's memory. A spike is one bit and
a value of ``low .. high`` units is ``bit_length(high - low)`` bits: 1/32 of a float32 and a few times
that. What is packed is how many units a value lies above ``low``.

A number's bits lie in fields of 4, 2 and 1 bits, its lowest first. The values are read as eight
streams along memory; a field of w bits of eight numbers, one of each stream, is w bytes.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from danetc.dsl.kinds import MAX_BITS, Kind
from danetc.runtime.kernels import compiled, native
from danetc.runtime.kernels.compiled import CompiledFunction
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

Order = tuple[int, ...] | None
"""The dimensions of a tensor in the order of memory, where that is not theirs."""


def pack(x: Tensor, kind: Kind, order: Order = None) -> Tensor:
    """Values of a kind (in any dtype) as a uint8 tensor [bits, ceil(n / 8)].

    Where ``x`` lies in memory without gaps, but in another order of its dimensions, ``order`` has that.
    """
    return _pack(x, kind, order)[0]


def _pack(x: Tensor, kind: Kind, order: Order) -> tuple[Tensor, bool]:
    """The bits, and whether they stand for the values of ``x``, up to rounding.

    They do not if a hook or a replaced module gives other values than the network's graph says. (On a
    CPU: to ask on a GPU would have the program wait for it.)
    """
    count = x.numel()
    if count and _is_native(x, x.dtype):
        dense = x.contiguous() if order is None else x
        packed = x.new_empty(kind.bits, -(-count // _STREAMS), dtype=torch.uint8)
        return packed, _run_natively("pack", dense, packed, count, kind)
    values = (x if order is None else x.permute(order)).detach().reshape(-1)
    rest = -count % _STREAMS
    if rest:
        values = torch.cat([values, values.new_zeros(rest)])
    if not count:
        return values.new_empty(kind.bits, 0, dtype=torch.uint8), True
    streams = values.view(_STREAMS, 1, 1, -1)  # as kernels take it
    rows = []
    for width, shift in _fields(kind.bits):
        weight = 2.0**-shift
        factor, start = (_number(v * weight, values) for v in (1 / kind.unit, kind.low))
        (field,) = _run(_packing(width), streams, factor, start)
        rows.append(field)
    packed = rows[0] if len(rows) == 1 else torch.cat(rows)
    return packed.view(kind.bits, -1), _are_of(values[:count], kind)


def _are_of(values: Tensor, kind: Kind) -> bool:
    """Whether values on a CPU are of a kind, up to rounding."""
    if not (has_values(values) and values.is_cpu) or is_traced():
        return True
    dtype = torch.promote_types(values.dtype, torch.float32)
    units = values.to(dtype) / kind.unit - kind.low
    whole = units.round()
    is_half = values.dtype in HALF
    rounding = 2 * torch.finfo(values.dtype).eps if is_half else 1e-5
    are_near = (units - whole).abs() <= rounding * (1 + whole)
    return bool((are_near & (whole >= 0) & (whole < 2**kind.bits)).all())


def unpack(
    packed: Tensor, shape: Sequence[int], dtype: torch.dtype, kind: Kind, order: Order = None
) -> Tensor:
    """The values that ``pack`` got, in ``shape`` and ``dtype``, laid out as they were."""
    count = math.prod(shape)
    if not count:
        return packed.new_empty(shape, dtype=dtype)
    if _is_native(packed, dtype):
        if order is None:
            out = packed.new_empty(shape, dtype=dtype)
        else:
            out = packed.new_empty_strided(shape, _strides(tuple(shape), order), dtype=dtype)
        _run_natively("unpack", packed, out, count, kind)
        return out
    if order is not None:
        ordered = [shape[axis] for axis in order]
        return unpack(packed, ordered, dtype, kind).permute(_inverse(order))
    rows = packed.view(kind.bits, 1, 1, -1)
    values, row = None, 0
    for width, shift in _fields(kind.bits):
        field = rows if width == kind.bits else rows[row : row + width]
        weight = _number(kind.unit * 2.0**shift, packed)
        if values is None:
            start = _number(kind.low * kind.unit, packed)
            (values,) = _run(_unpacking(width, dtype, first=True), field, weight, start)
        else:
            (values,) = _run(_unpacking(width, dtype, first=False), values, field, weight)
        row += width
    assert values is not None
    flat = values.view(-1)
    return (flat if flat.numel() == count else flat[:count]).view(shape)


def _is_native(x: Tensor, dtype: torch.dtype) -> bool:
    """Whether there is a function in C++ for values of this dtype, or for what they stand for."""
    if dtype is not torch.float32 or not x.is_cpu:
        return False
    if not (compiled.COMPILE and native.LIBRARIES):
        return False
    return (
        is_known(x)
        and not x.is_neg()
        and not torch.compiler.is_compiling()
        and _native("pack") is not None
    )


def _run_natively(name: str, x: Tensor, out: Tensor, count: int, kind: Kind) -> bool:
    """Whether the values were such as the bits stand for."""
    given = x, out, name, count, kind.bits, kind.unit, kind.low
    if has_values(x):
        return bool(_convert(*given))
    torch.ops.danetc.convert_bits(*given)
    return True


def _convert(
    x: Tensor, out: Tensor, name: str, count: int, bits: int, unit: float, low: float
) -> int | None:
    """Call a function of ``bits.cpp`` by its ``name``."""
    function = _native(name)
    assert function is not None
    return function(x.data_ptr(), out.data_ptr(), count, bits, unit, low, torch.get_num_threads())


def _convert_only(*given: Any) -> None:
    _convert(*given)


_OPERATOR = "danetc::convert_bits"
torch.library.define(
    _OPERATOR,
    "(Tensor x, Tensor(a!) out, str name, int count, int bits, float unit, float low) -> ()",
)
torch.library.impl(_OPERATOR, "CPU", _convert_only)
torch.library.register_fake(_OPERATOR, lambda *_: None)


@lru_cache(maxsize=2)
def _native(name: str) -> Callable[..., int | None] | None:
    flags = native.parallel()
    made = native.library("bits.cpp", native.text("bits.cpp"), flags) if flags else None
    if made is None:  # or it would have one thread, where Inductor's kernels have several
        return None
    function = made[name]
    function.argtypes = [
        *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 2, *[ctypes.c_float] * 2, ctypes.c_int64,
    ]  # fmt: skip
    function.restype = ctypes.c_int if name == "pack" else None
    return cast(Callable[..., int | None], function)


@lru_cache(maxsize=MAX_BITS)
def _fields(bits: int) -> tuple[tuple[int, int], ...]:
    """Width and first bit of each field of a number."""
    fields, shift = [], 0
    for width in (8, 4, 2, 1):
        if bits & width:
            fields.append((width, shift))
            shift += width
    return tuple(fields)


def _run(kernel: CompiledFunction, *args: Tensor) -> Sequence[Tensor]:
    # A model that torch.compile takes whole is compiled with this.
    return kernel.function(*args) if torch.compiler.is_compiling() else kernel(*args)


def _number(value: float, like: Tensor) -> Tensor:
    """A number as an argument, so that all fields of one width share a kernel."""
    if torch.compiler.is_compiling() or has_values(like):
        return _kept_number(value, like.device)
    return like.new_full((), value, dtype=torch.float32)  # no fake tensor is to be kept


@lru_cache(maxsize=256)
def _kept_number(value: float, device: torch.device) -> Tensor:
    with torch.inference_mode(False):
        return torch.tensor(value, device=device)


def _lowest(x: Tensor, width: int, real: bool) -> Tensor:
    """The lowest ``width`` bits before the point, as float32 if ``real`` and int32 if not.

    Inductor's code for a CPU turns half precision into integers, and back, value by value, but into
    float32 and back in vectors. For float32 and float64 integers are the faster way.
    """
    if not real:
        lowest: Tensor = x.to(torch.int32) & (2**width - 1)
        return lowest
    whole = x.floor()
    above = (whole * 2.0**-width).floor()
    return whole - above * float(2**width)


def _raised(x: Tensor, places: int) -> Tensor:
    """``x`` with its bits so many places up; what falls below the point stays there or is lost."""
    if x.is_floating_point():
        return x * 2.0**places
    return x << places if places > 0 else x >> -places


@lru_cache(maxsize=MAX_BITS)
def _packing(width: int) -> CompiledFunction:
    """The kernel ``(values [8, 1, 1, M], factor, start) -> bytes [width, 1, 1, M]`` of a field: the
    lowest bits of ``factor * value - start`` before the point.
    """
    numbers = 8 // width  # in a byte

    def function(x: Tensor, factor: Tensor, start: Tensor) -> tuple[Tensor]:
        units = x.to(torch.float32) * factor - start
        parts = _lowest(units, width, x.dtype in HALF).unbind(0)
        rows = []
        for first in range(0, _STREAMS, numbers):
            row = parts[first]
            for place in range(1, numbers):
                row = row + _raised(parts[first + place], place * width)
            rows.append(row.to(torch.uint8))
        return (torch.stack(rows),)

    name = f"packing in fields of {width} bits"
    text, recipe = f"{name}: factor * x - start", partial(_packing, width)
    return CompiledFunction(function, name, (True,), text, recipe=recipe)


@lru_cache(maxsize=64)
def _unpacking(width: int, dtype: torch.dtype, first: bool) -> CompiledFunction:
    """The kernel ``(bytes [width, 1, 1, M], weight, start) -> values [8, 1, 1, M]`` of a number's
    first field; of another ``(values so far, bytes, weight) -> values``.
    """
    numbers = 8 // width

    def field(rows: Tensor) -> list[Tensor]:
        parts = []
        for row in rows.to(torch.float32 if dtype in HALF else torch.int32).unbind(0):
            for place in range(numbers):
                parts.append(_lowest(_raised(row, -place * width), width, dtype in HALF))
        return parts

    def begin(rows: Tensor, weight: Tensor, start: Tensor) -> tuple[Tensor]:
        parts = [(part.to(torch.float32) * weight + start).to(dtype) for part in field(rows)]
        return (torch.stack(parts),)

    def add(values: Tensor, rows: Tensor, weight: Tensor) -> tuple[Tensor]:
        parts = [
            (value.to(torch.float32) + part.to(torch.float32) * weight).to(dtype)
            for value, part in zip(values.unbind(0), field(rows), strict=True)
        ]
        return (torch.stack(parts),)

    name = f"unpacking fields of {width} bits to {dtype}"
    recipe = partial(_unpacking, width, dtype, first)
    if first:
        text = f"{name}: weight * x + start"
        return CompiledFunction(begin, name, (True,), text, recipe=recipe)
    name = f"{name} of numbers"
    return CompiledFunction(add, name, (True, True), name, recipe=recipe)


class _Known(NamedTuple):
    """A tensor's values in bits, as long as its version is the same."""

    packed: Tensor
    kind: Kind
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
    if (now := version(x)) is not None:
        setattr(x, _PARTS, _Parts(tuple(whole), axis, now))


def _parts_of(x: Tensor) -> _Parts | None:
    known: _Parts | None = getattr(x if base(x) is None else _owner(x), _PARTS, None)
    return known if known is not None and known.version == version(x) else None


class SavedTensor:
    """A tensor that a backward pass needs, in bits where it is whole-numbered.

    All who keep the same tensor share its bits: they are packed once, in the order in which they
    lie in memory, so that channels that come last do so again. What is joined of parts and is kept
    as it is may be kept as those: ``split`` and ``join`` take ``count`` tensors.
    """

    __slots__ = ("axis", "count", "dtype", "kind", "order", "packs", "shape")

    def __init__(self, x: Tensor, kind: Kind) -> None:
        self.kind = kind
        self.packs = bool(kind.bits)
        self.shape = x.shape
        self.dtype = x.dtype
        self.order = _order(x) if self.packs else None
        self.axis = 0
        self.count = 1

    def split(self, x: Tensor) -> list[Tensor]:
        """What to keep of ``x``: its parts, or what ``save`` says."""
        parts = None if self.packs or torch.compiler.is_compiling() else _parts_of(x)
        if parts is None:
            return [self.save(x)]
        self.axis, self.count = parts.axis, len(parts.tensors)
        return [part.detach() for part in parts.tensors]

    def join(self, kept: Sequence[Tensor]) -> Tensor:
        """``x`` again, of what ``split`` gave."""
        if self.axis:
            return torch.cat(list(kept), self.axis).view(self.shape)
        return self.restore(kept[0])

    def save(self, x: Tensor) -> Tensor:
        """What to keep of ``x``: itself if it holds other values than those of its kind."""
        if not self.packs:
            return x
        if torch.compiler.is_compiling():
            return pack(x, self.kind, self.order)
        packed = self.known(x)
        if packed is None:
            packed, self.packs = _pack(x, self.kind, self.order)
            if not self.packs:
                return x
            self.remember(x, packed)
        return packed

    def known(self, x: Tensor) -> Tensor | None:
        """The bits of ``x`` where somebody keeps them already."""
        known: _Known | None = getattr(_owner(x), _KNOWN, None)
        if known is not None and known.kind == self.kind and known.version == version(x):
            return known.packed
        return None

    def remember(self, x: Tensor, packed: Tensor) -> None:
        """Have all who keep ``x`` from now on share these bits of it."""
        owner = _owner(x)
        if is_fake(packed) and not is_fake(owner):
            return  # a real tensor may outlive the mode
        if (now := version(x)) is not None:
            setattr(owner, _KNOWN, _Known(packed, self.kind, now))

    def restore(self, kept: Tensor) -> Tensor:
        """``x`` again, of what was kept of it."""
        if not self.packs:
            return kept
        x = unpack(kept, self.shape, self.dtype, self.kind, self.order)
        if not torch.compiler.is_compiling():
            self.remember(x, kept)
        return x


def _order(x: Tensor) -> Order:
    """The dimensions in the order of memory where that is not theirs and nothing lies between."""
    return None if x.is_contiguous() else _order_of(x.shape, x.stride())


@lru_cache(maxsize=1024)
def _order_of(shape: tuple[int, ...], strides: tuple[int, ...]) -> Order:
    order = tuple(sorted(range(len(shape)), key=lambda axis: -strides[axis]))
    like = torch.empty_strided(shape, strides, device="meta")
    return order if like.permute(order).is_contiguous() else None


@lru_cache(maxsize=1024)
def _strides(shape: tuple[int, ...], order: tuple[int, ...]) -> tuple[int, ...]:
    """Those of a tensor that lies in memory in an order of its dimensions, without gaps."""
    like = torch.empty([shape[axis] for axis in order], device="meta")
    return like.permute(_inverse(order)).stride()


@lru_cache(maxsize=64)
def _inverse(order: tuple[int, ...]) -> list[int]:
    return [order.index(axis) for axis in range(len(order))]


def _owner(x: Tensor) -> Tensor:
    """The tensor of which ``x`` is another form with the same memory, or x."""
    whole = base(x)
    if whole is None or whole.numel() != x.numel() or not (_is_dense(x) and _is_dense(whole)):
        return x
    return whole


def _is_dense(x: Tensor) -> bool:
    return x.is_contiguous() or _order(x) is not None
