"""The step function with a surrogate derivative, in plain PyTorch."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Slope = Callable[[Tensor], Tensor]
"""The surrogate derivative of the step function."""


class _Step(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: Slope) -> Tensor:
        ctx.save_for_backward(x)
        ctx.slope = slope
        return (x >= 0).to(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        return gradients[0] * ctx.slope(x), None


def step(x: Tensor, slope: Slope) -> Tensor:
    """1 where x is at least 0, otherwise 0, with the derivative ``slope(x)``."""
    fired: Tensor = _Step.apply(x, slope)  # type: ignore[no-untyped-call]
    return fired


def sigmoid(alpha: float) -> Slope:
    """The derivative of sigmoid(alpha x)."""

    def slope(x: Tensor) -> Tensor:
        y = torch.sigmoid(alpha * x)
        return alpha * y * (1 - y)

    return slope


def atan(alpha: float) -> Slope:
    """The derivative of arctan(pi alpha x / 2) / pi, SpikingJelly's ATan."""
    return lambda x: alpha / 2 / (1 + (torch.pi / 2 * alpha * x).square())


def rectangle(width: float = 1.0) -> Slope:
    return lambda x: (x.abs() < width / 2).to(x) / width


def triangle(x: Tensor) -> Tensor:
    return (1 - x.abs()).clamp(min=0)
