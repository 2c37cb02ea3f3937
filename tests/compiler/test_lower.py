"""Lowering: which nodes a spec stands for, where they stand, and what they carry."""

from __future__ import annotations

import re

import pytest

from danetc.compiler import check_text, graph_of
from danetc.dsl.kinds import SPIKE
from danetc.dsl.loading import is_library
from tests.compiler.lowered import SPEC, flow, graph, node, ops, output, paths, spec
from tests.dsl.examples import EXAMPLES

# -- names and order -------------------------------------------------------------------------------


def test_names_follow_the_spec() -> None:
    branch = [f"branch.{name}" for name in ("conv1", "norm1", "spike", "conv2", "norm2")]
    block = [*branch, "add", "spike"]
    opening = [*branch, "shortcut.conv", "shortcut.norm", "add", "spike"]
    blocks = {"0.blocks.0": block, "0.blocks.1": block, "1.blocks.0": opening, "1.blocks.1": block}
    assert paths(graph()) == [
        "input", "repeat",
        "stem.conv", "stem.norm", "stem.spike", "stem.maxpool",
        *(f"stages.{place}.{name}" for place, names in blocks.items() for name in names),
        "head.avgpool", "head.mean_over_time", "head.flatten", "head.linear",
    ]  # fmt: skip


def test_definitions_name_scopes() -> None:
    lowered = graph(
        flow("a = in -> entry -> entry\n  entry = conv(4) -> norm\n  out = a -> conv(2)")
    )
    assert paths(lowered) == [
        "input", "repeat", "a.entry.conv", "a.entry.norm", "a.entry2.conv", "a.entry2.norm", "conv",
    ]  # fmt: skip


def test_each_use_of_a_template_makes_fresh_weights_and_a_value_does_not() -> None:
    lowered = graph(flow("e = conv(4)\n  a = in -> e\n  out = (in -> e) + a + a"))
    assert ops(lowered, "a") == ["conv"]
    assert [item.op for item in lowered.nodes.values()].count("conv") == 2


# -- shapes, strides, defaults ---------------------------------------------------------------------


def test_a_layer_between_stages_goes_with_the_later_one() -> None:
    whole = graph(spec(stages="densenet121(8) via dense_layer by densely_concatenated"))
    assert [item.op for item in whole.nodes.values() if item.scope[:2] == ("stages", "transition")]
    part = graph(spec(stages="densenet121(8)[1] via dense_layer by densely_concatenated"))
    assert len(part.stages) == 1
    first = next(item for item in part.nodes.values() if item.scope[:1] == ("stages",))
    assert first.scope == ("stages", "transition")


# -- kinds: the row of Table I ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "kind"),
    [
        ("maxpool(2)", "spike"), ("avgpool(2)", "0 .. 4 of 1/4"), ("conv(4)", "analog"),
        ("avgpool(3)", "analog"), ("avgpool(2, padding = 1)", "0 .. 4 of 1/4"), ("avgpool(1)", "spike"),
        ("avgpool", "0 .. 256 of 1/256"), ("dropout(0.5)", "analog"), ("dropout(0)", "spike"),
        ("upsample(2)", "spike"), ("identity", "spike"), ("none", "spike"), ("mean_over_time", "analog"),
    ],
)  # fmt: skip
def test_kinds_of_layers(layer: str, kind: str) -> None:
    lowered = graph(flow(f"a = in -> conv(4) -> spike\n  out = a -> {layer} -> maxpool(1)"))
    assert str(output(lowered).value.kind) == kind


@pytest.mark.parametrize(
    ("join", "kind"),
    [
        ("a + b", "0 .. 2"), ("a * b", "spike"), ("1 - a", "spike"), ("2 * a", "0 .. 1 of 2"),
        ("concat(a, b)", "spike"), ("concat(2 * a, 1 - b)", "0 .. 2"), ("a - b", "-1 .. 1"),
        ("a / 2", "0 .. 1 of 1/2"), ("a / 3", "analog"), ("41 * a / 41", "analog"), ("0.75 * a", "0 .. 3 of 1/4"), ("0.1 * a", "analog"),
        ("max(a, b)", "spike"), ("min(a, 2 * b)", "spike"), ("a + b + a", "0 .. 3"),
        ("(a + b) * (a + b)", "0 .. 4"), ("(a - b) * (a - b)", "spike"), ("-a", "-1 .. 0"), ("a + 1", "1 .. 2"),
        ("a + b - 2 * a * b", "spike"), ("a - a", "0 .. 0"), ("(2 * a - 1) * (2 * b - 1)", "-1 .. 1"),
        ("a / (1 + b)", "analog"),
    ],
)  # fmt: skip
def test_kinds_of_joins(join: str, kind: str) -> None:
    b = "\n  b = in -> conv(4) -> spike" if "b" in join else ""
    lowered = graph(flow(f"a = in -> conv(4) -> spike{b}\n  out = {join}"))
    assert str(output(lowered).value.kind) == kind


# -- time ------------------------------------------------------------------------------------------


def test_a_static_image_is_repeated_and_events_are_not() -> None:
    assert not graph().input.value.varies
    assert node(graph(), "repeat").value.varies
    events = graph(spec(input="events(2, 16, 16)"))
    assert events.input.value.varies
    assert "repeat" not in [item.op for item in events.nodes.values()]


def test_encoders_stand_at_the_input() -> None:
    for encoder in ("poisson", "latency(tau = 3)"):
        lowered = graph(spec(input=f"image(3, 16, 16) -> {encoder}"))
        (found,) = (item for item in lowered.nodes.values() if item.op in ("poisson", "latency"))
        assert found.value.kind == SPIKE
        assert node(lowered, "stem.conv").inputs == (found.id,)


