"""Rewriting of graphs by passes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from danetc.compiler.ir.graph import Attribute, Block, Graph, Node, shares_among, unique
from danetc.compiler.ir.inference import Inference
from danetc.compiler.ir.ops import OPS


class Rewriter:
    """Rebuilds a graph node by node. A pass maps each old node to a node of the new graph.

    Values after a change are inferred again.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: dict[int, Node] = {}
        self.mapping: dict[int, int] = {}
        self.inference = Inference(graph.neurons, self.nodes)
        self._changed: set[int] = set()  # nodes whose values may have changed
        self._next = max(graph.nodes, default=-1) + 1
        self._paths = graph.paths()

    def keep(self, node: Node, inputs: Iterable[int] | None = None) -> int:
        """Copy a node under its own id, with new inputs if given."""
        operands = (
            tuple(inputs) if inputs is not None else tuple(self.mapping[i] for i in node.inputs)
        )
        if operands != node.inputs or not self._changed.isdisjoint(operands):
            value = self.inference.value(node.op, node.attrs, operands)
            if value != node.value or OPS[node.op].numbers is not None:
                self._changed.add(node.id)
            node = replace(node, inputs=operands, value=value)
        self.nodes[node.id] = node
        self.mapping[node.id] = node.id
        return node.id

    def new(
        self, op: str, inputs: tuple[int, ...], attrs: Mapping[str, Attribute], like: Node
    ) -> int:
        """Add a new node in the scope and with the origin of ``like``."""
        id = self._next
        self._next += 1
        name = unique(op, lambda candidate: (*like.scope, candidate) in self._paths)
        self._paths.add((*like.scope, name))
        value = self.inference.value(op, attrs, inputs)
        self._changed.add(id)
        self.nodes[id] = Node(id, op, inputs, attrs, value, like.scope, name, like.origin)
        return id

    def finish(self, outputs: Mapping[str, int] | None = None) -> Graph:
        """Return the rewritten graph, without the stages of which a node was removed."""
        to = self.mapping

        def moved(b: Block) -> Block:
            cut = b.shortcut and (to[b.shortcut[0]], b.shortcut[1])
            return replace(b, input=to[b.input], output=to[b.output], join=to[b.join], shortcut=cut)

        stages = tuple(
            replace(s, entry=to[s.entry], result=to[s.result], blocks=tuple(map(moved, s.blocks)))
            for s in self.graph.stages
            if to.keys() >= s.nodes()
        )
        return replace(
            self.graph,
            nodes=self.nodes,
            outputs=outputs or {name: to[id] for name, id in self.graph.outputs.items()},
            stages=stages,
            stem_output=to[self.graph.stem_output],
            carries={to[id]: to[source] for id, source in self.graph.carries.items() if id in to},
            shares=shares_among(self.graph.shares, self.nodes),
        )


def rewritten(
    graph: Graph, change: Callable[[Rewriter, Node, tuple[int, ...]], int | None]
) -> Graph:
    """Return the graph in which ``change`` replaces nodes.

    It is called with each node and its new operands, and returns a new node, or None to keep the node.
    """
    rewriter = Rewriter(graph)
    for node in graph.nodes.values():
        inputs = tuple(rewriter.mapping[i] for i in node.inputs)
        made = change(rewriter, node, inputs)
        rewriter.mapping[node.id] = rewriter.keep(node, inputs) if made is None else made
    return rewriter.finish()
