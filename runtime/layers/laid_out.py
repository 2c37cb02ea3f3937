"""Weights that are laid out once for the code that reads them, and not in each call.

Torch counts the writes to a tensor, but not those through ``.data``, NumPy or other shared memory. A digest of the
weight's bytes finds such a change before a layout is used again. Reading all weights would take a third of the
time of one image, so a call compares

- weights of at most ``WHOLE`` bytes completely,
- of a larger weight one line of 64 bytes on each page, and another line in the next call; a page has at most 64
  lines and at most half a filter,
- in a later step of a stream the first ``LATER`` numbers of each weight.

The next call or step finds a change of a whole weight, and the next call that of a filter. Another change of a part
of a large weight that torch does not count is found within 64 calls.
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
_LINE, _PAGE, _DIGEST = 16, 64, 2**8
"""Numbers of a line, most lines of a page, and numbers of a digest (``digest.cpp``)."""


class Layouts:
    """Layouts of a weight, and digests of the bytes that they were made of."""

    __slots__ = ("_count", "_digest", "_head", "_page", "_place", "_table", "by_name", "of")

    def __init__(self, of: object, weight: Tensor) -> None:
        self.of = of
        self.by_name: dict[str, Any] = {}
        layout = layout_of(weight)
        self._digest = _function() if layout.is_first or layout.is_last else None
        self._count, self._page, self._place = weight.numel(), _page_of(weight), 0
        if self._digest is None:
            self._table: Any = _crc(weight)
            return
        self._table = [(ctypes.c_uint32 * _DIGEST)() for _ in range(self._page)]
        self._head = (ctypes.c_uint32 * _DIGEST)()
        self._digest(weight.data_ptr(), min(self._count, LATER), 1, 0, self._head, 1)
        for place, table in enumerate(self._table):
            self._digest(weight.data_ptr(), self._count, self._page, place, table, 1)

    def is_of(self, weight: Tensor) -> bool:
        """True if the bytes of ``weight`` that are read have not changed."""
        if self._digest is None:
            return bool(self._table == _crc(weight))
        address = weight.data_ptr()
        if is_later_step():
            return bool(self._digest(address, min(self._count, LATER), 1, 0, self._head, 0))
        self._place = place = (self._place + 1) % self._page
        return bool(self._digest(address, self._count, self._page, place, self._table[place], 0))

    def form(self, layer: nn.Conv2d, name: str, make: Callable[[Tensor], Any]) -> Any:
        """Return the result of ``make`` for the layer's weight, computed once."""
        if name not in self.by_name:
            self.by_name[name] = make(layer.weight.detach())
        return self.by_name[name]


def _page_of(weight: Tensor) -> int:
    """Lines of a page, of which a call reads one."""
    half_a_filter = weight[0].numel() // (2 * _LINE)
    return 1 if weight.nbytes <= WHOLE else min(max(half_a_filter, 1), _PAGE)


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
    function.argtypes = [
        ctypes.c_void_p, ctypes.c_int64, ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_int,
    ]  # fmt: skip
    function.restype = ctypes.c_int
    return function


def _function() -> Callable[..., int] | None:
    return _library() if compiled.COMPILE else None
