"""Removal of nodes that no output depends on."""

from __future__ import annotations

from danetc.compiler.ir.graph import Graph
from danetc.compiler.ir.rewriter import Rewriter
from danetc.dsl.record import record


@record(slots=False)
class RemoveDead:
    """Keeps the inputs and all nodes that outputs depend on.

    A stage whose result or inputs are gone is dropped.
    """

    name = "remove-dead"
    order_kept = True

    def apply(self, graph: Graph) -> Graph:
        live = graph.behind(
            [*graph.outputs.values(), *(node.id for node in graph.inputs), graph.stem_output]
        )
        if len(live) == len(graph.nodes):
            return graph
        rewriter = Rewriter(graph)
        for node in graph.nodes.values():
            if node.id in live:
                rewriter.keep(node)
        return rewriter.finish()
