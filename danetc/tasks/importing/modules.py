"""THE table of modules that are read as one operation, of torch and of SpikingJelly."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from danetc.compiler.ir.graph import Attribute
from danetc.dsl.neuron.spikingjelly import CLASSES
from danetc.errors import UserError
from danetc.tasks.importing.known_neurons import spikingjelly_neuron
from danetc.tasks.importing.layers import adaptive, batchnorm, flatten, one, pool, sizes
from danetc.tasks.importing.source import SourceBuilder

ReadValue = Callable[[SourceBuilder, Any, int, str], int]
"""A node of a module: of the builder, the module, what it reads, and its path."""

NEURONS = tuple(CLASSES.values())
"""SpikingJelly's that are read."""


def tensors(module: nn.Module) -> dict[str, Tensor]:
    """What a module holds by itself."""
    held = {**dict(module.named_parameters(recurse=False)), **dict(module.named_buffers(recurse=False))}  # fmt: skip
    return {name: value for name, value in held.items() if value is not None}


def _conv(build: SourceBuilder, module: nn.Conv2d, x: int, path: str) -> int:
    if module.padding_mode != "zeros":
        raise UserError(f"{path}: its padding is {module.padding_mode}, and danetc pads with zeros")
    kernel = one(module.kernel_size, path, "kernel")
    dilation = one(module.dilation, path, "dilation")
    padding: Any = module.padding
    if isinstance(padding, str):
        padding = 0 if padding == "valid" else dilation * (kernel - 1) // 2
        if module.padding == "same" and kernel % 2 == 0:
            raise UserError(f"{path}: an even kernel with padding='same' pads one side more")
    attrs: dict[str, Attribute] = {
        "width": module.out_channels,
        **sizes(path, kernel=kernel, stride=module.stride, padding=padding, dilation=dilation),
        "groups": module.groups,
        "bias": module.bias is not None,
    }
    return build.add("conv", [x], attrs, path, tensors(module))


def _linear(build: SourceBuilder, module: nn.Linear, x: int, path: str) -> int:
    if len(build.shape_of(x)) != 1:
        raise UserError(
            f"{path}: a linear layer reads {build.shape_of(x)} and no vector; flatten it"
        )
    attrs = {"width": module.out_features, "bias": module.bias is not None}
    return build.add("linear", [x], attrs, path, tensors(module))


def _batchnorm(build: SourceBuilder, module: nn.BatchNorm2d, x: int, path: str) -> int:
    if not module.track_running_stats or module.running_mean is None:
        raise UserError(f"{path}: a batch norm without running statistics")
    held = tensors(module)
    if not module.affine:
        like = module.running_mean
        held |= {"weight": torch.ones_like(like), "bias": torch.zeros_like(like)}
    op, attrs = batchnorm(module.eps)
    return build.add(op, [x], attrs, path, held)


def _groupnorm(build: SourceBuilder, module: nn.GroupNorm, x: int, path: str) -> int:
    if module.eps != 1e-5 or not module.affine:
        raise UserError(f"{path}: a group norm with another eps than 1e-5, or without weights")
    return build.add("groupnorm", [x], {"groups": module.num_groups}, path, tensors(module))


def _maxpool(build: SourceBuilder, module: nn.MaxPool2d, x: int, path: str) -> int:
    if module.return_indices:
        raise UserError(f"{path}: a max pooling with indices")
    return pool(
        build, "maxpool", x, path, module.kernel_size, module.stride, module.padding,
        dilation=module.dilation, ceil_mode=module.ceil_mode,
    )  # fmt: skip


def _avgpool(build: SourceBuilder, module: nn.AvgPool2d, x: int, path: str) -> int:
    return pool(
        build, "avgpool", x, path, module.kernel_size, module.stride, module.padding,
        ceil_mode=module.ceil_mode, counts_padding=module.count_include_pad,
        divisor=module.divisor_override,
    )  # fmt: skip


def _dropout(build: SourceBuilder, module: nn.Dropout, x: int, path: str) -> int:
    return build.add("dropout", [x], {"p": float(module.p)}, path)


def _sample_dropout(build: SourceBuilder, module: Any, x: int, path: str) -> int:
    return build.add("dropout_per_sample", [x], {"p": float(module.p)}, path)


def activation(build: SourceBuilder, x: int, path: str) -> int:
    """A ReLU, which stands for a neuron where a network has none (``torch_model`` says so)."""
    return build.add("relu", [x], {}, path)


def _function(op: str) -> ReadValue:
    return lambda build, module, x, path: build.add(op, [x], {}, path)


def _gelu(build: SourceBuilder, module: nn.GELU, x: int, path: str) -> int:
    if module.approximate != "none":
        raise UserError(f"{path}: a GELU approximated by {module.approximate}")
    return build.add("gelu", [x], {}, path)


