"""The results of a grid as tables."""

from __future__ import annotations

from collections.abc import Sequence

from danetc.errors import UserError
from danetc.output.table import Cell, Table, csv_text
from danetc.tasks.grid.results import FACTS, CellRow, GridResults, is_best

HEADS = {"parameters": "params", "cost": "epochs x T"}


def table(results: GridResults, columns: Sequence[str] = ()) -> Table:
    """Return a row for each cell; with ``columns``, spread the values of these axes or facts.

    As in Tables II and III, the best cell of a row with the same number of classes is marked; if each
    number of classes is one column, the best cell of each column. The parameters and the cost are
    shown if they are the same for all cells of a row. Raises UserError if a name is unknown, or if two
    cells have the same place.
    """
    rows, measure = results.rows, results.measure
    for column in columns:
        results.check_name(column, "make columns of")
    names = results.distinguishing(columns) if columns else results.varying()
    if columns and not results.are_distinct([*names, *columns]):
        across = ", ".join(columns)
        raise UserError(f"several cells would share a place of a table with {across} across")

    def numeric(name: str) -> bool:
        return all(isinstance(row.values[name], (int, float)) for row in rows)

    def place(row: CellRow) -> str:
        return ", ".join(
            f"{column} {row.values[column]}" if numeric(column) else str(row.values[column])
            for column in columns
        )

    places = list(dict.fromkeys(map(place, rows))) if columns else [""]
    groups: dict[object, dict[str, CellRow]] = {}
    for row in rows:
        key = tuple(str(row.values[name]) for name in names) if columns else row.name
        groups.setdefault(key, {})[place(row)] = row
    shared = [
        name
        for name in HEADS
        if all(len({getattr(row, name) for row in each.values()}) == 1 for each in groups.values())
    ]
    several = not columns and any(len(row.seeds) > 1 for row in rows)
    unfinished = not columns and any(row.state != "done" for row in rows)
    body = []
    for group in groups.values():
        first = next(iter(group.values()))
        cells = [Cell(str(first.values[name])) for name in names]
        cells += [Cell(f"{getattr(first, name):,}") for name in shared]
        for each in places:
            found = group.get(each)
            if found is None:
                cells.append(Cell("-"))
                continue
            rivals = [
                rival
                for rival in group.values()
                if rival.values["classes"] == found.values["classes"]
            ]
            best = found.best if len(rivals) == 1 else is_best(found, rivals, measure)
            cells.append(Cell(measure.text(found.mean, found.deviation), best))
        cells += [Cell(str(len(first.scores)))] * several + [Cell(first.state)] * unfinished
        body.append(tuple(cells))
    head = measure.head if results.accuracy == "last" else f"best {measure.head}"
    heads = [*names, *(HEADS[name] for name in shared), *(places if columns else [head])]
    heads += ["runs"] * several
    right = {number for number, name in enumerate(names) if numeric(name)}
    right |= {*range(len(names), len(heads))}
    heads += ["state"] * unfinished
    return Table(tuple(heads), tuple(body), frozenset(right))


def as_csv(results: GridResults) -> str:
    """Return a line for each cell with its mean and deviation, accuracies from 0 to 1, and each seed."""
    names = list(dict.fromkeys([*results.axes, *FACTS]))
    seeds = sorted({seed for row in results.rows for seed in row.seeds})
    heads = ["cell", *names, "parameters", "epochs_x_T", "mean", "deviation", "best", "state"]
    body = [
        [
            row.name, *(row.values[name] for name in names), row.parameters, row.cost,
            row.mean, row.deviation, int(row.best), row.state,
            *(row.scores.get(seed) for seed in seeds),
        ]
        for row in results.rows
    ]  # fmt: skip
    return csv_text([[*heads, *(f"seed_{seed}" for seed in seeds)], *body])
