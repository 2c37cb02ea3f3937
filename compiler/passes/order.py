"""The cheaper order of products, where it gives the same."""

from __future__ import annotations

from dataclasses import replace

from danetc.compiler.ir.graph import Graph
from danetc.compiler.ir.ops import OPS
from danetc.compiler.ir.rewriter import Rewriter
from danetc.dsl.record import record


@record(slots=False)
class OrderProducts:
    """``(q k^T) v`` becomes ``q (k^T v)`` where that takes fewer operations and is exact.

    It is where queries, keys and values are whole numbers so small that float32 has every sum; in a
    precision that has not, the model itself goes back to the order of the spec. The first product is
    dead then.
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
    """``q (k^T v)`` as the two operations that it is written as, the second under its id."""
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