def _upsample(build: SourceBuilder, module: nn.Upsample, x: int, path: str) -> int:
    scale = module.scale_factor
    factors = {*scale} if isinstance(scale, tuple) else {scale}
    if module.mode != "nearest" or len(factors) != 1 or None in factors:
        raise UserError(f"{path}: an upsampling that is not by the nearest pixel and a factor")
    factor = float(factors.pop())  # type: ignore[arg-type]
    if not factor.is_integer():
        raise UserError(f"{path}: an upsampling by {factor}, which is no whole number")
    return build.add("upsample", [x], {"scale": int(factor)}, path)


def _voting(build: SourceBuilder, module: Any, x: int, path: str) -> int:
    channels, size = build.shape_of(x)[0], int(module.voting_size)
    if channels % size:
        raise UserError(f"{path}: {channels} votes are no multiple of {size}")
    groups = channels // size
    return build.add("mean_over", [x], {"over": "channels", "groups": groups}, path)


def _spiking(build: SourceBuilder, module: Any, x: int, path: str) -> int:
    weights = {"w": module.w} if hasattr(module, "w") else {}
    return build.neuron(spikingjelly_neuron(module, path), x, path, weights)


def _same(build: SourceBuilder, module: nn.Module, x: int, path: str) -> int:
    return x


LEAVES: Mapping[str, ReadValue] = {
    "torch.nn.modules.conv.Conv2d": _conv,
    "torch.nn.modules.linear.Linear": _linear,
    "torch.nn.modules.batchnorm.BatchNorm2d": _batchnorm,
    "torch.nn.modules.batchnorm.BatchNorm1d": _batchnorm,
    "torch.nn.modules.normalization.GroupNorm": _groupnorm,
    "torch.nn.modules.pooling.MaxPool2d": _maxpool,
    "torch.nn.modules.pooling.AvgPool2d": _avgpool,
    "torch.nn.modules.pooling.AdaptiveAvgPool2d": lambda build, module, x, path: adaptive(
        build, x, path, module.output_size
    ),
    "torch.nn.modules.flatten.Flatten": lambda build, module, x, path: flatten(build, x, path),
    "torch.nn.modules.dropout.Dropout": _dropout,
    "torch.nn.modules.linear.Identity": _same,
    "torch.nn.modules.activation.ReLU": lambda build, module, x, path: activation(build, x, path),
    "torch.nn.modules.activation.GELU": _gelu,
    "torch.nn.modules.activation.Sigmoid": _function("sigmoid"),
    "torch.nn.modules.activation.Tanh": _function("tanh"),
    "torch.nn.modules.upsampling.Upsample": _upsample,
    "spikingjelly.activation_based.layer.dropout.Dropout": _sample_dropout,
    "spikingjelly.activation_based.layer.misc.VotingLayer": _voting,
    **{f"spikingjelly.activation_based.neuron.{name}": _spiking for name in NEURONS},
}
"""By the full names of classes; a subclass counts where its library has written it."""

_LIBRARIES = ("torch.nn.modules.", "spikingjelly.activation_based.")


def full_name(kind: type) -> str:
    """The name of a class, SpikingJelly's neurons without their file."""
    name = f"{kind.__module__}.{kind.__qualname__}"
    if name.startswith("spikingjelly.activation_based.neuron."):
        return f"spikingjelly.activation_based.neuron.{kind.__qualname__}"
    return name


def reader_of(module: nn.Module) -> ReadValue | None:
    """What reads a module as one operation, or None."""
    kind = type(module)
    if not f"{kind.__module__}.".startswith(_LIBRARIES):
        own = kind.forward
        kinds = [base for base in kind.__mro__ if getattr(base, "forward", None) is own]
        return next((LEAVES[full_name(base)] for base in kinds if full_name(base) in LEAVES), None)
    for base in kind.__mro__:
        found = LEAVES.get(full_name(base))
        if found is _spiking and base is not kind:
            return None  # another neuron that is made of a known one
        if found is not None:
            return found
    return None


def is_leaf(module: nn.Module) -> bool:
    """Whether a module is read as one operation, or is one that cannot be looked into."""
    if reader_of(module) is not None:
        return True
    kind = type(module)
    containers = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
    foreign = f"{kind.__module__}.".startswith(
        ("torch.nn.modules.", "spikingjelly.activation_based.layer.", "spikingjelly.activation_based.neuron.")
    )  # fmt: skip
    return foreign and not isinstance(module, containers)


def check_readable(module: nn.Module, path: str) -> None:
    """Raise UserError for a module that is no leaf of the table and cannot be looked into."""
    if is_leaf(module) and reader_of(module) is None:
        raise UserError(
            f"{path}: danetc cannot read a {full_name(type(module))}. Replace it by modules that it "
            "can read (danetc.tasks.importing.modules.LEAVES), or write its network by hand"
        )
