"""Membrane potential, threshold and slope of any neuron, and measures of real and integer outputs."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import danetc
from danetc.dsl.kinds import ANALOG, SPIKE, Kind
from danetc.runtime.layers.axes import Transform
from danetc.runtime.layers.neuron import Neuron
from danetc.runtime.measure import NeuronLayer, WeightLayer, observers
from danetc.runtime.measure.membrane import Membrane, find_membrane, instrument
from danetc.runtime.measure.operations import OperationCount, macs_of
from danetc.runtime.model.built import Model
from danetc.runtime.training.guards import watching_firing

from .conftest import measure
from .plain import slope

NETWORK = """
use std
neuron N {{ {body} }}
{surrogate}
network one {{
  input = image(1, 4, 4); steps = 4; neuron = N; surrogate = {name}
  stem = conv(2, kernel = 3) -> spike
  stages = stage(basic(2), 1) via origin
  head = avgpool -> mean_over_time -> linear(3)
}}"""
INTEGRATE = "state u = 0.0; v = u + x; s = heaviside(v - 1.0); u = v * (1 - s)"
SEVERAL = "state u = 0; v = u + x; s = heaviside(v - 1) - heaviside(-v - 1); u = v - s"
ADAPTIVE = (
    "state u = -0.1; state a = 0.0; v = u + (x - u) / 3; high = 0.3 + 0.5 * a; "
    "s = heaviside(v - high); u = v * (1 - s) - 0.1 * s; a = 0.9 * a + s"
)


def network(body: str, surrogate: str = "") -> Model:
    name = "S" if surrogate else "sigmoid(alpha = 4)"
    text = NETWORK.format(body=body, surrogate=surrogate, name=name)
    return danetc.build(text=text, seed=1, backend="eager").eval()


def membrane_of(body: str) -> Any:
    return find_membrane(next(iter(network(body).topology.neurons.values())))


def batches() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    x = [3 * torch.randn(4, 1, 4, 4, generator=generator) for _ in range(2)]
    return [(images, torch.zeros(4, dtype=torch.int64)) for images in x]


@pytest.mark.parametrize(
    ("body", "potential", "threshold"),
    [
        (INTEGRATE, "v", 1.0),
        ("state u = 0.0; v = u + x; s = heaviside(v - 0.5) * 1.0; u = v - s", "v", 0.5),
        ("state u = 0.0; v = u + x; h = v - 0.7; s = heaviside(h); u = v * (1 - s)", "v", 0.7),
        ("state u = 0.0; u_t = u + x - 1.0; s = heaviside(u_t); u = u_t - s", "u_t", 0.0),
        ("state u = 0.0; v = u + x; s = heaviside(v); u = v * (1 - s)", "v", 0.0),
        ("s = heaviside(x - 0.25)", "x", 0.25),
        ("s = heaviside(x)", "x", 0.0),
        (ADAPTIVE, "v", "high"),
    ],
)
def test_the_potential_is_what_is_compared(
    body: str, potential: str, threshold: float | str
) -> None:
    found = membrane_of(body)
    assert isinstance(found, Membrane)
    assert (found.potential, found.threshold) == (potential, threshold)


@pytest.mark.parametrize(
    ("body", "no", "reason"),
    [
        (SEVERAL, "no single membrane potential: its output is made of 2 heavisides", None),
        ("s = max(x, 0)", "no threshold", "an activation function, whose neurons do not fire"),
        ("state u = 0; u = 0.5 * u + x; s = u", "no threshold", "its neurons give real numbers"),
    ],
)
def test_neurons_without_a_membrane(body: str, no: str, reason: str | None) -> None:
    found = membrane_of(body)
    assert isinstance(found, str)
    assert no in found
    model, fired = network(body), dict[str, list[float]]()
    with watching_firing(model, fired):
        measures = measure(model, batches())
    assert not fired or reason is None
    assert not measures.potential.layers
    assert len(measures.potential.skipped) == 3
    assert no.partition(":")[0] in measures.potential.skipped[0]
    rates = measures.firing_rate
    assert {item.partition(": ")[2] for item in rates.skipped} == ({reason} if reason else set())
    assert (len(rates.layers), len(rates.skipped)) == ((0, 3) if reason else (3, 0))
    assert (measures.gradient_stability.counted, measures.gradient_stability.overall) == (0, 1.0)
    if reason is None:
        assert {layer.kind for layer in rates.layers} == {"-1 .. 1"}
        assert measures.input.layers[0].threshold is None
        assert measures.input.layers[0].distance is None
    else:
        assert measures.operations.additions == 0
        assert measures.operations.macs == measures.operations.dense_macs
    temporal = all(each.temporal == 0 for each in measures.gradients.parameters)
    assert temporal == (body == "s = max(x, 0)")


QUARTERS = "state u = 0; v = u + x; s = round(min(max(4 * v, 0), 4)) / 4; u = v - s"
TWOS = "state u = 0; v = u + x; h = heaviside(v - 0.5); s = 2 * h; u = v * (1 - h)"
UNITS = {"0 .. 4 of 1/4": (QUARTERS, 0.25), "-1 .. 1": (SEVERAL, 1.0), "0 .. 1 of 2": (TWOS, 2.0)}


@pytest.mark.parametrize("kind", UNITS)
def test_whole_numbers(kind: str) -> None:
    """A rate counts units of both signs. Spikes of any sign or unit count as additions, others as MACs."""
    body, unit = UNITS[kind]
    model = network(body)
    given: dict[str, list[Tensor]] = {}
    for name, module in model.named_modules():
        if isinstance(module, Neuron):
            module.register_forward_hook(
                lambda _, args, out, name=name: given.setdefault(name, []).append(out)
            )
    rates: dict[str, list[float]] = {}
    with torch.no_grad(), watching_firing(model, rates):
        for x, _ in batches():
            model(x)
    for name, (rate, low, high) in rates.items():  # training reports the last batch
        units = given[name][-1] / unit
        assert rate == pytest.approx(float(units.abs().mean()))
        assert (low, high) == (units.min() * unit, units.max() * unit)
    outputs = {name: torch.cat(each, 1) for name, each in given.items()}
    assert rates.keys() == outputs.keys()
    found = measure(model, batches(), only=["firing-rate", "operations"])
    assert not found.firing_rate.skipped
    assert [layer.layer for layer in found.firing_rate.layers] == [*outputs]
    for layer in found.firing_rate.layers:
        out = outputs[layer.layer]
        units = out.abs().double() / unit
        fired = out.ne(0).flatten(0, 1).any(0).double()
        assert layer.kind == kind
        assert layer.rate == pytest.approx(units.mean().item())
        assert layer.steps == pytest.approx(units.flatten(1).mean(1).tolist())
        assert layer.active == pytest.approx(out.ne(0).double().mean().item())
        assert layer.silent == pytest.approx(1 - fired.mean().item())
        assert 0 < layer.active <= layer.rate
    layer, dense = found.operations.layers[1], 4 * 16 * 2 * 2 * 9
    assert (layer.kind, layer.dense) == (kind, dense)
    active = dense * outputs["stem.spike"].ne(0).double().mean().item()
    expected = (0.0, active) if kind == "0 .. 4 of 1/4" else (active, 0.0)
    assert (layer.additions, layer.macs) == pytest.approx(expected)


def test_operations_of_products_and_transposed_convolutions() -> None:
    """With an integer and a real factor, only pairs without a 0 are multiplied."""
    graded = Kind(0, 4, 1.0)
    for kinds, wanted in (((graded, ANALOG), 3.0), ((ANALOG, ANALOG), 4.0)):
        count = OperationCount(WeightLayer("it", True, (kinds,)))
        module = SimpleNamespace(factors=2, multiplied=lambda a, b: [(a, b)])
        a, b = torch.tensor([[2.0, 3.0]]), torch.tensor([[0.5, 0.25], [1.0, 0.0]])
        count.see(module, (a, b), a @ b)
        found = count.result(1)
        assert (found.dense, found.macs, found.additions) == (4.0, wanted, 0.0)
        assert found.active == 3 / 4
    spread = nn.ConvTranspose2d(2, 3, 2, stride=2)
    x = torch.zeros(1, 2, 4, 4)
    assert macs_of(spread, x, spread(x)) == 3 * 2 * 2 * x.numel()
    haar = Transform("haar", "rows", False, 3)
    assert macs_of(haar, x, haar(x)) == 4 * x.numel()


@pytest.mark.parametrize("static", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_instants_are_the_layer_s_own_steps(static: bool, dtype: torch.dtype) -> None:
    """A neuron with a rest below zero and a varying threshold agrees with an explicit loop."""
    neuron: Any = network(ADAPTIVE).stem.spike
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(*(() if static else (4,)), 2, 2, 4, 4, generator=generator).to(dtype)
    spikes = neuron(x)
    a = torch.zeros(2, 2, 4, 4, dtype=torch.promote_types(dtype, torch.float32))
    u = a - 0.1
    for t, instant in enumerate(instrument(neuron.program).instants(neuron, x)):
        current = (x if static else x[t]).to(u.dtype)
        v, high = u + (current - u) / 3, 0.3 + 0.5 * a
        s = (v - high >= 0).to(u.dtype)
        u, a = v * (1 - s) - 0.1 * s, 0.9 * a + s
        assert torch.equal(spikes[t].to(u.dtype), s)
        assert torch.allclose(instant.potential, v)
        assert torch.allclose(instant.threshold, high)
        assert torch.equal(instant.argument >= 0, s.bool())
        assert torch.allclose(instant.slope, slope(v - high))
    assert spikes.sum() > 0


@pytest.mark.parametrize(
    ("surrogate", "derivative"),
    [
        ("surrogate S { dy = (abs(x) < 0.5) * 1.0 }", lambda x: (x.abs() < 0.5).float()),
        ("surrogate S { dy = 0.3 }", lambda x: torch.full_like(x, 0.3)),
        ("surrogate S { dy = 1 / (1 + x * x) }", lambda x: 1 / (1 + x * x)),
    ],
)
def test_the_slope_is_that_of_the_surrogate(surrogate: str, derivative) -> None:  # type: ignore[no-untyped-def]
    neuron: Any = network(INTEGRATE, surrogate).stem.spike
    x = torch.randn(2, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    (first, *_) = instrument(neuron.program).instants(neuron, x)
    assert torch.allclose(first.slope, derivative(x - 1.0))


def test_neurons_without_states_stand_for_all_steps() -> None:
    """A stateless neuron on a static image runs once, but its stability counts T steps."""
    once: Any = network("s = heaviside(x - 0.2)")
    x, labels = torch.rand(3, 1, 4, 4), torch.tensor([0, 1, 2])
    static = measure(once, [(x, labels)]).gradient_stability
    sequence = measure(once, [(x.expand(4, *x.shape), labels)]).gradient_stability
    expected = 4 * float(slope(once.stem.conv(x).detach() - 0.2).mean())
    assert static.layers[0].stability == pytest.approx(expected, rel=1e-6)
    assert sequence.overall == pytest.approx(static.overall, rel=1e-6)


def test_sums_of_a_layer_by_hand() -> None:
    """A potential at the threshold fires."""
    neuron: Any = network("s = heaviside(x - 0.25)").stem.spike
    layer = NeuronLayer("it", True, False, True, SPIKE, None)
    sums = observers.NeuronSums(layer, neuron, ["firing-rate", "potential"])
    below = torch.zeros(3, 1, 2, 1, 1)
    at_threshold = below + torch.tensor([0.25, 0.25, 0.0]).view(3, 1, 1, 1, 1)
    for x in (at_threshold, below, at_threshold):
        sums.see(neuron, (x,), neuron(x))
    (rate,) = observers.firing_rates([sums]).layers
    assert rate.steps == pytest.approx((2 / 3, 2 / 3, 0.0))
    (found,) = observers.membrane_potentials([sums]).layers
    assert (found.firing, found.threshold) == (pytest.approx(4 / 9), 0.25)
    sums.slopes, sums.neurons = 1e300, 1
    stability = observers.gradient_stability([sums, sums])
    assert (stability.overall, stability.log10_overall) == (math.inf, pytest.approx(600))
