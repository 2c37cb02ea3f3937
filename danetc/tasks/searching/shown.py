"""A search as a table and as a figure."""

from __future__ import annotations

from typing import Any

from danetc.dsl.syntax.overrides import override_text
from danetc.output.table import Cell, Table
from danetc.runtime.measure.plots import STYLES, in_figure, new_figure
from danetc.tasks.grid.measures import Measure
from danetc.tasks.grid.plot import data_name
from danetc.tasks.searching.results import Searched, TrialRow

_SIZE = 6.4, 4.2  # inches
_LABELS = 12
"""Up to so many trials of a front are named in the figure."""


def table(found: Searched) -> Table:
    """The best trials first: with a front those on it alone; else all, by accuracy (or RMSE)."""
    measure = found.measure
    rows = found.best if found.front else sorted(found.trials, key=lambda row: _order(row, measure))
    names = [name for name in found.axes if name != "network" or _several(found)]
    heads = ("trial", *names, "operations", "params", measure.head)
    unfinished = any(row.state != "complete" for row in rows)
    body = tuple(
        (
            Cell(str(row.number)),
            *(
                Cell(override_text(row.values[name]) if name in row.values else "-")
                for name in names
            ),
            Cell(_count(row.operations)),
            Cell(_count(row.parameters)),
            Cell(
                measure.text(row.score),
                row.best and not found.front,
                row.score,
            ),
            *((Cell(_state(row)),) if unfinished else ()),
        )
        for row in rows
    )
    right = {0, len(names) + 1, len(names) + 2, len(names) + 3}
    for place, name in enumerate(names, 1):
        if all(type(row.values.get(name)) in (int, float) for row in rows):
            right.add(place)
    heads = (*heads, "state") if unfinished else heads
    return Table(heads, body, frozenset(right), "the best")


def _order(row: TrialRow, measure: Measure) -> tuple[bool, float, int]:
    return row.state != "complete", -measure.objective(row.score or 0.0), row.number


def _several(found: Searched) -> bool:
    return len({row.values.get("network") for row in found.trials}) > 1


def _count(number: int | None) -> str:
    return "-" if number is None else f"{number:,}"


def _state(row: TrialRow) -> str:
    """``pruned: `` and the first line of why."""
    reason = (row.reason or "").partition("\n")[0]
    if row.state == "pruned" and reason.startswith("pruned "):
        return reason
    return f"{row.state}: {reason}" if reason else row.state


def front_figure(found: Searched) -> Any:
    """Test accuracy (or RMSE) against operations, with the front as a line where the search has one.

    None where no trial is complete.
    """
    rows = [row for row in found.trials if row.state == "complete"]
    if not rows:
        return None
    figure = new_figure(*_SIZE)
    axes = figure.subplots()
    others = [row for row in rows if not row.best]
    scale = found.measure.scale
    axes.plot(*_points(others, scale), color="0.6", linestyle="", marker="o", ms=4, label="trials")
    best = found.best
    colour, dash, marker = STYLES[0]
    axes.plot(
        *_points(best, scale), color=colour, linestyle=dash if found.front else "", linewidth=1.1,
        marker=marker, ms=5, drawstyle="steps-post",
        label="front" if found.front else "best",
    )  # fmt: skip
    for row in best[:_LABELS]:
        x, y = row.operations or 0, scale * (row.score or 0.0)
        axes.annotate(str(row.number), (x, y), (3, 3), textcoords="offset points", fontsize="small")
    if min(row.operations or 0 for row in rows) > 0:
        axes.set_xscale("log")
    axes.set_xlabel("operations for one image (MACs and additions)")
    axes.set_ylabel(found.measure.label)
    axes.set_title(in_figure(data_name(found.data)), fontsize="medium")
    axes.legend(fontsize="small", loc="best", framealpha=0.8)
    return figure


def _points(rows: list[TrialRow], scale: int) -> tuple[list[int], list[float]]:
    return [row.operations or 0 for row in rows], [scale * (row.score or 0.0) for row in rows]
