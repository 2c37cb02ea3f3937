"""Lowering of connections, of blocks that wire themselves, and of what stands in them."""

from __future__ import annotations

import pytest

from tests.compiler.lowered import graph, node, ops, paths, spec
from tests.dsl.examples import EXAMPLES

CONNECTIONS = {
    "origin": (["conv", "batchnorm", "neuron", "conv", "batchnorm"], ["conv", "batchnorm"], ["add", "neuron"]),
    "tdbn": (["conv", "batchnorm", "neuron", "conv", "batchnorm"], ["conv", "batchnorm"], ["add", "neuron"]),
    "baa": (["conv", "batchnorm", "neuron", "conv"], ["conv", "batchnorm"], ["add", "batchnorm", "neuron"]),
    "sew": (["conv", "batchnorm", "neuron"] * 2, ["conv", "batchnorm", "neuron"], ["add"]),
    "sew_and": (["conv", "batchnorm", "neuron"] * 2, ["conv", "batchnorm", "neuron"], ["mul"]),
    "sew_iand": (["conv", "batchnorm", "neuron"] * 2, ["conv", "batchnorm", "neuron"], ["affine", "mul"]),
    "pa_a": (["neuron", "conv", "batchnorm"] * 2, ["conv", "batchnorm"], ["add"]),
    "pa_b": (["batchnorm", "neuron", "conv"] * 2, ["conv", "batchnorm"], ["add"]),
    "ms": (["neuron", "conv", "batchnorm"] * 2, ["avgpool", "conv", "batchnorm"], ["add"]),
    "dense_layer": (["batchnorm", "neuron", "conv"] * 2, [], []),
    "plain": (["conv", "batchnorm", "neuron"] * 2, [], []),
}  # fmt: skip


@pytest.mark.parametrize("connection", CONNECTIONS)
def test_connections_of_std(connection: str) -> None:
    """Fig. 1 of the paper, for a block that changes the shape."""
    branch, shortcut, rest = CONNECTIONS[connection]
    lowered = graph(spec(stages=f"stage(basic(16), 1, stride = 2) via {connection}"))
    block = "stages.0.blocks.0"
    assert ops(lowered, f"{block}.branch") == branch
    assert ops(lowered, f"{block}.shortcut") == shortcut
    assert [
        item.op for item in lowered.nodes.values() if item.scope == tuple(block.split("."))
    ] == rest


def test_a_connection_has_convolutions_of_its_own_beside_those_of_the_block() -> None:
    """`conv(24, kernel = 1)` names its width, so it is not the block's convolution."""
    text = spec(stages="stage(basic(8), 1) via mine") + (
        "connection mine {\n  each = conv(24, kernel = 1) -> conv -> norm -> spike\n"
        "  out = branch + shortcut\n}\n"
    )
    lowered = graph(text)
    convolutions = [
        (each.attrs["kernel"], each.value.shape[0], lowered[each.inputs[0]].value.shape[0])
        for each in lowered.nodes.values()
        if each.op == "conv" and each.scope[-1:] == ("branch",)
    ]
    assert convolutions == [(1, 24, 8), (3, 8, 24)] * 2


def test_identity_stands_where_the_shape_is_kept() -> None:
    text = spec(stages="stage(basic(8), 2) via tdbn_identity")
    lowered = graph(text)
    assert ops(lowered, "stages.0.blocks.0.shortcut") == ["batchnorm"]


def test_a_connection_takes_a_layer() -> None:
    lowered = graph(spec(stages="stage(basic(8), 1) via origin(inter = LIF)"))
    assert node(lowered, "stages.0.blocks.0.branch.spike").attrs["neuron"] == "IF"
    assert node(lowered, "stages.0.blocks.0.spike").attrs["neuron"] == "LIF"


def test_what_follows_the_join_is_known() -> None:
    lowered = graph(spec().replace("via origin", "via baa"))
    block = lowered.stages[0].blocks[0]
    assert block.after == ("batchnorm", "neuron")
    assert lowered[block.join].op == "add"


def test_drop_path_by_depth() -> None:
    text = spec(stages="stage(basic(8), 4) via mine") + (
        "connection mine(p = 0.4) {\n  each = conv -> norm -> spike\n"
        "  out = (branch -> droppath(p * i / n)) + shortcut\n}\n"
    )
    rates = [item.attrs["p"] for item in graph(text).nodes.values() if item.op == "droppath"]
    assert rates == pytest.approx([0.1, 0.2, 0.3])  # block 0 drops nothing


def test_a_squeeze_excitation_gate() -> None:
    text = spec(stages="stage(basic(8), 1) via gated") + (
        "connection gated(r = 4) {\n  each = conv -> norm -> spike\n"
        "  gate = branch -> avgpool -> conv(channels / r, kernel = 1, bias = true) -> ReLU\n"
        "    -> conv(channels, kernel = 1, bias = true) -> sigmoid\n"
        "  out = branch * gate + shortcut\n}\n"
    )
    lowered = graph(text)
    scope = "stages.0.blocks.0"
    assert ops(lowered, f"{scope}.gate") == ["global_avgpool", "conv", "neuron", "conv", "sigmoid"]
    assert node(lowered, f"{scope}.gate.conv1").value.shape == (2, 1, 1)
    product_ = node(lowered, f"{scope}.mul")
    assert product_.value.shape == (8, 8, 8)


def test_a_gate_over_time() -> None:
    """A gate from the mean over time is static, and is applied at each step."""
    text = spec(stages="stage(basic(8), 1) via gated") + (
        "connection gated {\n  each = conv -> norm -> spike\n"
        "  gate = branch -> mean_over_time -> avgpool -> sigmoid\n"
        "  out = branch * gate + shortcut\n}\n"
    )
    lowered = graph(text)
    assert not node(lowered, "stages.0.blocks.0.gate.sigmoid").value.varies
    assert node(lowered, "stages.0.blocks.0.mul").value.varies


def test_blocks_that_wire_themselves() -> None:
    _, inception = EXAMPLES["Blocks and backbones"].split("block inception")
    lowered = graph(spec(stages="stage(inception(8), 2)") + "block inception" + inception)
    assert [stage.connection for stage in lowered.stages] == [""]
    scope = "stages.0.blocks.1"
    assert paths(lowered, scope) == [
        "a.conv", "a.norm", "a.spike", "b.conv", "b.norm", "b.spike", "concat",
    ]  # fmt: skip
    assert node(lowered, f"{scope}.concat").value.shape == (16, 8, 8)


def test_a_block_that_wires_itself_inside_of_a_connection() -> None:
    text = spec(stages="stage(mine(8), 2) via add") + (
        "block mine(w) { out = in -> conv(w) -> spike }\nconnection add { out = branch + shortcut }\n"
    )
    lowered = graph(text)
    assert paths(lowered, "stages.0.blocks.0") == ["branch.conv", "branch.spike", "add"]
