"""Layers that a standalone ``model.py`` is made of; what a model needs of them is copied into it.

Values that vary over time are [T, N, C, H, W] (or [T, N, C]), static ones [N, C, H, W]; ``rank``
is the number of dimensions of one sample, 3 for maps and 1 for vectors. This file is read as text:
it may use torch and the standard library, nothing of danetc.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor, nn


def frames(layer: Callable[[Tensor], Tensor], x: Tensor, rank: int = 3) -> Tensor:
    """Apply a layer that knows no time: all dimensions before a sample's become one."""
    y: Tensor = layer(x.flatten(0, -rank - 1)).unflatten(0, x.shape[:-rank])
    return y


def check_input(model: nn.Module, x: Tensor, size: tuple[int, ...], sequence: bool = False) -> None:
    """Raise an error that says what the model takes, where x is something else."""
    if torch.compiler.is_compiling() or isinstance(x, torch.fx.Proxy):
        return
    sizes = ", ".join(map(str, size))
    forms = [] if sequence else [f"[N, {sizes}]"]
    takes = f"the model takes {' or '.join([*forms, f'[T, N, {sizes}]'])}"
    if not isinstance(x, Tensor):
        raise TypeError(f"{takes}, a tensor, not a {type(x).__name__}")
    ranks = range(len(size) + (2 if sequence else 1), len(size) + 3)
    if x.dim() not in ranks or x.shape[-len(size) :] != size:
        raise ValueError(f"{takes}, not {list(x.shape)}")
    dtype = next((p.dtype for p in model.parameters()), x.dtype)
    mixed = torch.is_autocast_enabled(x.device.type) and x.dtype != torch.float64
    if not x.is_floating_point() or (x.dtype != dtype and not mixed):
        raise ValueError(f"the model takes {dtype}, as its weights are, not {x.dtype}")


class Chain(nn.Sequential):
    """Modules under their names, one after the other."""

    def __init__(self, **modules: nn.Module) -> None:
        super().__init__(OrderedDict(modules))


class Numbered(nn.Module):
    """A module that has children "0", "1", ...: ``self[0]``, ``self[1]``, ..."""

    def __getitem__(self, index: int) -> nn.Module:
        return self.get_submodule(str(index))


class Group(Numbered):
    """Modules under their names, called by the module around them."""

    def __init__(self, **modules: nn.Module) -> None:
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)


class Conv2d(nn.Conv2d):
    """Convolution of each frame. Weights start He-normal over the outputs."""

    def reset_parameters(self) -> None:
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
        if self.bias is not None:
            bound = 1 / math.sqrt(self.weight[0].numel())
            nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        return frames(super().forward, x)


class BatchNorm2d(nn.BatchNorm2d):
    """Batch norm of maps with statistics over T and N together."""

    def __init__(self, channels: int, init: float = 1.0) -> None:
        super().__init__(channels)
        nn.init.constant_(self.weight, init)

    def forward(self, x: Tensor) -> Tensor:
        return frames(super().forward, x)


class BatchNorm1d(nn.BatchNorm1d):
    """Batch norm of vectors with statistics over T and N together."""

    def __init__(self, channels: int, init: float = 1.0) -> None:
        super().__init__(channels)
        nn.init.constant_(self.weight, init)

    def forward(self, x: Tensor) -> Tensor:
        return frames(super().forward, x, rank=1)


class GroupNorm(nn.GroupNorm):
    """Group norm of each frame."""

    def __init__(self, groups: int, channels: int, rank: int = 3, init: float = 1.0) -> None:
        super().__init__(groups, channels)
        nn.init.constant_(self.weight, init)
        self.rank = rank

    def forward(self, x: Tensor) -> Tensor:
        return frames(super().forward, x, self.rank)


