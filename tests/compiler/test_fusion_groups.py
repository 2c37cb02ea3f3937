"""Fusion groups of the fused backend: what stands around each neuron, and what must stay outside."""

from __future__ import annotations

from collections import Counter

import pytest

from danetc.compiler.emit.fx import saves_parts
from danetc.compiler.ir.graph import Graph
from danetc.compiler.ir.ops import OPS
from danetc.compiler.passes.fusion_groups import FusionPlan, plan_fusion
from tests.differential.helpers import text
from tests.differential.networks import ANALOG_STEM, VARIETY, small, variety

# Five blocks of two convolutions, in two stages; the opening block of the second has a projection.
FORMS = {
    "origin": {"norm -> spike": 6, "norm + value -> spike": 4, "norm + norm -> spike": 1},
    "tdbn_identity": {"norm -> spike": 6, "norm + norm -> spike": 5},
    "baa": {"norm -> spike": 11},
    "sew": {"norm -> spike": 12},
    "sew_iand": {"norm -> spike": 12},
    # An analog stream: its neurons read what the shortcut reads too. The head's neuron does not.
    "pa_a": {"value -> spike": 5, "norm -> spike": 5, "norm + value -> spike": 1},
    # The two neurons of the opening block are one, which alone reads the sum before it.
    "pa_a_spike": {"value -> spike": 4, "norm -> spike": 5, "norm + value -> spike": 2},
    "pa_b": {"norm -> spike": 10, "value + value -> spike": 1},
    "pa_b_spike": {"norm -> spike": 11, "value + value -> spike": 1},
    "ms": {"value -> spike": 5, "norm -> spike": 5, "norm + value -> spike": 1},
}


def network(connection: str) -> Graph:
    stem = ANALOG_STEM if connection.startswith(("pa_", "ms")) else {}
    return text(small(f"tiny via {connection}", **stem))


def forms(plan: FusionPlan) -> Counter[str]:
    return Counter(group.form for group in plan.groups.values())


def check(graph: Graph, plan: FusionPlan) -> None:
    """What holds of every plan."""
    neurons = {node.id for node in graph.nodes.values() if node.op == "neuron"}
    neurons -= {id for id in neurons if graph.program(graph[id]).inputs}  # they run by themselves
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
    graph = network(connection)
    plan = plan_fusion(graph)
    check(graph, plan)
    assert forms(plan) == FORMS[connection]


@pytest.mark.parametrize("name", VARIETY)
def test_nothing_that_has_another_reader(name: str) -> None:
    graph = variety(name)
    check(graph, plan_fusion(graph))


def test_terms_keep_their_order() -> None:
    """A sum folds from the left: another order would be another rounding."""
    graph = text(small("tiny via origin by densely_additive_all", settings="neuron = IF"), ())
    plan = plan_fusion(graph)
    check(graph, plan)
    for group in plan.groups.values():
        (source,) = graph[group.neuron].inputs
        order: list[int] = []

        def collect(id: int, order: list[int] = order, group: object = group) -> None:
            if graph[id].op == "add" and id in group.absorbed:  # type: ignore[attr-defined]
                for operand in graph[id].inputs:
                    collect(operand)
            else:
                order.append(id)

        collect(source)
        terms = [n if n is not None else i for i, n in zip(group.inputs, group.norms, strict=True)]
        assert terms == order


@pytest.mark.parametrize(("name", "parts"), [("densenet", True), ("unet", False)])
def test_parts_are_saved_where_only_neurons_save_the_concat(name: str, parts: bool) -> None:
    """In the U-Net a convolution of real values reads it too, and keeps the whole."""
    graph = plan_fusion(variety(name)).graph
    users = graph.users()
    joined = [node for node in graph.nodes.values() if node.op == "concat"]
    assert joined
    for node in joined:
        readers = [graph[id] for id in users[node.id]]
        assert saves_parts(graph, node, users[node.id]) is parts
        assert (not parts) is any(reader.op == "conv" for reader in readers)
