"""Modules of torch and SpikingJelly that are read as one operation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from danetc.dsl.neuron.spikingjelly import CLASSES
from danetc.errors import UserError
from danetc.tasks.importing.known_neurons import spikingjelly_neuron
from danetc.tasks.importing.operations import (
    CallSite,
    Reader,
    ReadValue,
    StoredTensor,
    adaptive_avg_pool2d,
    avg_pool2d,
    batch_norm,
    conv2d,
    dropout,
    flatten,
    function,
    linear,
    max_pool2d,
    relu,
    same,
)

NEURONS = tuple(CLASSES.values())
"""SpikingJelly's neurons that are read."""


def _group_norm(
    call: CallSite, x: ReadValue, groups: int, weight: Any, bias: Any, eps: float
) -> ReadValue:
    if eps != 1e-5 or weight is None:
        raise call.refuse("a group norm with another eps than 1e-5, or without weights")
    return call.add("groupnorm", x, {"groups": groups}, weight=weight, bias=bias)


def _norm(call: CallSite, x: ReadValue, mean: Any, variance: Any, weight: Any, bias: Any, counter: Any, eps: float) -> ReadValue:  # fmt: skip
    if mean is None:
        raise call.refuse("a batch norm without running statistics")
    if weight is None:
        like = mean.tensor
        weight, bias = StoredTensor(torch.ones_like(like)), StoredTensor(torch.zeros_like(like))
    return batch_norm(
        call, x, mean, variance, weight, bias, eps=eps, num_batches_tracked=counter
    )  # fmt: skip


def _gelu(call: CallSite, x: ReadValue, approximate: str) -> ReadValue:
    if approximate != "none":
        raise call.refuse(f"a GELU approximated by {approximate}")
    return call.add("gelu", x)


def _upsample(call: CallSite, x: ReadValue, scale: Any, mode: str) -> ReadValue:
    factors = {*scale} if isinstance(scale, tuple) else {scale}
    if mode != "nearest" or len(factors) != 1 or None in factors:
        raise call.refuse("an upsampling that is not by the nearest pixel and a factor")
    factor = float(factors.pop())
    if not factor.is_integer():
        raise call.refuse(f"an upsampling by {factor}, which is no whole number")
    return call.add("upsample", x, {"scale": int(factor)})


