"""Lowering: the nodes of a spec, their names and scopes, and their values and attributes."""

import pytest

from danetc.compiler import check_text
from danetc.compiler.ir.graph import Graph, Node

SPEC = """use std

network n(classes = 10) {
  input = image(3, 16, 16)
  steps = 2
  neuron = IF
  surrogate = sigmoid
  stem = conv(8, kernel = 5) -> norm -> spike -> maxpool(3, stride = 2)
  stages = (stage(basic(8), 2) -> stage(basic(16), 2, stride = 2)) via origin by chain
  head = avgpool -> mean_over_time -> linear(classes)
}
"""


def graph(more: str = "", **settings: str) -> Graph:
    """The network above with changed settings."""
    body = "; ".join(f"{name} = {value}" for name, value in settings.items())
    return check_text(f"{SPEC}network it = n {{ {body} }}\n{more}").graphs["it"]


def flow(lines: str, more: str = "") -> Graph:
    settings = "input = image(3, 16, 16); steps = 2; neuron = IF; surrogate = sigmoid"
    return check_text(f"use std\nnetwork n {{ {settings}\n{lines} }}\n{more}").graphs["n"]


def below(lowered: Graph, scope: str) -> list[Node]:
    return [node for node in lowered.nodes.values() if node.path.startswith(f"{scope}.")]


def node(lowered: Graph, path: str) -> Node:
    (found,) = (item for item in lowered.nodes.values() if item.path == path)
    return found


def output(lowered: Graph) -> Node:
    (id,) = lowered.outputs.values()
    return lowered[id]


MINE = """block mine { norm = conv(2) -> tanh; out = in -> batchnorm -> norm }
block wired(w) { out = in -> conv(w) -> spike }
connection bare { out = branch + shortcut }
"""
NAMES = {
    "a = in -> e -> e; e = conv(4) -> norm; out = a": ("a", "e.conv e.norm e2.conv e2.norm"),
    "a = in -> conv(3); out = (in -> stage(wired(3), 2)) + a": ("stages.0.blocks.1", "conv spike"),
    "out = in -> (stage(wired(3), 2) via bare)": (
        "stages.0.blocks.0",
        "branch.conv branch.spike add",
    ),
    # the second norm of `x` is not `norm2`, which is the scope of the layers of `norm2`
    "norm2 = conv(2) -> norm; x = in -> conv(2) -> norm -> norm -> norm2 -> mine; out = x": (
        "x",
        "conv norm1 norm3 norm2.conv norm2.norm mine.norm1 mine.norm.conv mine.norm.tanh",
    ),
}


@pytest.mark.parametrize("lines", NAMES)
def test_names_of_nodes(lines: str) -> None:
    scope, names = NAMES[lines]
    found = below(flow(lines, MINE), scope)
    assert " ".join(item.path.removeprefix(f"{scope}.") for item in found) == names


def test_each_use_of_a_template_makes_fresh_weights_and_a_value_does_not() -> None:
    lowered = flow("e = conv(4); a = in -> e; out = (in -> e) + a + a")
    assert [item.op for item in below(lowered, "a")] == ["conv"]
    assert [item.op for item in lowered.nodes.values()].count("conv") == 2


def test_a_layer_between_stages_goes_with_the_later_one() -> None:
    whole = graph(stages="densenet121(8) via dense_layer by densely_concatenated")
    assert below(whole, "stages.transition")
    part = graph(stages="densenet121(8)[1] via dense_layer by densely_concatenated")
    assert len(part.stages) == 1
    assert below(part, "stages")[0].scope == ("stages", "transition")


LAYERS = [
    ("maxpool(2)", "spike"), ("avgpool(2)", "0 .. 4 of 1/4"), ("conv(4)", "analog"),
    ("avgpool(3)", "analog"), ("avgpool(2, padding = 1)", "0 .. 4 of 1/4"), ("avgpool(1)", "spike"),
    ("avgpool", "0 .. 256 of 1/256"), ("dropout(0.5)", "analog"), ("dropout(0)", "spike"),
    ("upsample(2)", "spike"), ("identity", "spike"), ("none", "spike"), ("mean_over_time", "analog"),
]  # fmt: skip


@pytest.mark.parametrize(("layer", "kind"), LAYERS)
def test_kinds_of_layers(layer: str, kind: str) -> None:
    lowered = flow(f"a = in -> conv(4) -> spike; out = a -> {layer} -> maxpool(1)")
    assert str(output(lowered).value.kind) == kind


JOINS = [
    ("a + b", "0 .. 2"), ("a * b", "spike"), ("1 - a", "spike"), ("2 * a", "0 .. 1 of 2"),
    ("concat(a, b)", "spike"), ("concat(2 * a, 1 - b)", "0 .. 2"), ("a - b", "-1 .. 1"),
    ("a / 2", "0 .. 1 of 1/2"), ("a / 3", "analog"), ("41 * a / 41", "analog"), ("0.75 * a", "0 .. 3 of 1/4"), ("0.1 * a", "analog"),
    ("max(a, b)", "spike"), ("min(a, 2 * b)", "spike"), ("a + b + a", "0 .. 3"),
    ("(a + b) * (a + b)", "0 .. 4"), ("(a - b) * (a - b)", "spike"), ("-a", "-1 .. 0"), ("a + 1", "1 .. 2"),
    ("a + b - 2 * a * b", "spike"), ("a - a", "0 .. 0"), ("(2 * a - 1) * (2 * b - 1)", "-1 .. 1"),
    ("a / (1 + b)", "analog"),
]  # fmt: skip


