"""Passes: each returns a graph that computes the same as its input.

A build runs the passes of ``PIPELINE`` in order, and ``verify`` after each pass that changes the graph.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator

from danetc.compiler.analysis.verify import verify
from danetc.compiler.ir.graph import Graph
from danetc.compiler.passes.simplify import merge_duplicates, order_products, remove_dead
from danetc.compiler.passes.static import hoist_static
from danetc.dsl.record import record


@record
class Pass:
    """A rewriting of a graph. If ``order_kept``, forward results are bit-identical."""

    name: str
    apply: Callable[[Graph], Graph]
    order_kept: bool = True


PIPELINE = (
    Pass("order-products", order_products),
    Pass("remove-dead", remove_dead),
    Pass("merge-duplicates", merge_duplicates),
    Pass("hoist-static", hoist_static, order_kept=False),
)

LOWERING = "lowering"
"""Name of the step before the first pass."""


def steps(graph: Graph, passes: Iterable[Pass] = PIPELINE) -> Iterator[tuple[str, Graph]]:
    """Yield the graph after lowering and after each pass, with the name of the step.

    Raises ``SpecError`` and ``InvariantError``, as ``verify`` does.
    """
    verify(graph)
    yield LOWERING, graph
    for item in passes:
        before, graph = graph, item.apply(graph)
        if graph != before:
            verify(graph, after=item.name)
        yield item.name, graph


def run(graph: Graph, passes: Iterable[Pass] = PIPELINE) -> Graph:
    """Return the graph after these passes. Raises ``SpecError`` and ``InvariantError``."""
    ((_, last),) = deque(steps(graph, passes), maxlen=1)
    return last