def _voting(call: CallSite, x: ReadValue, size: int) -> ReadValue:
    channels = call.shape(x)[0]
    if channels % size:
        raise call.refuse(f"{channels} votes are no multiple of {size}")
    return call.add("mean_over", x, {"over": "channels", "groups": channels // size})


def _flatten(
    call: CallSite, x: ReadValue, start: int, end: int, step_mode: str | None
) -> ReadValue:
    """Read a flatten, whose dimensions do not include T in SpikingJelly's multi-step mode."""
    return flatten(call, x, start + (step_mode == "m"), end)


def _spiking(call: CallSite, x: ReadValue, module: Any, w: StoredTensor | None) -> ReadValue:
    program = spikingjelly_neuron(module, call.path)
    node = call.build.neuron(program, x.node, call.path, {} if w is None else {"w": w.tensor})
    call.build.places[node] = {} if w is None else {"w": w.path}
    return ReadValue(node, x.leading, x.flat)


_NORM = (_norm, "running_mean running_var weight bias num_batches_tracked eps")
MODULES: Mapping[str, tuple[Reader, str]] = {
    "torch.nn.modules.conv.Conv2d": (
        conv2d,
        "weight bias stride padding dilation groups padding_mode",
    ),
    "torch.nn.modules.linear.Linear": (linear, "weight bias"),
    "torch.nn.modules.batchnorm.BatchNorm2d": _NORM,
    "torch.nn.modules.batchnorm.BatchNorm1d": _NORM,
    "torch.nn.modules.normalization.GroupNorm": (_group_norm, "num_groups weight bias eps"),
    "torch.nn.modules.pooling.MaxPool2d": (
        max_pool2d,
        "kernel_size stride padding dilation ceil_mode return_indices",
    ),
    "torch.nn.modules.pooling.AvgPool2d": (
        avg_pool2d,
        "kernel_size stride padding ceil_mode count_include_pad divisor_override",
    ),
    "torch.nn.modules.pooling.AdaptiveAvgPool2d": (adaptive_avg_pool2d, "output_size"),
    "torch.nn.modules.flatten.Flatten": (_flatten, "start_dim end_dim step_mode"),
    "torch.nn.modules.dropout.Dropout": (dropout, "p"),
    "torch.nn.modules.linear.Identity": (same, ""),
    "torch.nn.modules.activation.ReLU": (relu, ""),
    "torch.nn.modules.activation.GELU": (_gelu, "approximate"),
    "torch.nn.modules.activation.Sigmoid": (function("sigmoid"), ""),
    "torch.nn.modules.activation.Tanh": (function("tanh"), ""),
    "torch.nn.modules.upsampling.Upsample": (_upsample, "scale_factor mode"),
    "spikingjelly.activation_based.layer.dropout.Dropout": (
        lambda call, x, p: call.add("dropout", x, {"p": float(p), "per": "sample"}),
        "p",
    ),
    "spikingjelly.activation_based.layer.misc.VotingLayer": (_voting, "voting_size"),
    **{f"spikingjelly.activation_based.neuron.{name}": (_spiking, "w") for name in NEURONS},
}
"""Readers and the attributes that are their arguments, by the full names of classes and of their base
classes."""

_LIBRARIES = ("torch.nn.modules.", "spikingjelly.activation_based.")


def full_name(kind: type) -> str:
    """Return the name of a class, that of SpikingJelly's neurons without their file."""
    name = f"{kind.__module__}.{kind.__qualname__}"
    neurons = "spikingjelly.activation_based.neuron."
    return f"{neurons}{kind.__qualname__}" if name.startswith(neurons) else name


def row_of(module: nn.Module) -> tuple[Reader, str] | None:
    """Return the row of a module, or None.

    Subclasses count if they are of the libraries, or if they inherit ``forward``.
    """
    kind = type(module)
    kinds = kind.__mro__
    if not f"{kind.__module__}.".startswith(_LIBRARIES):
        kinds = tuple(k for k in kinds if getattr(k, "forward", None) is kind.forward)
    base = next((base for base in kinds if full_name(base) in MODULES), None)
    if base is None:
        return None
    row = MODULES[full_name(base)]
    derived = base is not kind and f"{kind.__module__}.".startswith(_LIBRARIES)
    return None if row[0] is _spiking and derived else row  # another neuron, made of a known one


def read_module(call: CallSite, module: Any, x: ReadValue) -> ReadValue:
    """Read a module of the table; ``call.path`` is its path."""
    row = row_of(module)
    assert row is not None
    reader, attributes = row
    held = (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))
    paths = {id(tensor): f"{call.path}.{name}" for name, tensor in held}
    given: list[Any] = [getattr(module, name, None) for name in attributes.split()]
    args = [StoredTensor(item, paths[id(item)]) if id(item) in paths else item for item in given]
    return reader(call, x, *([module] if reader is _spiking else []), *args)


def is_leaf(module: nn.Module) -> bool:
    """Return True if a module is read as one operation, or is one that cannot be looked into."""
    if row_of(module) is not None:
        return True
    foreign = f"{type(module).__module__}.".startswith(
        ("torch.nn.modules.", "spikingjelly.activation_based.layer.", "spikingjelly.activation_based.neuron.")
    )  # fmt: skip
    return foreign and not isinstance(module, (nn.Sequential, nn.ModuleList, nn.ModuleDict))


def check_readable(module: nn.Module, path: str) -> None:
    """Raise UserError for a module without a row that cannot be looked into."""
    if is_leaf(module) and row_of(module) is None:
        raise UserError(
            f"{path}: danetc cannot read a {full_name(type(module))}. Replace it by modules that it "
            "can read (danetc.tasks.importing.modules.MODULES), or write its network by hand"
        )
