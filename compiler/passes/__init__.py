"""Passes: each returns a graph that computes the same as its input.

A pass is a file with ``name``, ``order_kept`` (True if the order of the arithmetic, and so every bit
of the results, stays the same) and ``apply``. A build runs the passes of ``PIPELINE`` in order, and
``verify`` after each pass that changes the graph.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Protocol

from danetc.compiler.analysis.verify import verify
from danetc.compiler.ir.graph import Graph
from danetc.compiler.passes.dead import RemoveDead
from danetc.compiler.passes.duplicates import MergeDuplicates
from danetc.compiler.passes.order import OrderProducts
from danetc.compiler.passes.running_sums import RunningSums
from danetc.compiler.passes.static import HoistStatic


class Pass(Protocol):
    """A rewriting of a graph."""

    @property
    def name(self) -> str: ...
    @property
    def order_kept(self) -> bool:
        """True if forward results are bit-identical."""
        ...

    def apply(self, graph: Graph) -> Graph: ...


PIPELINE: tuple[Pass, ...] = (
    OrderProducts(),
    RemoveDead(),
    MergeDuplicates(),
    RunningSums(),
    HoistStatic(),
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
