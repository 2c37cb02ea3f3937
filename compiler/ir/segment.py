"""Parts of a graph as graphs, which are emitted and run to check a claim on a part.

They have no stages, since a part of a stage need not obey its rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from danetc.compiler.ir.graph import Graph, shares_among


class SegmentError(ValueError):
    """Raised if a node of a part reads a value from outside."""


def segment(graph: Graph, source: int, outputs: Mapping[str, int]) -> Graph:
    """Return the graph between a node, which becomes the input, and others.

    ``outputs`` are nodes by the names of the new graph's outputs; the source may be one. Nodes keep
    their ids, paths and attributes, so that modules have the same names. Raises SegmentError if a
    node in between depends on another value than the source.
    """
    behind = {source}
    for node in graph.nodes.values():
        if any(i in behind for i in node.inputs):
            behind.add(node.id)
    wanted = set(outputs.values())
    for node in reversed(list(graph.nodes.values())):
        if node.id in wanted and node.id != source:
            outside = next((i for i in node.inputs if i not in behind), None)
            if node.id not in behind or outside is not None:
                value = graph[node.id if outside is None else outside].path
                raise SegmentError(f"`{node.path}` reads `{value}`, which lies outside")
            wanted.update(node.inputs)
    wanted.add(source)
    first = replace(
        graph[source], op="input", inputs=(), attrs={"events": graph[source].value.varies}
    )
    nodes = {source: first}
    nodes |= {id: node for id, node in graph.nodes.items() if id in wanted and id != source}
    return replace(
        graph,
        nodes=nodes,
        outputs=dict(outputs),
        stages=(),
        stem_output=source,
        carries={},
        shares=shares_among(graph.shares, nodes),
    )
