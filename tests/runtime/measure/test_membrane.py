"""Membrane potential, threshold and slope of any neuron, found in its equations."""

from __future__ import annotations

import math

import pytest
import torch

import danetc
from danetc.dsl.kinds import SPIKE
from danetc.dsl.neuron.program import NeuronProgram
from danetc.runtime.layers.neuron import Neuron
from danetc.runtime.measure import NeuronLayer
from danetc.runtime.measure.membrane import Membrane, find_membrane, instrument
from danetc.runtime.measure.observers import (
    NeuronSums,
    firing_rates,
    gradient_stability,
    membrane_potentials,
)
from danetc.runtime.model.built import Model

from .conftest import measure
from .plain import slope

NETWORK = """
use std
{neuron}
network one {{
  input = image(1, 4, 4); steps = 4; neuron = {name}; surrogate = {surrogate}
  stem = conv(2, kernel = 3) -> spike
  stages = stage(basic(2), 1) via origin
  head = avgpool -> mean_over_time -> linear(3)
}}"""


def network(neuron: str, name: str = "N", surrogate: str = "sigmoid(alpha = 4)") -> Model:
    return danetc.build(text=NETWORK.format(neuron=neuron, name=name, surrogate=surrogate))


def program(neuron: str, name: str = "N") -> NeuronProgram:
    graph = network(neuron, name).topology
    return next(iter(graph.neurons.values()))


@pytest.mark.parametrize(
    ("body", "potential", "threshold"),
    [
        ("state u = 0.0; v = u + x; s = heaviside(v - 1.0); u = v * (1 - s)", "v", 1.0),
        ("state u = 0.0; v = u + x; s = heaviside(v - 0.5) * 1.0; u = v - s", "v", 0.5),
        ("state u = 0.0; v = u + x; h = v - 0.7; s = heaviside(h); u = v * (1 - s)", "v", 0.7),
        ("state u = 0.0; u_t = u + x - 1.0; s = heaviside(u_t); u = u_t - s", "u_t", 0.0),
        ("state u = 0.0; v = u + x; s = heaviside(v); u = v * (1 - s)", "v", 0.0),
        ("s = heaviside(x - 0.25)", "x", 0.25),
        ("s = heaviside(x)", "x", 0.0),
    ],
)
def test_the_potential_is_what_is_compared(body: str, potential: str, threshold: float) -> None:
    found = find_membrane(program(f"neuron N {{ {body} }}"))
    assert isinstance(found, Membrane)
    assert (found.potential, found.threshold) == (potential, threshold)


def test_a_threshold_may_vary() -> None:
    adaptive = """neuron N {
      state u = 0.0
      state a = 0.0
      v = 0.5 * u + x
      high = 1.0 + 0.5 * a
      s = heaviside(v - high)
      u = v * (1 - s)
      a = 0.9 * a + s
    }"""
    found = find_membrane(program(adaptive))
    assert isinstance(found, Membrane)
    assert (found.potential, found.threshold) == ("v", "high")
    model = network(adaptive)
    x = torch.full((4, 1, 2, 2, 2), 1.2)
    neuron = model.stem.spike
    u = a = torch.zeros(1, 2, 2, 2)
    for instant, s in zip(instrument(neuron.program).instants(neuron, x), neuron(x), strict=True):
        v, high = 0.5 * u + 1.2, 1 + 0.5 * a
        assert torch.allclose(instant.potential, v)
        assert torch.allclose(instant.threshold, high)
        u, a = v * (1 - s), 0.9 * a + s


def test_several_thresholds_are_no_single_potential() -> None:
    ternary = "neuron N { state u = 0.0; v = u + x; s = heaviside(v - 1.0) - heaviside(-1.0 - v); u = v * (1 - abs(s)) }"
    found = find_membrane(program(ternary))
    assert isinstance(found, str)
    assert "no single membrane potential: its output is made of 2 heavisides" in found
    measures = measure(network(ternary), [(torch.rand(2, 1, 4, 4), torch.tensor([0, 1]))])
    assert {layer.kind for layer in measures.firing_rate.layers} == {"-1 .. 1"}
    assert not measures.firing_rate.skipped
    assert not measures.potential.layers
    assert len(measures.potential.skipped) == 3
    assert "no single membrane potential" in measures.potential.skipped[0]
    assert (measures.gradient_stability.counted, measures.gradient_stability.overall) == (0, 1.0)
    assert measures.input.layers[0].threshold is None
    assert measures.input.layers[0].distance is None
    assert measures.gradients is not None


