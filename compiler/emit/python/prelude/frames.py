"""Layers of frames, containers, autograd functions of neurons, and the norm of a static value."""

from collections import OrderedDict
from runpy import run_path
from typing import Any

import torch
from torch import Tensor, nn


class Frames(nn.Module):
    """A layer of torch for each frame: the dimensions before those of a sample become one."""

    rank = 3

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(0, -self.rank - 1)).unflatten(0, x.shape[: -self.rank])


def class_in(file: str, name: str) -> Any:
    """Return a class of a Python file, which is executed."""
    return run_path(file)[name]


class Chain(nn.Sequential):
    """Modules in sequence, by name."""

    def __init__(self, **modules: nn.Module) -> None:
        super().__init__(OrderedDict(modules))


class Numbered(nn.Module):
    """A module that has children "0", "1", ...: ``self[0]``, ``self[1]``, ..."""

    def __getitem__(self, index: int) -> nn.Module:
        return self.get_submodule(str(index))


class Group(Numbered):
    """Modules by name, which the module around them calls."""

    def __init__(self, **modules: nn.Module) -> None:
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)


class Heaviside(torch.autograd.Function):
    """1 where x >= 0, else 0; a surrogate replaces the derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, surrogate: nn.Module) -> Tensor:
        ctx.save_for_backward(x)
        ctx.surrogate = surrogate
        return (x >= 0.0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return grad * ctx.surrogate(x), None


class Round(torch.autograd.Function):
    """The nearest integer (halves to even), with derivative 1."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.round(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


class StaticBatchNorm2d(nn.BatchNorm2d):
    """Batch norm of a value that is the same at all ``steps``: computed once, counted T times."""

    def __init__(self, channels: int, steps: int, rank: int = 3, **given: float) -> None:
        super().__init__(channels, **given)
        self.steps = steps
        self.rank = rank

    def forward(self, x: Tensor) -> Tensor:
        steps = self.steps if x.dim() == self.rank + 1 else 1
        frames = x.flatten(0, -self.rank - 1)
        count = frames.numel() // frames.shape[1]
        if self.training and count * steps == 1:
            raise ValueError("training needs more than one value per channel")
        counted = self.training and steps > 1 and count > 0
        variance = torch.zeros_like(self.running_var) if counted else self.running_var
        stats = (self.running_mean, variance, self.training, self.momentum, self.eps)
        y = torch.batch_norm(frames, self.weight, self.bias, *stats, torch.backends.cudnn.enabled)
        if self.training:
            self.num_batches_tracked.add_(1)
        if counted:
            self.running_var.mul_(1 - self.momentum)
        if counted and count > 1:
            share = (count - 1) / count * (count * steps) / (count * steps - 1)
            self.running_var.add_(variance, alpha=share)
        return y.view(x.shape)
