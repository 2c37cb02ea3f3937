"""Weights that are laid out once for the code that reads them, and not in each call.

A layout is reused while the layer has the same parameter with the same data pointer and version counter. The version
counter does not include writes through ``.data`` or NumPy. A sample of the numbers detects writes that change most of a
weight, such as a step of an optimizer; call ``forget_layouts`` after others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from weakref import ReferenceType, WeakKeyDictionary, ref

import numpy as np
import torch
from torch import Tensor, nn

from danetc.runtime.kernels import torch_internals as internals
from danetc.runtime.kernels.torch_internals import InternalUse

_SAMPLE = 64
"""Most numbers of a weight that each call compares, one of a filter."""


@dataclass(frozen=True, slots=True)
class _Layouts:
    """Layouts of a weight. ``numbers`` is a view of its memory, which keeps another tensor from being put there."""

    weight: ReferenceType[Tensor]
    place: tuple[object, ...]
    numbers: np.ndarray[Any, np.dtype[np.float32]]
    sample: bytes
    by_name: dict[str, Any] = field(default_factory=dict)


_MADE: WeakKeyDictionary[nn.Module, _Layouts] = WeakKeyDictionary()
"""By layer. (Not an attribute of the layer, which would be copied and saved.)"""


def form(layer: nn.Conv2d, name: str, make: Callable[[Tensor], Any]) -> Any:
    """Return the result of ``make`` for the layer's weight, computed once."""
    weight = layer.weight
    place = weight.data_ptr(), internals.version(weight), weight.shape, weight.stride()
    known = _MADE.get(layer)
    if (
        known is None
        or known.weight() is not weight
        or known.place != place
        or known.numbers.tobytes() != known.sample
    ):
        numbers = weight.detach()[:_SAMPLE, 0, 0, 0].numpy()
        known = _MADE[layer] = _Layouts(ref(weight), place, numbers, numbers.tobytes())
    if name not in known.by_name:
        known.by_name[name] = make(weight.detach())
    return known.by_name[name]


def forget_layouts(model: nn.Module) -> None:
    """Lay out the weights of a model again in its next call."""
    for layer in model.modules():
        _MADE.pop(layer, None)


def is_laid_out(x: Tensor, layer: nn.Conv2d) -> bool:
    """True if a layer may use layouts for ``x``: in float32 on a CPU without gradients, for a parameter whose writes
    torch counts."""
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
