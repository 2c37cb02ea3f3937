"""danet_c_small: a spiking network of 1 time steps, by danetc. Needs torch alone.

    model = load("weights.safetensors")  # or Model(), with new weights
    y = model(x)  # x: [N, 1, 8, 8] (T = 1) or [T, N, 1, 8, 8]; y: [N, 10]
"""

import hashlib
import json
from collections import OrderedDict
from pathlib import Path

import torch
from torch import Tensor, nn


class Frames(nn.Module):
    """A layer of torch for each frame: all dimensions before a sample's become one."""

    rank = 3

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(0, -self.rank - 1)).unflatten(0, x.shape[: -self.rank])


class Chain(nn.Sequential):
    """Modules under their names, one after the other."""

    def __init__(self, **modules: nn.Module) -> None:
        super().__init__(OrderedDict(modules))


class Conv2d(Frames, nn.Conv2d): ...
class AdaptiveAvgPool2d(Frames, nn.AdaptiveAvgPool2d): ...


class ReLU(nn.Module):
    """The neuron ReLU: each element by itself."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x)


class OriginBasic(nn.Module):
    """The block `basic` wired by the connection `origin`."""

    def __init__(self, in_channels: int, channels: int, stride: int, projection: bool) -> None:
        super().__init__()
        self.branch = Chain(
            conv1=Conv2d(
                in_channels, channels, kernel_size=3, stride=stride, padding=1, bias=False
            ),
            norm1=StaticBatchNorm2d(channels, steps=1),
            spike=ReLU(),
            conv2=Conv2d(channels, channels, kernel_size=3, padding=1, bias=False),
            norm2=StaticBatchNorm2d(channels, steps=1),
        )
        self.shortcut = nn.Identity()
        if projection:
            self.shortcut = Chain(
                conv=Conv2d(in_channels, channels, kernel_size=1, stride=stride, bias=False),
                norm=StaticBatchNorm2d(channels, steps=1),
            )
        self.spike = ReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.branch(x) + self.shortcut(x)
        return self.spike(x)


class Head(nn.Module):
    """head: [N, 32, 2, 2] to [N, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.avgpool = AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = mean_over_time(self.avgpool(x), rank=3)
        return self.linear(torch.flatten(x, start_dim=-3))


class Stage(nn.Module):
    """A stage of `origin` blocks under the rule `densely_additive`."""

    def __init__(self, in_channels: int, channels: int, stride: int, projection: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([
            OriginBasic(in_channels, channels, stride=stride, projection=projection),
            OriginBasic(channels, channels, stride=1, projection=False),
            OriginBasic(channels, channels, stride=1, projection=False),
        ])

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks[0](x)
        x = x + self.blocks[1](x)
        return self.blocks[-1](x)


class Model(nn.Module):
    """The network: [N, 1, 8, 8] to [N, 10]."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Chain(
            conv=Conv2d(1, 8, kernel_size=3, padding=1, bias=False),
            norm=StaticBatchNorm2d(8, steps=1),
            spike=ReLU(),
        )
        self.stages = nn.ModuleList([
            Stage(8, 8, stride=1, projection=False),
            Stage(8, 16, stride=2, projection=True),
            Stage(16, 32, stride=2, projection=True),
        ])
        self.head = Head()
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        check_input(self, x, (1, 8, 8))
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return self.head(x)


class StaticBatchNorm2d(nn.BatchNorm2d):
    """Batch norm of a value that is the same at all ``steps``: computed once, counted T times."""

    def __init__(self, channels: int, steps: int, rank: int = 3, eps: float = 1e-5) -> None:
        super().__init__(channels, eps=eps)
        self.steps = steps
        self.rank = rank

    def forward(self, x: Tensor) -> Tensor:
        steps = self.steps if x.dim() == self.rank + 1 else 1
        flat = x.flatten(0, -self.rank - 1)
        count = flat.numel() // flat.shape[1]
        if self.training and count * steps == 1:
            raise ValueError("training needs more than one value a channel")
        counted = self.training and steps > 1 and count > 0
        variance = torch.zeros_like(self.running_var) if counted else self.running_var
        stats = (self.running_mean, variance, self.training, 0.1, self.eps)
        y = torch.batch_norm(flat, self.weight, self.bias, *stats, torch.backends.cudnn.enabled)
        if self.training:
            self.num_batches_tracked.add_(1)
        if counted:
            self.running_var.mul_(1 - 0.1)
        if counted and count > 1:
            share = (count - 1) / count * (count * steps) / (count * steps - 1)
            self.running_var.add_(variance, alpha=share)
        return y.reshape(x.shape)


def mean_over_time(x: Tensor, rank: int = 3) -> Tensor:
    """[T, N, ...] averaged over T; what is static stays as it is."""
    return x if x.dim() == rank + 1 else x.mean(0)


def check_input(model: nn.Module, x: Tensor, size: tuple[int, ...], sequence: bool = False) -> None:
    """Raise an error that says what the model takes, where x is something else."""
    if torch.compiler.is_compiling() or isinstance(x, torch.fx.Proxy):
        return
    sizes = ", ".join(map(str, size))
    takes = f"the model takes {'' if sequence else f'[N, {sizes}] or '}[T, N, {sizes}]"
    if not isinstance(x, Tensor):
        raise TypeError(f"{takes}, a tensor, not a {type(x).__name__}")
    leading = x.dim() - len(size)
    if leading not in (1 + sequence, 2) or x.shape[leading:] != size:
        raise ValueError(f"{takes}, not {list(x.shape)}")
    dtype = next((p.dtype for p in model.parameters()), x.dtype)
    mixed = torch.is_autocast_enabled(x.device.type) and x.dtype != torch.float64
    if not x.is_floating_point() or (x.dtype != dtype and not mixed):
        raise ValueError(f"the model takes {dtype}, as its weights are, not {x.dtype}")


def load(path: str = "weights.safetensors") -> Model:
    """The network with the weights of a safetensors file; a SHA-256 in its header is checked."""
    file = bytearray(Path(path).read_bytes())
    start = 8 + int.from_bytes(file[:8], "little")
    header = json.loads(file[8:start])
    known = header.pop("__metadata__", {}).get("sha256")
    if known and hashlib.sha256(file.replace(known.encode(), b"0" * 64, 1)).hexdigest() != known:
        raise ValueError(f"{path} is damaged: it has another SHA-256")
    types = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
    types |= {"F64": torch.float64, "I64": torch.int64}
    weights = {}
    for name, entry in header.items():
        first, last = (start + offset for offset in entry["data_offsets"])
        values = torch.frombuffer(file[first:last], dtype=types[entry["dtype"]])
        weights[name] = values.reshape(entry["shape"])
    model = Model()
    model.load_state_dict(weights)
    return model
