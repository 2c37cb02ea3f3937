"""Premises of propositions and numbers of graphs, compared with networkx and with running models."""

from contextlib import nullcontext

import networkx
import pytest
import torch

from danetc.compiler import check_file, check_text, graph_of
from danetc.compiler.analysis.equivalence import resized, smallest_map
from danetc.compiler.analysis.initial_values import first_output, initial_values
from danetc.compiler.analysis.propositions import (
    NotApplicable,
    plan_chain,
    plan_dense,
    plan_rates,
    surrogate_factors,
)
from danetc.compiler.analysis.summary import fires, weights_of
from danetc.compiler.emit.fx import emit
from danetc.compiler.ir.graph import Graph
from danetc.compiler.ir.rule_forms import OutputOf
from danetc.compiler.ir.segment import SegmentError, segment
from danetc.compiler.warnings import warnings_of
from danetc.dsl.neuron.opcodes import ConstantError
from danetc.runtime.layers.neuron import Neuron
from tests.differential.helpers import text
from tests.differential.networks import graph_of_neuron, small

PLANS = {"1": plan_chain, "3": plan_rates, "4": plan_dense}


def shipped(name: str, **settings: object) -> Graph:
    return graph_of(check_file(name), settings=settings, passes=())


def network(stages: str, more: str = "", settings: str = "", **parts: str) -> Graph:
    return text(small(stages, settings=f"neuron = IF; {settings}", more=more, **parts), ())


APPLIES = {
    "1": "origin_r34 tdbn_r34 sew_r34 danet_a_r34 danet_b_r34 ms_resnet34",
    "3": "danet_a_r34 ms_resnet34 danet_a_dense_r34",
    "4": "danet_c_r34 averaged_r34 own_rule own_connection",
    "none": "baa_r34 danet_d_r34 spiking_densenet121 pa_a_learnt_r34",
}


@pytest.mark.parametrize("name", sorted({*" ".join(APPLIES.values()).split()}))
def test_where_each_proposition_applies(name: str) -> None:
    graph = shipped(name)
    for number, plan in PLANS.items():
        for stage in graph.stages:
            with nullcontext() if name in APPLIES[number].split() else pytest.raises(NotApplicable):
                plan(graph, stage)


REASONS = {
    ("1", "origin", "densely_additive"): "feeds block 2 with sum(out[0], out[1]), not the block before it alone",
    ("4", "origin", "chain"): "rule chain leaves a single path from block 0 to the result of the stage",
    ("1", "baa", "chain"): "the last norm of a block follows the addition (`stages.0.blocks.1.norm`)",
    ("4", "baa", "densely_additive"): "silences the block",
    ("1", "tdbn_identity", "chain"): "block 1 does not start as the identity with its last norm at 0: the input of its interblock modules is not its input",
    ("1", "plain", "chain"): "the input of its interblock modules is 0",
    ("1", "sew_and", "chain"): "the input of its interblock modules is 0",
    ("3", "sew", "chain"): "no neuron reads the input of block 1, but conv",
    ("3", "pa_b", "chain"): "but batchnorm",
    ("3", "bare", "chain"): "reads a sum that contains `stages.0.blocks.0.branch.conv2`, a conv",
    ("1", "bare", "chain"): "block 1 has no norm that could start at 0",
    ("1", "origin", "summed"): "gives sum(out[0], out[1], out[2]), not the last block alone",
    ("1", "early", "chain"): "the interblock neuron of block 1 returns 1 for an input of 0; the proof",
    ("1", "late", "chain"): "the interblock neuron of block 1 returns 0 for an input of 1; the proof",
    ("4", "origin", "most"): "feeds block 2 with max(out[0], out[1]), which is not a sum of earlier blocks",
    ("4", "origin", "learnt"): "feeds block 1 with learn(...) * out[0], which is not a sum of earlier blocks",
    ("4", "origin", "minus"): "gives sum(-1 * out[0], out[2]), with a negative factor",
    ("3", "pa_a", "least"): "block 2 does not read everything that block 1 reads",
}  # fmt: skip
MORE = """
connection bare { each = spike -> conv; projection = conv; out = branch + shortcut }
connection early { each = conv -> norm; projection = conv -> norm
                   out = (branch + shortcut) -> IF(v_threshold = -0.5) }
connection late { each = conv -> norm; projection = conv -> norm; out = (branch + shortcut) -> LIF }
rule summed { in[i] = out[i-1]; result = sum(out[0 .. n-1]) }
rule most { in[i] = max(out[0 .. i-1]); result = out[n-1] }
rule learnt { in[i] = sum(learn(1.0) * out[j] for j in 0 .. i-1); result = out[n-1] }
rule minus { in[i] = out[i-1]; result = -1 * out[0] + out[n-1] }
rule least { in[i] = 0.5 * out[i-1]; result = out[n-1] }
"""


