"""Cheaper kernels give the same results as those of the operations as written, also for NaN and
infinity."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from danetc.dsl.neuron import kernel_text
from danetc.dsl.neuron.kernel_text import kernel_source
from danetc.dsl.neuron.program import NeuronProgram
from danetc.dsl.neuron.ssa import needed
from danetc.runtime.kernels.neuron import spread, total
from tests.runtime.conftest import compile_text

NEURONS = {
    "hard": "state u = 0.0; v = u + x; s = heaviside(v - 1.0); u = v * (1 - s)",
    "rest": "state u = 0.1; v = u + x; s = heaviside(v - 1.0); u = v * (1 - s) + 0.1 * s",
    "detached": "state u = 0.0; v = u + x; s = heaviside(v - 1); r = detach(s); u = (1 - r) * v",
    "soft": "state u = 0.0; v = 0.5 * u + x; s = heaviside(v - 1.0); u = v - s",
    "strict": "state u = 0.0; v = u + x; s = 1 - heaviside(1.0 - v); u = v * (1 - s)",
    "gated": "state u = 0.0; v = u + x; s = heaviside(v); u = s * v",
    "learnt": "state u = 0.0; w = learn(0.4); v = u + x; s = heaviside(v - w); u = w * s + v * (1 - s)",
}
VALUES = [-3.0, -1.0, -5e-324, -0.0, 0.0, 5e-324, 1.0, 2.5, math.nan, math.inf, -math.inf]


def program(body: str) -> NeuronProgram:
    return compile_text(f"neuron n {{ {body} }}", "surrogate sigmoid { y = 1 / (1 + exp(-3 * x)) }")


def results(source: str, learnables: int) -> list[Tensor]:
    scope: dict[str, object] = {"torch": torch, "spread": spread, "total": total}
    exec(source, scope)
    below_one, above_one = torch.nextafter(
        torch.ones(2).double(), torch.tensor([0.0, 2.0]).double()
    )
    axis = torch.tensor([*VALUES, float(below_one), float(above_one)], dtype=torch.float64)
    x, u, g, g0 = (value.flatten() for value in torch.meshgrid(*[axis] * 4, indexing="ij"))
    p = [torch.tensor(0.4, dtype=torch.float32)] * learnables
    return [*scope["step"](x, u, *p), *scope["step_vjp"](x, u, *p, g, g0)]  # type: ignore[operator]


@pytest.mark.parametrize("name", NEURONS)
def test_the_same_bits(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    neuron = program(NEURONS[name])
    source = kernel_source(neuron)
    monkeypatch.setattr(kernel_text, "cheaper", needed)
    written = kernel_source(neuron)
    assert source != written
    count = len(neuron.learnables)
    for seen, expected in zip(results(source, count), results(written, count), strict=True):
        assert seen.dtype == expected.dtype
        torch.testing.assert_close(seen, expected, rtol=0, atol=0, equal_nan=True)


def test_a_hard_reset_keeps_what_is_not_finite() -> None:
    """``v * (1 - s)`` of an infinite potential that spikes is NaN; a selection would give 0."""
    scope: dict[str, object] = {"torch": torch, "spread": spread, "total": total}
    exec(kernel_source(program(NEURONS["hard"])), scope)
    x = torch.tensor([math.inf, -math.inf, math.nan])
    s, u = scope["step"](x, torch.zeros(3))  # type: ignore[operator]
    assert s.tolist() == [1, 0, 0]
    torch.testing.assert_close(u, torch.tensor([math.nan, -math.inf, math.nan]), equal_nan=True)
