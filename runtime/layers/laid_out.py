"""Weights that are laid out once, as what computes with them reads them, and not in each call.

Torch counts how often a tensor is written to, but not what is written through ``.data``, NumPy or
other memory that is shared. A digest of the weight's bytes finds such a change before a layout is used
again. To read all weights would take a third of the time of one image, so that a call compares

- weights of at most ``WHOLE`` bytes whole,
- a sixteenth of a larger weight, and another sixteenth in the next call,
- in a later step of a stream the first ``LATER`` numbers of each weight.

A change of a whole weight is found by the next call or step; one of a part of a large weight, that torch does
not count, within 16 calls.
"""

from __future__ import annotations

import ctypes
import zlib
from collections.abc import Callable
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from danetc.runtime.kernels import compiled, native
from danetc.runtime.kernels import torch_internals as internals
from danetc.runtime.kernels.torch_internals import InternalUse
from danetc.runtime.layers.layouts import layout_of
from danetc.runtime.model.stepping import is_later_step

WHOLE, LATER = 2**18, 2**12
_WINDOWS, _TABLE = 16, 2**12
"""A weight is digested in so many parts, into a table of so many numbers (``digest.cpp``)."""


class Layouts:
    """What was made of a weight, and the digest of the bytes that it was made of."""

    __slots__ = ("_digest", "_head", "_next", "_table", "_windows", "by_name", "of")

    def __init__(self, of: object, weight: Tensor) -> None:
        self.of = of
        self.by_name: dict[str, Any] = {}
        self._windows, self._next = _WINDOWS if weight.nbytes <= WHOLE else 1, 0
        arrangement = layout_of(weight)
        is_dense = arrangement.is_first or arrangement.is_last
        self._digest = _function() if is_dense else None
        self._table: Any = _crc(weight) if self._digest is None else (ctypes.c_uint32 * _TABLE)()
        self._head = (ctypes.c_uint32 * (_TABLE // _WINDOWS))()
        if self._digest is not None:
            address, count = weight.data_ptr(), weight.numel()
            self._digest(address, count, self._table, 0, _WINDOWS, 1)
            self._digest(address, min(count, LATER), self._head, 0, 1, 1)

    def is_of(self, weight: Tensor) -> bool:
        """Whether the bytes of ``weight`` are still the same, as far as they are read."""
        if self._digest is None:
            return bool(self._table == _crc(weight))
        address, count = weight.data_ptr(), weight.numel()
        if is_later_step():
            return bool(self._digest(address, min(count, LATER), self._head, 0, 1, 0))
        first = self._next
        self._next = (first + self._windows) % _WINDOWS
        return bool(self._digest(address, count, self._table, first, self._windows, 0))

    def form(self, layer: nn.Conv2d, name: str, make: Callable[[Tensor], Any]) -> Any:
        """What ``make`` gives for the layer's weight, made once."""
        if name not in self.by_name:
            self.by_name[name] = make(layer.weight.detach())
        return self.by_name[name]


_MADE: WeakKeyDictionary[nn.Module, Layouts] = WeakKeyDictionary()
"""By layer. (No part of a layer: not copied or saved.)"""


def layouts(layer: nn.Conv2d) -> Layouts:
    """The layouts of a layer's weight as it is now."""
    weight = layer.weight
    of = weight.data_ptr(), internals.version(weight), weight.shape, weight.stride()
    known = _MADE.get(layer)
    if known is None or known.of != of or not known.is_of(weight):
        known = _MADE[layer] = Layouts(of, weight)
    return known


def is_laid_out(x: Tensor, layer: nn.Conv2d) -> bool:
    """Whether the weight of a layer is, for values like ``x``: a parameter in float32 on a CPU, where no
    gradients are wanted and torch counts how often the weight is written to."""
    weight = layer._parameters.get("weight")
    return (
        weight is not None
        and not torch.is_grad_enabled()
        and x.dtype == weight.dtype == torch.float32
        and x.is_cpu
        and weight.is_cpu
        and not weight.is_inference()
        and not torch.is_autocast_enabled("cpu")
        and not internals.is_traced()
        and internals.has(InternalUse.SHARED_BITS)
    )


def _crc(weight: Tensor) -> int:
    return zlib.crc32(weight.contiguous().numpy().data)


@lru_cache(maxsize=1)
def _library() -> Callable[..., int] | None:
    made = native.library("the digest of weights", native.source("digest.cpp"))
    if made is None:
        return None
    function = made.digest
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    function.argtypes = [pointer, number, pointer, number, number, ctypes.c_int]
    function.restype = ctypes.c_int
    return function


def _function() -> Callable[..., int] | None:
    return _library() if compiled.COMPILE else None