# -- settings: variants, parameters, with ----------------------------------------------------------


def test_a_variant_changes_only_what_it_names() -> None:
    text = SPEC + (
        "network m = n(classes = 7) { steps = 3; neuron = LIF(tau = 4.0) }\n"
        "network k(classes = 3) = m { head = avgpool -> linear(classes) }\n"
    )
    checked = check_text(text)
    base, variant, last = (checked.graphs[name] for name in ("n", "m", "k"))
    assert (variant.steps, variant.neurons.keys()) == (3, {"LIF"})
    assert node(variant, "head.linear").attrs["width"] == 7
    assert [item.path for item in variant.nodes.values()] == [
        item.path for item in base.nodes.values()
    ]
    assert (last.steps, output(last).value.shape, output(last).value.varies) == (3, (3,), True)


def test_the_networks_norm_with_something_changed() -> None:
    """Also where the network says itself which norm that is."""
    lines = "stem = conv(4) -> norm(init = 0.25) -> spike"
    for norm, op in (("batchnorm(init = 0.5)", "batchnorm"), ("tebn", "tebn")):
        text = SPEC.replace("steps = 2", f"steps = 2; norm = {norm}")
        found = graph(re.sub(r"stem = .*", lines, text))
        assert node(found, "stem.norm").op == op
        assert node(found, "stem.norm").attrs["init"] == 0.25


def test_a_shortcut_is_made_where_the_block_reads_it() -> None:
    """The last block's `out` is the branch alone: its projection would have no use."""
    mine = """connection mine {
      each = conv -> norm; projection = conv -> norm; way = shortcut -> tanh
      out = branch if i == 0 else branch + way }"""
    found = graph(spec(stages="stage(basic(4), 2) via mine -> stage(basic(8), 2) via mine") + mine)
    scopes = {node.scope[1:4] for node in found.nodes.values() if "way" in node.scope}
    assert scopes == {("0", "blocks", "1"), ("1", "blocks", "1")}
    assert not [node.path for node in found.nodes.values() if "shortcut" in node.scope]


def test_no_node_has_the_name_of_a_scope() -> None:
    """The second norm of `x` would be `norm2`, which is where the layers of `norm2` stand."""
    text = """use std
network n {
  input = image(1, 4, 4); neuron = IF; surrogate = sigmoid
  norm2 = conv(2) -> norm
  x = in -> conv(2) -> norm -> norm -> norm2 -> mine
  out = x
}
block mine { norm = conv(2) -> tanh; out = in -> batchnorm -> norm }
"""
    assert paths(check_text(text).graphs["n"], "x") == [
        "conv", "norm1", "norm3", "norm2.conv", "norm2.norm", "mine.norm1", "mine.norm.conv", "mine.norm.tanh"
    ]  # fmt: skip


def test_a_setting_may_read_a_parameter_of_its_name() -> None:
    text = spec(steps="steps").replace("classes = 10", "classes = 10, steps = 6")
    assert graph(text).steps == 6
    assert graph_of(check_text(text), settings={"steps": 3}).steps == 3


@pytest.mark.parametrize(
    ("norm", "op", "attrs"),
    [
        ("batchnorm", "batchnorm", {"init": 1.0, "per_step": False, "statistics": None}),
        ("batchnorm(init = 0.5)", "batchnorm", {"init": 0.5, "per_step": False}),
        ("batchnorm(per_step = true)", "batchnorm", {"init": 1.0, "per_step": True}),
        ("batchnorm(eps = 0.01, bias = false)", "batchnorm", {"eps": 0.01, "bias": False}),
        ("tebn", "tebn", {"init": 1.0}),
        ("groupnorm(4)", "groupnorm", {"groups": 4, "init": 1.0}),
        ("tdbn(0.5)", "batchnorm", {"init": 0.5, "per_step": False, "statistics": None}),
    ],
)
def test_norms(norm: str, op: str, attrs: dict[str, object]) -> None:
    found = node(graph(spec(norm=norm)), "stem.norm")
    assert found.op == op
    assert attrs.items() <= found.attrs.items()


# -- where nodes come from -------------------------------------------------------------------------


def test_nodes_carry_the_text_they_came_from() -> None:
    checked = check_text(SPEC)
    lowered = checked.graphs["n"]
    assert node(lowered, "stem.conv").origin.text == "conv(8, kernel = 5)"
    assert node(lowered, "head.linear").origin.text == "linear(classes)"
    branch = node(lowered, "stages.0.blocks.0.branch.conv1").origin
    assert is_library(branch.source)
    assert branch.text == "conv(width, kernel = 3, stride = stride)"
    assert branch.source.name == "std/blocks.danet"
    join = node(lowered, "stages.0.blocks.0.add").origin
    assert (join.source.name, join.text) == ("std/connections.danet", "branch + shortcut")
    assert lowered.stages[0].origin.text == "stage(basic(8), 2)"


def test_the_graph_does_not_depend_on_where_the_text_stands() -> None:
    assert graph(SPEC) == check_text("# moved\n\n" + SPEC, "elsewhere.danet").graphs["n"]


# -- connections, and blocks that wire themselves ---------------------------------------------------

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


def test_drop_path_by_depth() -> None:
    text = spec(stages="stage(basic(8), 4) via mine") + (
        "connection mine(p = 0.4) {\n  each = conv -> norm -> spike\n"
        "  out = (branch -> droppath(p * i / n)) + shortcut\n}\n"
    )
    rates = [item.attrs["p"] for item in graph(text).nodes.values() if item.op == "droppath"]
    assert rates == pytest.approx([0.1, 0.2, 0.3])  # block 0 drops nothing


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
