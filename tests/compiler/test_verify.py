"""The verifier: good graphs pass, and each invariant catches a graph broken by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from danetc.compiler import check_text, graph_of
from danetc.compiler.analysis.verify import INVARIANTS, InvariantError, verify
from danetc.compiler.ir.graph import Graph, Node, Value
from danetc.compiler.ir.rule_forms import OutputOf
from danetc.compiler.passes import PIPELINE
from danetc.dsl.diagnostics.diagnostic import SpecError
from danetc.dsl.kinds import ANALOG, SPIKE, Kind
from danetc.dsl.ranges import constant

SPEC = """use std

network n {
  input = image(3, 8, 8)
  steps = 2
  neuron = IF
  surrogate = sigmoid
  norm = batchnorm
  stem = conv(4) -> norm -> spike
  stages = (stage(basic(4), 4) -> stage(basic(8), 3, stride = 2)) via origin by RULE
  head = avgpool -> mean_over_time -> linear(10)
}
"""


def spec(rule: str = "densely_additive") -> str:
    return SPEC.replace("RULE", rule)


@pytest.fixture
def graph() -> Graph:
    return check_text(spec()).graphs["n"]


def node_of(graph: Graph, path: str) -> Node:
    (found,) = (node for node in graph.nodes.values() if node.path == path)
    return found


def changed(graph: Graph, node: Node) -> Graph:
    """The graph with one node exchanged."""
    return replace(graph, nodes={**graph.nodes, node.id: node})


# -- good graphs -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rule",
    ["chain", "densely_additive", "densely_additive_all", "densely_additive_after_opening"],
)
def test_good_graphs_pass(rule: str) -> None:
    verify(check_text(spec(rule)).graphs["n"])


def test_graphs_pass_after_each_pass() -> None:
    checked = check_text(spec())
    for number in range(len(PIPELINE) + 1):
        verify(graph_of(checked, passes=PIPELINE[:number]))


# -- broken by hand --------------------------------------------------------------------------------

Break = Callable[[Graph], tuple[Graph, str]]
"""Breaks a graph; the path of the node to be named."""


def _key(graph: Graph) -> tuple[Graph, str]:
    node = node_of(graph, "stem.conv")
    nodes = {id: item for id, item in graph.nodes.items() if id != node.id}
    return replace(graph, nodes={**nodes, 9999: node}), "stem.conv"


def _name(graph: Graph) -> tuple[Graph, str]:
    node = node_of(graph, "stem.norm")
    return changed(graph, replace(node, name="conv")), "stem.conv"


def _scope(graph: Graph) -> tuple[Graph, str]:
    node = node_of(graph, "stem.norm")
    return changed(graph, replace(node, scope=("stages", "0"), name="blocks")), "stages.0.blocks"


def _cycle(graph: Graph) -> tuple[Graph, str]:
    node, later = node_of(graph, "stem.conv"), node_of(graph, "stem.norm")
    return changed(graph, replace(node, inputs=(later.id,))), "stem.conv"


def _operand(graph: Graph) -> tuple[Graph, str]:
    node = node_of(graph, "stem.conv")
    return changed(graph, replace(node, inputs=(*node.inputs, *node.inputs))), "stem.conv"


def _attribute(graph: Graph) -> tuple[Graph, str]:
    node = node_of(graph, "stem.conv")
    attrs = {name: value for name, value in node.attrs.items() if name != "stride"}
    return changed(graph, replace(node, attrs=attrs)), "stem.conv"


def _operation(graph: Graph) -> tuple[Graph, str]:
    node = node_of(graph, "stem.conv")
    return changed(graph, replace(node, op="convolve")), "stem.conv"


def _unfed(graph: Graph) -> tuple[Graph, str]:
    node = node_of(graph, "stem.conv")
    return changed(graph, replace(node, op="poisson", inputs=(), attrs={})), "stem.conv"


def _shape(graph: Graph) -> tuple[Graph, str]:
    node = node_of(graph, "stem.norm")
    return changed(graph, replace(node, value=Value((5, 8, 8), ANALOG, True))), "stem.norm"


def _kind(graph: Graph) -> tuple[Graph, str]:
    node = node_of(graph, "stem.norm")
    return changed(graph, replace(node, value=replace(node.value, kind=SPIKE))), "stem.norm"


def _time(graph: Graph) -> tuple[Graph, str]:
    node = node_of(graph, "stem.norm")
    return changed(graph, replace(node, value=replace(node.value, varies=False))), "stem.norm"


def _rule(graph: Graph) -> tuple[Graph, str]:
    """The operands of a dense sum in another order, which has other roundings."""
    stage = graph.stages[0]
    node = graph[stage.blocks[3].input]
    return changed(graph, replace(node, inputs=node.inputs[::-1])), "stages.0.blocks.3"


def _result(graph: Graph) -> tuple[Graph, str]:
    first, *others = graph.stages
    wrong = replace(first, result_form=OutputOf(1))
    return replace(graph, stages=(wrong, *others)), "stages.0"


def _interblock(graph: Graph) -> tuple[Graph, str]:
    """The stage says that nothing stands after the join, and a neuron does."""
    first, *others = graph.stages
    blocks = tuple(replace(block, after=()) for block in first.blocks)
    return replace(
        graph, stages=(replace(first, blocks=blocks), *others)
    ), "stages.0.blocks.0.spike"


def _other_interblock(graph: Graph) -> tuple[Graph, str]:
    first, *others = graph.stages
    blocks = tuple(replace(block, after=("batchnorm",)) for block in first.blocks)
    return replace(
        graph, stages=(replace(first, blocks=blocks), *others)
    ), "stages.0.blocks.0.spike"


def _sugar(graph: Graph) -> tuple[Graph, str]:
    node = node_of(graph, "stem.norm")
    return changed(graph, replace(node, op="tdbn", attrs={"alpha": 1.0})), "stem.norm"


LOOPED = """use std
network n {
  input = events(2, 4, 4); steps = 2; neuron = IF; surrogate = atan
  h = (in + (h -> delay(1) -> conv(2))) -> spike
  out = h -> linear(2)
}"""


def _looped() -> Graph:
    return check_text(LOOPED).graphs["n"]


def _carried_kind(graph: Graph) -> tuple[Graph, str]:
    """What comes out of the loop is not of the kind that went in."""
    graph = _looped()
    node = node_of(graph, "h.delay")
    value = replace(node.value, kind=Kind.of(constant(0.0)))
    return changed(graph, replace(node, value=value)), "h.delay"


def _carried_shape(graph: Graph) -> tuple[Graph, str]:
    graph = _looped()
    node = node_of(graph, "h.delay")
    value = replace(node.value, shape=(3, 4, 4))
    return changed(graph, replace(node, value=value)), "h.delay"


def _carries_nothing(graph: Graph) -> tuple[Graph, str]:
    return replace(_looped(), carries={}), "h.delay"


def _carries_what_came_before(graph: Graph) -> tuple[Graph, str]:
    graph = _looped()
    ids = [node_of(graph, path).id for path in ("h.delay", "input")]
    return replace(graph, carries={ids[0]: ids[1]}), "h.delay"


def _shares_another(graph: Graph) -> tuple[Graph, str]:
    convs = [node.id for node in graph.nodes.values() if node.op == "conv"]
    norm = next(node for node in graph.nodes.values() if node.op == "batchnorm")
    return replace(graph, shares={norm.id: convs[0]}), norm.path


FED = """use std
network n {
  input = events(2, 4, 4); steps = 2; neuron = IF; surrogate = atan; norm = groupnorm(groups = 1)
  stem = conv(4); stages = stage(single(4), 3) via origin by feedback
  head = linear(2)
}"""


def _fed_later(graph: Graph) -> tuple[Graph, str]:
    """What a rule delays by one step comes two steps later."""
    graph = check_text(FED).graphs["n"]
    node = graph[graph.stages[0].delayed[0][0]]
    return changed(graph, replace(node, attrs={"steps": 2})), node.path


def _fed_by_another(graph: Graph) -> tuple[Graph, str]:
    """Another block than the rule says feeds the first one."""
    graph = check_text(FED).graphs["n"]
    stage = graph.stages[0]
    node = graph[stage.delayed[0][0]]
    return replace(graph, carries={node.id: stage.blocks[1].output}), node.path


BROKEN: dict[Break, str] = {
    _fed_later: "every stage obeys its rule's equation",
    _fed_by_another: "every stage obeys its rule's equation",
    _shares_another: "weights at several places fit all of them",
    _carried_kind: "what loops carry comes out as it goes in",
    _carried_shape: "what loops carry comes out as it goes in",
    _carries_nothing: "what loops carry comes out as it goes in",
    _carries_what_came_before: "what loops carry comes out as it goes in",
    _key: "keys and paths are unique",
    _name: "keys and paths are unique",
    _scope: "keys and paths are unique",
    _cycle: "operands come before their users: no cycle",
    _operand: "operations have their operands and attributes",
    _attribute: "operations have their operands and attributes",
    _operation: "operations have their operands and attributes",
    _unfed: "operations have their operands and attributes",
    _shape: "shapes, kinds and time agree at each join",
    _kind: "shapes, kinds and time agree at each join",
    _time: "shapes, kinds and time agree at each join",
    _rule: "every stage obeys its rule's equation",
    _result: "every stage obeys its rule's equation",
    _interblock: "interblock modules stand where the connection says",
    _other_interblock: "interblock modules stand where the connection says",
    _sugar: "no sugar is left",
}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda item: item.__name__.strip("_"))
def test_a_graph_broken_by_hand_is_caught(broken: Break, graph: Graph) -> None:
    wrong, path = broken(graph)
    with pytest.raises(InvariantError) as caught:
        verify(wrong, after="testing")
    message = str(caught.value)
    assert message.startswith(f"after testing: {BROKEN[broken]}: `{path}`")


@pytest.mark.parametrize("broken", BROKEN, ids=lambda item: item.__name__.strip("_"))
def test_its_own_invariant_catches_it(broken: Break, graph: Graph) -> None:
    """Not another one that happens to come first."""
    wrong, path = broken(graph)
    found = [item.path for item in dict(INVARIANTS)[BROKEN[broken]](wrong)]
    assert path in found


def test_every_invariant_is_tested() -> None:
    by_the_user = {
        "every parameter has a gradient path",
        "no block is silenced by a norm that starts at 0",
        "what stands in a loop runs step by step",
    }
    assert {name for name, _ in INVARIANTS} == {*BROKEN.values(), *by_the_user}


def test_a_broken_invariant_names_its_source_line(graph: Graph) -> None:
    with pytest.raises(InvariantError, match=r"`stem\.norm` \(<text>:8:\d+\)"):
        verify(_shape(graph)[0])


# -- broken by the spec: an error with a code, on the user's line ------------------------------------


def errors(text: str) -> list[tuple[str, str, str]]:
    with pytest.raises(SpecError) as caught:
        check_text(text)
    return [(item.code, item.span.text, item.message) for item in caught.value.diagnostics]


def test_weights_before_an_encoder_get_no_gradient() -> None:
    ((code, place, message),) = errors(
        spec().replace("head = avgpool", "head = poisson -> avgpool")
    )
    assert (code, place) == ("E0504", "poisson")
    assert "`head.poisson`" in message


def test_weights_before_a_neuron_that_is_cut_off_get_no_gradient() -> None:
    text = spec().replace("head =", "head = cut ->")
    text += "neuron cut { s = heaviside(detach(x)) }\n"
    ((code, place, message),) = errors(text)
    assert (code, place) == ("E0504", "cut")
    assert "linear" not in message


def test_weights_that_no_output_depends_on_get_no_gradient() -> None:
    text = """use std
