"""Weights that are laid out once, as what computes with them reads them, and not in each call.

Torch counts how often a tensor is written to, but not what is written through ``.data``, NumPy or
other memory that is shared. So the digest of a weight's bytes is kept as well, and compared before
what was made of it is used again. That reads all weights, which takes about a third of one time step
of one image. The later steps of a stream therefore read about ``CHECKED`` bytes of a larger weight, and
others in the next step: a change of all of it is noticed at once, a change of a few numbers at the
next stream at the latest.
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
from danetc.runtime.layers.layouts import arrangement_of
from danetc.runtime.model.stepping import is_later_step

CHECKED = 2**16
_CLASSES, _LANES = 256, 16
"""A weight is a row of lines of so many numbers, each line of one of so many classes (``digest.cpp``)."""


class _Made:
    """What was made of a weight, and the digest of the bytes that it was made of."""

    __slots__ = ("_digest", "_few", "_next", "_table", "by_name", "of")

    def __init__(self, of: object, weight: Tensor) -> None:
        self.of = of
        self.by_name: dict[str, Any] = {}
        self._few, self._next = _CLASSES, 0
        while self._few > 1 and weight.nbytes * self._few > CHECKED * _CLASSES:
            self._few //= 2
        arrangement = arrangement_of(weight)
        is_dense = arrangement.is_first or arrangement.is_last
        self._digest = _function() if is_dense else None
        self._table: Any = (ctypes.c_uint32 * (_CLASSES * _LANES))()
        if self._digest is None:
            self._table = _crc(weight)
        else:
            self._digest(weight.data_ptr(), weight.numel(), self._table, 0, _CLASSES, 1)

    def is_of(self, weight: Tensor) -> bool:
        """Whether the bytes of ``weight`` are still the same, as far as they are read."""
        if self._digest is None:
            return bool(self._table == _crc(weight))
        first, classes = 0, _CLASSES
        if self._few < _CLASSES and is_later_step():
            first, classes = self._next, self._few
            self._next = (first + classes) % _CLASSES
        address, count = weight.data_ptr(), weight.numel()
        return bool(self._digest(address, count, self._table, first, classes, 0))


_MADE: WeakKeyDictionary[nn.Module, _Made] = WeakKeyDictionary()
"""By layer. (No part of a layer: not copied or saved.)"""


def kept(layer: nn.Conv2d, name: str, make: Callable[[Tensor], Any]) -> Any:
    """What is made of a layer's weight, under a name, once for the numbers that it has."""
    weight = layer.weight.detach()
    of = weight.data_ptr(), internals.version(weight), weight.shape, weight.stride()
    known = _MADE.get(layer)
    if known is None or known.of != of or not known.is_of(weight):
        known = _MADE[layer] = _Made(of, weight)
    if name not in known.by_name:
        known.by_name[name] = make(weight)
    return known.by_name[name]


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
    made = native.library("digest.cpp", native.text("digest.cpp"))
    if made is None:
        return None
    function = made.digest
    pointer, number = ctypes.c_void_p, ctypes.c_int64
    function.argtypes = [pointer, number, pointer, number, number, ctypes.c_int]
    function.restype = ctypes.c_int
    return function


def _function() -> Callable[..., int] | None:
    return _library() if compiled.COMPILE and native.LIBRARIES else None
