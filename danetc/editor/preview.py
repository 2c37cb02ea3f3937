"""Answer to ``danetc/draw``: the picture of the network at the cursor, with the places of its boxes.

``editors/vscode/src/protocol.ts`` declares the request and the answer; any client may send it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from danetc.compiler.draw import DEFAULT_LEVEL, LEVELS, THEMES, DrawError
from danetc.compiler.draw import draw as draw_graph
from danetc.compiler.draw.theme import Theme
from danetc.compiler.passes import run
from danetc.dsl.syntax.source import SourceFile, Span
from danetc.editor.analysis import Analysis
from danetc.editor.boxes import BoxPlaces, box_places


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

    Never raises for the content of the text. An unknown level means the default.
    """
    level = level if level in LEVELS else DEFAULT_LEVEL
    checked = analysis.survey.checked
    if checked is None:
        return Preview(level=level, problem=_errors(analysis))
    own = checked.module.own
    networks = {name: own[name].span for name in checked.networks}
    if not networks:
        return Preview(level=level, problem="This file declares no network.")
    around = (name for name, span in networks.items() if span.start <= offset <= span.end)
    chosen = next(around, network if network in networks else next(iter(networks)))
    assert chosen is not None
    graph = run(checked.lowered[chosen].graph)
    try:
        svg = draw_graph(graph, level, "svg", theme).decode("utf-8")
        boxes = box_places(checked, chosen, graph, level)
    except DrawError as error:
        return Preview(networks, chosen, level, problem=f"{error}.")
    return Preview(networks, chosen, level, svg, boxes)


def _errors(analysis: Analysis) -> str:
    errors = analysis.survey.errors
    first = errors[0]
    more = f" and {len(errors) - 1} more" if len(errors) > 1 else ""
    where = f"Line {first.span.line}" if first.span.source is analysis.source else str(first.span)
    return f"{where}: {first.message}{more}"


DRAW = "danetc/draw"


class Client(Protocol):
    """Converts places for the client."""

    def range(self, span: Span) -> object: ...
    def uri(self, source: SourceFile) -> str: ...


async def answer(
    client: Client, analysis: Analysis, offset: int, level: str, theme: str, network: str | None
) -> Mapping[str, object]:
    """Draw in a thread, so that typing does not wait."""
    known: Theme = next((each for each in THEMES if each == theme), "auto")
    _ = analysis.survey  # computed here, because it is cached and not thread-safe
    found = await asyncio.to_thread(preview, analysis, offset, level, known, network)
    networks = [
        {"name": name, "range": client.range(span)} for name, span in found.networks.items()
    ]
    boxes = {key: _box(client, places) for key, places in found.boxes.items()}
    return {
        "networks": networks,
        "network": found.network,
        "levels": [*LEVELS],
        "level": found.level,
        "svg": found.svg,
        "boxes": boxes,
        "problem": found.problem,
    }


def _box(client: Client, places: BoxPlaces) -> Mapping[str, object]:
    """Return the places of a box; the name of a declaration only without another place."""
    place, written = places.place, places.written
    if written is not None and places.named:
        place = None
    return {
        "place": None if place is None else client.range(place),
        "written": None
        if written is None
        else {"uri": client.uri(written.source), "range": client.range(written)},
        "spans": [client.range(span) for span in places.spans],
    }