network n {
  input = image(3, 8, 8)
  a = in -> conv(8)
  out = in -> conv(channels(a))
}
"""
    ((code, place, message),) = errors(text)
    assert (code, place) == ("E0504", "conv(8)")
    assert "`a.conv`" in message


def test_what_a_neuron_learns_gets_a_gradient_too() -> None:
    text = """use std
network n {
  input = image(3, 8, 8); neuron = PLIF; surrogate = sigmoid
  a = in -> spike
  out = in -> conv(channels(a))
}
"""
    ((code, place, message),) = errors(text)
    assert (code, place) == ("E0504", "PLIF")
    assert "`a.spike`" in message


def test_a_norm_that_starts_at_zero_after_the_join_silences_the_block() -> None:
    text = spec("chain").replace("via origin", "via mine") + (
        "connection mine {\n  each = conv -> norm -> spike\n  projection = conv -> norm\n"
        "  out = (branch + shortcut) -> norm(init = 0)\n}\n"
    )
    ((code, place, message),) = errors(text)
    assert (code, place) == ("E0503", "norm(init = 0)")
    assert "silences the block" in message


def test_a_norm_that_starts_at_zero_beside_a_shortcut_does_not() -> None:
    verify(check_text(spec("chain").replace("via origin", "via ms")).graphs["n"])
    verify(check_text(spec("chain").replace("steps = 2", "zero_init = true")).graphs["n"])


def test_a_join_may_be_a_neuron_of_several_inputs() -> None:
    text = """use std
neuron gated(gate) { v = x + gate; s = heaviside(v - 1) }
connection wired {
  each = conv -> norm
  projection = conv -> norm
  out = shortcut -> gated(gate = branch) -> norm -> spike
}
network n {
  input = image(3, 8, 8); steps = 2; neuron = IF; surrogate = sigmoid
  stem = conv(4) -> norm -> spike
  stages = stage(basic(4), 2) via wired
  head = avgpool -> mean_over_time -> linear(3)
}"""
    graph = graph_of(check_text(text))  # verified as it is lowered
    assert [block.after for block in graph.stages[0].blocks] == [
        ("neuron", "batchnorm", "neuron")
    ] * 2
