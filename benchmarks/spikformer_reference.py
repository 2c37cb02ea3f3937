"""Spikformer in PyTorch with SpikingJelly's layers and neurons, to compare times with."""

from __future__ import annotations

import torch
from spikingjelly.activation_based import layer, neuron, surrogate
from torch import Tensor, nn

_COUNTER = "num_batches_tracked"


def fire(threshold: float = 1.0) -> nn.Module:
    return neuron.LIFNode(  # type: ignore[no-any-return]
        tau=2.0,
        v_threshold=threshold,
        surrogate_function=surrogate.Sigmoid(4.0),
        detach_reset=True,
        step_mode="m",
    )


def conv_fire(channels: int, width: int, kernel: int = 3, bias: bool = False) -> nn.Sequential:
    return nn.Sequential(
        layer.Conv2d(channels, width, kernel, padding=kernel // 2, bias=bias, step_mode="m"),
        layer.BatchNorm2d(width, step_mode="m"),
        fire(),
    )


def maxpool() -> nn.Module:
    return layer.MaxPool2d(3, 2, 1, step_mode="m")  # type: ignore[no-any-return]


class Residual(nn.Module):
    """x + layers(x)."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.layers(x)
        return out


class SelfAttention(nn.Module):
    """Attention of spikes on maps [T, N, C, H, W]; the output fires at half the threshold."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.q, self.k, self.v = (conv_fire(width, width, 1, bias=True) for _ in range(3))
        self.fire = fire(0.5)
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        t, n, c, *size = x.shape
        q, k, v = (
            part(x).reshape(t, n, self.heads, c // self.heads, -1).transpose(-1, -2)
            for part in (self.q, self.k, self.v)
        )
        mixed = ((q @ k.transpose(-1, -2)) @ v).transpose(-1, -2).reshape(t, n, c, *size)
        fired: Tensor = self.fire(0.125 * mixed)
        return fired


class Head(nn.Linear):
    """Linear layer on the mean over pixels and time."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.mean((0, 3, 4)))


def network(
    classes: int = 10,
    image: int = 32,
    steps: int = 4,
    width: int = 384,
    heads: int = 12,
    depth: int = 4,
) -> nn.Module:
    patches = (
        conv_fire(3, width // 8),
        conv_fire(width // 8, width // 4),
        conv_fire(width // 4, width // 2),
        maxpool(),
        conv_fire(width // 2, width),
        maxpool(),
        Residual(conv_fire(width, width)),
    )
    blocks = (
        part
        for _ in range(depth)
        for part in (
            Residual(SelfAttention(width, heads), conv_fire(width, width, 1, bias=True)),
            Residual(
                conv_fire(width, 4 * width, 1, bias=True), conv_fire(4 * width, width, 1, bias=True)
            ),
        )
    )
    return nn.Sequential(*patches, *blocks, Head(width, classes))


def load_by_order(model: nn.Module, reference: nn.Module) -> None:
    """Copy the reference's weights and buffers to the model, by kind in the order of creation."""
    theirs: dict[str, list[Tensor]] = {}
    for key, value in reference.state_dict().items():
        theirs.setdefault(key.rpartition(".")[2], []).append(value)
    with torch.no_grad():
        for key, value in model.state_dict().items():
            if not key.endswith(_COUNTER):
                value.copy_(theirs[key.rpartition(".")[2]].pop(0).reshape(value.shape))
    assert not any(rest for leaf, rest in theirs.items() if leaf != _COUNTER)
