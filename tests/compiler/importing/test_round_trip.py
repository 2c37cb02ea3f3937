"""A graph whose names are gone comes back as a spec that is the same network."""

from __future__ import annotations

from dataclasses import replace

import pytest

from danetc.compiler import check_file, check_text
from danetc.compiler.analysis.equivalence import Same, compare_graphs
from danetc.compiler.importing.neurons import Unwritten
from danetc.compiler.importing.program import Imported, import_graph
from danetc.compiler.ir.graph import Graph
from danetc.dsl.neuron.program import NeuronProgram

HEAD = """
use std
{more}
network drawn {{
  input = image(2, 16, 16)
  steps = 2
  neuron = {neuron}
  surrogate = {surrogate}
  {body}
}}
"""


LOOPED = "brf", "convlstm", "lif_firenet", "mpbn", "se_adlif", "snasnet", "spiking_lstm", "srnn"
SLOPES = "surrogate steep { dy = 3 * exp(-3 * abs(x)) }"
GATED = "neuron gated(gate, v_threshold = 1.0) { state u = 0.0; v = u + gate * x; s = heaviside(v - v_threshold); u = v * (1 - s) }"


def anonymous(graph: Graph) -> Graph:
    """A graph without its names: of nodes that are no inputs, stages, neurons, surrogates, parameters."""

    def bare(program: NeuronProgram) -> NeuronProgram:
        slope = program.surrogate
        if slope is not None:
            slope = replace(slope, name="f", parameters=())
        return replace(program, name="g", parameters=(), surrogate=slope)

    keys = {key: f"k{number}" for number, key in enumerate(graph.neurons)}
    nodes = {
        id: replace(
            node,
            scope=(),
            name=node.name if node.op == "input" else f"n{id}",
            attrs={**node.attrs, "neuron": keys[str(node.attrs["neuron"])]}
            if node.op == "neuron"
            else node.attrs,
        )
        for id, node in graph.nodes.items()
    }
    neurons = {keys[key]: bare(program) for key, program in graph.neurons.items()}
    return replace(graph, nodes=nodes, stages=(), neurons=neurons)


def imported(graph: Graph) -> Imported:
    """A graph that lost its names, imported, and compared with the graph from outside."""
    found = import_graph(anonymous(graph), "again")
    again = check_text(found.text).graphs["again"]
    assert isinstance(compare_graphs(graph, again), Same)
    return found


def drawn(body: str, more: str = "", neuron: str = "IF", surrogate: str = "atan") -> Graph:
    text = HEAD.format(body=body, more=more, neuron=neuron, surrogate=surrogate)
    return check_text(text).graphs["drawn"]


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("sew_r18", "resnet18 via sew"),
        ("origin_r34", "resnet34 via origin"),
        ("baa_r18", "resnet18 via baa"),
        ("danet_a_r50", "resnet50 via pa_a"),
        ("danet_b_r20", "resnet20 via pa_b"),
        ("danet_c_r34", "resnet34 via origin by densely_additive"),
        ("danet_d_r56", "resnet56 via baa by densely_additive"),
        ("tdbn_r18", "resnet18 via tdbn"),
        ("ms_resnet18", "resnet18(stride = 2) via ms_conv"),
        ("spiking_densenet121", "densenet121 via dense_layer by densely_concatenated"),
    ],
)
def test_shipped_networks_come_back_by_name(name: str, stages: str) -> None:
    found = imported(check_file(name).graphs[name])
    assert f" = {stages}\n" in found.text
    assert found.own == ()
    assert found.lines <= 12


@pytest.mark.thorough
@pytest.mark.parametrize(
    "name",
    [
        "own_neuron",
        "zoo/plif_net",
        "zoo/convnext",
        "zoo/vit",
        "zoo/tcja",
        "zoo/spikingresformer",
        "zoo/statten",
        "zoo/spikegpt",
        "zoo/stereospike",
        *(f"zoo/{name}" for name in LOOPED),
    ],
)
def test_networks_of_their_own_come_back_too(name: str) -> None:
    checked = check_file(name)
    imported(checked.graphs[checked.main])