@pytest.mark.parametrize(("join", "kind"), JOINS)
def test_kinds_of_joins(join: str, kind: str) -> None:
    b = "; b = in -> conv(4) -> spike" if "b" in join else ""
    assert str(output(flow(f"a = in -> conv(4) -> spike{b}; out = {join}")).value.kind) == kind


def test_a_variant_changes_only_what_it_names() -> None:
    more = """network m = n(classes = 7) { steps = 3; neuron = LIF(tau = 4.0) }
    network k(classes = 3) = m { head = avgpool -> linear(classes) }"""
    base, variant, last = check_text(SPEC + more).graphs.values()
    assert (variant.steps, variant.neurons.keys()) == (3, {"LIF"})
    assert node(variant, "head.linear").attrs["width"] == 7
    assert [n.path for n in variant.nodes.values()] == [n.path for n in base.nodes.values()]
    assert (last.steps, output(last).value.shape, output(last).value.varies) == (3, (3,), True)


def test_a_shortcut_is_made_where_the_block_reads_it() -> None:
    """The first block returns only the branch, so it has no projection."""
    mine = """connection mine {
      each = conv -> norm; projection = conv -> norm; way = shortcut -> tanh
      out = branch if i == 0 else branch + way }"""
    found = graph(mine, stages="stage(basic(4), 2) via mine -> stage(basic(8), 2) via mine")
    scopes = {node.scope[1:4] for node in found.nodes.values() if "way" in node.scope}
    assert scopes == {("0", "blocks", "1"), ("1", "blocks", "1")}
    assert not [node.path for node in found.nodes.values() if "shortcut" in node.scope]


NORMS = [
    ("batchnorm", "batchnorm", {"init": 1.0, "per_step": False, "statistics": None}),
    ("batchnorm(init = 0.5)", "batchnorm", {"init": 0.5, "per_step": False}),
    ("batchnorm(per_step = true)", "batchnorm", {"init": 1.0, "per_step": True}),
    ("batchnorm(eps = 0.01, bias = false)", "batchnorm", {"eps": 0.01, "bias": False}),
    ("tebn", "tebn", {"init": 1.0}),
    ("groupnorm(4)", "groupnorm", {"groups": 4, "init": 1.0}),
    ("tdbn(0.5)", "batchnorm", {"init": 0.5, "per_step": False, "statistics": None}),
    # `init` is changed at the use of the norm
    ("batchnorm(init = 0.5); stem = conv(4) -> norm(init = 0.25)", "batchnorm", {"init": 0.25}),
    ("tebn; stem = conv(4) -> norm(init = 0.25)", "tebn", {"init": 0.25}),
]


@pytest.mark.parametrize(("norm", "op", "attrs"), NORMS)
def test_norms(norm: str, op: str, attrs: dict[str, object]) -> None:
    found = node(graph(norm=norm), "stem.norm")
    assert found.op == op
    assert attrs.items() <= found.attrs.items()


def test_the_graph_does_not_depend_on_where_the_text_stands() -> None:
    moved = check_text("# moved\n\n" + SPEC, "elsewhere.danet").graphs
    assert check_text(SPEC).graphs == moved
    assert node(moved["n"], "stem.conv").origin.text == "conv(8, kernel = 5)"


CONNECTIONS = {
    "sew_and": (["conv", "batchnorm", "neuron"] * 2, ["conv", "batchnorm", "neuron"], ["mul"]),
    "sew_iand": (["conv", "batchnorm", "neuron"] * 2, ["conv", "batchnorm", "neuron"], ["affine", "mul"]),
    "ms": (["neuron", "conv", "batchnorm"] * 2, ["avgpool", "conv", "batchnorm"], ["add"]),
    "dense_layer": (["batchnorm", "neuron", "conv"] * 2, [], []),
    "plain": (["conv", "batchnorm", "neuron"] * 2, [], []),
}  # fmt: skip


@pytest.mark.parametrize("connection", CONNECTIONS)
def test_connections_of_std(connection: str) -> None:
    """The block changes the shape. ``draw/test_says.py`` tests the connections of Fig. 1."""
    lowered = graph(stages=f"stage(basic(16), 1, stride = 2) via {connection}")
    block = "stages.0.blocks.0"
    parts = (below(lowered, f"{block}.branch"), below(lowered, f"{block}.shortcut"))
    rest = [item for item in lowered.nodes.values() if ".".join(item.scope) == block]
    assert tuple([n.op for n in part] for part in (*parts, rest)) == CONNECTIONS[connection]


def test_drop_path_by_depth() -> None:
    mine = """connection mine(p = 0.4) {
      each = conv -> norm -> spike; out = (branch -> droppath(p * i / n)) + shortcut }"""
    lowered = graph(mine, stages="stage(basic(8), 4) via mine")
    rates = [item.attrs["p"] for item in lowered.nodes.values() if item.op == "droppath"]
    assert rates == pytest.approx([0.1, 0.2, 0.3])  # block 0 drops nothing
