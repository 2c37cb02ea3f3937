"""Meta-SpikeFormer: convolutional blocks, then attention behind convolutions that can be merged."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.zoo.harness import Case
from tests.zoo.parts import MeanOverPixels, MeanOverTime, conv, linear, norm
from tests.zoo.tokens import attended, fire, fire_conv, fire_linear, mlp, residual


class Padded(nn.Module):
    """A batch norm, and a border of what its running statistics make of 0, without a gradient."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = norm(width)

    def forward(self, x: Tensor) -> Tensor:
        y = F.pad(self.norm(x), [1] * 4)
        n = self.norm
        inside = F.pad(torch.ones_like(x), [1] * 4)
        scale = n.weight.detach() / torch.sqrt(n.running_var + n.eps)
        border = (n.bias.detach() - n.running_mean * scale).view(-1, 1, 1)
        return y + (1 - inside) * border


def merged(width: int) -> nn.Sequential:
    depthwise = conv(width, width, 3, padding=0, groups=width)
    return nn.Sequential(
        conv(width, width, 1),
        Padded(width),
        depthwise,
        conv(width, width, 1),
        norm(width),
        norm(width),
    )


class Attention(nn.Module):
    def __init__(self, width: int, heads: int = 8) -> None:
        super().__init__()
        self.fire, self.mixed = fire(), fire(0.5)
        self.q, self.k, self.v = (nn.Sequential(merged(width), fire()) for _ in range(3))
        self.last = merged(width)
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.fire(x)
        mixed = attended(self.q(spikes), self.k(spikes), self.v(spikes), self.heads)
        passed: Tensor = self.last(self.mixed(0.125 * mixed))
        return x + passed


def convolutional(width: int) -> nn.Sequential:
    wide = 2 * width
    depthwise = conv(wide, wide, 7, groups=wide)
    return nn.Sequential(
        residual(
            fire_linear(width, wide, bias=False),
            *(fire(), depthwise, conv(wide, width, 1), norm(width)),
        ),
        residual(fire_conv(width, 4 * width), fire_conv(4 * width, width)),
    )


def down(width: int, wide: int, stride: int = 2) -> nn.Sequential:
    return nn.Sequential(fire(), conv(width, wide, stride=stride, bias=True), norm(wide))


def network(
    classes: int = 1000, image: int = 224, steps: int = 4, width: int = 96, last: int = 480
) -> nn.Module:
    half = width // 2
    parts = [conv(3, half, 7, stride=2, bias=True), norm(half), convolutional(half)]
    parts += [down(half, width), convolutional(width), down(width, 2 * width)]
    parts += [convolutional(2 * width), convolutional(2 * width), down(2 * width, 4 * width)]
    parts += [part for _ in range(6) for part in (Attention(4 * width), mlp(4 * width))]
    parts += [down(4 * width, last, stride=1)]
    parts += [part for _ in range(2) for part in (Attention(last), mlp(last))]
    return nn.Sequential(*parts, MeanOverPixels(), fire(), linear(last, classes), MeanOverTime())


@torch.no_grad()
def rouse(network: nn.Module) -> None:
    """Let queries, keys and values fire more, so that their products reach a threshold."""
    for module in network.modules():
        if isinstance(module, Attention):
            for part in (module.q, module.k, module.v):
                part[0][-1].bias.add_(1.0)


CASE = Case(
    network,
    "its authors' topology with SpikingJelly's LIF",
    small=(
        {"width": 8, "last": 32, "image": 64, "steps": 2},
        {"width": 12, "last": 48, "image": 64, "steps": 3},
    ),
    prepare=rouse,
    published={
        "31.3 M": {},
        "15.1 M": {"width": 64, "last": 360},
        "55.4 M": {"width": 128, "last": 640},
    },
)
