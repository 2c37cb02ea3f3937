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
    boxes = {
        key: {
            "place": None if places.place is None else client.range(places.place),
            "written": None if places.written is None else _location(client, places.written),
            "spans": [client.range(span) for span in places.spans],
        }
        for key, places in found.boxes.items()
    }
    return {
        "networks": networks,
        "network": found.network,
        "levels": [*LEVELS],
        "level": found.level,
        "svg": found.svg,
        "boxes": boxes,
        "problem": found.problem,
    }


def _location(client: Client, span: Span) -> Mapping[str, object]:
    return {"uri": client.uri(span.source), "range": client.range(span)}
