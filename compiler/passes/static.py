"""Values that do not vary over time are computed once."""

from __future__ import annotations

from collections.abc import Container

from danetc.compiler.ir.graph import Graph
from danetc.compiler.ir.ops import OPS
from danetc.compiler.ir.rewriter import Rewriter


def hoist_static(graph: Graph) -> Graph:
    """Move ``repeat`` after every operation that treats time steps alike.

    ``op(repeat(x)) = repeat(op(x))``. Neurons, joins and means over time can read a static value. For
    norms per step, operations that mix steps, and outputs, the value is repeated before them.
    Operations with random numbers are not moved, since they draw new numbers at each step. In
    training a norm uses the statistics of one step instead of those of T equal steps, which are the
    same up to rounding. Layers with shared weights are one module, so that all of them or none are
    moved.
    """
    kept: set[int] = set()
    while True:
        result, static = _hoisted(graph, kept)
        separated = {
            id
            for pair in graph.shares.items()
            if len(static.intersection(pair)) == 1
            for id in pair
        }
        if not separated:
            return result
        kept |= separated


def _hoisted(graph: Graph, kept: Container[int]) -> tuple[Graph, set[int]]:
    """Return the graph and the old nodes with one copy; nodes in ``kept`` stay at each step."""
    rewriter = Rewriter(graph)
    static: set[int] = set()
    repeated: dict[int, int] = {}

    def at_each_step(old: int) -> int:
        """Return the new node of an old one, with as many copies."""
        new = rewriter.mapping[old]
        if old not in static:
            return new
        if new not in repeated:
            repeated[new] = rewriter.new("repeat", (new,), {}, rewriter.nodes[new])
        return repeated[new]

    for node in graph.nodes.values():
        inputs = tuple(rewriter.mapping[i] for i in node.inputs)
        if node.op == "repeat":
            rewriter.mapping[node.id] = inputs[0]
            static.add(node.id)
            continue
        row, free = OPS[node.op], node.id not in kept
        constant = bool(inputs) and not any(rewriter.nodes[i].value.varies for i in inputs)
        timeless = row.time == "pointwise" and not row.per_step(node.attrs) and not row.random
        if row.time == "neuron":
            timeless = not graph.program(node).varies
        reads_static = len(inputs) > 1 or row.time in ("neuron", "reduces", "creates", "constant")
        if constant and timeless and node.value.varies and free:
            static.add(node.id)
        elif row.takes_steps or not free or not reads_static:
            inputs = tuple(map(at_each_step, node.inputs))
        rewriter.keep(node, inputs)
    outputs = {name: at_each_step(id) for name, id in graph.outputs.items()}
    return rewriter.finish(outputs), static
