"""The pre-activation ResNet-18 with SpikingJelly's complementary LIF."""

from __future__ import annotations

from typing import Any

from spikingjelly.activation_based import functional, neuron, surrogate
from torch import Tensor, nn

from tests.zoo.harness import Case
from tests.zoo.parts import Make, MeanOverPixels, StepNorm, conv, linear, stages


class Block(nn.Module):
    def __init__(self, channels: int, width: int, stride: int, neurons: Make) -> None:
        super().__init__()
        self.first = nn.Sequential(StepNorm(channels), neurons())
        self.branch = nn.Sequential(
            *(conv(channels, width, stride=stride, bias=True), StepNorm(width), neurons()),
            conv(width, width, bias=True),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != width:
            self.shortcut = conv(channels, width, 1, stride=stride, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        out: Tensor = self.branch(x) + self.shortcut(x)
        return out


class CLIF(neuron.ComplementaryLIFNode):  # type: ignore[misc]
    """With the surrogate's derivative in evaluation too, where theirs has none."""

    def single_step_functional_forward(self, inputs: Any, states: Any, **kwargs: object) -> Any:
        spike, v, m = functional.clif_step(
            inputs[0], *states, self.tau, self.v_threshold, self.surrogate_function
        )
        return (spike,), (v, m)


def neurons() -> nn.Module:
    return CLIF(tau=2.0, surrogate_function=surrogate.Rect(alpha=1.0), step_mode="m")


def network(classes: int = 10, image: int = 32, steps: int = 6, width: int = 64) -> nn.Module:
    return nn.Sequential(
        conv(3, width),
        stages(width, (width, 2 * width, 4 * width, 8 * width), (2, 2, 2, 2), neurons, Block),
        *(StepNorm(8 * width), neurons(), MeanOverPixels(), linear(8 * width, classes)),
    )


CASE = Case(
    network,
    "SpikingJelly's ComplementaryLIFNode in its authors' topology",
    small=({"width": 3, "image": 16, "steps": 2}, {"width": 4, "image": 16, "steps": 3}),
)
