"""Pictures of a network's topology. Needs Graphviz (or ``graphviz-pure``), never torch.

========= ===================================================================================
level     shows
========= ===================================================================================
network   stages
stage     blocks and what feeds each: the dense additions
block     how a block is wired: convolutions, norms, neurons, additions (Fig. 1 of the paper)
op        every operation; adjacent equal blocks are drawn once
neuron    a neuron's equations unrolled in time (Fig. 2)
========= ===================================================================================

A level is a function from a graph to a ``Sheet``, a picture with all positions, which ``engine``
passes to Graphviz. In an SVG the keys of boxes are their ids: an operation on the level ``op`` is
``s0b1n17`` (node 17 of the graph, in block 1 of stage 0), or ``g2n3`` outside of the stages.
``draw_with_members`` also returns the operations of each box.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from danetc.compiler.draw.block import block_level, comparison, op_level
from danetc.compiler.draw.engine import (
    FORMATS,
    DrawError,
    GraphvizError,
    check_engine,
    render,
    use_layout,
)
from danetc.compiler.draw.neuron import neuron_level
from danetc.compiler.draw.sheet import Sheet
from danetc.compiler.draw.stage import network_level, stage_level
from danetc.compiler.draw.theme import Theme
from danetc.compiler.ir.graph import Graph

LEVELS: Mapping[str, Callable[[Graph], Sheet]] = {
    "network": network_level,
    "stage": stage_level,
    "block": block_level,
    "op": op_level,
    "neuron": neuron_level,
}
DEFAULT_LEVEL = "stage"
THEMES: tuple[Theme, ...] = ("auto", "light", "dark")

__all__ = [
    "DEFAULT_LEVEL", "FORMATS", "LEVELS", "THEMES", "DrawError", "GraphvizError", "check_engine",
    "compare", "draw", "draw_with_members", "use_layout",
]  # fmt: skip


def draw(
    graph: Graph, level: str = DEFAULT_LEVEL, kind: str = "svg", theme: Theme = "auto"
) -> bytes:
    """Draw a network on one of ``LEVELS`` as a file in one of ``FORMATS``.

    ``theme="auto"`` is light; such an SVG turns dark if its viewer prefers that.

    Raises DrawError for an unknown level or format, for a level on which the network has nothing
    to show (``block`` without blocks, ``neuron`` without neurons), and if Graphviz is missing or
    fails.
    """
    if level not in LEVELS:
        raise DrawError(f"no level {level}: there are {', '.join(LEVELS)}")
    return render(LEVELS[level](graph), graph.name, kind, theme)


def draw_with_members(
    graph: Graph, level: str = DEFAULT_LEVEL, theme: Theme = "auto"
) -> tuple[str, Mapping[str, tuple[int, ...]]]:
    """Draw a network as SVG, and return the node ids that each box stands for, by the box's key.

    If equal blocks are drawn once, a box stands for the operations of all of them. Boxes without
    operations (titles, junctions, equations of neurons) are left out. Raises DrawError.
    """
    sheet = LEVELS[level](graph)
    svg = render(sheet, graph.name, "svg", theme).decode("utf-8")
    return svg, {box.key: box.nodes for box in sheet.boxes if box.nodes}


def compare(graphs: Sequence[Graph], kind: str = "svg", theme: Theme = "auto") -> bytes:
    """Draw how the blocks of several networks are connected, as in Fig. 1 of the paper. Raises DrawError."""
    return render(comparison(graphs), ", ".join(graph.name for graph in graphs), kind, theme)
