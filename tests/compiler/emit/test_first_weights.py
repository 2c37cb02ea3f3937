"""What weights start from: each row of the table by its statistics and bounds."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from danetc.compiler import check_text, graph_of
from danetc.compiler.emit.fx import emit
from danetc.compiler.emit.program import standalone
from danetc.compiler.emit.python import emit_python
from danetc.dsl.first_weights import FIRST_WEIGHTS

WIDTH, CHANNELS, KERNEL = 96, 64, 3
FAN_IN, FAN_OUT = CHANNELS * KERNEL**2, WIDTH * KERNEL**2
ROUGH = 0.02
"""Of 55,296 draws, several deviations of a deviation."""


def is_normal(std: float, mean: float = 0.0) -> Callable[[Tensor], bool]:
    def check(w: Tensor) -> bool:
        beyond = float((abs(w - mean) > 2 * std).double().mean())
        return is_near(w, std, mean) and abs(beyond - 0.0455) < 0.006

    return check


def is_uniform(bound: float) -> Callable[[Tensor], bool]:
    def check(w: Tensor) -> bool:
        reach = float(abs(w).max())
        return is_near(w, bound / math.sqrt(3)) and 0.99 * bound < reach <= bound

    return check


def is_near(w: Tensor, std: float, mean: float = 0.0) -> bool:
    return abs(float(w.std()) / std - 1) < ROUGH and abs(float(w.mean()) - mean) < ROUGH * std


def is_truncated(w: Tensor) -> bool:
    """A normal distribution within one deviation: its variance is 0.2912 of that."""
    return is_near(w, 0.3 * math.sqrt(0.29112), 0.0) and float(abs(w).max()) <= 0.3


def is_orthogonal(w: Tensor) -> bool:
    rows = w.flatten(1).double()
    return torch.allclose(rows @ rows.T, 4 * torch.eye(WIDTH, dtype=torch.float64), atol=1e-4)


CASES: dict[str, tuple[str, Callable[[Tensor], bool]]] = {
    "zeros": ("zeros", lambda w: not w.any()),
    "constant": ("constant(0.25)", lambda w: bool((w == 0.25).all())),
    "normal": ("normal(0.05, mean = 0.2)", is_normal(0.05, 0.2)),
    "uniform": ("uniform(0.1)", is_uniform(0.1)),
    "truncated_normal": ("truncated_normal(0.3, cut = 0.3)", is_truncated),
    "xavier_normal": ("xavier_normal(gain = 2)", is_normal(2 * math.sqrt(2 / (FAN_IN + FAN_OUT)))),
    "xavier_uniform": ("xavier_uniform", is_uniform(math.sqrt(6 / (FAN_IN + FAN_OUT)))),
    "he_normal": ("he_normal", is_normal(math.sqrt(2 / FAN_OUT))),
    "he_uniform": ("he_uniform(mode = fan_in)", is_uniform(math.sqrt(6 / FAN_IN))),
    "lecun_normal": ("lecun_normal", is_normal(math.sqrt(1 / FAN_IN))),
    "torch_uniform": ("torch_uniform", is_uniform(math.sqrt(1 / FAN_IN))),
    "orthogonal": ("orthogonal(gain = 2)", is_orthogonal),
}
NETWORK = """use std
network net {{
  input = image({channels}, 4, 4); steps = 1; neuron = IF; surrogate = atan
  {setting}
  stem = conv({width}, {given}bias = true) -> spike
  head = avgpool -> linear(2)
}}"""


def network(given: str, setting: str = "") -> str:
    return NETWORK.format(channels=CHANNELS, width=WIDTH, setting=setting, given=given)


def weights(text: str, seed: int = 0) -> dict[str, Tensor]:
    return {**emit(graph_of(check_text(text)), seed).state_dict()}


def test_every_row_has_a_case() -> None:
    assert CASES.keys() == FIRST_WEIGHTS.keys()


@pytest.mark.parametrize("name", FIRST_WEIGHTS)
def test_weights_start_as_the_spec_says(name: str) -> None:
    written, holds = CASES[name]
    first = weights(network(f"init = {written}, "))
    assert holds(first["stem.conv.weight"])
    assert not first["stem.conv.bias"].any()
    again, other = (weights(network(f"init = {written}, "), seed) for seed in (0, 1))
    assert torch.equal(first["stem.conv.weight"], again["stem.conv.weight"])
    same = torch.equal(first["stem.conv.weight"], other["stem.conv.weight"])
    assert same == (not FIRST_WEIGHTS[name].random)
    alike = weights(network("", f"init = {written}"))
    assert torch.equal(alike["stem.conv.weight"], first["stem.conv.weight"])
    assert not alike["head.linear.bias"].any()
    assert torch.equal(first["head.linear.weight"], weights(network(""))["head.linear.weight"])
    text = emit_python(graph_of(check_text(network(f"init = {written}, "))))
    alone = standalone(text, "small").state_dict()
    assert holds(alone["stem.conv.weight"])
    assert not alone["stem.conv.bias"].any()
