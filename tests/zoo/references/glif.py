"""ResNet-19 with norms in identity shortcuts and SpikingJelly's gated LIF, a set of gates for each layer."""

from __future__ import annotations

from functools import partial

import torch
from spikingjelly.activation_based import neuron, surrogate
from torch import nn

from tests.zoo.harness import Case, by_order
from tests.zoo.parts import Make, MeanOverPixels, MeanOverTime, OriginBlock, conv, norm, stages

CALLED = {
    "gate.beta.weight_raw": "beta",
    "gate.learn.weight_raw": "conduct",
    "spike.alpha_raw": "alpha",
    "spike.gamma_raw": "gamma",
    "spike.kept_learnt_raw": "tau",
    "spike.lost_learnt_raw": "linear_decay",
    "spike.reset_learnt_raw": "v_subreset",
    "spike.s_learnt_raw": "v_threshold",
}


class Block(OriginBlock):
    """A block whose identity shortcut has a norm."""

    def __init__(self, channels: int, width: int, stride: int, neurons: Make) -> None:
        super().__init__(channels, width, stride, neurons)
        if channels == width and stride == 1:
            self.shortcut = norm(width)


def head(width: int, classes: int) -> list[nn.Module]:
    hidden = nn.Linear(4 * width, 2 * width, bias=False)
    return [MeanOverPixels(), MeanOverTime(), hidden, nn.Linear(2 * width, classes, bias=False)]


def network(classes: int = 10, image: int = 32, steps: int = 4, width: int = 128) -> nn.Module:
    def neurons() -> nn.Module:
        return neuron.GatedLIFNode(  # type: ignore[no-any-return]
            steps, surrogate_function=surrogate.Rect(alpha=1.0)
        )

    return nn.Sequential(
        *(conv(3, width), norm(width), neurons()),
        stages(width, (width, 2 * width, 4 * width), (3, 3, 2), neurons, Block),
        *head(width, classes),
    )


@torch.no_grad()
def gated(network: nn.Module) -> None:
    """Gates and constants that differ from layer to layer."""
    generator = torch.Generator().manual_seed(3)
    for module in network.modules():
        if isinstance(module, neuron.GatedLIFNode):
            for parameter in module.parameters():
                noise = torch.rand(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.copy_(noise - 0.7)


CASE = Case(
    network,
    "SpikingJelly's GatedLIFNode",
    small=(
        {"width": 4, "image": 8, "steps": 2},
        {"width": 6, "image": 8, "steps": 3},
    ),
    prepare=gated,
    pairs=partial(by_order, called=CALLED),
)
