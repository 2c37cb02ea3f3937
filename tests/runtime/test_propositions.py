"""Checks of a formula and of two models pass for models that obey them and fail for others."""

import pytest
import torch
from torch import Tensor, nn

from danetc.compiler import check_text, graph_of
from danetc.dsl.neuron.program import NeuronProgram
from danetc.runtime.checks.agreement import agreement
from danetc.runtime.checks.propositions import (
    GradientCheck,
    check_gradients,
    check_rates,
    first_step,
    slope,
)
from danetc.runtime.layers.neuron import Neuron
from tests.runtime.conftest import By

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


class Blocks(nn.Module):
    """Blocks with branches of 0, fed by the last output or the sum of all; returns the last output too.

    ``leak`` adds a share of a neighbouring position, ``factor`` scales a neuron's output.
    """

    def __init__(
        self, count: int, dense: bool, leak: float = 0.0, factor: float = 1.0, **options: str
    ) -> None:
        super().__init__()
        self.count, self.dense, self.leak, self.factor = count, dense, leak, factor
        self.program = program("IF", **options)
        self.neuron = Neuron(self.program.text(), 1, 3)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        outputs, given = [x], []
        for _ in range(self.count):
            drive = torch.stack(outputs).sum(0) if self.dense else outputs[-1]
            given.append(drive)
            outputs.append(self.factor * self.neuron(drive) + self.leak * drive.roll(1, -1))
            given.append(outputs[-1])
        return *given, outputs[-1]


def check(blocks: Blocks, *, dense: bool) -> GradientCheck:
    """Compare with the formula for blocks in sequence or, if ``dense``, fed by the sum of all before."""
    generator = torch.Generator().manual_seed(0)
    spikes = torch.randint(0, 2, (1, 2, 3, 4, 4), generator=generator).double()
    count = blocks.count
    terms = [dict.fromkeys(range(0 if dense else i, i + 1), 1.0) for i in range(count)]
    fewest = [1 if dense else count - i for i in range(count)] + [0]
    programs = [blocks.program] * count
    return check_gradients(blocks, spikes, programs, [*terms, {count: 1.0}], fewest)


def derivative(x: float) -> float:
    z = torch.tensor(4.0 * (x - 1), dtype=torch.float64).sigmoid()
    return float(4 * z * (1 - z))


@pytest.mark.parametrize("dense", [False, True])
def test_blocks_that_obey_the_formula(dense: bool) -> None:
    found = check(Blocks(3, dense), dense=dense)
    assert found.agrees
    assert found.bounded
    assert found.damps
    silent = derivative(0)
    spikes = [derivative(drive) for drive in ((1, 2, 3) if dense else (1, 1, 1))]
    for place, (g1, g2, g3), fires in zip(
        found.places, (spikes, [silent] * 3), (True, False), strict=True
    ):
        whole = g3 * (1 + g2) * (1 + g1) if dense else g1 * g2 * g3
        assert place.gradient == pytest.approx(whole, rel=1e-12)
        assert place.bound == pytest.approx(g3 if dense else whole, rel=1e-12)
        assert place.chain == pytest.approx(1.0 if fires else silent**3, rel=1e-12)
    assert found.least == pytest.approx([min(silent, g) for g in spikes], rel=1e-12)
    assert found.most == pytest.approx([max(silent, g) for g in spikes], rel=1e-12)


def test_what_breaks_the_formula_or_the_bound_is_seen() -> None:
    assert not check(Blocks(2, dense=True, leak=0.01), dense=True).agrees
    halved = check(Blocks(2, dense=True, factor=0.5), dense=True)
    assert not halved.agrees
    assert not halved.bounded
    negative = check(Blocks(4, dense=True, surrogate="multi_gaussian"), dense=True)
    assert negative.agrees
    assert min(negative.least) < 0
    assert not negative.bounded


def fired(*drives: Tensor) -> tuple[Tensor, ...]:
    """Each drive, followed by its spikes where it exceeds 1."""
    return tuple(each for y in drives for each in (y, (y > 1).float()))


