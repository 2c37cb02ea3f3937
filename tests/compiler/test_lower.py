"""Lowering: which nodes a spec stands for, where they stand, and what they carry."""

from __future__ import annotations

import re
from itertools import product

import pytest

from danetc.compiler import check_text, graph_of
from danetc.compiler.analysis.summary import is_neuron
from danetc.compiler.ir.at_node import weights
from danetc.dsl.kinds import ANALOG, SPIKE, Kind, count
from danetc.dsl.loading import is_library
from tests.compiler.lowered import SPEC, flow, graph, node, ops, output, paths, spec
from tests.dsl.examples import EXAMPLES

# -- names and order -------------------------------------------------------------------------------


def test_names_follow_the_spec() -> None:
    assert paths(graph()) == [
        "input", "repeat",
        "stem.conv", "stem.norm", "stem.spike", "stem.maxpool",
        "stages.0.blocks.0.branch.conv1", "stages.0.blocks.0.branch.norm1",
        "stages.0.blocks.0.branch.spike", "stages.0.blocks.0.branch.conv2",
        "stages.0.blocks.0.branch.norm2", "stages.0.blocks.0.add", "stages.0.blocks.0.spike",
        "stages.0.blocks.1.branch.conv1", "stages.0.blocks.1.branch.norm1",
        "stages.0.blocks.1.branch.spike", "stages.0.blocks.1.branch.conv2",
        "stages.0.blocks.1.branch.norm2", "stages.0.blocks.1.add", "stages.0.blocks.1.spike",
        "stages.1.blocks.0.branch.conv1", "stages.1.blocks.0.branch.norm1",
        "stages.1.blocks.0.branch.spike", "stages.1.blocks.0.branch.conv2",
        "stages.1.blocks.0.branch.norm2",
        "stages.1.blocks.0.shortcut.conv", "stages.1.blocks.0.shortcut.norm",
        "stages.1.blocks.0.add", "stages.1.blocks.0.spike",
        "stages.1.blocks.1.branch.conv1", "stages.1.blocks.1.branch.norm1",
        "stages.1.blocks.1.branch.spike", "stages.1.blocks.1.branch.conv2",
        "stages.1.blocks.1.branch.norm2", "stages.1.blocks.1.add", "stages.1.blocks.1.spike",
        "head.avgpool", "head.mean_over_time", "head.flatten", "head.linear",
    ]  # fmt: skip


def test_parameters_come_in_the_order_of_the_spec() -> None:
    """Stem, then each block's branch, its shortcut, what stands after, then the head."""
    lowered = graph(spec().replace("via origin", "via baa"))
    weighted = [item.path for item in lowered.nodes.values() if weights(lowered, item)]
    assert weighted[:2] == ["stem.conv", "stem.norm"]
    assert weighted[-1] == "head.linear"
    block = [path for path in weighted if path.startswith("stages.1.blocks.0.")]
    assert [path.removeprefix("stages.1.blocks.0.") for path in block] == [
        "branch.conv1", "branch.norm", "branch.conv2", "shortcut.conv", "shortcut.norm", "norm",
    ]  # fmt: skip


def test_stages_of_several_backbones_are_counted_on() -> None:
    stages = "resnet18[0 .. 1] via pa_a -> resnet18[2 .. 3] via origin by densely_additive"
    lowered = graph(spec(stages=stages))
    assert [stage.scope for stage in lowered.stages] == [("stages", str(i)) for i in range(4)]
    assert [stage.connection for stage in lowered.stages] == ["pa_a", "pa_a", "origin", "origin"]
    rules = ["chain", "chain", "densely_additive", "densely_additive"]
    assert [stage.rule for stage in lowered.stages] == rules


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


def test_defaults_are_the_fields() -> None:
    lowered = graph()
    attrs = node(lowered, "stem.conv").attrs
    assert {name: attrs[name] for name in ("stride", "padding", "groups", "bias", "dilation")} == {
        "stride": 1, "padding": 2, "groups": 1, "bias": False, "dilation": 1,
    }  # fmt: skip
    assert node(lowered, "stem.maxpool").attrs["padding"] == 1
    assert node(lowered, "head.linear").attrs["bias"] is True
    assert node(lowered, "head.avgpool").op == "global_avgpool"


def test_the_stride_is_on_the_opening_block_alone() -> None:
    lowered = graph()
    strides = {
        (stage, block, layer): node(
            lowered, f"stages.{stage}.blocks.{block}.branch.conv{layer}"
        ).attrs["stride"]
        for stage, block, layer in product((0, 1), (0, 1), (1, 2))
    }
    assert [place for place, stride in strides.items() if stride != 1] == [(1, 0, 1)]
    assert strides[1, 0, 1] == 2
    shortcut = node(lowered, "stages.1.blocks.0.shortcut.conv").attrs
    assert (shortcut["kernel"], shortcut["stride"], shortcut["width"]) == (1, 2, 16)


