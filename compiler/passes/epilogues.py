"""Additions after neurons as parts of their fusion groups, for inference.

If a sum is the only reader of a neuron (SEW's addition, a rule's running sum), the neuron's kernel adds
the other addend, and spikes are never written to memory. Like a fusion group this is a plan and does
not rewrite the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from danetc.compiler.ir.graph import Node
from danetc.compiler.passes.fusion_groups import FusionPlan
from danetc.dsl.record import record


@record
class Summed:
    """A plan, and its neurons that return a sum: their first input is the other addend."""

    plan: FusionPlan
    sums: frozenset[int]


def add_epilogues(plan: FusionPlan) -> Summed:
    """Return the plan in which neurons with an addition as their only reader return its value."""
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
        old = nodes.pop(neuron)  # moved behind its new input
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
