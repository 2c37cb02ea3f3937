"""Tables of results, for a terminal, Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TextIO

from rich import box
from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text

from danetc.dsl.diagnostics.visible import visible
from danetc.output.columns import in_parts
from danetc.output.console import VisibleConsole


@dataclass(frozen=True)
class Cell:
    """A text, whether it is the best of those it is compared with, and the number that it shows."""

    text: str
    best: bool = False
    value: float | None = None


@dataclass(frozen=True)
class Table:
    """Heads and rows of cells; ``right`` are the columns of numbers, ``mark`` says what the best are."""

    heads: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    right: frozenset[int]
    mark: str = "the best of those it is compared with"


def show(table: Table, form: str, stream: TextIO) -> None:
    """Print it as a ``table``, ``markdown``, ``latex`` or ``csv``."""
    match form:
        case "table":
            print_rich(table, stream)
        case "markdown":
            stream.write(markdown(table))
        case "latex":
            stream.write(latex(table))
        case "csv":
            rows = ([_exact(cell) for cell in row] for row in table.rows)
            stream.write(csv_text([table.heads, *rows]))
        case _:
            raise ValueError(f"a table has no form {form}")


def print_rich(table: Table, stream: TextIO) -> None:
    """For a terminal, the best in bold; elsewhere with a star, as wide as its numbers are.

    What is wider than the terminal is printed in parts, each with the first column.
    """
    console = VisibleConsole(stream)
    star = not console.is_terminal
    wide = console.options.update(max_width=10_000)

    def measured(part: Sequence[int]) -> tuple[RichTable, int]:
        shown = _rich(table, part, star)
        return shown, Measurement.get(console, wide, shown).maximum

    widths = [measured([number])[1] - 2 for number in range(len(table.heads))]
    limit = console.width - 2 if console.is_terminal else None
    for part in in_parts(widths, limit):
        shown, width = measured(part)
        console.width = max(console.width, width)
        console.print(shown)
    if any(cell.best for row in table.rows for cell in row):
        message = "* is" if star else "in bold:"
        console.print(f"{message} {table.mark}", soft_wrap=True)


def _rich(table: Table, part: Sequence[int], star: bool) -> RichTable:
    """Some columns of a table."""
    shown = RichTable(box=box.SIMPLE, pad_edge=False)
    for place in part:
        justify = "right" if place in table.right else "left"
        shown.add_column(visible(table.heads[place]), justify=justify, no_wrap=True)  # type: ignore[arg-type]
    for row in table.rows:
        shown.add_row(*(_text(row[place], star) for place in part))
    return shown


def _text(cell: Cell, star: bool) -> Text:
    return Text(visible(cell.text) + ("*" if star and cell.best else ""), "bold" * cell.best)


def markdown(table: Table) -> str:
    """A table of Markdown, the best in bold."""
    rule = ("---:" if place in table.right else "---" for place in range(len(table.heads)))
    lines = [tuple(map(_plain, table.heads)), rule]
    lines += [
        tuple(f"**{_plain(cell.text)}**" if cell.best else _plain(cell.text) for cell in row)
        for row in table.rows
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _plain(text: str) -> str:
    return visible(text).replace("|", "\\|")


def latex(table: Table) -> str:
    """A tabular of the package booktabs, the best in bold."""
    columns = "".join("r" if place in table.right else "l" for place in range(len(table.heads)))
    lines = [f"\\begin{{tabular}}{{{columns}}}", "  \\toprule"]
    lines.append(f"  {' & '.join(map(_latex, table.heads))} \\\\")
    lines.append("  \\midrule")
    for row in table.rows:
        cells = (
            f"\\textbf{{{_latex(cell.text)}}}" if cell.best else _latex(cell.text) for cell in row
        )
        lines.append(f"  {' & '.join(cells)} \\\\")
    return "\n".join([*lines, "  \\bottomrule", "\\end{tabular}", ""])


_SPECIAL = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "±": r"$\pm$", ">": r"$>$", "<": r"$<$",
}  # fmt: skip


_POWER = re.compile(r"(-?\d(?:\.\d+)?)e([+-]\d+)")


def _latex(text: str) -> str:
    if power := _POWER.fullmatch(text):
        return rf"${power[1]} \times 10^{{{int(power[2])}}}$"
    return re.sub(
        r"[\\~^±<>&%$#_{}]",
        lambda found: _SPECIAL.get(found[0], f"\\{found[0]}"),
        visible(text),
    ).replace(" x ", r" $\times$ ")


def _exact(cell: Cell) -> object:
    return cell.text if cell.value is None else cell.value


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Rows as lines of CSV; an empty field for None."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(
        [visible(cell) if isinstance(cell, str) else cell for cell in row] for row in rows
    )
    return stream.getvalue()
