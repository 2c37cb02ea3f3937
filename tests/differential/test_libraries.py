"""Networks of SpikingJelly and torchvision against ours: outputs, gradients, monitors and measures."""

from functools import partial
from typing import Any

import pytest
import torch
import torchvision
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from spikingjelly.activation_based import monitor as monitors
from spikingjelly.activation_based.model import sew_resnet, spiking_resnet
from torch import Tensor, nn
from torch.nn import functional as F

import danetc
from danetc.runtime.layers.neuron import Neuron
from tests.differential.helpers import (
    Seen,
    assert_same,
    built,
    observe,
    observe_each,
    randn,
    shake,
    spec,
    with_weights_of,
)

# -- SpikingJelly: ``origin`` and ``sew`` ---------------------------------------------------------

STEPS = 4
CLOSE = {"outputs": 1e-9, "gradients": 1e-9, "buffers": 1e-9}
NEURONS: dict[str, tuple[str, type[nn.Module], dict[str, Any]]] = {
    "if": ("IF", neuron.IFNode, {}),
    "if_detached": ("IF(detach_reset = true)", neuron.IFNode, {"detach_reset": True}),
    "lif": ("LIF(tau = 1.5)", neuron.LIFNode, {"tau": 1.5}),
    "lif_detached": (
        "LIF(tau = 2.0, v_threshold = 0.8, v_rest = 0.1, detach_reset = true)",
        neuron.LIFNode,
        {"tau": 2.0, "v_threshold": 0.8, "v_reset": 0.1, "detach_reset": True},
    ),
}
CASES = {
    # Both connections use the same neurons but different blocks.
    "origin": [(18, "lif_detached"), (18, "if"), (34, "lif_detached"), (50, "if_detached")],
    "sew": [(18, "if"), (18, "if_detached"), (18, "lif"), (34, "if"), (50, "lif")],
}
"""The first case always runs. Deeper networks have other block counts and other blocks."""


def spikingjelly_model(connection: str, depth: int, key: str) -> nn.Module:
    _, node, options = NEURONS[key]
    options = {**options, "surrogate_function": surrogate.Sigmoid(alpha=4.0), "num_classes": 10}
    torch.manual_seed(0)
    if connection == "sew":
        make = partial(getattr(sew_resnet, f"sew_resnet{depth}"), cnf="ADD")
    else:
        make = getattr(spiking_resnet, f"spiking_resnet{depth}")
    model = make(spiking_neuron=node, **options).double()
    functional.set_step_mode(model, "m")
    shake(model)
    return model  # type: ignore[no-any-return]


def watch(reference: nn.Module, frames: Tensor) -> Seen:
    """Observe a network of SpikingJelly. Its output is [T, N, classes], and ours is the mean over T."""
    functional.reset_net(reference)
    return observe(reference, frames, neuron.BaseNode, read=lambda y: y.mean(0))


@pytest.mark.parametrize(
    ("connection", "depth", "key"),
    [
        pytest.param(connection, *case, marks=[pytest.mark.thorough] * (place > 0))
        for connection, cases in CASES.items()
        for place, case in enumerate(cases)
    ],
)
def test_spiking_networks_are_those_of_spikingjelly(connection: str, depth: int, key: str) -> None:
    size = 48 if depth == 18 else 32
    reference = spikingjelly_model(connection, depth, key)
    graph = spec(f"{connection}_r{depth}", neuron=NEURONS[key][0], classes=10, image=size)
    model = built(graph)
    names = with_weights_of(model, reference)
    frames = randn(STEPS, 2, 3, size, size)
    mine, theirs = observe(model, frames), watch(reference, frames)
    _assert_same_spikes(mine, theirs)
    assert_same(mine, theirs, names, **CLOSE)


@pytest.mark.parametrize("connection", [pytest.param("origin", marks=pytest.mark.thorough), "sew"])
def test_a_static_image_is_their_repeated_frame(connection: str) -> None:
    """We compute the stem's convolution and norm once; SpikingJelly computes them at every step."""
    reference = spikingjelly_model(connection, 18, "lif")
    graph = spec(f"{connection}_r18", neuron=NEURONS["lif"][0], classes=10, image=48, steps=STEPS)
    model = built(graph)
    names = with_weights_of(model, reference)
    for norm in (*model.modules(), *reference.modules()):
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = 1.0  # the buffers become this batch's statistics, so the network spikes
    image = randn(2, 3, 48, 48)
    for training in (True, False):
        model.train(training)
        reference.train(training)
        mine, theirs = observe(model, image), watch(reference, image.expand(STEPS, *image.shape))
        theirs.gradients["x"] = theirs.gradients["x"].sum(0)
        _assert_same_spikes(mine, theirs)
        assert_same(mine, theirs, names, **CLOSE)


def _assert_same_spikes(mine: Seen, theirs: Seen) -> None:
    assert len(mine.spikes) == len(theirs.spikes)
    for number, (a, b) in enumerate(zip(mine.spikes, theirs.spikes, strict=True)):
        assert torch.equal(a, b), f"neuron layer {number}: {int((a != b).sum())} spikes differ"
        assert set(a.unique().tolist()) <= {0.0, 1.0}
    rates = [float(a.mean()) for a in mine.spikes]
    assert min(rates) > 0.0, "a silent layer shows nothing"
    assert max(rates) < 1.0


# -- torchvision: with ``neuron = ReLU`` and one step ---------------------------------------------

