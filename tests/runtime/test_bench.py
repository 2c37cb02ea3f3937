"""Timing training steps against each other, and counterparts of networks in other libraries."""

import time
from typing import Any

import pytest
import torch

from benchmarks.counterparts import spikingjelly_counterpart, torchvision_counterpart
from benchmarks.timing import WARM_UP, Sample, medians, ratio, time_interleaved
from danetc.compiler.emit.fx import emit
from danetc.runtime.layers.neuron import Neuron
from danetc.runtime.model.weights import match
from tests.differential.helpers import spec as shipped
from tests.runtime.conftest import step as train_step

CPU = torch.device("cpu")


def test_a_race_is_interleaved_and_turned_round() -> None:
    calls: list[str] = []
    ticks: list[str] = []

    def step(name: str) -> None:
        calls.append(name)
        time.sleep(0.002)

    steps = {name: lambda name=name: step(name) for name in "abc"}
    samples = time_interleaved(steps, CPU, 4, sample=0.002, on_progress=ticks.append)
    warm_up = [name for name in "abc" for _ in range(WARM_UP + 1)]
    assert calls[: len(warm_up)] == warm_up
    assert calls[len(warm_up) :] == [*"abc", *"cba", *"abc", *"cba"]
    assert ticks == [*"abc", *"abc", *"cba", *"abc", *"cba"]
    assert {name: len(each) for name, each in samples.items()} == dict.fromkeys("abc", 4)


def test_ratios_are_those_of_the_same_round() -> None:
    # The machine becomes four times slower, so the ratio of the medians would differ.
    base = [Sample(cpu, 9.0) for cpu in (1.0, 1.0, 4.0)]
    other = [Sample(cpu, 1.0) for cpu in (1.5, 6.0, 6.0)]
    assert ratio({"base": base, "other": other}, "other", "base") == 1.5
    assert ratio({"base": base, "other": other}, "base", "base") == 1.0
    assert medians(other) == Sample(6.0, 1.0)


# -- networks of other libraries -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("origin_r18", "resnet18"),
        ("sew_r34", "resnet34"),
        ("danet_a_r50", "resnet50"),
        ("danet_b_r18", "resnet18"),
        ("danet_c_r152", "resnet152"),
        ("baa_r101", "resnet101"),
        ("spiking_densenet121", "densenet121"),
    ],
)
def test_torchvision_has_the_same_layers(spec: str, name: str) -> None:
    found = torchvision_counterpart(shipped(spec, classes=10))
    assert (found.library, found.name) == ("torchvision", name)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("spec", "name"),
    [
        ("sew_r18", "sew_resnet18"),
        ("sew_r50", "sew_resnet50"),
        ("origin_r34", "spiking_resnet34"),
        ("danet_c_r18", "spiking_resnet18"),  # with two blocks per stage, the rule is a chain
    ],
)
def test_spikingjelly_has_the_same_network(spec: str, name: str) -> None:
    pytest.importorskip("spikingjelly")
    graph = shipped(spec, classes=10)
    found = spikingjelly_counterpart(graph)
    assert (found.library, found.name) == ("SpikingJelly", name)
    assert match(emit(graph), found.make().state_dict()).how == "order"


@pytest.mark.parametrize(
    "neuron",
    [
        "IF(v_threshold = 0.8, v_rest = 0.1)",
        "LIF(tau = 1.5, v_threshold = 0.7, v_rest = 0.1, detach_reset = true)",
        "LIF_soft(tau = 3.0)",
        "PLIF(tau = 4.0, v_rest = 0.1)",
    ],
)
def test_its_neurons_do_the_same(neuron: str) -> None:
    pytest.importorskip("spikingjelly")
    graph = shipped("sew_r18", neuron=neuron, surrogate="atan(alpha = 3.0)")
    found = spikingjelly_counterpart(graph)
    model: Any = found.make()
    other = model.sn1.double()
    other.step_mode = "m"
    mine = Neuron(next(iter(graph.neurons.values())).text(), 4, 1).double()
    x = 2 * torch.rand(4, 3, 50, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    results = [[*train_step(layer, x).values()] for layer in (mine, other)]
    assert 0 < float(results[0][0].mean()) < 1
    assert torch.equal(results[0][0], results[1][0])
    torch.testing.assert_close(*results, rtol=1e-9, atol=1e-9)
