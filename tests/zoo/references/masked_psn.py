"""SpikingJelly's masked PSN between convolutions, at all of T equal frames."""

from __future__ import annotations

import torch
from spikingjelly.activation_based import neuron, surrogate
from torch import Tensor, nn

from tests.zoo.harness import Case
from tests.zoo.references.psn import loud, of_neurons


class Masked(neuron.MaskedPSN):  # type: ignore[misc]
    """One whose biases are counted from -1, where SpikingJelly's start, and whose lambda and masks
    are constants: nothing of ours is compared with them."""

    def __init__(self, k: int, steps: int, masked: float) -> None:
        super().__init__(k, steps, masked, surrogate.ATan(2.0), "m")
        for name in ("_lambda_", "mask0", "mask1"):
            value = getattr(self, name)
            delattr(self, name)
            setattr(self, name, value)

    def multi_step_forward(self, x_seq: Tensor) -> Tensor:
        h_seq = torch.addmm(self.bias - 1, self.masked_weight(), x_seq.flatten(1))
        return self.surrogate_function(h_seq).view(x_seq.shape)  # type: ignore[no-any-return]


def network(
    classes: int = 10,
    image: int = 32,
    steps: int = 4,
    width: int = 256,
    k: int = 2,
    masked: float = 1.0,
) -> nn.Module:
    return of_neurons(lambda: Masked(k, steps, masked), classes, image, width)


CASE = Case(
    network,
    "SpikingJelly's MaskedPSN, also with lambda = 0.5, in the topology of its authors' PSN",
    small=(
        {"width": 4, "image": 8, "steps": 3},
        {"width": 5, "image": 8, "steps": 4, "k": 3, "masked": 0.5},
    ),
    prepare=loud,
)
