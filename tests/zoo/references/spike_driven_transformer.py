"""The first Spike-driven Transformer: a channel of the queries passes where keys and values agree."""

from __future__ import annotations

from torch import Tensor, nn

from tests.zoo.harness import Case
from tests.zoo.parts import MeanOverPixels, MeanOverTime, conv, linear, maxpool, norm
from tests.zoo.tokens import conv_fire, fire, fire_conv, linear_fire, mlp, residual, token


class Masked(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fire = fire()
        self.q, self.k, self.v = (linear_fire(width, width, bias=False) for _ in range(3))
        self.agree = fire(0.5)
        self.last = nn.Sequential(*token(width, width))

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.fire(x)
        on = self.agree((self.k(spikes) * self.v(spikes)).sum((-1, -2), keepdim=True))
        passed: Tensor = self.last(self.q(spikes) * on)
        return x + passed


def network(
    classes: int = 10, image: int = 32, steps: int = 4, width: int = 512, depth: int = 2
) -> nn.Module:
    patches = (
        conv_fire(3, width // 8),
        conv_fire(width // 8, width // 4),
        conv_fire(width // 4, width // 2),
        *(maxpool(3, 2, 1), conv(width // 2, width), norm(width), maxpool(3, 2, 1)),
        residual(fire_conv(width, width)),
    )
    blocks = (part for _ in range(depth) for part in (Masked(width), mlp(width)))
    head = MeanOverPixels(), fire(), linear(width, classes), MeanOverTime()
    return nn.Sequential(*patches, *blocks, *head)


CASE = Case(
    network,
    "its authors' topology with SpikingJelly's LIF",
    small=(
        {"width": 16, "depth": 2, "image": 8, "steps": 2},
        {"width": 24, "depth": 1, "image": 12, "steps": 3},
    ),
    published={"10.28 M": {"classes": 100}},
)
