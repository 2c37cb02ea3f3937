"""The 7B-Net of SEW ResNet: blocks of two convolutions, joined to their input, and pooling."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from tests.zoo.harness import Case
from tests.zoo.parts import Flatten, MeanOverTime, conv, maxpool, norm, plif

JOINS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "sew": lambda branch, x: branch + x,
    "sew_and": lambda branch, x: branch * x,
    "sew_iand": lambda branch, x: (1 - branch) * x,
}


class Block(nn.Module):
    def __init__(self, width: int, join: str) -> None:
        super().__init__()
        self.branch = nn.Sequential(*layer(width, width), *layer(width, width))
        self.join = join

    def forward(self, x: Tensor) -> Tensor:
        return JOINS[self.join](self.branch(x), x)


def layer(channels: int, width: int, kernel: int = 3) -> tuple[nn.Module, ...]:
    return conv(channels, width, kernel), norm(width), plif()


def network(
    classes: int = 11, image: int = 128, steps: int = 16, width: int = 32, join: str = "sew"
) -> nn.Module:
    blocks = (part for _ in range(7) for part in (Block(width, join), maxpool()))
    head = Flatten(), MeanOverTime(), nn.Linear(width * (image // 128) ** 2, classes)
    return nn.Sequential(*layer(2, width, 1), *blocks, *head)


CASE = Case(
    network,
    "SpikingJelly's PLIF in its authors' topology",
    small=(
        {"width": 4, "steps": 2},
        {"width": 5, "steps": 3, "join": "sew_and"},
        {"width": 4, "steps": 2, "join": "sew_iand"},
    ),
    published={"0.13 M": {}},
)