@pytest.mark.parametrize(("number", "connection", "rule"), REASONS)
def test_reasons(number: str, connection: str, rule: str) -> None:
    graph = network(f"stage(basic(4), 3) via {connection} by {rule}", MORE)
    with pytest.raises(NotApplicable) as caught:
        PLANS[number](graph, graph.stages[0])
    assert REASONS[number, connection, rule] in str(caught.value)


def test_one_block_and_modules_after_the_join() -> None:
    graph = network("stage(basic(4), 1) via origin")
    for plan in PLANS.values():
        with pytest.raises(NotApplicable, match=r"one block|fewer than two blocks"):
            plan(graph, graph.stages[0])
    graph = network("stage(basic(4), 2) via origin(inter = ReLU)")
    reason = "has neuron after its join, not a single spiking neuron"
    with pytest.raises(NotApplicable, match=reason):
        plan_chain(graph, graph.stages[0])


def test_a_block_of_ones_is_its_shortcut_too() -> None:
    """IAND: (1 - branch) * shortcut."""
    graph = network("stage(basic(4), 3) via sew_iand")
    assert plan_chain(graph, graph.stages[0]).neurons == 0


def test_blocks_on_the_paths_of_a_rule() -> None:
    rule = "rule window { in[i] = sum(out[max(0, i-2) .. i-1]); result = out[n-1] }"
    graph = network("stage(basic(4), 5) via origin by window", rule)
    plan = plan_dense(graph, graph.stages[0])
    assert plan.terms == ({0: 1}, {0: 1, 1: 1}, {1: 1, 2: 1}, {2: 1, 3: 1}, {4: 1})
    assert plan.fewest == (2, 2, 1, 1, 0)


@pytest.mark.parametrize("connection", ["origin", "sew", "pa_a", "pa_b", "tdbn"])
def test_the_norms_that_start_at_zero_are_those_of_zero_init(connection: str) -> None:
    graph = network(f"stage(basic(4), 3) via {connection}")
    other = network(f"stage(basic(4), 3) via {connection}", settings="zero_init = true")
    plan = plan_chain(graph, graph.stages[0])
    wanted = {n.path for n in other.nodes.values() if n.attrs.get("init") == 0.0}
    zeroed = {n.path for n in plan.graph.nodes.values() if n.attrs.get("init") == 0.0}
    assert zeroed == {path for path in wanted if ".blocks.0." not in path}
    assert len(zeroed) == 2


def test_a_segment_that_reads_from_outside_is_an_error() -> None:
    graph = network("stage(basic(4), 3) via origin by densely_additive")
    _, second, last = graph.stages[0].blocks
    with pytest.raises(SegmentError, match="lies outside"):
        segment(graph, second.output, {"y": last.output})


def test_resized_networks_have_the_same_weights() -> None:
    graph = shipped("origin_r18")
    small = resized(graph, 64, 64)
    assert emit(small)(torch.zeros(1, 3, 64, 64)).shape == (1, 1000)
    assert smallest_map(small) == 4
    assert sum(weights_of(small, n) for n in small.nodes.values()) == 11_689_512
    flat = network("stage(basic(4), 2) via origin", head="flatten -> linear(5)")
    assert resized(flat, 16, 16) is None
    assert resized(flat, 8, 8) == flat
    assert resized(network("stage(basic(4), 2) via origin -> avgpool(8)"), 4, 4) is None