@pytest.mark.parametrize("rule", ["densely_additive", "densely_additive_all"])
@pytest.mark.parametrize("connection", ["origin", "sew_iand", "pa_b"])
def test_rules_are_found(connection: str, rule: str) -> None:
    body = f"stages = stage(basic(4), 5, stride = 2) via {connection} by {rule}\n head = avgpool -> linear(3)"  # fmt: skip
    found = imported(drawn(body))
    (stage,) = found.stages
    assert (stage.blocks, stage.connection, stage.rule) == (5, connection, rule)


@pytest.mark.parametrize(
    "connection",
    [
        "{ each = conv -> norm -> spike; projection = conv -> spike; out = branch + shortcut }",
        "{ each = conv -> spike -> norm; projection = conv -> norm -> spike; out = branch + shortcut }",
        "{ each = conv -> norm -> spike; projection = conv -> norm -> spike; out = (branch + shortcut) -> spike }",
        "{ each = conv -> norm -> spike(v_threshold = 0.7); projection = conv -> norm -> spike; out = branch + shortcut }",
        "{ each = conv -> norm -> spike; projection = conv(kernel = 3) -> norm -> spike; out = branch + shortcut }",
        "{ each = conv -> norm -> spike; projection = conv -> norm -> spike; identity = norm; out = branch + shortcut }",
    ],
)
def test_a_changed_connection_is_not_called_by_a_name_of_std(connection: str) -> None:
    body = "stages = stage(basic(4), 3, stride = 2) via mine\n head = avgpool -> linear(3)"
    found = imported(drawn(body, f"connection mine {connection}"))
    (stage,) = found.stages
    assert (stage.block, stage.own) == ("basic", (stage.connection,))
    assert found.lines <= 16


@pytest.mark.parametrize(
    "block",
    [
        "conv(width, stride = stride) -> conv(width, kernel = 1)",
        "conv(width) -> conv(width, stride = stride)",
        "conv(width, kernel = 1, stride = stride) -> conv(width) -> conv(4 * width, kernel = 1)",
        "conv(width, stride = stride, bias = true) -> conv(width)",
    ],
)
def test_a_changed_block_is_not_called_by_a_name_of_std(block: str) -> None:
    more = f"block mine(width, stride = 1) = {block}"
    body = "stages = (stage(mine(4), 2, stride = 2) -> stage(mine(8), 2, stride = 2)) via sew\n head = avgpool -> linear(3)"  # fmt: skip
    found = imported(drawn(body, more))
    assert {stage.connection for stage in found.stages} == {"sew"}
    (own,) = found.own
    assert {stage.block for stage in found.stages} == {own}


def test_what_is_no_connection_is_a_block_that_is_declared_once() -> None:
    more = """
    block mine(width) {
      a = in -> conv(width) -> norm -> spike
      b = a -> conv(width, kernel = 1) -> norm
      out = concat(a, b -> spike, in -> conv(4)) -> spike
    }
    """
    found = imported(
        drawn("out = in -> mine(4) -> mine(4) -> mine(8) -> avgpool -> linear(3)", more)
    )
    assert len(found.own) == 1
    assert found.text.count("concat") == 1


def test_a_network_without_a_stem_is_dataflow() -> None:
    found = imported(
        drawn(
            "a = in -> conv(4) -> spike\n b = a -> conv(4) -> spike\n out = outputs(x = a, y = b)"
        )
    )
    assert "outputs(x = " in found.text


@pytest.mark.parametrize(
    ("neuron", "surrogate"),
    [
        ("LIF(tau = 3.0, detach_reset = true)", "sigmoid(alpha = 2.0)"),
        ("PLIF", "triangle"),
        ("IF_soft(v_threshold = 0.8)", "rectangle(width = 0.5)"),
        ("ALIF", "superspike"),
        ("SlidingPSN", "erf"),
    ],
)
def test_neurons_are_named_by_their_equations_alone(neuron: str, surrogate: str) -> None:
    graph = drawn("out = in -> conv(4) -> norm -> spike -> avgpool -> linear(3)", "", neuron, surrogate)  # fmt: skip
    found = imported(graph)
    assert f"neuron    = {neuron}\n" in found.text
    assert f"surrogate = {surrogate}\n" in found.text


