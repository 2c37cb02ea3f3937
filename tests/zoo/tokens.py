"""Parts of the references of spiking transformers, on maps [T, N, C, H, W] whose pixels are tokens."""

from __future__ import annotations

from typing import Any

import torch
from spikingjelly.activation_based import surrogate
from torch import Tensor, nn

from tests.zoo.parts import Add, conv, lif, norm


def fire(threshold: float = 1.0, slope: Any = None) -> nn.Module:
    """The neuron of Spikformer and its like."""
    slope = surrogate.Sigmoid(4.0) if slope is None else slope
    return lif(tau=2.0, detach_reset=True, v_threshold=threshold, surrogate_function=slope)


def token(channels: int, width: int, bias: bool = True, **options: Any) -> tuple[nn.Module, ...]:
    """A linear layer over channels, and its norm."""
    return conv(channels, width, 1, bias=bias, **options), norm(width)


def linear_fire(channels: int, width: int, bias: bool = True) -> nn.Sequential:
    return nn.Sequential(*token(channels, width, bias), fire())


def fire_linear(channels: int, width: int, bias: bool = True) -> nn.Sequential:
    return nn.Sequential(fire(), *token(channels, width, bias))


def conv_fire(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(conv(channels, width), norm(width), fire())


def fire_conv(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(fire(), conv(channels, width), norm(width))


def attended(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """(q k^T) v of each head, as tokens in rows: [T, N, heads, tokens, C / heads]."""

    def split(x: Tensor) -> Tensor:
        t, n, c, *_ = x.shape
        return x.reshape(t, n, heads, c // heads, -1).transpose(-1, -2)

    mixed = (split(q) @ split(k).transpose(-1, -2)) @ split(v)
    return mixed.transpose(-1, -2).reshape(*v.shape[:3], *q.shape[-2:])


class SelfAttention(nn.Module):
    """Spikes of queries, keys and values; what they give fires at half the threshold."""

    def __init__(self, width: int, heads: int, bias: bool) -> None:
        super().__init__()
        self.q, self.k, self.v = (linear_fire(width, width, bias) for _ in range(3))
        self.fire = fire(0.5)
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        mixed = attended(self.q(x), self.k(x), self.v(x), self.heads)
        fired: Tensor = self.fire(0.125 * mixed)
        return fired


@torch.no_grad()
def rouse(network: nn.Module) -> None:
    """Let queries, keys and values fire more, so that their products reach a threshold."""
    for module in network.modules():
        if isinstance(module, SelfAttention):
            for part in (module.q, module.k, module.v):
                part[1].bias.add_(1.0)


def residual(*layers: nn.Module) -> Add:
    """x + layers(x)."""
    return Add(nn.Identity(), nn.Sequential(*layers))


def spikes_added(width: int, heads: int, bias: bool = False) -> Add:
    """Spikformer's attention: what it gives fires before it is added."""
    return residual(SelfAttention(width, heads, bias), linear_fire(width, width))


def mlp_of_spikes(width: int, ratio: int = 4) -> Add:
    return residual(linear_fire(width, ratio * width), linear_fire(ratio * width, width))


def mlp(width: int, ratio: int = 4) -> Add:
    return residual(fire_linear(width, ratio * width), fire_linear(ratio * width, width))
