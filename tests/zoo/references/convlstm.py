"""Three layers of convolutional LSTMs with peepholes, step by step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.zoo.harness import Case, by_order


class Gate(nn.Module):
    """Convolutions of the state before and of the input; ``peep`` is of the cell's entries."""

    def __init__(self, channels: int, width: int, size: int, peeps: bool = True) -> None:
        super().__init__()
        back = nn.Conv2d(width, width, 5, padding=2, bias=False)
        into = nn.Conv2d(channels, width, 5, padding=2)
        if peeps:
            self.back, self.into = back, into
            self.peep = nn.Parameter(torch.zeros(width, size, size))
        else:
            self.into, self.back = into, back

    def forward(self, x: Tensor, h: Tensor) -> Tensor:
        total: Tensor = self.into(x) + self.back(h)
        return total


class Cell(nn.Module):
    def __init__(self, channels: int, width: int, size: int) -> None:
        super().__init__()
        self.keep, self.write = Gate(channels, width, size), Gate(channels, width, size)
        self.new, self.read = Gate(channels, width, size, False), Gate(channels, width, size)
        self.shape = width, size, size

    def forward(self, x: Tensor) -> Tensor:
        h = c = x.new_zeros(x.shape[1], *self.shape)
        found = []
        for frame in x:
            keep = torch.sigmoid(self.keep(frame, h) + self.keep.peep * c)
            write = torch.sigmoid(self.write(frame, h) + self.write.peep * c)
            c = keep * c + write * torch.tanh(self.new(frame, h))
            h = torch.sigmoid(self.read(frame, h) + self.read.peep * c) * torch.tanh(c)
            found.append(h)
        return torch.stack(found)


class Network(nn.Module):
    def __init__(self, size: int, patch: int, width: int) -> None:
        super().__init__()
        w = width
        self.cells = nn.ModuleList(
            Cell(*sizes, size) for sizes in ((patch, 2 * w), (2 * w, w), (w, w))
        )
        self.last = nn.Conv2d(4 * w, patch, 1)

    def forward(self, x: Tensor) -> Tensor:
        found = []
        for cell in self.cells:
            x = cell(x)
            found.append(x)
        states = torch.cat(found, 2)
        return torch.stack([self.last(state).sigmoid() for state in states])


def network(size: int = 16, patch: int = 16, steps: int = 10, width: int = 64) -> nn.Module:
    return Network(size, patch, width)


@torch.no_grad()
def lively(network: nn.Module) -> None:
    """Peepholes that are open, and outputs that vary."""
    generator = torch.Generator().manual_seed(3)
    for module in network.modules():
        if isinstance(module, Gate) and hasattr(module, "peep"):
            shape = module.peep.shape
            module.peep.copy_(torch.randn(shape, generator=generator, dtype=torch.float64))
        if isinstance(module, Network):
            module.last.weight.mul_(3.0)


def pairs(model: nn.Module, reference: nn.Module) -> dict[str, str]:
    return by_order(model, reference, {"gate.learn.weight": "peep"})


CASE = Case(
    network,
    "the paper's equations in a loop",
    small=(
        {"size": 4, "patch": 2, "width": 2, "steps": 3},
        {"size": 5, "patch": 3, "width": 3, "steps": 4},
    ),
    prepare=lively,
    pairs=pairs,
)
