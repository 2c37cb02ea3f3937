"""Weights that are laid out once, as what computes with them reads them, and not in each call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from danetc.runtime.kernels import torch_internals as internals
from danetc.runtime.kernels.torch_internals import InternalUse

_MADE: WeakKeyDictionary[nn.Module, tuple[object, dict[str, Any]]] = WeakKeyDictionary()
"""What was made of layers' weights, and of which numbers. (No part of a layer: not copied or saved.)"""


def kept(layer: nn.Conv2d, name: str, make: Callable[[Tensor], Any]) -> Any:
    """What is made of a layer's weight, under a name, once for the numbers that it has."""
    weight = layer.weight
    of, known = (weight.data_ptr(), internals.version(weight)), _MADE.get(layer)
    if known is None or known[0] != of:
        known = _MADE[layer] = of, {}
    if name not in known[1]:
        known[1][name] = make(weight.detach())
    return known[1][name]


def is_laid_out(x: Tensor, weight: Tensor) -> bool:
    """Whether a weight is, for values like ``x``: in float32 on a CPU, where no gradients are wanted and it
    is told when the weight is written to."""
    return (
        not torch.is_grad_enabled()
        and x.dtype == weight.dtype == torch.float32
        and x.is_cpu
        and not weight.is_inference()
        and not torch.is_autocast_enabled("cpu")
        and not internals.is_traced()
        and internals.has(InternalUse.SHARED_BITS)
    )
