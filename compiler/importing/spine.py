"""The values that everything of a network goes through, and what lies between two of them."""

from __future__ import annotations

from itertools import pairwise

from danetc.compiler.importing.layers import JOINS
from danetc.compiler.ir.graph import Graph, Node
from danetc.compiler.ir.ops import OPS
from danetc.dsl.record import record


@record(slots=False)
class SingleStep:
    """An operation on one value, by itself."""

    node: Node


@record(slots=False)
class Region:
    """Nodes between two values: everything goes in at ``entry`` and comes out at ``exit``, which is
    one of ``nodes``."""

    entry: int
    exit: int
    nodes: tuple[int, ...]


Part = SingleStep | Region


def spine(graph: Graph, source: int, target: int) -> tuple[Part, ...]:
    """What a value goes through on its way: cut wherever one value carries everything.

    A value is one that all paths go through (it dominates the output and is dominated by the input):
    no edge leads from a node before it to one behind it, and no loop over time around it. What depends
    on no input is not asked.
    """
    reached, before = {source}, 0
    while len(reached) > before:
        before = len(reached)
        for node in graph.nodes.values():
            if any(i in reached for i in graph.reads(node)):
                reached.add(node.id)
    wanted = graph.behind([target])
    order = [id for id in graph.nodes if id in reached and id in wanted]
    place = {id: number for number, id in enumerate(order)}
    last = dict.fromkeys(order, -1)
    for id in order:
        for i in graph[id].inputs:
            if i in place:
                last[i] = max(last[i], place[id])
        if id in graph.carries:
            last[id] = max(last[id], place[graph.carries[id]])
    cuts: list[int] = []
    furthest = 0  # the last place that reads something from before
    for number, id in enumerate(order):
        if furthest <= number and graph[id].op != "beside":  # which a neuron alone reads
            cuts.append(id)
        furthest = max(furthest, last[id])
    parts: list[Part] = []
    for a, b in pairwise(cuts):
        parts.append(_part(graph, a, b, order[place[a] + 1 : place[b] + 1], reached))
    return tuple(parts)


def _part(graph: Graph, entry: int, exit: int, nodes: list[int], reached: set[int]) -> Part:
    node = graph[exit]
    alone = len(nodes) == 1 and len(node.inputs) == 1 and node.op not in JOINS
    if alone and not OPS[node.op].arguments:
        return SingleStep(node)
    inside = [i for id in nodes for i in graph[id].inputs if i not in reached]
    return Region(entry, exit, (*sorted(graph.behind(inside)), *nodes) if inside else (*nodes,))
