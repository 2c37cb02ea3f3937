"""The cheaper order of products, if it gives the same result."""

from __future__ import annotations

from dataclasses import replace

from danetc.compiler.ir.graph import Graph
from danetc.compiler.ir.ops import OPS
from danetc.compiler.ir.rewriter import Rewriter
from danetc.dsl.record import record


@record(slots=False)
class OrderProducts:
    """Rewrites ``(q k^T) v`` to ``q (k^T v)`` if that needs fewer operations and is exact.

    It is exact for queries, keys and values that are integers small enough for sums in float32. In
    another precision the model itself returns to the order of the spec. The first product is then
    dead.
    """

    name = "order-products"
    order_kept = True

    def apply(self, graph: Graph) -> Graph:
        rewriter = Rewriter(graph)
        users = graph.users()
        given = set(graph.outputs.values())
        for node in graph.nodes.values():
            row = OPS[node.op].regrouped
            before = graph[node.inputs[0]] if node.inputs else node
            alone = len(users[before.id]) == 1 and before.id not in given
            if row is None or before.op != row.before or not alone:
                rewriter.keep(node)
                continue
            inputs = tuple(rewriter.mapping[i] for i in (*before.inputs, *node.inputs[1:]))
            values = tuple(rewriter.nodes[i].value for i in inputs)
            if row.gains(before.attrs, node.attrs, values):
                attrs = row.attrs(before.attrs, node.attrs)
                rewriter.mapping[node.id] = rewriter.new(row.into, inputs, attrs, node)
            else:
                rewriter.keep(node)
        return rewriter.finish()


def in_the_order_of_the_spec(graph: Graph) -> Graph:
    """Return the graph with ``q (k^T v)`` as the two operations of the spec, the second under its
    id."""
    made_of = {row.regrouped.into: name for name, row in OPS.items() if row.regrouped is not None}
    if not any(node.op in made_of for node in graph.nodes.values()):
        return graph
    rewriter = Rewriter(graph)
    for node in graph.nodes.values():
        if node.op not in made_of:
            rewriter.keep(node)
            continue
        second = made_of[node.op]
        way = OPS[second].regrouped
        assert way is not None
        count = OPS[way.before].operands[0]
        inputs = tuple(rewriter.mapping[i] for i in node.inputs)
        attrs = [
            {item.name: node.attrs[item.name] for item in OPS[op].parameters}
            for op in (way.before, second)
        ]
        first = rewriter.new(way.before, inputs[:count], attrs[0], node)
        rewriter.keep(replace(node, op=second, attrs=attrs[1]), (first, *inputs[count:]))
    return rewriter.finish()
