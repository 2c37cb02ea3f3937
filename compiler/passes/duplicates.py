"""Merging of equal nodes."""

from __future__ import annotations

from danetc.compiler.ir.at_node import has_own_state
from danetc.compiler.ir.graph import Graph
from danetc.compiler.ir.rewriter import Rewriter
from danetc.dsl.record import record


@record(slots=False)
class MergeDuplicates:
    """Merges nodes with equal operations, attributes and operands.

    Nodes with weights or random numbers are never merged.
    """

    name = "merge-duplicates"
    order_kept = True

    def apply(self, graph: Graph) -> Graph:
        seen: dict[object, int] = {}
        rewriter = Rewriter(graph)
        for node in graph.nodes.values():
            operands = tuple(rewriter.mapping[i] for i in node.inputs)
            if not node.inputs or has_own_state(graph, node):
                rewriter.keep(node, operands)
                continue
            key = (node.op, operands, tuple(sorted(node.attrs.items())))
            if key in seen:
                rewriter.mapping[node.id] = seen[key]
            else:
                seen[key] = rewriter.keep(node, operands)
        return rewriter.finish()