@pytest.mark.thorough
def test_a_changed_neuron_is_written_as_its_equations() -> None:
    more = """
    neuron mine {
      state u = 0.0
      v = 0.5 * u + x
      s = heaviside(v - 1)
      u = v - s
    }
    """
    found = imported(drawn("out = in -> conv(4) -> spike -> avgpool -> linear(3)", more, "mine"))
    assert found.own == ("imported_neuron",)


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (
            "a = in -> conv(2) -> spike\n out = a -> (stage(stem(2), 1) with (surrogate = steep)) -> avgpool -> linear(3)",
            "stage(fired(spike), 1) with (surrogate = imported_surrogate)",
        ),
        (
            "a = in -> conv(2) -> spike\n out = a -> (stage(stem(2), 2) with (surrogate = steep))"
            " -> (stage(stem(4), 1) with (surrogate = erf)) -> avgpool -> linear(3)",
            "surrogate = imported_surrogate\n",
        ),
        (
            "stages = stage(basic(4), 3) via sew with (surrogate = steep)\n head = avgpool -> linear(3)",
            "surrogate = imported_surrogate\n",
        ),
        (
            "stages = (stage(basic(4), 3) via sew with (surrogate = steep)) -> stage(basic(4), 1) via sew\n head = avgpool -> linear(3)",
            "stage(fired(spike), 1) with (surrogate = atan)",
        ),
    ],
)  # fmt: skip
def test_each_neuron_keeps_its_surrogate(body: str, says: str) -> None:
    more = f"{SLOPES}\n block stem(w) {{ out = in -> conv(w) -> spike }}"
    assert says in imported(drawn(body, more)).text


@pytest.mark.parametrize(
    "body",
    [
        "a = in -> conv(4)\n out = a -> gated(gate = in -> conv(4)) -> avgpool -> linear(3)",
        "a = in -> conv(4) -> spike\n b = a -> conv(4)\n c = a -> gated(gate = b) -> conv(4)\n"
        "out = ((a -> gated(gate = b)) + (c -> gated(gate = b, v_threshold = 0.5))) -> avgpool -> linear(3)",
        "a = in -> conv(4)\n h = a -> gated(gate = h -> delay(1) -> conv(4) -> sigmoid)\n"
        "out = h -> avgpool -> linear(3)",
        "a = in -> conv(4) -> spike\n"
        "out = a -> (stage(inner, 2) with (surrogate = erf)) -> avgpool -> linear(3)",
        "stages = stage(inner, 3)\n head = avgpool -> linear(3)",
    ],
)
def test_neurons_of_several_values_come_back(body: str) -> None:
    inner = "block inner { g = in -> conv(4) -> sigmoid\n out = in -> conv(4) -> gated(gate = g) }"
    assert "(gate = " in imported(drawn(body, f"{GATED}\n{inner}")).text


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("h = (in -> conv(2)) + (h -> delay(1)) \n out = h -> avgpool -> linear(3)", "(v1 -> delay(1))"),
        (
            "a = in -> conv(2) -> spike\n h = (a + (g -> delay(2))) -> spike\n"
            "g = h -> conv(2)\n out = (g + (h -> delay(1))) -> avgpool -> linear(3)",
            "(v1 -> delay(2))",
        ),
        ("f = shared(conv(2))\n out = in -> f -> spike -> f -> avgpool -> linear(3)", "-> f1 -> spike -> f1"),
    ],
)  # fmt: skip
def test_loops_and_shared_weights_come_back(body: str, says: str) -> None:
    found = imported(drawn(body))
    assert says in found.text
    assert found.lines <= 12


