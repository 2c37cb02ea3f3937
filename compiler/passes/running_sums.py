"""Dense sums as running sums: O(n) additions in a stage of n blocks instead of O(n^2)."""

from __future__ import annotations

from danetc.compiler.ir.graph import Graph
from danetc.compiler.ir.rewriter import Rewriter
from danetc.dsl.record import record


@record(slots=False)
class RunningSums:
    """Rewrites ``a + b + c`` to ``(a + b) + c`` and computes every prefix once.

    Forward results are bit-identical because sums are computed from left to right. In the backward pass the
    gradients of a shared prefix add up in another order (1e-12 in float64).
    """

    name = "running-sums"
    order_kept = True

    def apply(self, graph: Graph) -> Graph:
        rewriter = Rewriter(graph)
        prefixes: dict[tuple[int, int], int] = {}
        for node in graph.nodes.values():
            operands = tuple(rewriter.mapping[i] for i in node.inputs)
            if node.op != "add":
                rewriter.keep(node, operands)
                continue
            total = operands[0]
            for index, operand in enumerate(operands[1:], 1):
                last = index == len(operands) - 1
                known = prefixes.get((total, operand))
                if known is not None:
                    total = known
                    continue
                key = (total, operand)
                total = rewriter.keep(node, key) if last else rewriter.new("add", key, {}, node)
                prefixes[key] = total
            rewriter.mapping[node.id] = total
        return rewriter.finish()
