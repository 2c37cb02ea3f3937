"""A network in Python of SpikingJelly's modules gives what the model gives."""

from __future__ import annotations

import inspect

import pytest
import torch
from spikingjelly.activation_based import functional, neuron

from danetc.compiler.emit.program import standalone
from danetc.compiler.emit.python.spikingjelly import _DEFAULTS, emit_spikingjelly
from danetc.dsl.errors import UserError
from tests.compiler.emit.test_onnx import inputs_of, warmed
from tests.differential.helpers import text
from tests.differential.networks import VARIETY, small

NETWORKS = {
    **{name: VARIETY[name] for name in (
        "origin_chain", "sew_densely_additive", "pa_b_spike", "densenet", "tdbn", "events",
        "unet", "gated",
    )},
    "plif": small(settings="neuron = PLIF(tau = 3.0, detach_reset = true)"),
    "looped": """network looped { input = events(2, 6, 6); steps = 3; surrogate = atan
  h = ((in -> conv(4)) + (h -> delay(1) -> conv(4) -> maxpool(3, stride = 1))) -> tanh
  out = h -> conv(3) -> sigmoid }""",
    "soft": small(settings="neuron = LIF_soft(tau = 3.0, v_threshold = 0.5)"),
}  # fmt: skip


@pytest.mark.parametrize("name", NETWORKS)
def test_the_file_computes_the_same(name: str) -> None:
    model = warmed(text(NETWORKS[name]))
    graph = model.topology
    written = emit_spikingjelly(graph)
    made = standalone(written, graph.name)
    made.load_state_dict(model.state_dict())
    layers = [module for module in made.modules() if isinstance(module, neuron.BaseNode)]
    assert len(layers) == sum(node.op == "neuron" for node in graph.nodes.values())
    assert "class Heaviside" not in written
    inputs = inputs_of(graph, 5)
    with torch.no_grad():
        for _ in range(2):
            mine, theirs = model(*inputs), made(*inputs)
            functional.reset_net(made)
            pairs = zip(mine, theirs, strict=True) if isinstance(mine, tuple) else [(mine, theirs)]
            for a, b in pairs:
                torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
        outputs = mine if isinstance(mine, tuple) else (mine,)
        assert max(y.std() for y in outputs) > 0.01


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("own_neurons", "branch.spike: SpikingJelly has no neuron with the equations"),
        ("loops", "is in a loop over time"),
    ],
)
def test_what_spikingjelly_has_not_is_named(name: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        emit_spikingjelly(text(VARIETY[name]))


def test_the_defaults_that_are_left_out_are_those_of_spikingjelly() -> None:
    for kind in (neuron.IFNode, neuron.LIFNode, neuron.ParametricLIFNode):
        parameters = inspect.signature(kind).parameters
        for key, value in _DEFAULTS.items():
            if key in parameters:
                assert parameters[key].default == value, (kind, key)
