"""QKFormer: attention of queries and keys in two stages, Spikformer's in the last."""

from __future__ import annotations

from torch import Tensor, nn

from tests.zoo.harness import Case
from tests.zoo.parts import Add, MeanOverPixels, MeanOverTime, conv, maxpool, norm
from tests.zoo.tokens import conv_fire, fire, linear_fire, mlp_of_spikes, rouse, spikes_added, token


class TokenAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.k, self.q = (
            linear_fire(width, width, bias=False) for _ in range(2)
        )  # as ours are made
        self.mask = fire(0.5)
        self.last = linear_fire(width, width)
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        q, k = (part.unflatten(2, (self.heads, -1)) for part in (self.q(x), self.k(x)))
        passed: Tensor = self.last((self.mask(q.sum(3, keepdim=True)) * k).flatten(2, 3))
        return x + passed


def patches(channels: int, width: int) -> nn.Module:
    branch = conv_fire(channels, width), conv(width, width), norm(width), maxpool(3, 2, 1), fire()
    shortcut = *token(channels, width, bias=False, stride=2), fire()
    return Add(nn.Sequential(*branch), nn.Sequential(*shortcut))


def network(
    classes: int = 10,
    image: int = 32,
    steps: int = 4,
    width: int = 384,
    heads: int = 8,
    depth: int = 4,
) -> nn.Module:
    small, middle = width // 4, width // 2
    parts = [
        conv_fire(3, small // 2),
        Add(conv_fire(small // 2, small), linear_fire(small // 2, small, bias=False)),
        *(TokenAttention(small, heads), mlp_of_spikes(small), patches(small, middle)),
        *(TokenAttention(middle, heads), mlp_of_spikes(middle), patches(middle, width)),
    ]
    for _ in range(depth - 2):
        parts += [spikes_added(width, heads), mlp_of_spikes(width)]
    head = MeanOverPixels(), MeanOverTime(), nn.Linear(width, classes)
    return nn.Sequential(*parts, *head)


CASE = Case(
    network,
    "its authors' topology with SpikingJelly's LIF",
    small=(
        {"width": 16, "heads": 1, "depth": 3, "image": 16, "steps": 2},
        {"width": 24, "heads": 2, "depth": 4, "image": 16, "steps": 3},
    ),
    prepare=rouse,
    published={"6.74 M": {"classes": 100}},
)
