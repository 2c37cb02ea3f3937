"""The cells of SpikingJelly's SpikeDHS, at any width and with norms of each step, and the head that it
keeps after training. As in its authors' code no reset is detached."""

from __future__ import annotations

import math

import torch
from spikingjelly.activation_based import functional, layer, neuron
from spikingjelly.activation_based.model import spike_dhs
from torch import Tensor, nn

from tests.surrogates import step
from tests.zoo.harness import Case
from tests.zoo.parts import StepNorm

ARCHITECTURE = [[1, 1], [0, 1], [3, 2], [2, 1], [7, 1], [8, 1]]
LEVELS = (0, 0, 1, 1, 1, 2, 2, 2)


def slope(x: Tensor) -> Tensor:
    """The derivative of Dspike, 0 at the ends of its window too."""
    return 1.5 / math.tanh(1.5) * (1 - torch.tanh(3 * x) ** 2) * (x.abs() < 0.5)


class Network(nn.Module):
    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.stem = spike_dhs.SearchSpikingConv2d_stem(3, 3 * width)
        self.cells = nn.ModuleList()
        before = last = 0
        for level in LEVELS:
            cell = spike_dhs.Cell(
                steps=3,
                block_multiplier=3,
                prev_prev_fmultiplier=width * 2**before,
                prev_filter_multiplier=width * 2**last,
                cell_arch=torch.tensor(ARCHITECTURE, device="cpu"),
                network_arch=None,
                filter_multiplier=width * 2**level,
                downup_sample=last - level,
            )
            self.cells.append(cell)
            before, last = last, level
        self.head = spike_dhs.SpikingLinear(12 * width, classes, spiking=False)
        for module in [*self.modules()]:  # what is trained in the search of surrogates alone
            for name in [*module._modules, *module._parameters]:
                if name.startswith("dgs_") or name.endswith(("_b", "_s")):
                    delattr(module, name)
        functional.set_step_mode(self, "m")
        for module in [*self.stem.modules(), *self.cells.modules()]:
            if isinstance(module, neuron.LIFNode):
                module.detach_reset = False
            for name, child in module.named_children():
                if isinstance(child, layer.BatchNorm2d):
                    setattr(module, name, StepNorm(child.num_features))

    def forward(self, x: Tensor) -> Tensor:
        first = self.stem(x)
        pair = first, first
        for cell in self.cells:
            pair = cell(*pair)
        v: Tensor | float = 0.0
        logits = []
        for pooled in pair[1].mean((3, 4)):
            v = v + pooled
            s = 1 - step(0.5 - v, slope)
            v = (0.2 * v * (1 - s)).detach()
            logits.append(self.head(s[None])[0])
        return torch.stack(logits).mean(0)


def network(classes: int = 100, image: int = 32, steps: int = 6, width: int = 48) -> nn.Module:
    return Network(classes, width)


CASE = Case(
    network,
    "SpikingJelly's SpikeDHS",
    small=(
        {"width": 2, "image": 8, "steps": 3, "classes": 5},
        {"width": 3, "image": 16, "steps": 2, "classes": 5},
    ),
)
