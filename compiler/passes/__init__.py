"""Passes: each returns a graph that computes the same as its input.

A build runs the passes of ``PIPELINE`` in order, and ``verify`` after each pass that changes the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from danetc.compiler.analysis.verify import verify
from danetc.compiler.ir.graph import Graph
from danetc.compiler.passes.simplify import merge_duplicates, order_products, remove_dead
from danetc.compiler.passes.static import hoist_static
from danetc.dsl.record import record


@record
class Pass:
    """A rewriting of a graph. If ``order_kept`` is True, forward results are bit-identical."""

    name: str
    apply: Callable[[Graph], Graph]
    order_kept: bool = True


PIPELINE = (
    Pass("order-products", order_products),
    Pass("remove-dead", remove_dead),
    Pass("merge-duplicates", merge_duplicates),
    Pass("hoist-static", hoist_static, order_kept=False),
)


def run(graph: Graph, passes: Iterable[Pass] = PIPELINE) -> Graph:
    """Return the graph after these passes. Raises ``SpecError`` and ``InvariantError``."""
    verify(graph)
    for item in passes:
        before, graph = graph, item.apply(graph)
        if graph != before:
            verify(graph, after=item.name)
    return graph
