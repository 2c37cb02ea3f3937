"""HTML of a network for notebooks: its picture, and the text of ``danetc summary`` below."""

from __future__ import annotations

import warnings
from html import escape

from danetc.compiler.analysis.summary import summarise
from danetc.compiler.draw import DEFAULT_LEVEL, GraphvizError, draw
from danetc.compiler.ir.graph import Graph
from danetc.dsl.diagnostics.visible import visible


def to_html(graph: Graph, level: str = DEFAULT_LEVEL) -> str:
    """Return a fragment of HTML. Warns and omits the picture if Graphviz is missing.

    Raises DrawError if the network has nothing to show on the level.
    """
    try:
        picture = draw(graph, level).decode("utf-8")
        picture = picture[picture.index("<svg") :]  # without the XML declaration
    except GraphvizError as error:
        warnings.warn(f"there is no picture of {graph.name}: {error}", stacklevel=2)
        picture = ""
    title, *lines = map(visible, str(summarise(graph)).split("\n"))
    text = escape("\n".join(lines))
    return (
        f'<div style="overflow-x: auto">{picture}</div>'
        f"<details><summary>{escape(title)}</summary><pre>{text}</pre></details>"
    )
