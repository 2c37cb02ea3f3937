"""Tables and columns: for a terminal or a file, and as Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from danetc.dsl.diagnostics.visible import visible
from danetc.output.echo import echo

NARROWEST = 20
"""Smallest width of a column of text; on a narrower terminal its lines are cut."""


@dataclass(frozen=True)
class Cell:
    """Text of a cell; ``best`` marks it, ``value`` is the number that it shows."""

    text: str
    best: bool = False
    value: float | None = None


@dataclass(frozen=True)
class Table:
    """Table of cells. Columns in ``right`` are aligned on the right; ``mark`` explains the mark of the best cells."""

    heads: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    right: frozenset[int]
    mark: str = "the best of those it is compared with"


def show(table: Table, form: str) -> None:
    """Print a table as ``table``, ``markdown``, ``latex`` or ``csv``."""
    match form:
        case "table":
            print_table(table.heads, table.rows, table.right, table.mark)
        case "markdown" | "latex":
            sys.stdout.write(markdown(table) if form == "markdown" else latex(table))
        case "csv":
            writer = csv.writer(sys.stdout, lineterminator="\n")
            writer.writerow(map(visible, table.heads))
            for row in table.rows:
                writer.writerow([visible(c.text) if c.value is None else c.value for c in row])


def print_table(
    heads: Sequence[str],
    rows: Sequence[Sequence[str | Cell]],
    right: Collection[int],
    mark: str = "",
) -> None:
    """Print aligned columns, those in ``right`` on the right. The best cells have a star."""
    cells = [[each if isinstance(each, Cell) else Cell(each) for each in row] for row in rows]
    texts = [list(map(visible, heads))]
    texts += [[visible(cell.text) + "*" * cell.best for cell in row] for row in cells]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    texts.insert(1, ["-" * width for width in widths])
    for row in texts:
        words = [
            word.rjust(width) if n in right else word.ljust(width)
            for n, (word, width) in enumerate(zip(row, widths, strict=True))
        ]
        echo("  ".join(words).rstrip(), styled=True)
    if any(cell.best for row in cells for cell in row):
        echo(f"* is {mark}")


def print_rows(rows: Sequence[Mapping[str, str]], left: int = 1) -> None:
    """Print rows of texts by their heads, with all but the first ``left`` columns on the right."""
    heads = [*rows[0]]
    print_table(heads, [[*row.values()] for row in rows], range(left, len(heads)))


def _terminal_width() -> int:
    """Return the number of columns of a terminal, or as good as unlimited for a file or a program."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize


def print_columns(rows: Sequence[tuple[str, str]]) -> None:
    """Print names and their meanings, which are wrapped to the width of a terminal."""
    widest = max((len(name) for name, _ in rows), default=0)
    for name, text in rows:
        lines = textwrap.wrap(text, max(NARROWEST, _terminal_width() - widest - 2)) or [""]
        for place, line in enumerate(lines):
            echo(f"{name if place == 0 else '':<{widest}}  {line}".rstrip())


def markdown(table: Table) -> str:
    """Return a table of Markdown, the best in bold."""

    def plain(text: str) -> str:
        return visible(text).replace("|", "\\|")

    rule = ["---:" if place in table.right else "---" for place in range(len(table.heads))]
    lines = [list(map(plain, table.heads)), rule]
    for row in table.rows:
        lines.append([f"**{plain(c.text)}**" if c.best else plain(c.text) for c in row])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def latex(table: Table) -> str:
    """Return a tabular of the package booktabs, the best in bold."""
    columns = "".join("r" if place in table.right else "l" for place in range(len(table.heads)))
    rows = [
        [f"\\textbf{{{_latex(c.text)}}}" if c.best else _latex(c.text) for c in row]
        for row in table.rows
    ]
    head, *body = (f"  {' & '.join(row)} \\\\" for row in [list(map(_latex, table.heads)), *rows])
    begin = [f"\\begin{{tabular}}{{{columns}}}", "  \\toprule", head, "  \\midrule"]
    return "\n".join([*begin, *body, "  \\bottomrule", "\\end{tabular}", ""])


_SPECIAL = {each: f"\\{each}" for each in "&%$#_{}"} | {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "±": r"$\pm$", ">": r"$>$", "<": r"$<$",
}  # fmt: skip


def _latex(text: str) -> str:
    if power := re.fullmatch(r"(-?\d(?:\.\d+)?)e([+-]\d+)", text):
        return rf"${power[1]} \times 10^{{{int(power[2])}}}$"
    text = visible(text).translate({ord(each): escape for each, escape in _SPECIAL.items()})
    return text.replace(" x ", r" $\times$ ").replace("uJ", r"$\mu$J")


def unique_labels(names: Sequence[str], places: Sequence[str | Path]) -> list[str]:
    """Return the names of networks if they are distinct, else their paths without a common beginning."""
    if len(set(names)) == len(names):
        return list(names)
    paths = [str(Path(place).resolve()).removesuffix(".danet") for place in places]
    start = os.path.commonpath([os.path.dirname(path) for path in paths])
    labels = [os.path.relpath(path, start) for path in paths]
    return labels if len(set(labels)) == len(labels) else [str(place) for place in places]
