"""A graph without names is imported as a spec of the same network."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from danetc.compiler import check_file, check_text
from danetc.compiler.analysis.equivalence import Same, compare_graphs
from danetc.compiler.importing.expressions import Unwritten
from danetc.compiler.importing.program import Imported, import_graph
from danetc.compiler.ir.graph import Attribute, Graph, Node
from danetc.dsl.neuron.program import NeuronProgram


def anonymous(graph: Graph) -> Graph:
    """The graph without stages and names of neurons, surrogates, parameters and nodes other than inputs."""

    def bare(program: NeuronProgram) -> NeuronProgram:
        slope = program.surrogate and replace(program.surrogate, name="f", parameters=())
        return replace(program, name="g", parameters=(), surrogate=slope)

    def attrs(node: Node) -> Mapping[str, Attribute]:
        return {"neuron": keys[node.attrs["neuron"]]} if node.op == "neuron" else node.attrs

    keys: dict[Attribute, str] = {key: f"k{number}" for number, key in enumerate(graph.neurons)}
    nodes = {
        id: node
        if node.op == "input"
        else replace(node, scope=(), name=f"n{id}", attrs=attrs(node))
        for id, node in graph.nodes.items()
    }
    neurons = {keys[key]: bare(program) for key, program in graph.neurons.items()}
    return replace(graph, nodes=nodes, stages=(), neurons=neurons)


def imported(graph: Graph) -> Imported:
    """Import a graph without its names, and assert that the result equals the graph."""
    found = import_graph(anonymous(graph), "again")
    again = check_text(found.text).graphs["again"]
    assert isinstance(compare_graphs(graph, again), Same)
    return found


def drawn(body: str, more: str = "", neuron: str = "IF", surrogate: str = "atan") -> Graph:
    text = f"""use std
    {more}
    network drawn {{
      input = image(2, 16, 16); steps = 2; neuron = {neuron}; surrogate = {surrogate}
      {body}
    }}"""
    return check_text(text).graphs["drawn"]


SHIPPED = [
    ("sew_r18", "resnet18 via sew"),
    ("origin_r34", "resnet34 via origin"),
    ("baa_r18", "resnet18 via baa"),
    ("danet_a_r50", "resnet50 via pa_a"),
    ("danet_b_r20", "resnet20 via pa_b"),
    ("danet_c_r34", "resnet34 via origin by densely_additive"),
    ("danet_d_r56", "resnet56 via baa by densely_additive"),
    ("spiking_densenet121", "densenet121 via dense_layer by densely_concatenated"),
]


@pytest.mark.thorough
@pytest.mark.parametrize(("name", "stages"), SHIPPED)
def test_shipped_networks_come_back_by_name(name: str, stages: str) -> None:
    found = imported(check_file(name).graphs[name])
    assert f" = {stages}\n" in found.text
    assert found.own == ()
    assert found.lines <= 12


@pytest.mark.parametrize("rule", ["densely_additive", "densely_additive_all"])
@pytest.mark.parametrize("connection", ["origin", "sew_iand", "pa_b"])
def test_rules_are_found(connection: str, rule: str) -> None:
    body = f"stages = stage(basic(4), 5, stride = 2) via {connection} by {rule}\n head = avgpool -> linear(3)"  # fmt: skip
    found = imported(drawn(body))
    (stage,) = found.stages
    assert (stage.blocks, stage.connection, stage.rule) == (5, connection, rule)


CONNECTIONS = [
    "{ each = conv -> norm -> spike; projection = conv -> spike; out = branch + shortcut }",
    "{ each = conv -> spike -> norm; projection = conv -> norm -> spike; out = branch + shortcut }",
    "{ each = conv -> norm -> spike; projection = conv -> norm -> spike; out = (branch + shortcut) -> spike }",
    "{ each = conv -> norm -> spike(v_threshold = 0.7); projection = conv -> norm -> spike; out = branch + shortcut }",
    "{ each = conv -> norm -> spike; projection = conv(kernel = 3) -> norm -> spike; out = branch + shortcut }",
    "{ each = conv -> norm -> spike; projection = conv -> norm -> spike; identity = norm; out = branch + shortcut }",
]


@pytest.mark.parametrize("connection", CONNECTIONS)
def test_a_changed_connection_is_not_called_by_a_name_of_std(connection: str) -> None:
    body = "stages = stage(basic(4), 3, stride = 2) via mine\n head = avgpool -> linear(3)"
    found = imported(drawn(body, f"connection mine {connection}"))
    (stage,) = found.stages
    assert (stage.block.name, stage.own) == ("basic", (stage.connection,))
    assert found.lines <= 16


BLOCKS = [
    "conv(width, stride = stride) -> conv(width, kernel = 1)",
    "conv(width) -> conv(width, stride = stride)",
    "conv(width, kernel = 1, stride = stride) -> conv(width) -> conv(4 * width, kernel = 1)",
    "conv(width, stride = stride, bias = true) -> conv(width)",
]


@pytest.mark.parametrize("block", BLOCKS)
def test_a_changed_block_is_not_called_by_a_name_of_std(block: str) -> None:
    more = f"block mine(width, stride = 1) = {block}"
    body = "stages = (stage(mine(4), 2, stride = 2) -> stage(mine(8), 2, stride = 2)) via sew\n head = avgpool -> linear(3)"  # fmt: skip
    found = imported(drawn(body, more))
    assert {stage.connection for stage in found.stages} == {"sew"}
    (own,) = found.own
    assert {stage.block.name for stage in found.stages} == {own}


def test_a_step_after_the_stages_is_one_of_theirs_if_it_stands_between_them() -> None:
    between = "(stage(basic(4), 2) -> maxpool(2) -> stage(basic(8), 2)"
    for step, more in (("maxpool(2)", " -> maxpool(2)"), ("avgpool(2)", "")):
        body = f"stages = {between}) via sew\n head = {step} -> conv(3) -> avgpool"
        assert f" = {between}{more}) via sew\n" in imported(drawn(body)).text


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


NEURONS = [
    ("LIF(tau = 3.0, detach_reset = true)", "sigmoid(alpha = 2.0)"),
    ("PLIF", "triangle"),
    ("IF_soft(v_threshold = 0.8)", "rectangle(width = 0.5)"),
    ("ALIF", "superspike"),
    ("SlidingPSN", "erf"),
]


@pytest.mark.parametrize(("neuron", "surrogate"), NEURONS)
def test_neurons_are_named_by_their_equations_alone(neuron: str, surrogate: str) -> None:
    graph = drawn("out = in -> conv(4) -> norm -> spike -> avgpool -> linear(3)", "", neuron, surrogate)  # fmt: skip
    found = imported(graph)
    assert f"neuron    = {neuron}\n" in found.text
    assert f"surrogate = {surrogate}\n" in found.text


def test_each_neuron_keeps_its_surrogate() -> None:
    more = """surrogate steep { dy = 3 * exp(-3 * abs(x)) }
    block stem(w) { out = in -> conv(w) -> spike }"""
    body = """a = in -> conv(2) -> spike
    out = a -> (stage(stem(2), 1) with (surrogate = steep)) -> avgpool -> linear(3)"""
    found = imported(drawn(body, more))
    assert "stage(fired(spike), 1) with (surrogate = f)" in found.text


def test_shared_weights_come_back() -> None:
    body = "f = shared(conv(2))\n out = in -> f -> spike -> f -> avgpool -> linear(3)"
    found = imported(drawn(body))
    assert "-> f1 -> spike -> f1" in found.text
    assert found.lines <= 12


def test_what_has_no_text_is_refused() -> None:
    graph = drawn("out = in -> conv(2) -> spike -> softmax(over = time) -> avgpool -> linear(3)")
    message = "the language has no text for the operation softmax_over_time"
    with pytest.raises(Unwritten, match=message):
        import_graph(graph, "again")


STEPS = [
    "upsample(3)",
    "dropout(0.25, per = sample)",
    "conv(4, kernel = 5, padding = 1)",
    "conv(4, kernel = 5, dilation = 2)",
    "maxpool(3, stride = 1)",
    "mean(over = channels, groups = 2)",
    "batchnorm(eps = 0.01)",
    "gelu",
]


@pytest.mark.parametrize("step", STEPS)
def test_a_step_comes_back(step: str) -> None:
    graph = drawn(f"out = in -> conv(4) -> norm -> spike -> {step} -> conv(3) -> avgpool")
    assert f"-> {step}\n" in imported(graph).text.replace(" ->", "\n->")


EXPRESSIONS = [
    ("0.5 * a", "out = 0.5 * in"),
    ("a + 1", "out = in + 1"),
    ("a - 0.5", "out = in - 0.5"),
    ("1 - a", "out = 1 - in"),
    ("-a", "out = -in"),
    ("a * (a -> tanh) / (a + 2)", "out = in * (in -> tanh) / (in + 2)"),
    ("max(a, min(a -> tanh, 2 * a))", "out = max(in, min(in -> tanh, 2 * in))"),
]


@pytest.mark.parametrize(("value", "text"), EXPRESSIONS)
def test_an_expression_comes_back(value: str, text: str) -> None:
    graph = drawn(f"a = in -> conv(4) -> spike\n b = {value}\n out = b -> conv(3) -> avgpool")
    assert text in imported(graph).text
