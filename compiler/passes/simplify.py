"""Passes that compute less: unread nodes, equal values, and the order of attention's products."""

from __future__ import annotations

from danetc.compiler.ir.at_node import has_own_state
from danetc.compiler.ir.graph import Graph, Node
from danetc.compiler.ir.ops.attention import is_exact, is_shorter
from danetc.compiler.ir.ops.row import whole
from danetc.compiler.ir.rewriter import Rewriter, rewritten


def order_products(graph: Graph) -> Graph:
    """Compute ``(q k^T) v`` as ``q (k^T v)`` if that needs fewer operations and is exact.

    It is exact for queries, keys and values that are integers small enough for sums in float32. In
    another precision the model itself returns to the order of the spec. The first product is then
    dead.
    """
    users = graph.users()
    given = set(graph.outputs.values())

    def change(rewriter: Rewriter, node: Node, inputs: tuple[int, ...]) -> int | None:
        before = graph[node.inputs[0]] if node.inputs else node
        alone = len(users[before.id]) == 1 and before.id not in given
        if node.op != "mix" or before.op != "scores" or not alone:
            return None
        taken = tuple(rewriter.mapping[i] for i in (*before.inputs, *node.inputs[1:]))
        heads = whole(before.attrs, "heads")
        q, k, v = (rewriter.nodes[i].value for i in taken[:3])
        if is_shorter(heads, q, k, v) and is_exact(heads, q, k, v):
            return rewriter.new("keys_first", taken, before.attrs, node)
        return None

    return rewritten(graph, change)


def remove_dead(graph: Graph) -> Graph:
    """Keep the inputs and all nodes that outputs depend on. A stage that loses a node is dropped."""
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


def merge_duplicates(graph: Graph) -> Graph:
    """Compute equal values once. Nodes with weights or random numbers are never merged.

    Sums are computed from left to right, so ``a + b + c`` becomes ``(a + b) + c``, and sums with a
    common beginning share it: a dense stage of n blocks needs O(n) additions instead of O(n^2). In the
    backward pass the gradients of a shared prefix add up in another order (1e-12 in float64).
    """
    seen: dict[tuple[object, ...], int] = {}

    def change(rewriter: Rewriter, node: Node, inputs: tuple[int, ...]) -> int | None:
        if not inputs or has_own_state(graph, node):
            return None
        if node.op == "add":
            total = inputs[0]
            for operand in inputs[1:-1]:
                pair = (total, operand)
                if ("add", pair, ()) not in seen:
                    seen["add", pair, ()] = rewriter.new("add", pair, {}, node)
                total = seen["add", pair, ()]
            inputs = (total, inputs[-1])
        key = (node.op, inputs, tuple(sorted(node.attrs.items())))
        if key not in seen:
            seen[key] = rewriter.keep(node, inputs)
        return seen[key]

    return rewritten(graph, change)
