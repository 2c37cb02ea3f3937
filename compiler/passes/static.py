"""Computation of values that do not vary over time only once."""

from __future__ import annotations

from collections.abc import Container

from danetc.compiler.ir.graph import Graph
from danetc.compiler.ir.ops import OPS
from danetc.compiler.ir.rewriter import Rewriter


def hoist_static(graph: Graph) -> Graph:
    """Move ``repeat`` after every operation that treats all time steps alike.

    ``op(repeat(x)) = repeat(op(x))``. Neurons, joins and means over time can read a static value;
    the value is repeated for norms per step, operations that mix steps, and outputs. Operations with
    random numbers are not moved, because they draw new numbers at each step. In training, a norm
    then uses the statistics of one step, which equal those of T equal steps up to rounding. Layers
    that share weights are one module, so either all or none of them are moved.
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
    """Return the graph, and the ids of hoisted nodes; nodes in ``kept`` are not hoisted."""
    rewriter = Rewriter(graph)
    static: set[int] = set()
    repeated: dict[int, int] = {}

    def at_each_step(old: int) -> int:
        """Return the new node for an old one, repeated if the old one varies over time."""
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
