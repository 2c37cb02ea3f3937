"""SpikingJelly's PSN between convolutions, at all of T equal frames."""

from __future__ import annotations

from collections.abc import Callable

import torch
from spikingjelly.activation_based import neuron, surrogate
from torch import Tensor, nn

from tests.zoo.harness import Case
from tests.zoo.parts import Flatten, MeanOverTime, avgpool, conv, linear, norm


class Parallel(neuron.PSN):  # type: ignore[misc]
    """A PSN whose biases are counted from -1, where SpikingJelly's start."""

    def forward(self, x_seq: Tensor) -> Tensor:
        h_seq = torch.addmm(self.bias - 1, self.weight, x_seq.flatten(1))
        return self.surrogate_function(h_seq).view(x_seq.shape)  # type: ignore[no-any-return]


def of_neurons(neurons: Callable[[], nn.Module], classes: int, image: int, width: int) -> nn.Module:
    """The authors' topology with neurons of a kind."""

    def layer(channels: int) -> tuple[nn.Module, ...]:
        return conv(channels, width), norm(width), neurons()

    entries = width * image * image // 16
    return nn.Sequential(
        *layer(3),
        *(part for _ in range(2) for part in layer(width)),
        avgpool(),
        *(part for _ in range(3) for part in layer(width)),
        *(avgpool(), Flatten(), linear(entries, entries // 4), neurons()),
        *(linear(entries // 4, classes), MeanOverTime()),
    )


def network(classes: int = 10, image: int = 32, steps: int = 4, width: int = 256) -> nn.Module:
    return of_neurons(lambda: Parallel(steps, surrogate.ATan(2.0)), classes, image, width)


@torch.no_grad()
def loud(network: nn.Module) -> None:
    """Sums over time, and of a fully connected layer, that reach the thresholds behind them."""
    first = next(module for module in network.modules() if isinstance(module, nn.Linear))
    first.weight.mul_(4)
    for module in network.modules():
        if isinstance(module, neuron.PSN | neuron.MaskedPSN):
            module.weight.mul_(3)


CASE = Case(
    network,
    "SpikingJelly's PSN in its authors' topology",
    small=({"width": 4, "image": 8, "steps": 2}, {"width": 5, "image": 8, "steps": 3}),
    prepare=loud,
)
