"""One network in several forms: GraphModule, ``model.py``, resolved spec; image and sequence."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import nn

from danetc.compiler import check_text, graph_of
from danetc.compiler.emit.program import standalone
from danetc.compiler.emit.python import emit_python
from danetc.compiler.frontend.resolved import resolved_spec
from danetc.compiler.ir.graph import Graph
from danetc.compiler.ir.ops import OPS
from danetc.compiler.ir.ops.row import nothing
from tests.alternating import alternating
from tests.differential.helpers import all_zero, assert_same, built, observe, randn, text
from tests.differential.networks import TOKENS, VARIETY, variety
from tests.runtime.test_fused import inputs


def executed(source: str) -> nn.Module:
    """The model of ``model.py``'s text, run as a file of its own."""
    return standalone(source, "written").train().double()


def packed(written: nn.Module, graph: Graph) -> nn.Module:
    """It takes several inputs in one tensor, as the graph module does too."""
    channels = [node.value.shape[0] for node in graph.inputs]
    if len(channels) > 1:
        written.register_forward_pre_hook(lambda _, args: args[0].split(channels, -3))
    return written


def test_the_networks_here_use_every_operation() -> None:
    used: set[str] = {node.op for lines in TOKENS.values() for node in text(lines).nodes.values()}
    for name in VARIETY:
        for graph in (variety(name, ()), variety(name)):
            used |= {node.op for node in graph.nodes.values()}
    sugar = {name for name, row in OPS.items() if row.emit is nothing or row.opaque} - {
        "input",
        "carry",
    }
    assert used == set(OPS) - sugar, "tdbn is lowered to batchnorm"


@pytest.mark.parametrize("name", alternating(VARIETY, 1))
def test_the_written_model_is_the_graph_module(name: str) -> None:
    graph = variety(name)
    model = built(graph)
    written = packed(executed(emit_python(graph)), graph)
    assert list(model.state_dict()) == list(written.state_dict())
    written.load_state_dict(model.state_dict())
    for training, x in product((True, False), inputs(graph)):
        model.train(training)
        written.train(training)
        torch.manual_seed(0)
        mine = observe(model, x)
        torch.manual_seed(0)
        assert not all_zero(mine.outputs)
        assert_same(mine, observe(written, x), gradients=1e-12)


@pytest.mark.parametrize("name", VARIETY)
def test_the_resolved_spec_is_the_same_graph(name: str) -> None:
    """Of which ``danetc.load`` makes the model, so that it is the same model."""
    graph = variety(name)
    again = graph_of(check_text(resolved_spec(check_text(f"use std\n{VARIETY[name]}"))))
    assert again == graph


def test_a_neuron_whose_inputs_are_all_static() -> None:
    """Several inputs come in a last dimension, which ``model.py`` took for time."""
    checked = check_text(
        "use std\nneuron gated(gate) { v = 0.7 * delay(gate, 1) + max(x, gate); s = heaviside(v - 0.4) }\n"
        "network n { input = events(1, 7, 7); steps = 2; surrogate = atan\n"
        "  a = in -> conv(4) -> mean(over = time)\n  out = a -> gated(gate = a) }\n"
    )
    graph = graph_of(checked)
    model, written = built(graph), executed(emit_python(graph))
    written.load_state_dict(model.state_dict())
    x = randn(2, 3, 1, 7, 7)
    assert torch.equal(written(x), model(x))
