"""Plans: fusion groups, folded norms, and segments that run again in the backward pass."""

from collections import Counter

import pytest

from danetc.compiler.analysis.verify import verify
from danetc.compiler.emit.fx import saves_parts
from danetc.compiler.frontend.program import check_file, graph_of
from danetc.compiler.ir.graph import Graph
from danetc.compiler.ir.ops import OPS
from danetc.compiler.passes.fold import plan_folding
from danetc.compiler.passes.fusion_groups import FusionPlan, add_epilogues, plan_fusion
from danetc.compiler.passes.recompute import block_of, plan_segments
from tests.compiler.emit.graphs import Net
from tests.compiler.test_pass_texts import fold
from tests.differential.helpers import text
from tests.differential.networks import ANALOG_STEM, VARIETY, small, variety

# Five blocks of two convolutions, in two stages; the opening block of the second has a projection.
FORMS = {
    "origin": {"norm -> spike": 6, "norm + value -> spike": 4, "norm + norm -> spike": 1},
    "tdbn_identity": {"norm -> spike": 6, "norm + norm -> spike": 5},
    "baa": {"norm -> spike": 11},
    "sew": {"norm -> spike": 12},
    "sew_iand": {"norm -> spike": 12},
    # An analog stream: a block's first neuron shares its input with the shortcut, the head's does not.
    "pa_a": {"value -> spike": 5, "norm -> spike": 5, "norm + value -> spike": 1},
    # The two neurons of the opening block become one, which is the only reader of the sum before it.
    "pa_a_spike": {"value -> spike": 4, "norm -> spike": 5, "norm + value -> spike": 2},
    "pa_b": {"norm -> spike": 10, "value + value -> spike": 1},
    "pa_b_spike": {"norm -> spike": 11, "value + value -> spike": 1},
    "ms": {"value -> spike": 5, "norm -> spike": 5, "norm + value -> spike": 1},
}


def check(graph: Graph, plan: FusionPlan) -> None:
    """Assert the properties of every plan."""
    neurons = {node.id for node in graph.nodes.values() if node.op == "neuron"}
    neurons -= {id for id in neurons if graph.program(graph[id]).inputs}  # these are never fused
    assert set(plan.groups) == neurons
    users = graph.users()
    outputs = set(graph.outputs.values())
    gone: set[int] = set()
    for group in plan.groups.values():
        assert not group.absorbed & gone, "two fusion groups have the same node"
        gone |= group.absorbed
        inside = group.absorbed | {group.neuron}
        for id in group.absorbed:
            assert graph[id].op == "add" or OPS[graph[id].op].norm == "channel"
            assert set(users[id]) <= inside, "somebody else reads what is absorbed"
            assert id not in outputs
        assert plan.graph[group.neuron].inputs == group.inputs
        for source, norm in zip(group.inputs, group.norms, strict=True):
            assert source not in group.absorbed
            if norm is not None:
                assert norm in group.absorbed
                assert graph[norm].inputs == (source,)
                assert not OPS[graph[norm].op].per_step(graph[norm].attrs)
    assert set(plan.graph.nodes) == set(graph.nodes) - gone
    for node in plan.graph.nodes.values():
        assert all(source in plan.graph.nodes for source in node.inputs)
        if node.op == "batchnorm" and not node.attrs["per_step"] and node.id not in outputs:
            readers = users[node.id]
            assert len(readers) > 1 or readers[0] not in neurons, "a norm could have been absorbed"


@pytest.mark.parametrize("connection", FORMS)
def test_forms_of_each_connection(connection: str) -> None:
    stem = ANALOG_STEM if connection.startswith(("pa_", "ms")) else {}
    graph = text(small(f"tiny via {connection}", **stem))
    plan = plan_fusion(graph)
    check(graph, plan)
    assert Counter(group.form for group in plan.groups.values()) == FORMS[connection]


@pytest.mark.parametrize("name", VARIETY)
def test_nothing_that_has_another_reader(name: str) -> None:
    graph = variety(name)
    check(graph, plan_fusion(graph))


@pytest.mark.parametrize(("name", "parts"), [("densenet", True), ("unet", False)])
def test_parts_are_saved_where_only_neurons_save_the_concat(name: str, parts: bool) -> None:
    """In the U-Net a convolution of real values also reads the concat, and saves the whole."""
    graph = plan_fusion(variety(name)).graph
    users = graph.users()
    joined = [node for node in graph.nodes.values() if node.op == "concat"]
    assert joined
    for node in joined:
        readers = [graph[id] for id in users[node.id]]
        assert saves_parts(graph, node, users[node.id]) is parts
        assert (not parts) is any(reader.op == "conv" for reader in readers)


def test_terms_keep_their_order() -> None:
    """A sum folds from the left, and another order would round differently."""
    graph = text(small("tiny via origin by densely_additive_all", settings="neuron = IF"), ())

    def operands(id: int, absorbed: frozenset[int]) -> list[int]:
        if graph[id].op != "add" or id not in absorbed:
            return [id]
        return [each for operand in graph[id].inputs for each in operands(operand, absorbed)]

    for group in plan_fusion(graph).groups.values():
        (source,) = graph[group.neuron].inputs
        terms = [n if n is not None else i for i, n in zip(group.inputs, group.norms, strict=True)]
        assert terms == operands(source, group.absorbed)


def network(lines: str) -> Graph:
    settings = "input = events(3, 8, 8); steps = 2; neuron = IF; surrogate = atan"
    return text(f"network n {{ {settings}; {lines} }}", ())


def shown(graph: Graph) -> str:
    """The operations of a graph as nested calls, from its outputs to its inputs."""

    def call(id: int) -> str:
        read = ", ".join(map(call, graph[id].inputs))
        return f"{graph[id].op}({read})" if read else "x"

    return "; ".join(map(call, graph.outputs.values()))