PAIRS = {
    **{f"origin_r{depth}": f"resnet{depth}" for depth in (18, 34, 50, 101, 152)},
    **{f"spiking_densenet{depth}": f"densenet{depth}" for depth in (121, 161, 201)},
}
"""Our networks with their counterparts in torchvision."""


@pytest.mark.parametrize(
    "ours",
    [
        name if name.endswith(("r18", "t121")) else pytest.param(name, marks=pytest.mark.thorough)
        for name in PAIRS
    ],
)
def test_analog_networks_are_those_of_torchvision(ours: str) -> None:
    torch.manual_seed(0)
    reference = getattr(torchvision.models, PAIRS[ours])(weights=None, num_classes=10).double()
    shake(reference)
    size = 64 if "densenet" in ours else 48
    model = built(spec(ours, neuron="ReLU", steps=1, classes=10, image=size))
    names = with_weights_of(model, reference)
    # the training step fills the buffers that evaluation reads
    for training, x in ((True, randn(2, 3, size, size)), (False, randn(1, 3, size, size))):
        assert_same(*observe_each((model, reference), x, training), names, **CLOSE)


# -- SpikingJelly's monitors -------------------------------------------------------------------------

MONITORED = """
use std
network net {
  input = image(1, 8, 8); steps = 4; neuron = LIF(tau = 2.0); surrogate = atan
  out = in -> conv(8) -> norm -> spike -> conv(8) -> norm -> spike -> avgpool -> mean_over_time -> linear(10)
}
"""


def theirs(ours: nn.Module) -> nn.Module:
    """The same network built from SpikingJelly's layers, with the same weights."""
    parts: list[nn.Module] = []
    for channels in (1, 8):
        parts += [
            layer.Conv2d(channels, 8, 3, padding=1, bias=False, step_mode="m"),
            layer.BatchNorm2d(8, step_mode="m"),
            neuron.LIFNode(surrogate_function=surrogate.ATan(), step_mode="m"),
        ]
    found = nn.Sequential(*parts, nn.Linear(8, 10))
    for name, value in zip(found.state_dict().values(), ours.state_dict().values(), strict=True):
        name.copy_(value)
    return found


def run(theirs: nn.Module, image: Tensor) -> Tensor:
    spikes: Tensor = theirs[:-1](image.expand(4, *image.shape))  # type: ignore[index]
    return theirs[-1](spikes.mean((-2, -1))).mean(0)  # type: ignore[index, no-any-return]


@pytest.mark.parametrize("backend", ["eager", "spikingjelly"])
def test_monitors_record_what_those_of_spikingjelly_record(backend: str) -> None:
    torch.manual_seed(0)
    ours = danetc.build(text=MONITORED, backend=backend, seed=1)
    images = torch.rand(5, 1, 8, 8) * 4
    found: list[dict[str, Any]] = []
    other = theirs(ours)
    for net, call, kind in ((other, partial(run, other), neuron.LIFNode), (ours, ours, Neuron)):
        spikes = monitors.OutputMonitor(net, kind)
        inputs = monitors.InputMonitor(net, kind)
        gradients = monitors.GradOutputMonitor(net, kind)
        rates = monitors.OutputMonitor(net, kind, lambda out: out.mean().item())
        call(images).square().sum().backward()
        found.append({"spikes": spikes.records, "rates": rates.records, "inputs": inputs.records,
                      "gradients": gradients.records})  # fmt: skip
        for each in (spikes, inputs, gradients, rates):
            each.disable()
        call(images)
    expected, recorded = found
    for name in ("spikes", "inputs", "gradients"):
        assert len(recorded[name]) == len(expected[name]) == 2
        for place, (one, two) in enumerate(zip(recorded[name], expected[name], strict=True)):
            assert two.shape == (4, 5, 8, 8, 8)
            once = name == "inputs" and place == 0  # it is passed once for all steps
            assert one.shape == two.shape[once:]
            torch.testing.assert_close(one.expand_as(two), two, atol=1e-5, rtol=1e-4)
    assert set(torch.cat(recorded["spikes"]).unique().tolist()) == {0.0, 1.0}
    assert all(0.01 < rate < 0.99 for rate in recorded["rates"])


def test_measures_are_those_of_spikingjelly_s_monitors() -> None:
    ours = danetc.build(text=MONITORED, backend="eager", seed=1)
    images, labels = torch.rand(5, 1, 8, 8) * 4, torch.arange(5)
    ours(images)  # sets the statistics of the norms from these images
    net, ours, images = theirs(ours).double().eval(), ours.double().eval(), images.double()
    spikes = monitors.OutputMonitor(net, neuron.LIFNode)
    gradients = monitors.GradInputMonitor(net, neuron.LIFNode)
    F.cross_entropy(run(net, images), labels).backward()
    found = danetc.measure(ours, [(images, labels)], only=["firing-rate", "gradients"])
    for each, fired in zip(found.firing_rate.layers, spikes.records, strict=True):
        assert each.rate == pytest.approx(float(fired.detach().mean()), rel=1e-12)
        assert each.steps == pytest.approx(fired.mean((1, 2, 3, 4)).tolist(), rel=1e-12)
    first, last = reversed(gradients.records)
    for each, grad in zip(found.gradients.neurons, (first.sum(0), last), strict=True):
        # the first neuron receives its static input once for all steps
        of_an_image = len(labels) ** 0.5 * float(grad.norm())
        assert each.whole == pytest.approx(of_an_image, rel=1e-10) != 0