def test_a_bottleneck_has_its_stride_on_the_3x3() -> None:
    lowered = graph(spec(stages="stage(bottleneck(8), 1, stride = 2) via origin"))
    convs = [node(lowered, f"stages.0.blocks.0.branch.conv{i}").attrs for i in (1, 2, 3)]
    assert [(attrs["kernel"], attrs["stride"], attrs["width"]) for attrs in convs] == [
        (1, 1, 8), (3, 2, 8), (1, 1, 32),
    ]  # fmt: skip


def test_shapes() -> None:
    lowered = graph()
    shapes = {
        path: node(lowered, path).value.shape
        for path in ("stem.conv", "stem.maxpool", "head.linear")
    }
    assert shapes == {"stem.conv": (8, 16, 16), "stem.maxpool": (8, 8, 8), "head.linear": (10,)}
    assert lowered[lowered.stages[1].result].value.shape == (16, 4, 4)


def test_a_layer_between_stages_goes_with_the_later_one() -> None:
    whole = graph(spec(stages="densenet121(8) via dense_layer by densely_concatenated"))
    assert [item.op for item in whole.nodes.values() if item.scope[:2] == ("stages", "transition")]
    part = graph(spec(stages="densenet121(8)[1] via dense_layer by densely_concatenated"))
    assert len(part.stages) == 1
    first = next(item for item in part.nodes.values() if item.scope[:1] == ("stages",))
    assert first.scope == ("stages", "transition")


# -- kinds: the row of Table I ---------------------------------------------------------------------


def between(text: str) -> Kind:
    """What passes from the first block of a stage to the second."""
    lowered = graph(text)
    return lowered[lowered.stages[0].blocks[0].output].value.kind


@pytest.mark.parametrize(
    ("connection", "kind"),
    [
        ("origin", "spike"), ("tdbn", "spike"), ("baa", "spike"), ("sew", "0 .. 2"), ("sew_and", "spike"),
        ("sew_iand", "spike"), ("pa_a", "analog"), ("pa_b", "analog"), ("ms", "analog"), ("plain", "spike"),
    ],
)  # fmt: skip
def test_kinds_of_table_1(connection: str, kind: str) -> None:
    stages = f"stage(basic(8), 2) via {connection}"
    assert str(between(spec(stages=stages))) == kind


def test_counts_add_up() -> None:
    stages = "stage(basic(8), 3) via sew"
    lowered = graph(spec(stages=stages))
    kinds = [lowered[block.output].value.kind for block in lowered.stages[0].blocks]
    assert kinds == [count(2), count(3), count(4)]
    dense = graph(spec(stages="stage(basic(8), 4) via origin by densely_additive"))
    assert dense[dense.stages[0].blocks[3].input].value.kind == count(3)


def test_an_activation_of_real_numbers_is_analog() -> None:
    lowered = graph(spec(neuron="ReLU"))
    assert node(lowered, "stem.spike").value.kind == ANALOG
    assert not any(is_neuron(lowered, item) for item in lowered.nodes.values())
    no_surrogate = "\n".join(
        line for line in spec(neuron="ReLU").splitlines() if "sigmoid" not in line
    )
    assert graph(no_surrogate).neurons.keys() == {"ReLU"}


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


def test_a_head_without_the_mean_varies() -> None:
    assert not output(graph()).value.varies
    assert output(graph(spec(head="avgpool -> linear(5)"))).value.varies


def test_steps() -> None:
    assert graph().steps == 2
    assert graph("\n".join(line for line in SPEC.splitlines() if "steps" not in line)).steps == 1


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


def test_a_variant_of_a_network_that_names_its_values() -> None:
    """The base's lines read `in` too."""
    text = """use std
network n { input = image(1, 4, 4); neuron = IF; surrogate = sigmoid; out = in -> conv(2) -> spike }
network m = n { steps = 2 }
network k(w = 3) = m { out = in -> conv(w) -> spike }
"""
    checked = check_text(text)
    assert [checked.graphs[name].steps for name in ("n", "m", "k")] == [1, 2, 2]
    assert output(checked.graphs["m"]).value.shape == (2, 4, 4)
    assert output(checked.graphs["k"]).value.shape == (3, 4, 4)


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
    text = SPEC.replace("classes = 10", "classes = 10, steps = 6").replace(
        "steps = 2", "steps = steps"
    )
    assert graph(text).steps == 6
    assert graph_of(check_text(text), settings={"steps": 3}).steps == 3


def test_with_changes_the_neuron_of_some_stages() -> None:
    stages = "resnet18[0] via origin -> resnet18[1] via origin with (neuron = PLIF)"
    lowered = graph(spec(stages=stages))
    found = {
        item.scope[1]: item.attrs["neuron"]
        for item in lowered.nodes.values()
        if item.op == "neuron" and item.scope[0] == "stages"
    }
    assert found == {"0": "IF", "1": "PLIF"}
    assert node(lowered, "stem.spike").attrs["neuron"] == "IF"


