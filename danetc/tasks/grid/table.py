"""The tables of a comparison."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from danetc.dsl.diagnostics.diagnostic import instead
from danetc.errors import UserError
from danetc.output.table import Cell, Table, csv_text
from danetc.tasks.grid.measures import Measure
from danetc.tasks.grid.results import FACTS, CellRow, Comparison, are_distinct, distinguishing

HEADS = {"cost": "epochs x T", "parameters": "params"}
BEST = "the best mean of those it is compared with"


def flat(comparison: Comparison) -> Table:
    """A row for each cell of the grid."""
    names, measure = comparison.varying(), comparison.measure
    rows = comparison.rows
    several = any(len(row.seeds) > 1 for row in rows)
    unfinished = any(row.state != "done" for row in rows)
    heads = [*names, HEADS["parameters"], HEADS["cost"], _accuracy(comparison)]
    heads += ["runs"] * several + ["state"] * unfinished
    body = []
    for row in rows:
        cells = [Cell(str(row.values[name])) for name in names]
        cells += [
            Cell(f"{row.parameters:,}"),
            Cell(f"{row.cost:,}"),
            Cell(measure.text(row.mean, row.deviation), row.best),
        ]
        cells += [Cell(str(len(row.scores)))] * several + [Cell(row.state)] * unfinished
        body.append(tuple(cells))
    numbers = {place for place, name in enumerate(names) if _numeric(rows, name)}
    first = len(names)
    return Table(
        tuple(heads), tuple(body), frozenset({*numbers, *range(first, first + 3 + several)}), BEST
    )


def pivoted(comparison: Comparison, columns: Sequence[str]) -> Table:
    """The values of axes or facts as columns, as in Tables II and III.

    Of a row the best with as many classes is marked; where each number of classes is one column,
    the best of each column. Parameters and cost are shown where they are those of a whole row.

    Raises UserError where there is nothing of a name, or two cells have one place.
    """
    rows, measure = comparison.rows, comparison.measure
    known = list(dict.fromkeys([*comparison.axes, *FACTS]))
    for column in columns:
        if column not in known:
            hint = instead(column, known)
            raise UserError(f"there is no `{column}` to make columns of; {hint}")
    names = distinguishing(rows, comparison.axes, columns)
    if not are_distinct(rows, [*names, *columns]):
        across = ", ".join(columns)
        raise UserError(f"several cells would stand in one place of a table with {across} across")
    numeric = {column for column in columns if _numeric(rows, column)}

    def place(row: CellRow) -> str:
        return ", ".join(
            f"{column} {row.values[column]}" if column in numeric else str(row.values[column])
            for column in columns
        )

    places = list(dict.fromkeys(place(row) for row in rows))
    groups: dict[tuple[str, ...], dict[str, CellRow]] = {}
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
                Cell("-")
                if found is None
                else Cell(
                    measure.text(found.mean, found.deviation),
                    _is_best(found, group.values(), measure),
                )
            )
        body.append(tuple(cells))
    heads = (*names, *(HEADS[name] for name in shared), *places)
    numbers = {number for number, name in enumerate(names) if _numeric(rows, name)}
    return Table(heads, tuple(body), frozenset({*numbers, *range(len(names), len(heads))}), BEST)


def _is_best(row: CellRow, group: Iterable[CellRow], measure: Measure) -> bool:
    rivals = [each for each in group if each.values["classes"] == row.values["classes"]]
    if len(rivals) == 1:
        return row.best
    means = [each.mean for each in rivals if each.mean is not None]
    return len(means) > 1 and row.mean == measure.best(means)


def _numeric(rows: Sequence[CellRow], name: str) -> bool:
    return all(isinstance(row.values[name], (int, float)) for row in rows)


def _accuracy(comparison: Comparison) -> str:
    head = comparison.measure.head
    return head if comparison.accuracy == "last" else f"best {head}"


def as_csv(comparison: Comparison) -> str:
    """A line a cell: what it is, mean and deviation (of accuracies as shares of 1), and each seed's."""
    names = list(dict.fromkeys([*comparison.axes, *FACTS]))
    seeds = sorted({seed for row in comparison.rows for seed in row.seeds})
    heads = ["cell", *names, "parameters", "epochs_x_T", "mean", "deviation", "best", "state"]
    heads += [f"seed_{seed}" for seed in seeds]
    body = [
        [
            row.name, *(row.values[name] for name in names), row.parameters, row.cost,
            row.mean, row.deviation, int(row.best), row.state,
            *(row.scores.get(seed) for seed in seeds),
        ]
        for row in comparison.rows
    ]  # fmt: skip
    return csv_text([heads, *body])
