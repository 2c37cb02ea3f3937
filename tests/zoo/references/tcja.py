"""The network of TCJA for DVS128 Gesture: layers, of which the last two have a gate, and votes."""

from __future__ import annotations

from spikingjelly.activation_based import layer
from torch import Tensor, nn

from tests.zoo.harness import Case
from tests.zoo.parts import Flatten, MeanOverTime, conv, lif, linear, louder, maxpool, norm


class Gate(nn.Module):
    """The mean over pixels as a matrix [N, C, T]: over time with C channels, over channels with T."""

    def __init__(self, channels: int, steps: int, gate: str, kernel: int = 4) -> None:
        super().__init__()
        options = {"padding": "same", "bias": False}
        self.steps = nn.Conv1d(channels, channels, kernel, **options)
        self.channels = nn.Conv1d(steps, steps, kernel, **options) if gate != "tla" else None

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((3, 4))  # [T, N, C]
        product = self.steps(mean.permute(1, 2, 0)).permute(2, 0, 1)
        if self.channels is not None:
            product = product * self.channels(mean.permute(1, 0, 2)).permute(1, 0, 2)
        return x * product.sigmoid()[..., None, None]


def spikes() -> nn.Module:
    return lif(tau=2.0, detach_reset=True)


def network(
    classes: int = 11,
    image: int = 128,
    steps: int = 20,
    width: int = 128,
    gate: str = "joint",
    drop: float = 0.5,
) -> nn.Module:
    layers: list[nn.Module] = []
    for i in range(5):
        layers += [conv(width if i else 2, width), norm(width), spikes()]
        layers += [Gate(width, steps, gate)] if i >= 3 else []
        layers.append(maxpool())
    return nn.Sequential(
        *(*layers, Flatten(), layer.Dropout(drop, step_mode="m")),
        *(linear(width * (image // 32) ** 2, 4 * width, bias=False), spikes()),
        layer.Dropout(drop, step_mode="m"),
        *(linear(4 * width, 10 * classes, bias=False), spikes()),
        *(layer.VotingLayer(10, step_mode="m"), MeanOverTime()),
    )


CASE = Case(
    network,
    "SpikingJelly's layers in its authors' topology",
    small=(
        {"width": 4, "image": 32, "steps": 4, "classes": 3, "drop": 0.0},
        {"width": 5, "image": 32, "steps": 5, "classes": 2, "drop": 0.0},
        {"width": 5, "image": 32, "steps": 3, "classes": 2, "drop": 0.0, "gate": "tla"},
    ),
    prepare=louder(16.0),
)