@pytest.mark.parametrize("connection", ["origin", "sew", "pa_a", "pa_b", "sew_iand"])
def test_what_is_known_at_the_start_is_what_a_model_gives(connection: str) -> None:
    graph = network(f"stage(basic(4), 3) via {connection}", settings="zero_init = true")
    known = initial_values(graph)
    names = {f"v{id}": id for id in graph.nodes if id != graph.input.id}
    model = emit(segment(graph, graph.input.id, names)).double()
    outputs = model(torch.rand(3, 3, 8, 8, dtype=torch.float64))
    values = dict(zip(names.values(), outputs, strict=True))
    assert any(isinstance(value, float) for value in known.values())
    for id, value in known.items():
        if isinstance(value, float):
            assert bool((values[id] == value).all())
        elif value != id:
            assert torch.equal(values[id], values[value])
    joins = [block.join for block in graph.stages[0].blocks]
    assert all(known[join] != join for join in joins)


@pytest.mark.parametrize("neuron", ["IF", "LIF", "PLIF", "ALIF", "IF_soft", "MSLIF", "readout"])
def test_first_outputs_are_those_of_the_neuron(neuron: str) -> None:
    (program,) = text(small(settings=f"neuron = {neuron}")).neurons.values()
    inputs = [-1.5, 0.0, 0.5, 0.75, 1.0, 2.0, 3.5]
    layer = Neuron(program.text(), 1, 1).double()
    expected = layer(torch.tensor([[inputs]], dtype=torch.float64)).flatten().tolist()
    assert [first_output(program, x) for x in inputs] == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("after", ["e - e", "round(e - e)", "round(e)"])
def test_a_first_output_that_is_no_finite_number_is_none(after: str) -> None:
    body = f"""state u = 1000000000000000.0; a = u * u; b = a * a; c = b * b; d = c * c; e = d * d
          v = u + x; u = v; s = heaviside(v - 1) + {after}"""
    (program,) = graph_of_neuron(body).neurons.values()
    with pytest.raises(ConstantError):
        first_output(program, 0.0)
    own = small(settings="neuron = own", more=f"neuron own {{ {body} }}")
    assert warnings_of(check_text(f"use std\n{own}")) == ()


def test_terms_of_a_rule_that_names_each_input_twice_are_few() -> None:
    """Each input is expanded once, although 2^60 paths lead from the last block to the first."""
    rule = """rule twice {
      in[i] = out[0] if i == 1 else 0.5 * in[i - 1] + 0.5 * in[i - 1] + out[i - 1]
      result = out[n - 1]
    }"""
    (stage,) = network("stage(basic(4), 60) via origin by twice", rule).stages
    assert stage.terms(stage.blocks[59].feed) == {OutputOf(j): 1.0 for j in range(59)}


@pytest.mark.parametrize(
    "name", ["danet_c_small", "origin_r18", "sew_r34", "danet_a_r20", "own_neuron", "own_rule"]
)
def test_surrogate_factors_are_shortest_and_longest_paths_of_networkx(name: str) -> None:
    graph = shipped(name)
    flow = networkx.DiGraph()
    for node in graph.nodes.values():  # edges point to operands and cost 1 if the node fires
        for operand in node.inputs:
            flow.add_edge(node.id, operand, weight=int(fires(graph, node)))
    (output,) = graph.outputs.values()
    fewest = networkx.single_source_dijkstra_path_length(flow, output)
    for _, _, data in flow.edges(data=True):
        data["weight"] = -data["weight"]
    most = networkx.single_source_bellman_ford_path_length(flow, output)
    found = surrogate_factors(graph)
    assert set(found) == {n.id for n in graph.nodes.values() if weights_of(graph, n)}
    for id, factors in found.items():
        own = int(fires(graph, graph[id]))
        assert factors == (fewest[id] + own, own - most[id])


def test_squared_weights_add_up_and_start_again_at_a_projection() -> None:
    graph = network(
        "stage(basic(4), 3) via pa_a -> stage(basic(8), 4, stride = 2) via pa_a",
        settings="norm = batchnorm(init = 0.5)",
    )
    first, second = (plan_rates(graph, stage) for stage in graph.stages)
    assert (first.squares, first.entry) == ((0.25, 0.5), (1.0, 1.0))
    assert (second.squares, second.entry) == ((0.5, 0.75, 1.0), (0.0, 0.0, 0.0))


def test_what_is_added_twice_counts_four_times() -> None:
    rule = "rule twice { in[i] = 2 * out[i - 1]; result = out[n - 1] }"
    graph = network("stage(basic(4), 3) via pa_a by twice", rule)
    plan = plan_rates(graph, graph.stages[0])
    assert plan.squares == (4.0, 20.0)
    assert plan.entry == (4.0, 16.0)
