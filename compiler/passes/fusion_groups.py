"""Fusion groups: operations before a neuron that run as one kernel with it.

This is the plan of the fused backend and does not rewrite the network: names, modules and weights
stay. In the planned graph a neuron reads the terms of the sum before it directly, without the norms
and additions in between.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from danetc.compiler.ir.at_node import same_for_all
from danetc.compiler.ir.graph import Graph, Node
from danetc.compiler.ir.loops import loop_of
from danetc.compiler.ir.ops import OPS
from danetc.dsl.record import record


@record
class FusionGroup:
    """A neuron, the terms of the sum that it reads, and the norm of each term."""

    neuron: int
    inputs: tuple[int, ...]
    norms: tuple[int | None, ...]
    absorbed: frozenset[int]

    @property
    def form(self) -> str:
        """Text of the computation: ``norm + value -> spike``."""
        terms = " + ".join("value" if norm is None else "norm" for norm in self.norms)
        return f"{terms} -> spike"


@record
class FusionPlan:
    """The graph that runs, and its fusion groups by the ids of their neurons."""

    graph: Graph
    groups: Mapping[int, FusionGroup]


def plan_fusion(graph: Graph) -> FusionPlan:
    """Group every neuron with the norms and additions that only it reads.

    Neurons in loops and those of several inputs run alone.
    """
    readers: dict[int, int] = {id: len(users) for id, users in graph.users().items()}
    for id in graph.outputs.values():
        readers[id] += 1
    shared = same_for_all(graph)
    looped = loop_of(graph)
    groups = {
        node.id: _region(node, graph, readers, shared)
        if node.id not in looped
        else FusionGroup(node.id, node.inputs, (None,), frozenset())
        for node in graph.nodes.values()
        if node.op == "neuron" and not graph.program(node).inputs
    }
    gone = frozenset().union(*(group.absorbed for group in groups.values()))
    nodes: dict[int, Node] = {}
    for node in graph.nodes.values():
        if node.id in groups:
            node = replace(node, inputs=groups[node.id].inputs)
        if node.id not in gone:
            nodes[node.id] = node
    return FusionPlan(replace(graph, nodes=nodes, stages=()), groups)


def _region(
    neuron: Node, graph: Graph, readers: Mapping[int, int], shared: frozenset[int]
) -> FusionGroup:
    absorbed: set[int] = set()
    (source,) = neuron.inputs
    inputs: list[int] = []
    norms: list[int | None] = []
    for term in _terms(source, graph, readers, neuron, absorbed, shared):
        node = graph[term]
        row = OPS[node.op]
        if row.affine(node.attrs) and row.all_steps(node.attrs) and readers[term] == 1:
            absorbed.add(term)
            inputs.append(node.inputs[0])
            norms.append(term)
        else:
            inputs.append(term)
            norms.append(None)
    return FusionGroup(neuron.id, tuple(inputs), tuple(norms), frozenset(absorbed))


def _terms(
    id: int,
    graph: Graph,
    readers: Mapping[int, int],
    neuron: Node,
    absorbed: set[int],
    shared: frozenset[int],
) -> list[int]:
    """Return the terms of a sum from the left; nested sums on the left are the same fold.

    Values repeated for each pixel or sample (``shared``) are added before.
    """
    node = graph[id]
    whole = shared.isdisjoint(node.inputs) and all(
        operand.value.shape == neuron.value.shape for operand in graph.inputs_of(node)
    )
    if node.op != "add" or readers[id] != 1 or not whole:
        return [id]
    absorbed.add(id)
    first, *rest = node.inputs
    return [*_terms(first, graph, readers, neuron, absorbed, shared), *rest]


# -- additions after neurons, for inference --------------------------------------------------------


@record
class Summed:
    """A plan, and its neurons that return a sum: their first input is the other addend."""

    plan: FusionPlan
    sums: frozenset[int]


def add_epilogues(plan: FusionPlan) -> Summed:
    """Return the plan in which neurons with an addition as their only reader return its value.

    Their kernels add the other operand, as in SEW's addition or the running sum of a rule, so that the
    spikes are not written to memory.
    """
    graph = plan.graph
    readers = {id: len(users) for id, users in graph.users().items()}
    for id in graph.outputs.values():
        readers[id] += 1
    nodes: dict[int, Node] = {}
    to: dict[int, int] = {}
    sums: set[int] = set()
    for node in graph.nodes.values():
        inputs = tuple(to[i] for i in node.inputs)
        neuron = _absorbing(node, inputs, nodes, readers, plan, sums)
        if neuron is None:
            nodes[node.id] = node if inputs == node.inputs else replace(node, inputs=inputs)
            to[node.id] = node.id
            continue
        (other,) = (i for i in inputs if i != neuron)
        old = nodes.pop(neuron)
        nodes[neuron] = replace(old, inputs=(other, *old.inputs), value=node.value)
        to[node.id] = neuron
        readers[neuron] = readers[node.id]
        sums.add(neuron)
    outputs = {name: to[id] for name, id in graph.outputs.items()}
    carries = {id: to[source] for id, source in graph.carries.items()}
    new = replace(graph, nodes=nodes, outputs=outputs, carries=carries)
    groups = {
        id: replace(group, inputs=tuple(to[i] for i in group.inputs))
        for id, group in plan.groups.items()
    }
    return Summed(FusionPlan(new, groups), frozenset(sums))


def _absorbing(
    node: Node,
    inputs: tuple[int, ...],
    nodes: Mapping[int, Node],
    readers: Mapping[int, int],
    plan: FusionPlan,
    sums: set[int],
) -> int | None:
    """Return the last neuron that can return an addition's value, or None."""
    if node.op != "add" or len(set(inputs)) != 2 or len(inputs) != 2:
        return None
    for id in reversed(inputs):
        candidate = nodes[id]
        if (
            id in plan.groups
            and id not in sums
            and readers[id] == 1
            and candidate.value.varies
            and all(nodes[i].value.shape == node.value.shape for i in inputs)
        ):
            return id
    return None