def test_a_loop_within_a_stage_comes_back() -> None:
    """Blocks that feed each other a step later, or have a loop of their own."""
    block = "block mine(w) { h = (in + (h -> delay(1) -> conv(w))) -> spike\n out = h -> conv(w) -> norm }"
    found = imported(drawn("stages = stage(mine(2), 3)\n head = avgpool -> linear(3)", block))
    assert found.text.count("delay") == 1
    body = "stages = stage(single(2), 3) via sewn by feedback\n head = avgpool -> linear(3)"
    sewn = "connection sewn { each = conv -> spike; out = shortcut + branch }"
    assert imported(drawn(body, sewn)).lines <= 20


def test_what_has_no_text_is_refused() -> None:
    graph = drawn("out = in -> conv(2) -> spike -> avgpool -> linear(3)", "", "LIF(tau = scheduled(2.0))")  # fmt: skip
    with pytest.raises(Unwritten, match="numbers that a recipe changes"):
        import_graph(graph, "again")


@pytest.mark.parametrize(
    ("step", "text"),
    [
        ("upsample(rows = 5, columns = 7)", "upsample(rows = 5, columns = 7)"),
        ("upsample(rows = 5, columns = 7, mode = bilinear)", "mode = bilinear"),
        ("upsample(3, mode = bilinear)", "upsample(3, mode = bilinear)"),
        ("upsample(2, over = channels)", "upsample(2, over = channels)"),
        ("dropout(0.25, per = sample)", "dropout(0.25, per = sample)"),
        ("mean(over = rows) -> swap(time, rows) -> mean_over_time", "swap(time, rows)"),
        ("swap(channels, columns)", "swap(channels, columns)"),
        ("conv(6, kernel = 3, over = time)", "conv(6, kernel = 3, over = time)"),
        ("conv(6, kernel = 3, over = time, padding = same)", "padding = same"),
        ("conv(4, kernel = 2, over = time, dilation = 2, groups = 2)", "groups = 2, dilation = 2"),
        ("conv(6, kernel = 5, over = rows, stride = 2)", "over = rows, stride = 2"),
        ("conv(6, kernel = 3, over = columns, bias = true)", "over = columns, bias = true"),
        ("linear(over = time)", "linear(over = time)"),
        ("linear(over = time, window = 2, bias = false)", "window = 2, bias = false"),
        ("max(over = time)", "max(over = time)"),
        ("sum(over = channels, groups = 2)", "sum(over = channels, groups = 2)"),
        ("softmax(over = time)", "softmax(over = time)"),
        ("batchnorm(eps = 0.01, init = 0.5)", "batchnorm(init = 0.5, eps = 0.01)"),
    ],
)
def test_a_step_comes_back(step: str, text: str) -> None:
    graph = drawn(f"out = in -> conv(4) -> norm -> spike -> {step} -> conv(3) -> avgpool")
    assert text in imported(graph).text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("learn(0.5) * a", "learn(0.5)"),
        ("a + learn(0.25, per = channel)", "learn(0.25, per = channel)"),
        ("a - learn(1, per = neuron)", "learn(1.0, per = neuron)"),
        ("learn(0.5, above = 0, below = 2) * a", "learn(0.5, above = 0.0, below = 2.0)"),
        ("learn(0.5, per_step = true) * a", "learn(0.5, per_step = true)"),
        ("a[1 .. 2]", "[1 .. 2]"),
    ],
)
def test_learnt_values_and_slices_come_back(value: str, text: str) -> None:
    graph = drawn(f"a = in -> conv(4) -> spike\n b = {value}\n out = b -> conv(3) -> avgpool")
    assert text in imported(graph).text


@pytest.mark.parametrize(
    "learnt",
    [
        "learn(0.5)",
        "learn(0.5, above = 0.0)",
        "learn(0.5, above = 0.0, below = 1.0)",
        "learn(0.5, below = 1.0, per = channel)",
    ],
)
def test_what_a_neuron_learns_comes_back(learnt: str) -> None:
    more = f"neuron mine {{ state u = 0.0\n k = {learnt}\n v = k * u + x\n s = heaviside(v - 1)\n u = v - s }}"
    found = imported(drawn("out = in -> conv(4) -> spike -> avgpool -> linear(3)", more, "mine"))
    assert learnt in found.text
