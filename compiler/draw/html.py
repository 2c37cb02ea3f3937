"""HTML of a network for notebooks: its picture, and the facts of ``danetc summary`` below."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from html import escape

from danetc.compiler.analysis.summary import NOTES, lines, stage_table, summarise
from danetc.compiler.draw import DEFAULT_LEVEL, GraphvizError, draw
from danetc.compiler.ir.graph import Graph
from danetc.dsl.diagnostics.visible import visible


def to_html(graph: Graph, level: str = DEFAULT_LEVEL) -> str:
    """Return a fragment of HTML, without a picture (and with a warning) if Graphviz is missing.

    Raises DrawError for a level on which the network has nothing to show.
    """
    try:
        picture = draw(graph, level).decode("utf-8")
        picture = picture[picture.index("<svg") :]  # without the XML declaration
    except GraphvizError as error:
        warnings.warn(f"there is no picture of {graph.name}: {error}", stacklevel=2)
        picture = ""
    summary = summarise(graph)
    table = stage_table(summary)
    facts = [(name, value) for name, value in lines(summary)]
    stages = (
        f"{_table(table.heads, table.rows, table.right)}<p>{'<br>'.join(map(_text, NOTES))}</p>"
        if table.rows
        else ""
    )
    return (
        f'<div style="overflow-x: auto">{picture}</div>'
        f"<details><summary>{_text(graph.name)}, T = {graph.steps}: {summary.parameters:,} "
        f"parameters</summary>{stages}{_table((), facts, frozenset())}</details>"
    )


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], right: frozenset[int]) -> str:
    def row(cells: Sequence[str], tag: str) -> str:
        aligned = (
            f'<{tag} style="text-align: {"right" if place in right else "left"}">{_text(cell)}</{tag}>'
            for place, cell in enumerate(cells)
        )
        return f"<tr>{''.join(aligned)}</tr>"

    head = f"<thead>{row(heads, 'th')}</thead>" if heads else ""
    return f"<table>{head}<tbody>{''.join(row(cells, 'td') for cells in rows)}</tbody></table>"


def _text(text: str) -> str:
    return escape(visible(text))
