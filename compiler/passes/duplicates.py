"""Merging of nodes that compute the same from the same."""

from __future__ import annotations

from dataclasses import dataclass

from danetc.compiler.ir.graph import Graph, Node
from danetc.compiler.ir.ops import OPS
from danetc.compiler.ir.rewriter import Rewriter


@dataclass(frozen=True)
class MergeDuplicates:
    """Two nodes are one if op, attributes and operands are the same.

    What has weights of its own or draws random numbers is never merged.
    """

    name = "merge-duplicates"
    order_kept = True

    def apply(self, graph: Graph) -> Graph:
        seen: dict[object, int] = {}
        rewriter = Rewriter(graph)
        for node in graph.nodes.values():
            operands = tuple(rewriter.mapping[i] for i in node.inputs)
            if _has_own_state(node, graph):
                rewriter.keep(node, operands)
                continue
            key = (node.op, operands, tuple(sorted(node.attrs.items())))
            if key in seen:
                rewriter.mapping[node.id] = seen[key]
            else:
                seen[key] = rewriter.keep(node, operands)
        return rewriter.finish()


def _has_own_state(node: Node, graph: Graph) -> bool:
    row = OPS[node.op]
    if row.random or node.op == "input":
        return True
    if node.op == "neuron":
        return bool(graph.program(node).learnables)
    return bool(row.weights(node.attrs, tuple(item.value for item in graph.inputs_of(node))))