@pytest.mark.parametrize(
    ("variances", "rises", "falls"),
    [([2.0, 6.0], True, ()), ([2.0, 2.0, 2.0], False, ()), ([1.0, 9.0, 3.0, 11.0], True, (3,))],
)
def test_rates(variances: list[float], rises: bool, falls: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    scaled = By(lambda x: fired(*[x * variance**0.5 for variance in variances]))
    found = check_rates([scaled] * 2, 2, lambda: torch.randn(2, 16, 32, 4, 4, generator=generator))
    assert found.variances == pytest.approx(variances, rel=0.05)
    expected = [0.5 * torch.special.erfc(torch.tensor((2 * v) ** -0.5)).item() for v in variances]
    assert found.rates == pytest.approx(expected, abs=0.01)
    assert (found.rises, found.falls) == (rises, falls)
    assert found.entry == pytest.approx(1.0, rel=0.05)


def test_norms_are_warmed_up_before_rates_are_measured() -> None:
    """Running statistics of a norm are means over the batches seen, not near their initial values."""
    norm, generator = nn.BatchNorm2d(32), torch.Generator().manual_seed(0)

    def normed(x: Tensor) -> tuple[Tensor, ...]:
        y = norm((100 * x + 7).flatten(0, 1)).unflatten(0, x.shape[:2])
        return fired(y, y)

    def images() -> Tensor:
        return torch.randn(1, 16, 32, 4, 4, generator=generator)

    found = check_rates([By(normed, norm)], 1, images)
    assert found.variances == pytest.approx([1.0, 1.0], rel=0.1)
    assert found.rises is False


@pytest.mark.parametrize(
    ("deviation", "rises", "run"), [(1.03, True, 4), (0.97, False, 12), (1.0, None, 20)]
)
def test_networks_are_added_until_rates_differ(
    deviation: float, rises: bool | None, run: int
) -> None:
    """The drives are independent noise, with a deviation of 1 and another one."""
    drawn = torch.Generator().manual_seed(0)
    apart = By(lambda x: fired(x, deviation * torch.randn(x.shape, generator=drawn)))
    models = iter([apart] * 20)
    found = check_rates(models, 2, lambda: torch.randn(1, 32, 32, 4, 4, generator=drawn))
    assert found.rises is rises
    assert 20 - len([*models]) == run


# -- agreement -------------------------------------------------------------------------------------


def network(
    threshold: float = 0.5, surrogate: str = "atan", detached: bool = False
) -> nn.Sequential:
    halved = By(lambda y: 0.5 * y + 0.5 * y.detach())  # the same values, half the gradient
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        halved if detached else nn.Identity(),
        Neuron(program(f"IF(v_threshold = {threshold})", surrogate).text(), 2, 3),
        nn.Dropout(0.5),
        By(lambda y: y.mean((0, 3, 4))),
    )


PAIRS = {name: name for name, _ in network().named_parameters()}
SIZE = (2, 3, 6, 6)


def test_the_same_network_with_other_weights_agrees() -> None:
    torch.manual_seed(0)
    left, right = network(), network()
    assert not torch.equal(left[0].weight, right[0].weight)
    found = agreement(left, right, PAIRS, SIZE)
    assert found.proves
    assert found.outputs == found.gradients == 0
    assert torch.equal(left[0].weight, right[0].weight)


def test_a_difference_of_gradients_alone_is_seen() -> None:
    found = agreement(network(), network(detached=True), PAIRS, SIZE)
    assert not found.same
    assert found.outputs < 1e-12
    assert found.gradients == pytest.approx(0.5, rel=1e-6)
    assert agreement(network(), network(surrogate="sigmoid"), PAIRS, SIZE).gradients > 1e-3


def test_what_does_not_fire_is_named() -> None:
    found = agreement(network(1000.0), network(1000.0), PAIRS, SIZE)
    assert found.same
    assert not found.proves
    assert found.silent == ("3",)