STAYS = (
    "c = in -> conv(4); out = outputs(c -> norm, c)",
    "c = in -> conv(4); out = outputs(c -> norm, c -> conv(4))",
    "c = in -> conv(4); out = outputs(c -> norm, c -> norm)",
    "out = in -> conv(4) -> groupnorm(2)",
    "out = in -> conv(4) -> tebn",
    "a = in -> spike; b = in -> PLIF; out = outputs(((a -> conv(3)) + a + b) -> norm, b)",
    # an operand with one channel cannot take the factors of several channels
    "out = ((in -> conv(4)) + (in -> conv(1))) -> norm",
)


@pytest.mark.parametrize("lines", STAYS)
def test_norms_that_stay(lines: str) -> None:
    graph = network(lines)
    folding = plan_folding(graph)
    verify(folding.graph)
    assert shown(folding.graph) == shown(graph)
    assert not folding.scalings
    assert {graph[id].op for id in folding.kept} & {"batchnorm", "groupnorm", "tebn"}


FOLDED = {
    # BAA with a projection: the norm of the shortcut is folded before the norm of the sum
    "out = ((in -> conv(4)) + (in -> conv(4) -> norm)) -> norm -> spike": (
        "neuron(add(conv(x), conv(x)))",
        "folded: norm1, norm2\nmoved: none\nkept: none\n"
        "conv2 takes norm1 (factor and offset), norm2 (factor)\n"
        "conv1 takes norm2 (factor and offset)",
    ),
    # BAA with an identity shortcut: norm(conv + x) = a conv + norm(x)
    "a = in -> spike; out = ((a -> conv(3)) + (a + (a -> conv(3)))) -> norm -> spike": (
        "neuron(add(conv(neuron(x)), add(batchnorm(neuron(x)), conv(neuron(x)))))",
        "folded: none\nmoved: norm\nkept: none\nconv1 takes norm (factor)\nconv2 takes norm (factor)",
    ),
    # the first norm has two readers, so the second norm stays within its own sum
    "a = in -> spike; first = ((a -> conv(3)) + a) -> norm; second = (first -> conv(3)) + first; "
    "out = outputs(first, second -> norm -> spike)": (
        "add(conv(neuron(x)), batchnorm(neuron(x))); neuron(add(conv(add(conv(neuron(x)), "
        "batchnorm(neuron(x)))), batchnorm(add(conv(neuron(x)), batchnorm(neuron(x))))))",
        "folded: none\nmoved: first.norm, norm\nkept: none\n"
        "first.conv takes first.norm (factor)\nsecond.conv takes norm (factor)",
    ),
}


@pytest.mark.parametrize("lines", FOLDED)
def test_norms_behind_sums(lines: str) -> None:
    after, takes = FOLDED[lines]
    graph = network(lines)
    folded = plan_folding(graph).graph
    verify(folded)
    assert shown(folded) == after
    assert fold(graph).endswith(f"\n{takes}")
    assert all(
        node.attrs["bias"] is ("offset" in takes)
        for node in folded.nodes.values()
        if node.op == "conv"
    )


ADDED = (
    "s = in -> spike; out = outputs(s + in, s -> sigmoid)",
    "s = in -> avgpool -> spike; out = s + in",
    "s = in -> spike; out = s + s",
)


@pytest.mark.parametrize("lines", ADDED)
def test_additions_that_stay(lines: str) -> None:
    graph = network(lines)
    plan = add_epilogues(plan_fusion(graph))
    assert not plan.sums
    assert shown(plan.graph) == shown(graph)


def test_sums_of_three_stay() -> None:
    for first in (True, False):
        net = Net(varies=True)
        x, y = net.spike(0, "x"), net.spike(0, "y", "PLIF")
        conv = net("conv", x, name="conv", width=3)
        norm = net("batchnorm", net("add", *((conv, x, y) if first else (x, conv, x))))
        folding = plan_folding(net.finish(norm, y))
        verify(folding.graph)
        assert (folding.kept, folding.scalings) == ((norm,), {})
    net = Net(varies=True)
    plan = add_epilogues(plan_fusion(net.finish(net("add", net.spike(0), 0, net("sigmoid", 0)))))
    assert not plan.sums


SEGMENTS = {"sew_r18": 7, "sew_r50": 13, "danet_a_r50": 8, "danet_c_r50": 13}
"""The number of segments of 8 or 16 blocks."""


@pytest.mark.parametrize("spec", SEGMENTS)
def test_segments_follow_each_other(spec: str) -> None:
    """A segment has one block for integers, several for analog values. Late blocks may be in none."""
    settings = {"image": 64, "steps": 4, "width": 64}
    graph = plan_fusion(graph_of(check_file(spec), None, settings)).graph
    plan = plan_segments(graph)
    nodes = graph.nodes.values()
    found = {(block, plan.of.get(n.id)) for n in nodes if (block := block_of(n)) is not None}
    segments = dict(found)
    assert len(segments) == len(found), "a block is in one segment"
    numbers = [segments[block] for block in dict.fromkeys(map(block_of, nodes)) if block]
    inside = [number for number in numbers if number is not None]
    assert (inside, len({*inside})) == (sorted(inside), SEGMENTS[spec])
    assert {block[1] for block, number in found if number is None} == {"3"}
    outside = {n.op for n in nodes if n.id not in plan.of and block_of(n) is None}
    if spec == "danet_c_r50":
        # Running sums are counts, and a segment saves the sum itself. The head saves almost nothing.
        assert outside == {
            "input", "add", "global_avgpool", "mean_over_time", "flatten", "linear"
        }  # fmt: skip
    assert plan.random == frozenset()
