"""Loops over time: nodes that depend on themselves through a delay and run step by step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import takewhile

from danetc.compiler.ir.graph import Graph, Node
from danetc.compiler.ir.inference import Inference
from danetc.dsl.record import record


@record
class Cycle:
    """Nodes of a loop in the order of the graph, and the smallest scope that contains them."""

    members: tuple[int, ...]
    scope: tuple[str, ...]


def loops(graph: Graph) -> tuple[Cycle, ...]:
    """Return the loops of a graph: sets of nodes that all depend on each other."""
    if not graph.carries:
        return ()
    import networkx as nx  # late: only needed with loops

    flow: nx.DiGraph[int] = nx.DiGraph()
    flow.add_edges_from((i, n.id) for n in graph.nodes.values() for i in graph.reads(n))
    place = {id: index for index, id in enumerate(graph.nodes)}
    found = []
    for part in nx.strongly_connected_components(flow):
        if len(part) > 1 or any(flow.has_edge(id, id) for id in part):
            members = tuple(sorted(part, key=place.__getitem__))
            scopes = zip(*(graph[id].scope for id in members), strict=False)
            common = takewhile(lambda names: len({*names}) == 1, scopes)
            found.append(Cycle(members, tuple(name for name, *_ in common)))
    return tuple(sorted(found, key=lambda loop: place[loop.members[0]]))


def loop_of(graph: Graph) -> Mapping[int, Cycle]:
    """Return the loop of each node that is in one."""
    return {id: loop for loop in loops(graph) for id in loop.members}


def without_detours(graph: Graph) -> Graph:
    """Replace carries whose value does not depend on them by delays of that value.

    Kinds are inferred again, since a carry may have a wider one than its value.
    """
    within = loop_of(graph)
    delays = {
        id: replace(node, op="delay", inputs=(graph.carries[id],))
        for id, node in graph.nodes.items()
        if id in graph.carries and id not in within
    }
    if not delays:
        return graph
    carries = {id: source for id, source in graph.carries.items() if id in within}
    nodes = {id: delays.get(id, node) for id, node in graph.nodes.items()}
    import networkx as nx  # late: only needed with loops

    flow: nx.DiGraph[int] = nx.DiGraph()
    flow.add_nodes_from(nodes)
    flow.add_edges_from((i, node.id) for node in nodes.values() for i in node.inputs)
    place = {id: index for index, id in enumerate(nodes)}
    inferred: dict[int, Node] = {}
    inference = Inference(graph.neurons, inferred)
    for id in nx.lexicographical_topological_sort(flow, place.__getitem__):
        node = nodes[id]
        if node.op != "input" and id not in carries:
            node = replace(node, value=inference.value(node.op, node.attrs, node.inputs))
        inferred[id] = node
    return replace(graph, nodes=inferred, carries=carries)
