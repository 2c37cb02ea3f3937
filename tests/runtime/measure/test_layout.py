"""Which layers count, against what the paper's networks are known to have."""

from __future__ import annotations

import pytest

from danetc.compiler import check_file, graph_of
from danetc.compiler.emit.layout import layout_of
from danetc.compiler.ir.graph import Graph
from tests.differential.helpers import text
from tests.differential.networks import small


def graph(name: str) -> Graph:
    return graph_of(check_file(name), None, {})


@pytest.mark.parametrize(
    ("depth", "main"), [("r18", 17), ("r34", 33), ("r50", 49), ("r101", 100), ("r152", 151)]
)
@pytest.mark.parametrize("family", ["origin", "sew", "danet_a", "danet_b", "danet_c", "danet_d"])
def test_main_path_has_depth_minus_one_neurons(family: str, depth: str, main: int) -> None:
    """A shortcut's neurons (SEW's, one for each stage that changes shape) do not count."""
    layout = layout_of(graph(f"{family}_{depth}"))
    assert sum(layer.main for layer in layout.neurons) == main
    shapes = 3 if depth in ("r18", "r34") else 4  # a bottleneck widens in its first stage too
    shortcut = [layer for layer in layout.neurons if not layer.main]
    assert len(shortcut) == (shapes if family == "sew" else 0)
    blocks = sum(len(stage.blocks) for stage in layout.stages)
    interblock = [layer for layer in layout.neurons if layer.interblock]
    assert len(interblock) == (blocks if family in ("origin", "danet_c", "danet_d") else 0)
    weights = [layer for layer in layout.weights if layer.main]
    assert (
        len(weights) == main + 1
    )  # a convolution before each neuron, or behind it; the classifier


@pytest.mark.parametrize("name", ["danet_c_r18", "sew_r18", "danet_a_r18", "spiking_densenet121"])
def test_layouts_name_modules_of_the_model(name: str) -> None:
    from torch import nn

    import danetc
    from danetc.runtime.layers.neuron import Neuron
    from danetc.runtime.model.built import Model

    model: Model = danetc.build(name, set={"steps": 1})
    assert isinstance(model.topology, Graph)
    layout = layout_of(model.topology)
    neurons = [n for n, module in model.named_modules() if isinstance(module, Neuron)]
    assert sorted(layer.name for layer in layout.neurons) == sorted(neurons)
    weighted = [n for n, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    assert sorted(layer.name for layer in layout.weights) == sorted(weighted)
    for stage in layout.stages:
        for block in stage.blocks:
            model.get_submodule(block[0])
    for neuron in layout.neurons:
        of = [stage.name for stage in layout.stages if neuron.name.startswith(f"{stage.name}.")]
        assert of == ([] if neuron.stage is None else [layout.stages[neuron.stage].name])


def test_a_block_that_computes_what_another_does_has_its_output() -> None:
    more = (
        "block pool(n) { out = in -> maxpool(3, stride = 1) }\n"
        "rule parallel { in[i] = in; result = sum(out[0 .. n-1]) }"
    )
    (stage,) = layout_of(text(small("stage(pool(4), 2) by parallel", more=more))).stages
    assert stage.blocks == (("stages.0.blocks.0", None), ("stages.0.blocks.0.maxpool", None))
