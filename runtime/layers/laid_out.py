"""Weights that are laid out once for the code that reads them, and not in each call.

Torch counts the writes to a tensor, but not those through ``.data``, NumPy or other shared memory. A digest of the
weight's bytes finds such a change before a layout is used again. Reading all weights would take a third of the
time of one image, so a call compares

- weights of at most ``WHOLE`` bytes completely,
- a 64th of a larger weight, and the next 64th in the next call,
- in a later step of a stream the first ``LATER`` numbers of each weight.

The next call or step finds a change of a whole weight. A change of a part of a large weight that torch does not
count is found within 64 calls.
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

WHOLE, LATER = 2**14, 2**12
_PARTS, _DIGEST = 64, 2**8
"""Parts of a large weight, and numbers of a digest (``digest.cpp``)."""


class Layouts:
    """Layouts of a weight, and digests of the bytes that they were made of."""

    __slots__ = ("_count", "_digest", "_head", "_parts", "_place", "_table", "by_name", "of")

    def __init__(self, of: object, weight: Tensor) -> None:
        self.of = of
        self.by_name: dict[str, Any] = {}
        layout = layout_of(weight)
        self._digest = _function() if layout.is_first or layout.is_last else None
        self._count, self._place = weight.numel(), 0
        self._parts = 1 if weight.nbytes <= WHOLE else _PARTS
        if self._digest is None:
            self._table: Any = _crc(weight)
            return
        self._table = [(ctypes.c_uint32 * _DIGEST)() for _ in range(self._parts)]
        self._head = (ctypes.c_uint32 * _DIGEST)()
        self._digest(weight.data_ptr(), min(self._count, LATER), self._head, 1)
        for place in range(self._parts):
            self._is_part(weight.data_ptr(), place, store=1)

    def is_of(self, weight: Tensor) -> bool:
        """True if the bytes of ``weight`` that are read have not changed."""
        if self._digest is None:
            return bool(self._table == _crc(weight))
        if is_later_step():
            return bool(self._digest(weight.data_ptr(), min(self._count, LATER), self._head, 0))
        self._place = (self._place + 1) % self._parts
        return self._is_part(weight.data_ptr(), self._place)

    def _is_part(self, address: int, place: int, store: int = 0) -> bool:
        assert self._digest is not None
        first, end = (self._count * each // self._parts for each in (place, place + 1))
        return bool(self._digest(address + 4 * first, end - first, self._table[place], store))

    def form(self, layer: nn.Conv2d, name: str, make: Callable[[Tensor], Any]) -> Any:
        """Return the result of ``make`` for the layer's weight, computed once."""
        if name not in self.by_name:
            self.by_name[name] = make(layer.weight.detach())
        return self.by_name[name]


_MADE: WeakKeyDictionary[nn.Module, Layouts] = WeakKeyDictionary()
"""By layer. (Not an attribute of the layer, which would be copied and saved.)"""


def layouts(layer: nn.Conv2d) -> Layouts:
    """Return the layouts of a layer's current weight."""
    weight = layer.weight
    of = weight.data_ptr(), internals.version(weight), weight.shape, weight.stride()
    known = _MADE.get(layer)
    if known is None or known.of != of or not known.is_of(weight):
        known = _MADE[layer] = Layouts(of, weight)
    return known


def is_laid_out(x: Tensor, layer: nn.Conv2d) -> bool:
    """True if a layer may use layouts for ``x``: in float32 on a CPU without gradients, for a parameter whose
    writes torch counts."""
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
    function.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_int]
    function.restype = ctypes.c_int
    return function


def _function() -> Callable[..., int] | None:
    return _library() if compiled.COMPILE else None
