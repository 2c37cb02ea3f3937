"""The picture of the network at the cursor, with the places of its boxes in the text.

The request ``danetc/draw`` and its response are declared in ``editors/vscode/src/protocol.ts``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from danetc.compiler.draw import DEFAULT_LEVEL, LEVELS, DrawError, draw_with_members
from danetc.compiler.draw.theme import Theme
from danetc.compiler.frontend.program import Checked
from danetc.compiler.ir.graph import Graph
from danetc.compiler.passes import run
from danetc.dsl.syntax.source import Span
from danetc.editor.analysis import Analysis


@dataclass(frozen=True)
class BoxPlaces:
    """Places of a box, for clicks on it and for highlighting it at the cursor.

    ``place`` is a span in this file, ``written`` a span in another file. The box at the
    cursor is the one with the shortest of its ``spans`` (in the file itself) around the cursor.
    """

    place: Span | None
    written: Span | None
    spans: tuple[Span, ...]


@dataclass(frozen=True)
class Preview:
    """A picture (SVG), or the ``problem`` that prevents it, and the networks of the file.

    The keys of ``boxes`` are ids in the SVG.
    """

    networks: Mapping[str, Span] = field(default_factory=dict)
    network: str = ""
    level: str = DEFAULT_LEVEL
    svg: str = ""
    boxes: Mapping[str, BoxPlaces] = field(default_factory=dict)
    problem: str = ""


def preview(
    analysis: Analysis,
    offset: int,
    level: str = DEFAULT_LEVEL,
    theme: Theme = "auto",
    network: str | None = None,
) -> Preview:
    """Draw the network at an offset, else ``network``, else the first of the file.

    Errors in the text are returned as the ``problem``. An unknown level means the default level.
    """
    level = level if level in LEVELS else DEFAULT_LEVEL
    checked = analysis.survey.checked
    if checked is None:
        first, *more = analysis.survey.errors
        own = first.span.source is analysis.source
        problem = f"{f'Line {first.span.line}' if own else first.span}: {first.message}"
        return Preview(level=level, problem=problem + (f" and {len(more)} more" if more else ""))
    networks = {name: checked.declaration(name).span for name in checked.networks}
    if not networks:
        return Preview(level=level, problem="This file declares no network.")
    around = (name for name, span in networks.items() if span.start <= offset <= span.end)
    chosen = next(around, network if network in networks else next(iter(networks)))
    assert chosen is not None
    try:
        svg, boxes = draw_places(checked, chosen, run(checked.graphs[chosen]), level, theme)
    except DrawError as error:
        return Preview(networks, chosen, level, problem=f"{error}.")
    return Preview(networks, chosen, level, svg, boxes)


def draw_places(
    checked: Checked, network: str, graph: Graph, level: str, theme: Theme
) -> tuple[str, Mapping[str, BoxPlaces]]:
    """Draw the graph of a network after the passes, and return the places of its boxes by key.

    On the levels ``network`` and ``stage`` a box of a stage leads to the call of the stage. Raises
    DrawError.
    """
    svg, members = draw_with_members(graph, level, theme)
    lowered, source = checked.lowered[network], checked.module.source
    boxes = {}
    for key, ids in members.items():
        spans: dict[Span, None] = {}
        for node in (graph[id] for id in ids):
            found = [lowered.written_at.get(node.id), node.origin, lowered.used.get(node.id)]
            scopes = ((node.scope[: len(stage.scope)], stage) for stage in graph.stages)
            calls = [stage.origin for scope, stage in scopes if scope == stage.scope]
            whole = level in ("network", "stage")
            spans |= dict.fromkeys(
                span
                for span in ([*calls, *found] if whole else [*found, *calls])
                if span is not None and span.start < span.end
            )
        own = tuple(span for span in spans if span.source is source)
        written = next((span for span in spans if span.source is not source), None)
        if spans:
            boxes[key] = BoxPlaces(next(iter(own), None), written, own)
    return svg, boxes
