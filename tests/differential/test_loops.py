"""Loops over time and delays, against plain loops of PyTorch in float64: outputs and gradients."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from danetc.compiler import check_text
from danetc.compiler.emit.fx import emit
from danetc.compiler.emit.inference import fold
from danetc.compiler.emit.python import emit_python
from danetc.runtime.layers.neuron import Neuron
from tests.differential.helpers import assert_close, built, text
from tests.differential.plain_loops import CASES, STEPS, frames, gradients, graph_of
from tests.differential.test_forms import executed


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("name", CASES)
def test_equals_a_plain_loop(name: str, steps: int) -> None:
    """Its neurons are alive, and hooks see all steps of those in a loop."""
    model = built(graph_of(name, steps)).train()
    spikes: list[Tensor] = []
    layers = [layer for layer in model.modules() if isinstance(layer, Neuron)]
    for layer in layers:
        layer.register_forward_hook(lambda layer, x, y: spikes.append(y.detach()))
    x = frames(steps).requires_grad_()
    y, expected = model(x), CASES[name].plain(dict(model.named_parameters()), x)
    assert_close(y.detach(), expected.detach(), 1e-12)
    assert y.std() > 0.01
    assert [len(each) for each in spikes] == [steps] * len(layers)
    assert steps == 2 or all(0.02 < each.mean() < 0.98 for each in spikes)
    mine, other = gradients(model, y, x), gradients(model, expected, x)
    for each in mine:
        assert_close(mine[each], other[each], 1e-9, each, floor=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_forms(name: str) -> None:
    """Copies, model.py, other backends and memory policies do the same, bit for bit."""
    graph = graph_of(name, 3)
    x = frames(3).float().requires_grad_()
    model = emit(graph).train()
    y = model(x)
    expected = gradients(model, y, x)
    forms: dict[str, nn.Module] = {
        "a copy": deepcopy(emit(graph)),
        "recompute": emit(graph, memory="recompute"),
        "spikingjelly": emit(graph, backend="spikingjelly"),
        "fused": emit(graph, backend="fused"),
        "fused recompute": emit(graph, backend="fused", memory="recompute"),
        "model.py": executed(emit_python(graph)).float(),
    }
    forms["model.py"].load_state_dict(emit(graph).state_dict())
    for what, form in forms.items():
        z = form.train()(x)
        assert torch.equal(z, y), what
        for each, value in gradients(form, z, x).items():
            assert_close(value, expected[each], 1e-6, f"{what}: {each}", floor=1e-5)
    for form in forms.values():
        for each, buffer in form.named_buffers():
            assert torch.equal(buffer, model.get_buffer(each)), each


@pytest.mark.parametrize("steps", STEPS)
@pytest.mark.parametrize("name", CASES)
def test_streams(name: str, steps: int) -> None:
    """Steps one after the other, in evaluation: what is delayed is a state of the stream."""
    model, x = built(graph_of(name, steps)), frames(steps)
    model.train()(x)
    model.eval()
    outputs, states = [], None
    for frame in x:
        y, states = model.stream(frame, states)
        outputs.append(y)
    assert_close(torch.stack(outputs).mean(0), model(x), 1e-12)
    assert_close(fold(model)(x), model(x), 1e-9)


def test_statistics_of_each_step() -> None:
    """Training moves the running statistics at each step; a static value is T equal steps."""
    lines = "out = in -> conv(3) -> batchnorm(statistics = step) -> avgpool -> mean_over_time"
    source = "network n {{ input = {}; steps = 3; {} }}"
    moving = built(text(source.format("events(2, 6, 6)", lines))).train()
    still = built(text(source.format("image(2, 6, 6)", lines))).train()
    x = frames(3)
    reference = nn.BatchNorm2d(3).double()
    reference.load_state_dict({**moving.norm.state_dict(), "num_batches_tracked": torch.tensor(0)})
    y = torch.stack([reference(F.conv2d(each, moving.conv.weight, padding=1)) for each in x])
    assert_close(moving(x), y.mean((0, -2, -1), keepdim=True)[0], 1e-12)
    image = x[0]
    reference.load_state_dict({**still.norm.state_dict(), "num_batches_tracked": torch.tensor(0)})
    y = torch.stack([reference(F.conv2d(image, still.conv.weight, padding=1)) for _ in range(3)])
    assert_close(still(image), y.mean((0, -2, -1), keepdim=True)[0], 1e-12)
    for name, value in reference.named_buffers():
        assert_close(still.norm.get_buffer(name).double(), value.double(), 1e-12, name)


def test_a_thousand_loops_take_linear_time() -> None:
    """Nodes of a network of many looped blocks grow with their number, not faster."""
    source = """
block cell { h = (in + (h -> delay(1))) -> tanh; out = in + h }
network n(blocks = 1) {
  input = events(2, 4, 4); steps = 2
  out = in -> stage(cell, blocks) -> conv(2)
}"""
    checked = check_text(f"use std\n{source}")
    from danetc.compiler import graph_of as build

    few, many = (len(build(checked, settings={"blocks": n}).nodes) for n in (10, 1000))
    assert (few - 2) * 100 == many - 2
