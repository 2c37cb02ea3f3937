"""rich's console, for tables and bars."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from danetc.dsl.visible import visible_lines


class VisibleConsole(Console):
    """Shows texts as they are: no markup, no emoji codes, no control characters.

    Only what rich itself sends (colours, movements of the cursor) reaches a terminal.
    """

    def __init__(self, file: TextIO, width: int | None = None) -> None:
        super().__init__(file=file, width=width, markup=False, emoji=False, highlight=False)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            if segment.control:
                yield segment
            else:
                yield Segment(visible_lines(segment.text), segment.style)
