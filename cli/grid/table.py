"""The table of a comparison: for a terminal, Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TextIO

from danetc.dsl.diagnostics import did_you_mean
from danetc.errors import UserError
from danetc.grid.report import FACTS, Comparison, Row, are_told_apart, telling
from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table as RichTable
from rich.text import Text

HEADS = {"cost": "epochs x T", "parameters": "params"}


@dataclass(frozen=True)
class Cell:
    """A text, and whether it is the best of those it is compared with."""

    text: str
    best: bool = False


@dataclass(frozen=True)
class Table:
    """Heads and rows of cells; ``right`` are the columns of numbers."""

    heads: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    right: frozenset[int]


def flat(comparison: Comparison) -> Table:
    """A row for each cell of the grid."""
    names = comparison.varying()
    rows = comparison.rows
    several = any(len(row.seeds) > 1 for row in rows)
    unfinished = any(row.state != "done" for row in rows)
    heads = [*names, HEADS["parameters"], HEADS["cost"], _accuracy(comparison)]
    heads += ["runs"] * several + ["state"] * unfinished
    body = []
    for row in rows:
        cells = [Cell(str(row.values[name])) for name in names]
        cells += [Cell(f"{row.parameters:,}"), Cell(f"{row.cost:,}"), Cell(score(row), row.best)]
        cells += [Cell(str(len(row.accuracies)))] * several + [Cell(row.state)] * unfinished
        body.append(tuple(cells))
    numbers = {place for place, name in enumerate(names) if _numeric(rows, name)}
    first = len(names)
    return Table(
        tuple(heads), tuple(body), frozenset({*numbers, *range(first, first + 3 + several)})
    )


def pivoted(comparison: Comparison, columns: Sequence[str]) -> Table:
    """The values of axes or facts as columns, as in Tables II and III.

    Of a row the best with as many classes is marked; where each number of classes is one column,
    the best of each column. Parameters and cost are shown where they are those of a whole row.

    Raises UserError where there is nothing of a name, or two cells have one place.
    """
    rows = comparison.rows
    known = list(dict.fromkeys([*comparison.axes, *FACTS]))
    for column in columns:
        if column not in known:
            hint = did_you_mean(column, known) or f"there is {', '.join(known)}"
            raise UserError(f"there is no `{column}` to make columns of; {hint}")
    names = telling(rows, comparison.axes, columns)
    if not are_told_apart(rows, [*names, *columns]):
        across = ", ".join(columns)
        raise UserError(f"several cells would stand in one place of a table with {across} across")
    numeric = {column for column in columns if _numeric(rows, column)}

    def place(row: Row) -> str:
        return ", ".join(
            f"{column} {row.values[column]}" if column in numeric else str(row.values[column])
            for column in columns
        )

    places = list(dict.fromkeys(place(row) for row in rows))
    groups: dict[tuple[str, ...], dict[str, Row]] = {}
    for row in rows:
        groups.setdefault(tuple(str(row.values[name]) for name in names), {})[place(row)] = row
    shared = [
        name
        for name in ("parameters", "cost")
        if all(len({getattr(row, name) for row in each.values()}) == 1 for each in groups.values())
    ]
    body = []
    for key, group in groups.items():
        first = next(iter(group.values()))
        cells = [Cell(text) for text in key]
        cells += [Cell(f"{getattr(first, name):,}") for name in shared]
        for each in places:
            found = group.get(each)
            cells.append(
                Cell("-") if found is None else Cell(score(found), _is_best(found, group.values()))
            )
        body.append(tuple(cells))
    heads = (*names, *(HEADS[name] for name in shared), *places)
    numbers = {number for number, name in enumerate(names) if _numeric(rows, name)}
    return Table(heads, tuple(body), frozenset({*numbers, *range(len(names), len(heads))}))


def _is_best(row: Row, group: Iterable[Row]) -> bool:
    rivals = [each for each in group if each.values["classes"] == row.values["classes"]]
    if len(rivals) == 1:
        return row.best
    means = [each.mean for each in rivals if each.mean is not None]
    return len(means) > 1 and row.mean == max(means)


def _numeric(rows: Sequence[Row], name: str) -> bool:
    return all(isinstance(row.values[name], (int, float)) for row in rows)


def _accuracy(comparison: Comparison) -> str:
    return "top-1 %" if comparison.accuracy == "last" else "best top-1 %"


def score(row: Row) -> str:
    """``68.26 ± 0.31`` in per cent."""
    if row.mean is None:
        return "-"
    spread = "" if row.deviation is None else f" ± {100 * row.deviation:.2f}"
    return f"{100 * row.mean:.2f}{spread}"


# -- forms -----------------------------------------------------------------------------------------


def print_rich(table: Table, stream: TextIO) -> None:
    """For a terminal, the best in bold; elsewhere with a star. As wide as its numbers are."""
    console = Console(file=stream, highlight=False)
    shown = RichTable(box=box.SIMPLE, pad_edge=False)
    for place, head in enumerate(table.heads):
        justify = "right" if place in table.right else "left"
        shown.add_column(head, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    star = not console.is_terminal
    for row in table.rows:
        shown.add_row(
            *(
                Text(cell.text + ("*" if star and cell.best else ""), "bold" * cell.best)
                for cell in row
            )
        )
    wide = console.options.update(max_width=10_000)
    console.width = max(console.width, Measurement.get(console, wide, shown).maximum)
    console.print(shown)
    if any(cell.best for row in table.rows for cell in row):
        mark = "* is" if star else "in bold:"
        console.print(f"{mark} the highest mean of those it is compared with", soft_wrap=True)


def markdown(table: Table) -> str:
    """A table of Markdown, the best in bold."""
    rule = ("---:" if place in table.right else "---" for place in range(len(table.heads)))
    lines = [table.heads, rule]
    lines += [
        tuple(f"**{cell.text}**" if cell.best else _plain(cell.text) for cell in row)
        for row in table.rows
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _plain(text: str) -> str:
    return text.replace("|", "\\|")


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


def _latex(text: str) -> str:
    return re.sub(
        r"[\\~^±<>&%$#_{}]", lambda found: _SPECIAL.get(found[0], f"\\{found[0]}"), text
    ).replace(" x ", r" $\times$ ")


def as_csv(comparison: Comparison) -> str:
    """A line a cell: what it is, mean and deviation as shares of 1, and each seed's accuracy."""
    names = list(dict.fromkeys([*comparison.axes, *FACTS]))
    seeds = sorted({seed for row in comparison.rows for seed in row.seeds})
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(
        ["cell", *names, "parameters", "epochs_x_T", "mean", "deviation", "best", "state",
         *(f"seed_{seed}" for seed in seeds)]
    )  # fmt: skip
    for row in comparison.rows:
        writer.writerow(
            [
                row.name, *(row.values[name] for name in names), row.parameters, row.cost,
                _known(row.mean), _known(row.deviation), int(row.best), row.state,
                *(_known(row.accuracies.get(seed)) for seed in seeds),
            ]
        )  # fmt: skip
    return stream.getvalue()


def _known(value: float | None) -> float | str:
    return "" if value is None else value