def test_an_analog_network_has_no_thresholds() -> None:
    relu = "neuron N { s = max(x, 0) }"
    found = find_membrane(program(relu))
    assert isinstance(found, str)
    assert "no threshold" in found
    measures = measure(network(relu), [(torch.rand(2, 1, 4, 4), torch.tensor([0, 1]))])
    assert measures.operations.additions == 0
    assert measures.operations.macs == measures.operations.dense_macs
    assert all(each.temporal == 0 for each in measures.gradients.parameters)


@pytest.mark.parametrize("static", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_instants_are_the_layer_s_own_steps(static: bool, dtype: torch.dtype) -> None:
    """Of an integrate-and-fire neuron with a rest below zero, against a loop written out."""
    text = """neuron N(tau = 3.0) {
      state u = -0.1
      v = u + (x - u) / tau
      s = heaviside(v - 0.3)
      u = v * (1 - s) - 0.1 * s
    }"""
    neuron = network(text).stem.spike
    assert isinstance(neuron, Neuron)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(*(() if static else (4,)), 2, 2, 4, 4, generator=generator).to(dtype)
    spikes = neuron(x)
    u = torch.full((2, 2, 4, 4), -0.1, dtype=torch.promote_types(dtype, torch.float32))
    fired = 0
    for t, instant in enumerate(instrument(neuron.program).instants(neuron, x)):
        current = (x if static else x[t]).to(u.dtype)
        v = u + (current - u) / 3.0
        s = (v - 0.3 >= 0).to(u.dtype)
        u = v * (1 - s) - 0.1 * s
        assert torch.equal(spikes[t].to(u.dtype), s)
        assert torch.allclose(instant.potential, v)
        assert torch.equal(instant.argument >= 0, s.bool())
        assert torch.allclose(instant.slope, slope(v - 0.3))
        fired += int(s.sum())
    assert fired > 0


@pytest.mark.parametrize(
    ("surrogate", "derivative"),
    [
        ("surrogate S { dy = (abs(x) < 0.5) * 1.0 }", lambda x: (x.abs() < 0.5).float()),
        ("surrogate S { dy = 0.3 }", lambda x: torch.full_like(x, 0.3)),
        ("surrogate S { dy = 1 / (1 + x * x) }", lambda x: 1 / (1 + x * x)),
    ],
)
def test_the_slope_is_that_of_the_surrogate(surrogate: str, derivative) -> None:  # type: ignore[no-untyped-def]
    text = "neuron N { state u = 0.0; v = u + x; s = heaviside(v - 1.0); u = v * (1 - s) }"
    neuron = network(f"{text}\n{surrogate}", surrogate="S").stem.spike
    x = torch.randn(2, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    (first, *_) = instrument(neuron.program).instants(neuron, x)
    assert torch.allclose(first.slope, derivative(x - 1.0))


def test_neurons_without_states_stand_for_all_steps() -> None:
    """A stateless neuron behind a static image runs once; its stability is that of T steps."""
    once = network("neuron N { s = heaviside(x - 0.2) }")
    x, labels = torch.rand(3, 1, 4, 4), torch.tensor([0, 1, 2])
    static = measure(once, [(x, labels)]).gradient_stability
    sequence = measure(once, [(x.expand(4, *x.shape), labels)]).gradient_stability
    expected = 4 * float(slope(once.stem.conv(x).detach() - 0.2).mean())
    assert static.layers[0].stability == pytest.approx(expected, rel=1e-6)
    assert sequence.overall == pytest.approx(static.overall, rel=1e-6)


def test_sums_of_a_layer_by_hand() -> None:
    """A potential at the threshold fires."""
    neuron = network("neuron N { s = heaviside(x - 0.25) }").stem.spike
    layer = NeuronLayer("it", True, False, True, SPIKE, None)
    sums = NeuronSums(layer, neuron, ["firing-rate", "potential"])
    below = torch.zeros(3, 1, 2, 1, 1)
    at_threshold = below + torch.tensor([0.25, 0.25, 0.0]).view(3, 1, 1, 1, 1)
    for x in (at_threshold, below, at_threshold):
        sums.see(neuron, (x,), neuron(x))
    (rate,) = firing_rates([sums]).layers
    assert rate.steps == pytest.approx((2 / 3, 2 / 3, 0.0))
    (found,) = membrane_potentials([sums]).layers
    assert (found.firing, found.threshold) == (pytest.approx(4 / 9), 0.25)
    sums.slopes, sums.neurons = 1e300, 1
    stability = gradient_stability([sums, sums])
    assert (stability.overall, stability.log10_overall) == (math.inf, pytest.approx(600))
