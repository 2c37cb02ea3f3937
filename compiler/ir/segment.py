"""Parts of a graph as graphs, and graphs for other image sizes.

They are emitted and run to check a claim on a part, or at a small size. They have no stages, since a
part of a stage need not obey its rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import prod

from danetc.compiler.ir.at_node import weights
from danetc.compiler.ir.graph import Graph, Node, shares_among
from danetc.compiler.ir.inference import Inference
from danetc.compiler.ir.ops import OPS, Context, OpError


class SegmentError(ValueError):
    """Raised if a node of a part reads a value from outside. ``node`` is the reader."""

    def __init__(self, node: Node, outside: Node) -> None:
        super().__init__(f"`{node.path}` reads `{outside.path}`, which lies outside")
        self.node = node
        self.outside = outside


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
                raise SegmentError(node, graph[outside if outside is not None else node.id])
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


def resized(graph: Graph, height: int, width: int) -> Graph | None:
    """Return the network with the same weights for images of another size, or None.

    None is for weights that depend on the size, loops over time, and inputs of several sizes.
    """
    if graph.carries or graph.packed is None:
        return None
    nodes: dict[int, Node] = {}
    inference = Inference(graph.neurons, nodes)
    for node in graph.nodes.values():
        if node.op == "input":
            if len(node.value.shape) != 3:
                return None
            shape = (node.value.shape[0], height, width)
            nodes[node.id] = replace(node, value=replace(node.value, shape=shape))
            continue
        row, values = OPS[node.op], tuple(nodes[i].value for i in node.inputs)
        try:
            value = inference.value(node.op, node.attrs, node.inputs)
        except OpError:
            return None
        if row.weights(node.attrs, values, Context.of(graph)) != weights(graph, node):
            return None
        nodes[node.id] = replace(node, value=value)
    return replace(graph, nodes=nodes)


def smallest_map(graph: Graph) -> int:
    """Return the smallest number of pixels of a map that a convolution reads."""
    sizes = [
        prod(graph[node.inputs[0]].value.shape[1:])
        for node in graph.nodes.values()
        if OPS[node.op].weighted and node.attrs.get("kernel", 1) != 1
    ]
    return min(sizes, default=1)
