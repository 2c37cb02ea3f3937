"""Passes: each takes a graph and gives a graph that computes the same.

One pass a file, one contract: ``name``, ``order_kept`` (whether the arithmetic keeps its order, so
that results stay the same bit for bit) and ``apply``. ``PIPELINE`` is what a build runs, in order;
``verify`` runs after each that has changed anything.
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
    """A rewriting of a graph. Frozen; its fields are its options."""

    @property
    def name(self) -> str: ...
    @property
    def order_kept(self) -> bool:
        """Whether forward results stay the same bit for bit."""
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
"""What comes before the first pass, where the steps of a compilation are named."""


def steps(graph: Graph, passes: Iterable[Pass] = PIPELINE) -> Iterator[tuple[str, Graph]]:
    """The graph as it was lowered and after each pass, with the name of what was done last.

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
    """The graph after these passes. Raises ``SpecError`` and ``InvariantError``."""
    ((_, last),) = deque(steps(graph, passes), maxlen=1)
    return last