def test_with_changes_the_norm_of_some_stages() -> None:
    stages = "resnet18[0] via origin -> resnet18[1] via origin with (norm = groupnorm(4))"
    lowered = graph(spec(stages=stages))
    assert node(lowered, "stages.0.blocks.0.branch.norm1").op == "batchnorm"
    assert node(lowered, "stages.1.blocks.0.branch.norm1").op == "groupnorm"


def test_neurons_may_differ_by_place() -> None:
    lowered = graph(spec(head="LIF(tau = 4.0) -> avgpool -> LIF(tau = 3.0) -> linear(3)"))
    keys = [
        item.attrs["neuron"]
        for item in lowered.nodes.values()
        if item.scope == ("head",) and item.op == "neuron"
    ]
    assert len(set(keys)) == 2
    assert set(keys) < set(lowered.neurons)


@pytest.mark.parametrize(
    ("norm", "op", "attrs"),
    [
        ("batchnorm", "batchnorm", {"init": 1.0, "per_step": False, "statistics": None}),
        (
            "batchnorm(init = 0.5)",
            "batchnorm",
            {"init": 0.5, "per_step": False, "statistics": None},
        ),
        (
            "batchnorm(per_step = true)",
            "batchnorm",
            {"init": 1.0, "per_step": True, "statistics": None},
        ),
        (
            "batchnorm(per_step = true, eps = 0.01, bias = false)",
            "batchnorm_with",
            {"init": 1.0, "per_step": True, "eps": 0.01, "bias": False, "pad": 0},
        ),
        ("tebn", "tebn", {"init": 1.0}),
        ("groupnorm(4)", "groupnorm", {"groups": 4, "init": 1.0}),
        ("tdbn", "batchnorm", {"init": 1.0, "per_step": False, "statistics": None}),
        ("tdbn(0.5)", "batchnorm", {"init": 0.5, "per_step": False, "statistics": None}),
    ],
)
def test_norms(norm: str, op: str, attrs: dict[str, object]) -> None:
    found = node(graph(spec(norm=norm)), "stem.norm")
    assert (found.op, dict(found.attrs)) == (op, attrs)


def test_no_norm() -> None:
    assert "norm" not in " ".join(paths(graph(spec(norm="none"))))


def test_tdbn_scales_by_the_threshold_of_the_neuron() -> None:
    lowered = graph(spec(norm="tdbn(0.5)", neuron="IF(v_threshold = 3.0)"))
    assert node(lowered, "stem.norm").attrs["init"] == 1.5


def test_zero_init_starts_the_last_norm_of_each_branch_at_zero() -> None:
    lowered = graph(spec(zero_init="true"))
    zero = [item.path for item in lowered.nodes.values() if item.attrs.get("init") == 0.0]
    assert zero == [
        f"stages.{stage}.blocks.{block}.branch.norm2" for stage, block in product((0, 1), (0, 1))
    ]


# -- plain dataflow --------------------------------------------------------------------------------


def test_a_u_net() -> None:
    text = flow(
        "d1 = in -> conv(8) -> norm -> spike -> stage(basic(8), 2) via sew\n"
        "  d2 = d1 -> maxpool(2) -> stage(basic(16), 2) via sew\n"
        "  u1 = concat(d2 -> upsample(2), d1) -> conv(8) -> norm -> spike\n"
        "  out = u1 -> conv(2, kernel = 1) -> mean_over_time"
    )
    lowered = graph(text)
    assert output(lowered).value.shape == (2, 16, 16)
    (join,) = (item for item in lowered.nodes.values() if item.op == "concat")
    assert [item.value.shape for item in lowered.inputs_of(join)] == [(16, 16, 16), (8, 16, 16)]
    assert lowered.stages[0].scope[0] == "d1"
    assert lowered.stages[1].scope[0] == "d2"


def test_several_outputs() -> None:
    text = flow(
        "a = in -> conv(4) -> spike\n  b = a -> conv(6) -> spike\n"
        "  aux = a -> avgpool -> linear(3)\n"
        "  out = outputs(b -> avgpool -> linear(5), aux, early = a)"
    )
    lowered = graph(text)
    shapes = {name: lowered[id].value.shape for name, id in lowered.outputs.items()}
    assert shapes == {"out0": (5,), "aux": (3,), "early": (4, 16, 16)}


def test_an_operand_may_stand_twice() -> None:
    lowered = graph(flow("a = in -> conv(4)\n  out = a + a"))
    (a,) = (item for item in lowered.nodes.values() if item.op == "conv")
    assert output(lowered).inputs == (a.id, a.id)
    edges = lowered.to_networkx().edges(keys=True)
    assert {(a.id, output(lowered).id, key) for key in (0, 1)} <= set(edges)


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
