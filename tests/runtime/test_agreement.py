"""Agreement of two models by numbers, on hand-made models."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from danetc.runtime.checks.agreement import agreement
from danetc.runtime.layers.neuron import Neuron

PROGRAM = (
    "neuron n; state u = 0.0; v = add u x; m = sub v 0.5; s = heaviside m; k = sub 1.0 s; "
    "w = mul v k; next u = w; out s; surrogate a; q = mul x x; p = add 1.0 q; d = div 1.0 p; dy d"
)


class Small(nn.Module):
    """conv, norm, neuron, mean over time and places."""

    def __init__(self, program: str = PROGRAM, detached: bool = False, twice: bool = False) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.spike = Neuron(program, 2, 3)
        self.drop = nn.Dropout(0.5)
        self.detached, self.twice = detached, twice

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.conv(x))
        if self.detached:  # the same values, half the gradient
            y = 0.5 * y + 0.5 * y.detach()
        y = self.drop(self.spike(y)).mean((0, 3, 4))
        return 1.000001 * y if self.twice else y


PAIRS = {name: name for name, _ in Small().named_parameters()}
SIZE = (2, 3, 6, 6)


def test_the_same_network_with_other_weights_agrees() -> None:
    torch.manual_seed(0)
    left, right = Small(), Small()
    assert not torch.equal(left.conv.weight, right.conv.weight)
    found = agreement(left, right, PAIRS, SIZE)
    assert found.proves
    assert found.outputs == found.gradients == 0
    assert torch.equal(left.conv.weight, right.conv.weight)


def test_a_difference_of_gradients_alone_is_seen() -> None:
    found = agreement(Small(), Small(detached=True), PAIRS, SIZE)
    assert not found.same
    assert found.outputs < 1e-12
    assert found.gradients == pytest.approx(0.5, rel=1e-6)
    surrogate = PROGRAM.replace("add 1.0 q", "add 2.0 q")
    assert agreement(Small(), Small(surrogate), PAIRS, SIZE).gradients > 1e-3


def test_what_does_not_fire_is_named() -> None:
    quiet = PROGRAM.replace("sub v 0.5", "sub v 1000.0")
    found = agreement(Small(quiet), Small(quiet), PAIRS, SIZE)
    assert found.same
    assert not found.proves
    assert found.silent == ("spike",)
