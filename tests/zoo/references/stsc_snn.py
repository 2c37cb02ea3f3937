"""Convolutions over time and a gate of the same inputs, and three layers of neurons."""

from __future__ import annotations

from spikingjelly.activation_based import layer
from torch import Tensor, nn

from tests.zoo.harness import Case
from tests.zoo.parts import Flatten, MeanOverTime, lif, linear, louder


class Synapse(nn.Module):
    """Of [T, N, C]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.kept = nn.Conv1d(channels, channels, 5, padding=2, groups=channels, bias=False)
        self.gate = nn.Conv1d(channels, channels, 3, padding=1)
        self.mix = nn.Linear(channels, channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        series = x.permute(1, 2, 0)
        around = self.gate(series).relu().permute(2, 0, 1)
        kept: Tensor = self.kept(series).permute(2, 0, 1)
        return kept * (1 - self.mix(around).sigmoid())


def spikes() -> nn.Module:
    return lif(tau=10.0, decay_input=False, v_threshold=0.3, detach_reset=True)


def network(classes: int = 20, inputs: int = 700, steps: int = 15, width: int = 128) -> nn.Module:
    return nn.Sequential(
        *(Flatten(), Synapse(inputs), linear(inputs, width), spikes()),
        *(linear(width, width), spikes(), linear(width, 5 * classes), spikes()),
        *(layer.VotingLayer(5, step_mode="m"), MeanOverTime()),
    )


CASE = Case(
    network,
    "SpikingJelly's layers in its authors' topology",
    small=(
        {"inputs": 8, "width": 8, "steps": 6, "classes": 4},
        {"inputs": 6, "width": 10, "steps": 7, "classes": 3},
    ),
    prepare=louder(1.5),
)
