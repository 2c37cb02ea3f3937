"""SpikingJelly's masked PSN between convolutions, at all of T equal frames."""

from __future__ import annotations

import torch
from spikingjelly.activation_based import neuron, surrogate
from torch import Tensor, nn

from tests.zoo.harness import Case
from tests.zoo.parts import Flatten, MeanOverTime, avgpool, conv, linear, norm


class Masked(neuron.MaskedPSN):  # type: ignore[misc]
    """One whose biases are counted from -1, where SpikingJelly's start, and whose lambda and masks
    are constants: nothing of ours is compared with them."""

    def __init__(self, k: int, steps: int) -> None:
        super().__init__(k, steps, 1.0, surrogate.ATan(2.0), "m")
        for name in ("_lambda_", "mask0", "mask1"):
            value = getattr(self, name)
            delattr(self, name)
            setattr(self, name, value)

    def multi_step_forward(self, x_seq: Tensor) -> Tensor:
        h_seq = torch.addmm(self.bias - 1, self.masked_weight(), x_seq.flatten(1))
        return self.surrogate_function(h_seq).view(x_seq.shape)  # type: ignore[no-any-return]


def layer(channels: int, width: int, k: int, steps: int) -> tuple[nn.Module, ...]:
    return conv(channels, width), norm(width), Masked(k, steps)


def network(
    classes: int = 10, image: int = 32, steps: int = 4, width: int = 256, k: int = 2
) -> nn.Module:
    entries = width * image * image // 16
    return nn.Sequential(
        *layer(3, width, k, steps),
        *(part for _ in range(2) for part in layer(width, width, k, steps)),
        avgpool(),
        *(part for _ in range(3) for part in layer(width, width, k, steps)),
        *(avgpool(), Flatten(), linear(entries, entries // 4), Masked(k, steps)),
        *(linear(entries // 4, classes), MeanOverTime()),
    )


@torch.no_grad()
def loud(network: nn.Module) -> None:
    """Sums over time, and of a fully connected layer, that reach the thresholds behind them."""
    first = next(module for module in network.modules() if isinstance(module, nn.Linear))
    first.weight.mul_(4)
    for module in network.modules():
        if isinstance(module, Masked):
            module.weight.mul_(3)


CASE = Case(
    network,
    "SpikingJelly's MaskedPSN with lambda = 1 in the topology of its authors' PSN",
    small=(
        {"width": 4, "image": 8, "steps": 3},
        {"width": 5, "image": 8, "steps": 4, "k": 3},
    ),
    prepare=loud,
)
