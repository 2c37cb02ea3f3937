"""The answer to ``danetc/draw``: the picture of the network at a position, for a preview beside the text.

``editors/vscode/src/protocol.ts`` has what is asked and answered; any client may ask.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Protocol

from danetc.compiler.draw import LEVELS, THEMES
from danetc.compiler.draw.theme import Theme
from danetc.dsl.syntax.source import SourceFile, Span
from danetc.editor.analysis import Analysis
from danetc.editor.boxes import BoxPlaces
from danetc.editor.preview import preview

DRAW = "danetc/draw"


class Client(Protocol):
    """How places are said to whoever asks."""

    def range(self, span: Span) -> object: ...
    def uri(self, source: SourceFile) -> str: ...


async def answer(
    client: Client, analysis: Analysis, offset: int, level: str, theme: str, network: str | None
) -> Mapping[str, object]:
    """Draw in a thread: what is typed does not wait for it."""
    known: Theme = next((each for each in THEMES if each == theme), "auto")
    _ = analysis.survey  # worked out here, since it is kept and is not for two threads at once
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
    """The places of a box; a bare name is one where there is no other."""
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
