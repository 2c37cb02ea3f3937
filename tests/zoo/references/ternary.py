"""Ternary spikes: the sign of a membrane beyond 0.5, whose gradient passes from -1 to 1."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tests.zoo.harness import Case
from tests.zoo.parts import MeanOverPixels, MeanOverTime, Neurons, StepNorm, conv, stages


class _Sign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, v: Tensor) -> Tensor:
        ctx.save_for_backward(v)
        return v.sign() * (v.abs() >= 0.5)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (v,) = ctx.saved_tensors
        return gradients[0] * (v.abs() < 1)


class Ternary(Neurons):
    def __init__(self, learnt: bool) -> None:
        super().__init__()
        self.amplitude = nn.Parameter(torch.tensor(1.25)) if learnt else 1.0

    def fire(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        v = 0.25 * states[0] + x
        o: Tensor = _Sign.apply(v)  # type: ignore[no-untyped-call]
        return o * self.amplitude, v * (1 - o.abs())


def network(
    classes: int = 10, image: int = 32, steps: int = 2, width: int = 128, amplitude: object = 1.0
) -> nn.Module:
    def neurons() -> nn.Module:
        return Ternary(learnt=amplitude != 1.0)

    return nn.Sequential(
        *(conv(3, width), StepNorm(width), neurons()),
        stages(width, (width, 2 * width, 4 * width), (3, 3, 2), neurons),
        *(MeanOverPixels(), MeanOverTime(), nn.Linear(4 * width, classes)),
    )


CASE = Case(
    network,
    "the paper's equations",
    small=(
        {"width": 4, "image": 8, "steps": 2},
        {"width": 5, "image": 8, "steps": 3, "amplitude": "learn(1.0)"},
    ),
)
