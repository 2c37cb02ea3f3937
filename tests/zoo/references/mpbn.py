"""VGG-16 with SpikingJelly's MPBNLIFNode, whose batch norm sees each step by itself."""

from __future__ import annotations

from spikingjelly.activation_based import neuron, surrogate
from torch import nn

from tests.zoo.harness import Case
from tests.zoo.parts import Flatten, MeanOverTime, conv, linear, maxpool, norm


def neurons(channels: int) -> nn.Module:
    return neuron.MPBNLIFNode(  # type: ignore[no-any-return]
        tau=4 / 3,
        decay_input=False,
        out_channels=channels,
        v_threshold=0.5,
        v_reset=0.0,
        surrogate_function=surrogate.Rect(alpha=1.0),
        step_mode="m",
    )


def network(classes: int = 10, image: int = 32, steps: int = 4, width: int = 64) -> nn.Module:
    layers, channels = nn.Sequential(), 3
    for count, factor in ((2, 1), (2, 2), (3, 4), (3, 8), (3, 8)):
        for _ in range(count):
            made = factor * width
            layers.extend((conv(channels, made, bias=True), norm(made), neurons(made)))
            channels = made
        layers.append(maxpool())
    entries = channels * (image // 32) ** 2
    layers.extend((Flatten(), linear(entries, classes), MeanOverTime()))
    return layers


CASE = Case(
    network,
    "SpikingJelly's MPBNLIFNode",
    small=({"width": 2, "image": 32, "steps": 2}, {"width": 3, "image": 32, "steps": 3}),
)
