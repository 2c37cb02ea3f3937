"""Values that do not vary over time are computed once."""

from __future__ import annotations

from collections.abc import Callable, Container

from danetc.compiler.ir.graph import Graph, Node
from danetc.compiler.ir.ops import OPS
from danetc.compiler.ir.rewriter import Rewriter
from danetc.dsl.record import record


@record(slots=False)
class HoistStatic:
    """Moves ``repeat`` after every operation that treats time steps alike.

    ``op(repeat(x)) = repeat(op(x))``. Neurons, joins and means over time can read a static value. For
    norms per step, operations that mix steps, and outputs, the value is repeated before them.
    Operations with random numbers are not moved, since they draw new numbers at each step. In
    training a norm uses the statistics of one step instead of those of T equal steps, which are the
    same up to rounding.
    """

    name = "hoist-static"
    order_kept = False

    def apply(self, graph: Graph) -> Graph:
        """Layers with shared weights are one module, so that all of them or none are moved."""
        kept: set[int] = set()
        while True:
            result, static = self._apply(graph, kept)
            separated = {
                id
                for pair in graph.shares.items()
                if (pair[0] in static) != (pair[1] in static)
                for id in pair
            }
            if not separated:
                return result
            kept |= separated

    def _apply(self, graph: Graph, kept: Container[int]) -> tuple[Graph, set[int]]:
        """Return the graph and the nodes with one copy; nodes in ``kept`` stay at each step."""
        rewriter = Rewriter(graph)
        static: set[int] = set()  # old nodes that no longer have T copies
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
            if node.op == "repeat":
                rewriter.mapping[node.id] = rewriter.mapping[node.inputs[0]]
                static.add(node.id)
            else:
                self._move(node, rewriter, static, at_each_step, node.id in kept)
        return rewriter.finish(
            {name: at_each_step(id) for name, id in graph.outputs.items()}
        ), static

    @staticmethod
    def _move(
        node: Node,
        rewriter: Rewriter,
        static: set[int],
        at_each_step: Callable[[int], int],
        kept: bool,
    ) -> None:
        row = OPS[node.op]
        reads = [rewriter.nodes[rewriter.mapping[i]].value for i in node.inputs]
        constant = bool(reads) and not any(value.varies for value in reads)
        timeless = row.time == "pointwise" and not row.per_step(node.attrs) and not row.random
        if row.time == "neuron":
            timeless = not rewriter.inference.program(node.attrs).varies
        if constant and timeless and node.value.varies and not kept:
            inputs = tuple(rewriter.mapping[i] for i in node.inputs)
            rewriter.keep(node, inputs)
            static.add(node.id)
            return
        joins = len(node.inputs) > 1
        reads_static = joins or row.time in ("neuron", "reduces", "creates", "constant")
        reads_static = reads_static and not row.takes_steps and not kept
        inputs = tuple(
            rewriter.mapping[i] if reads_static or i not in static else at_each_step(i)
            for i in node.inputs
        )
        rewriter.keep(node, inputs)