class StaticBatchNorm2d(nn.BatchNorm2d):
    """Batch norm of a value that is the same at each of ``steps`` time steps.

    It is computed once; the running variance counts T*N*H*W values nevertheless.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, channels: int, steps: int, rank: int = 3, init: float = 1.0) -> None:
        super().__init__(channels)
        nn.init.constant_(self.weight, init)
        self.steps = steps
        self.rank = rank

    def normalise(self, x: Tensor, variance: Tensor) -> Tensor:
        return torch.batch_norm(
            x,
            self.weight,
            self.bias,
            self.running_mean,
            variance,
            self.training,
            0.1,
            self.eps,
            torch.backends.cudnn.enabled,
        )

    def forward(self, x: Tensor) -> Tensor:
        static = x.dim() == self.rank + 1
        flat = x if static else x.flatten(0, 1)
        if not self.training:
            return self.normalise(flat, self.running_var).reshape(x.shape)
        steps = self.steps if static else 1
        count = flat.numel() // flat.shape[1]
        if count * steps == 1:
            raise ValueError("training needs more than one value a channel")
        self.num_batches_tracked.add_(1)
        if steps == 1 or count == 0:
            return self.normalise(flat, self.running_var).reshape(x.shape)
        update = torch.zeros_like(self.running_var)
        y = self.normalise(flat, update)
        self.running_var.mul_(1 - 0.1)
        whole = count * steps
        if count > 1:
            share = (count - 1) / count * whole / (whole - 1)
            self.running_var.add_(update, alpha=share)
        return y


class TemporalEffectiveBatchNorm2d(StaticBatchNorm2d):
    """Batch norm, then a learnt factor for each time step (TEBN)."""

    def __init__(self, channels: int, steps: int, rank: int = 3, init: float = 1.0) -> None:
        super().__init__(channels, steps, rank, init)
        self.scale = nn.Parameter(torch.ones(steps))

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() == self.rank + 2 and len(x) != self.steps:
            raise ValueError(f"the norm knows {self.steps} time steps, not {len(x)}")
        return super().forward(x) * self.scale.view(-1, *[1] * (self.rank + 1))


class StepBatchNorm2d(nn.Module):
    """Batch norm with weights and statistics of its own at each time step."""

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, channels: int, steps: int, rank: int = 3, init: float = 1.0) -> None:
        super().__init__()
        self.steps = steps
        self.rank = rank
        self.weight = nn.Parameter(torch.full((steps, channels), init))
        self.bias = nn.Parameter(torch.zeros(steps, channels))
        self.register_buffer("running_mean", torch.zeros(steps, channels))
        self.register_buffer("running_var", torch.ones(steps, channels))
        self.register_buffer("num_batches_tracked", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        x = per_step(x, self.steps, self.rank)
        if len(x) != self.steps:
            raise ValueError(f"the norm knows {self.steps} time steps, not {len(x)}")
        flat = x.transpose(0, 1).flatten(1, 2)  # [N, T*C, ...]
        if self.training:
            if flat.numel() == flat.shape[1]:
                raise ValueError("training needs more than one value a channel")
            self.num_batches_tracked.add_(1)
        y: Tensor = torch.batch_norm(
            flat,
            self.weight.view(-1),
            self.bias.view(-1),
            self.running_mean.view(-1),
            self.running_var.view(-1),
            self.training,
            0.1,
            1e-5,
            torch.backends.cudnn.enabled,
        )
        y = y.unflatten(1, (self.steps, -1))
        return y.transpose(0, 1)


class MaxPool2d(nn.MaxPool2d):
    """Max pooling of each frame."""

    def forward(self, x: Tensor) -> Tensor:
        return frames(super().forward, x)


class AvgPool2d(nn.AvgPool2d):
    """Average pooling of each frame."""

    def forward(self, x: Tensor) -> Tensor:
        return frames(super().forward, x)


class AdaptiveAvgPool2d(nn.AdaptiveAvgPool2d):
    """Average pooling of each frame to a given size."""

    def forward(self, x: Tensor) -> Tensor:
        return frames(super().forward, x)


class UpsamplingNearest2d(nn.UpsamplingNearest2d):
    """Each pixel of each frame repeated."""

    def forward(self, x: Tensor) -> Tensor:
        return frames(super().forward, x)


class DropPath(nn.Module):
    """Stochastic depth: in training a sample is dropped at all its time steps."""

    def __init__(self, p: float, rank: int) -> None:
        super().__init__()
        self.p = p
        self.rank = rank

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0.0:
            return x
        samples = x.shape[-self.rank - 1]
        draw = torch.rand((samples, *[1] * self.rank), dtype=x.dtype, device=x.device)
        return x * (draw.ge(self.p).to(x.dtype) / (1 - self.p))


def per_step(x: Tensor, steps: int, rank: int) -> Tensor:
    """[N, ...] repeated to [T, N, ...]; a sequence stays as it is."""
    return x.expand(steps, *x.shape) if x.dim() == rank + 1 else x


def concat(xs: list[Tensor], dim: int) -> Tensor:
    """Channels side by side; what is static, [N, ...], is the same at each step of the others."""
    longest = max(xs, key=Tensor.dim)
    lead = longest.shape[: longest.dim() + dim]
    return torch.cat([x.expand(*lead, *x.shape[dim:]) for x in xs], dim)


def mean_over_time(x: Tensor, rank: int) -> Tensor:
    """[T, N, ...] averaged over T; what is static stays as it is."""
    return x if x.dim() == rank + 1 else x.mean(0)


def poisson(x: Tensor, steps: int, rank: int) -> Tensor:
    """At each time step a spike with probability x."""
    rate = per_step(x, steps, rank).clamp(0.0, 1.0)
    draw = torch.rand_like(rate, memory_format=torch.contiguous_format)
    return draw.lt(rate).to(x.dtype)


def latency(x: Tensor, steps: int, rank: int, tau: float) -> Tensor:
    """One spike, at time step floor(tau * ln(1 / x)); gives [T, N, ...]."""
    length = steps if x.dim() == rank + 1 else x.shape[0]
    when = torch.floor(-tau * torch.log(x.clamp(min=0.0, max=1.0)))
    step = torch.arange(length, device=x.device, dtype=x.dtype)
    return when.eq(step.view(length, *[1] * (rank + 1))).to(x.dtype)


SAFETENSORS_TYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
}


def read_safetensors(path: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file: a JSON header, then their bytes.

    A SHA-256 of the file in it (its own digits as zeros) is checked.
    """
    with open(path, "rb") as file:
        whole = bytearray(file.read())
    end = 8 + int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8:end])
    data = whole[end:]
    known = header.pop("__metadata__", {}).get("sha256")
    if known is not None:
        whole[:end] = whole[:end].replace(known.encode(), b"0" * 64, 1)
        if hashlib.sha256(whole).hexdigest() != known:
            raise ValueError(f"{path} is damaged: it has another SHA-256")
    tensors = {}
    for name, entry in header.items():
        first, last = entry["data_offsets"]
        dtype = SAFETENSORS_TYPES[entry["dtype"]]
        flat = torch.frombuffer(data[first:last], dtype=dtype)
        tensors[name] = flat.reshape(entry["shape"])
    return tensors
