"""A summary as people read it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from danetc.compiler.analysis.summary import NOTES, Summary, lines, stage_table
from danetc.dsl.diagnostics.visible import visible
from danetc.output.columns import in_parts, print_columns, print_text, terminal_width
from danetc.output.echo import echo


def print_summary(summary: Summary) -> None:
    """Print a network's facts: a table of its stages, then the figures of the whole."""
    echo(f"{summary.name}, T = {summary.steps}")
    echo()
    table = stage_table(summary)
    if table.rows:
        print_table(*table)
        for note in NOTES:
            print_text(note)
        echo()
    print_columns([(what, visible(value)) for what, value in lines(summary)])


def print_table(
    heads: tuple[str, ...], rows: Sequence[tuple[str, ...]], right: Collection[int]
) -> None:
    """Columns as wide as their widest cell, the numbers of ``right`` to the right.

    What is wider than the terminal is printed in parts, each with the first column.
    """
    heads = tuple(map(visible, heads))
    rows = [tuple(map(visible, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    for place, part in enumerate(in_parts(widths, terminal_width())):
        if place:
            echo()
        for row in (heads, tuple("-" * width for width in widths), *rows):
            cells = (
                row[n].rjust(widths[n]) if n in right else row[n].ljust(widths[n]) for n in part
            )
            echo("  ".join(cells).rstrip())
