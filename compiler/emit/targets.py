"""What the code of a model may call: classes and functions of known modules, by their names."""

from __future__ import annotations

import importlib
from typing import Any

import torch

import danetc.runtime.kernels.composed_operators
import danetc.runtime.kernels.neuron_operators  # noqa: F401  (both register torch.ops.danetc)
from danetc.compiler.ir.ops import TorchFunction, TorchModule

NAMESPACES = frozenset(
    {
        "operator",
        "torch",
        "torch.nn",
        "torch.nn.functional",
        "torch.ops.danetc",
        "danetc.runtime.layers.accumulated",
        "danetc.runtime.layers.attention",
        "danetc.runtime.layers.axes",
        "danetc.runtime.layers.inference",
        "danetc.runtime.layers.joined",
        "danetc.runtime.layers.learnt",
        "danetc.runtime.layers.packed",
        "danetc.runtime.layers.spike_conv",
        "danetc.runtime.layers.neuron",
        "danetc.runtime.layers.norm",
        "danetc.runtime.layers.spikingjelly",
        "danetc.runtime.layers.time",
    }
)
"""The modules whose public names a model may call."""


def resolve(target: str) -> Any:
    """The class or function of a dotted name, from the allowed modules alone."""
    namespace, _, name = target.rpartition(".")
    if namespace not in NAMESPACES or name.startswith("_"):
        raise ValueError(f"a model may not call {target}")
    if namespace == "torch.ops.danetc":
        return getattr(torch.ops.danetc, name).default
    return getattr(importlib.import_module(namespace), name)


def is_stepping(call: TorchModule | TorchFunction) -> bool:
    """Whether what an operation becomes has a state from one time step to the next."""
    return isinstance(call, TorchModule) and hasattr(resolve(call.target), "advance")
