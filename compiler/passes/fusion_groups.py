"""Fusion groups: operations before a neuron that run as one kernel with it.

The fused backend does not rewrite the network: names, modules and weights stay the same. In the
planned graph, a neuron directly reads the terms of the sum before it, without the norms and
additions in between.
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
    """A neuron, the terms of its input and their norms; ``absorbed`` nodes are removed."""

    neuron: int
    inputs: tuple[int, ...]
    norms: tuple[int | None, ...]
    absorbed: frozenset[int]

    @property
    def form(self) -> str:
        """The computation as text, such as ``norm + value -> spike``."""
        terms = " + ".join("value" if norm is None else "norm" for norm in self.norms)
        return f"{terms} -> spike"


@record
class FusionPlan:
    """The graph to run, and its fusion groups by the ids of their neurons.

    The first input of a neuron in ``sums`` is a value that is added to its output.
    """

    graph: Graph
    groups: Mapping[int, FusionGroup]
    sums: frozenset[int] = frozenset()


def plan_fusion(graph: Graph) -> FusionPlan:
    """Group every neuron with the norms and additions that only it reads.

    Neurons in loops and neurons with several inputs are not fused.
    """
    readers, shared, looped = graph.readers(), same_for_all(graph), loop_of(graph)
    groups = {
        node.id: FusionGroup(node.id, node.inputs, (None,), frozenset())
        if node.id in looped
        else _group(node, graph, readers, shared)
        for node in graph.nodes.values()
        if node.op == "neuron" and not graph.program(node).inputs
    }
    gone = frozenset().union(*(group.absorbed for group in groups.values()))
    nodes = {
        node.id: replace(node, inputs=groups[node.id].inputs) if node.id in groups else node
        for node in graph.nodes.values()
        if node.id not in gone
    }
    return FusionPlan(replace(graph, nodes=nodes, stages=()), groups)


def _group(
    neuron: Node, graph: Graph, readers: Mapping[int, int], shared: frozenset[int]
) -> FusionGroup:
    """Return the group of a neuron.

    A sum that is the left operand of a sum is part of it. A sum with values that are broadcast over
    pixels or samples (``shared``) stays separate.
    """
    absorbed: set[int] = set()
    (first,) = neuron.inputs
    terms: list[int] = []
    while graph[first].op == "add" and readers[first] == 1:
        operands = graph.inputs_of(graph[first])
        whole = all(item.value.shape == neuron.value.shape for item in operands)
        if not whole or not shared.isdisjoint(graph[first].inputs):
            break
        absorbed.add(first)
        first, *rest = graph[first].inputs
        terms = [*rest, *terms]
    inputs: list[int] = []
    norms: list[int | None] = []
    for term in (first, *terms):
        node, row = graph[term], OPS[graph[term].op]
        if row.affine(node.attrs) and row.all_steps(node.attrs) and readers[term] == 1:
            absorbed.add(term)
            inputs.append(node.inputs[0])
            norms.append(term)
        else:
            inputs.append(term)
            norms.append(None)
    return FusionGroup(neuron.id, tuple(inputs), tuple(norms), frozenset(absorbed))


def add_epilogues(plan: FusionPlan) -> FusionPlan:
    """Fuse additions after neurons, for inference.

    If only an addition reads a neuron, its kernel adds the other operand, as in SEW's addition or
    the running sum of a rule, so that the spikes are not written to memory.
    """
    graph, readers = plan.graph, plan.graph.readers()
    nodes: dict[int, Node] = {}
    to: dict[int, int] = {}
    sums: set[int] = set()
    for node in graph.nodes.values():
        inputs = tuple(to[i] for i in node.inputs)
        neuron = next(
            (
                id
                for id in reversed(inputs if len(set(inputs)) == len(inputs) == 2 else ())
                if node.op == "add"
                and id in plan.groups
                and id not in sums
                and readers[id] == 1
                and nodes[id].value.varies
                and all(nodes[i].value.shape == node.value.shape for i in inputs)
            ),
            None,
        )
        if neuron is None:
            nodes[node.id] = replace(node, inputs=inputs)
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
    groups = {
        id: replace(group, inputs=tuple(to[i] for i in group.inputs))
        for id, group in plan.groups.items()
    }
    new = replace(graph, nodes=nodes, outputs=outputs, carries=carries)
    return FusionPlan(new, groups, frozenset(sums))
