"""``origin`` and ``sew`` are SpikingJelly's spiking ResNets and SEW ResNets, spike for spike."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from spikingjelly.activation_based import functional, neuron, surrogate
from spikingjelly.activation_based.model import sew_resnet, spiking_resnet
from torch import Tensor, nn

from tests.differential.helpers import (
    Seen,
    assert_same,
    built,
    observe,
    randn,
    shake,
    spec,
    with_weights_of,
)

STEPS = 4
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
CASES = [
    # Neurons are the same in both, whose blocks are not.
    ("origin", 18, "lif_detached"),
    ("sew", 18, "if"),
    pytest.param("origin", 18, "if", marks=pytest.mark.thorough),
    pytest.param("sew", 18, "if_detached", marks=pytest.mark.thorough),
    pytest.param("sew", 18, "lif", marks=pytest.mark.thorough),
    # Deeper ones have other counts and other blocks, in which neurons do what they do at 18.
    pytest.param("origin", 34, "lif_detached", marks=pytest.mark.thorough),
    pytest.param("sew", 34, "if", marks=pytest.mark.thorough),
    pytest.param("origin", 50, "if_detached", marks=pytest.mark.thorough),
    pytest.param("sew", 50, "lif", marks=pytest.mark.thorough),
]


def spikingjelly_model(connection: str, depth: int, key: str) -> nn.Module:
    _, node, options = NEURONS[key]
    options = {**options, "surrogate_function": surrogate.Sigmoid(alpha=4.0), "num_classes": 10}
    torch.manual_seed(0)
    if connection == "sew":
        make = getattr(sew_resnet, f"sew_resnet{depth}")
        model = make(spiking_neuron=node, cnf="ADD", **options)
    else:
        model = getattr(spiking_resnet, f"spiking_resnet{depth}")(spiking_neuron=node, **options)
    functional.set_step_mode(model, "m")
    model.double()
    shake(model)
    return model  # type: ignore[no-any-return]


def watch(reference: nn.Module, frames: Tensor) -> Seen:
    """Their output is [T, N, classes]: the mean of it is ours."""
    functional.reset_net(reference)
    return observe(reference, frames, neuron.BaseNode, read=lambda y: y.mean(0))


@pytest.mark.parametrize(("connection", "depth", "key"), CASES)
def test_spiking_networks_are_those_of_spikingjelly(connection: str, depth: int, key: str) -> None:
    size = 48 if depth == 18 else 32
    reference = spikingjelly_model(connection, depth, key)
    graph = spec(f"{connection}_r{depth}", neuron=NEURONS[key][0], classes=10, image=size)
    model = built(graph)
    names = with_weights_of(model, reference)
    frames = randn(STEPS, 2, 3, size, size)
    mine, theirs = observe(model, frames), watch(reference, frames)
    _assert_same_spikes(mine, theirs)
    assert_same(mine, theirs, names, outputs=1e-9, gradients=1e-9, buffers=1e-9)


@pytest.mark.parametrize("connection", [pytest.param("origin", marks=pytest.mark.thorough), "sew"])
def test_a_static_image_is_their_repeated_frame(connection: str) -> None:
    """We compute the stem's convolution and norm once, they do so at every step."""
    reference = spikingjelly_model(connection, 18, "lif")
    graph = spec(f"{connection}_r18", neuron=NEURONS["lif"][0], classes=10, image=48, steps=STEPS)
    model = built(graph)
    names = with_weights_of(model, reference)
    for norm in (*model.modules(), *reference.modules()):
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = 1.0  # buffers of this batch, with which the network is not silent
    image = randn(2, 3, 48, 48)
    for training in (True, False):
        model.train(training)
        reference.train(training)
        mine, theirs = observe(model, image), watch(reference, image.expand(STEPS, *image.shape))
        theirs.gradients["x"] = theirs.gradients["x"].sum(0)
        _assert_same_spikes(mine, theirs)
        assert_same(mine, theirs, names, outputs=1e-9, gradients=1e-9, buffers=1e-9)


def _assert_same_spikes(mine: Seen, theirs: Seen) -> None:
    assert len(mine.spikes) == len(theirs.spikes)
    for number, (a, b) in enumerate(zip(mine.spikes, theirs.spikes, strict=True)):
        assert torch.equal(a, b), f"neuron layer {number}: {int((a != b).sum())} spikes differ"
        assert set(a.unique().tolist()) <= {0.0, 1.0}
    rates = [float(a.mean()) for a in mine.spikes]
    assert min(rates) > 0.0, "a silent layer shows nothing"
    assert max(rates) < 1.0
