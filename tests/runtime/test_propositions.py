"""Checks by numbers: they pass for what obeys a formula, and fail for what does not."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from danetc.compiler import check_text, graph_of
from danetc.dsl.neuron.program import NeuronProgram
from danetc.runtime.checks.propositions import check_gradients, check_variances, first_step, slope
from danetc.runtime.layers.neuron import Neuron

NEURONS = [
    "IF", "IF(v_threshold = 0.5, detach_reset = true)", "LIF", "LIF(tau = 4.0, v_rest = 0.1)", "PLIF",
    "PLIF(tau = 3.0)", "IF_soft", "LIF_soft", "ALIF", "MSLIF", "SlidingPSN", "readout",
    "ReLU", "integer",
]  # fmt: skip
INTEGER = """neuron integer(most = 4) {
  state u = 0.0; v = 0.5 * u + x; s = round(min(max(v, 0), most)); u = v - s
}"""
SURROGATES = ["sigmoid(alpha = 4)", "atan", "triangle", "rectangle"]


def program(neuron: str, surrogate: str = "sigmoid(alpha = 4)") -> NeuronProgram:
    checked = check_text(
        f"""use std
        {INTEGER}
        network n {{
          input = image(3, 8, 8); steps = 1; neuron = {neuron}; surrogate = {surrogate}
          stem = conv(4) -> spike; head = avgpool -> linear(2)
        }}"""
    )
    (found,) = graph_of(checked).neurons.values()
    return found


@pytest.mark.parametrize("neuron", NEURONS)
@pytest.mark.parametrize("surrogate", SURROGATES)
def test_the_reference_agrees_with_the_kernels(neuron: str, surrogate: str) -> None:
    made = program(neuron, surrogate)
    generator = torch.Generator().manual_seed(0)
    x = 2 * torch.randn(1, 3, 50, generator=generator, dtype=torch.float64)
    x[0, 0, :8] = torch.tensor([-1.0, 0.0, 0.5, 1.0, 2.0, 4.0, 5.0, 8.0])  # kinks, thresholds
    x.requires_grad_()
    y = Neuron(made.text(), 1, 1).double()(x)
    (grad,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(first_step(made, x.detach()), y.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(slope(made, x), grad, rtol=1e-12, atol=1e-12)


def test_the_slope_is_the_derivative_of_eq_2() -> None:
    x = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)
    z = torch.sigmoid(4 * (x - 1))
    torch.testing.assert_close(slope(program("IF"), x), 4 * z * (1 - z))
    assert slope(program("IF"), x)[1] == 1.0


class Blocks(nn.Module):
    """Blocks whose branches give 0, fed by the last output or by the sum of all.

    ``leak`` lets a little of a neighbouring place through, ``factor`` scales what a neuron gives.
    """

    def __init__(self, count: int, dense: bool, leak: float = 0.0, factor: float = 1.0) -> None:
        super().__init__()
        self.count, self.dense, self.leak, self.factor = count, dense, leak, factor
        self.neuron = Neuron(program("IF").text(), 1, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        outputs, given = [x], []
        for _ in range(self.count):
            drive = torch.stack(outputs).sum(0) if self.dense else outputs[-1]
            given.append(drive)
            outputs.append(self.factor * self.neuron(drive) + self.leak * drive.roll(1, -1))
            given.append(outputs[-1])
        return tuple(given)


def spikes() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 2, (1, 2, 3, 4, 4), generator=generator).double()


@pytest.mark.parametrize("dense", [False, True])
def test_blocks_that_obey_the_formula(dense: bool) -> None:
    found = check_gradients(Blocks(3, dense), spikes(), [program("IF")] * 3, dense=dense)
    assert found.holds
    assert found.bounded == dense
    assert found.pairs == 5
    silent = 4 * torch.sigmoid(torch.tensor(-4.0)) * torch.sigmoid(torch.tensor(4.0))
    spiking_place, silent_place = found.places
    for place, chain in ((spiking_place, 1.0), (silent_place, float(silent) ** 3)):
        assert place.chain == pytest.approx(chain, rel=1e-6)
        if not dense:
            assert place.gradient == pytest.approx(place.chain, rel=1e-12)
            assert not place.less_than_chain
    if dense:  # silent places stay silent: g = silent throughout; spiking ones add up: 1, 2, 3
        assert silent_place.gradient == pytest.approx(float(silent * (1 + silent) ** 2), rel=1e-6)
        g2, g3 = (
            float(4 * torch.sigmoid(torch.tensor(4.0 * v)) * torch.sigmoid(torch.tensor(-4.0 * v)))
            for v in (1, 2)
        )
        assert spiking_place.gradient == pytest.approx(g3 * (1 + g2) * 2, rel=1e-5)
        assert spiking_place.less_than_chain
        assert not silent_place.less_than_chain
    assert found.bounds[0] < found.bounds[1]


def test_one_formula_is_not_the_other() -> None:
    programs = [program("IF")] * 3
    assert not check_gradients(Blocks(3, dense=True), spikes(), programs, dense=False).holds
    assert not check_gradients(Blocks(3, dense=False), spikes(), programs, dense=True).holds
    two = [program("IF")]  # with two blocks they are one
    assert check_gradients(Blocks(1, dense=True), spikes(), two, dense=False).holds


def test_a_gradient_below_the_bound_is_seen() -> None:
    found = check_gradients(
        Blocks(2, dense=True, factor=0.5), spikes(), [program("IF")] * 2, dense=True
    )
    assert not found.bounded


class Sums(nn.Module):
    """Normal noise of given variances, added to what is taken."""

    def __init__(self, variances: list[float]) -> None:
        super().__init__()
        self.variances = variances

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        given = []
        for variance in self.variances:
            x = x + variance**0.5 * torch.randn(x.shape)
            given.append(x)
        return tuple(given)


def test_variances() -> None:
    torch.manual_seed(123)  # not what the check draws its input from
    models: list[Callable[[], nn.Module]] = [lambda: Sums([1.0, 4.0])] * 2
    size = (1, 16, 32, 4, 4)
    assert check_variances(models, size, (1.0, 5.0), (1.0, 1.0)).holds
    wrong = check_variances(models, size, (1.0, 3.0), (1.0, 1.0))
    assert not wrong.holds
    assert wrong.measured[1] == pytest.approx(6.0, rel=0.05)
    assert not check_variances(models, size, (1.0, 5.0), (0.0, 0.0)).holds
