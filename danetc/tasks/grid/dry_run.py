"""``danetc compare --dry-run``: the cells of a grid, and the time that their runs will take."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from danetc.output.echo import echo, json_text, note
from danetc.output.table import print_table
from danetc.runtime.kernels.announcing import Silent, announced_by, announcer
from danetc.tasks.grid.plan import GridRun
from danetc.tasks.training.dry_run import dry_run
from danetc.tasks.training.progress import show_time


def dry_run_grid(runs: Sequence[GridRun], *, quiet: bool, as_json: bool) -> None:
    """Measure the time of some steps of each cell, and print a table of the cells."""
    grouped = [list(own) for _, own in groupby(runs, key=lambda run: run.cell.name)]
    cells: list[dict[str, Any]] = []
    for number, own in enumerate(grouped, 1):
        todo = [run for run in own if run.state != "done"]
        if todo and not quiet:
            note(f"timing steps of {own[0].cell.name}, {number} of {len(grouped)}")
        with announced_by(Silent() if quiet or as_json else announcer()):
            seconds, reason = _time(todo)
        cells.append(
            {
                "name": own[0].cell.name,
                "axes": dict(own[0].cell.axes),
                **own[0].facts,
                "runs": {str(run.seed): run.state for run in own},
                "seconds": seconds,
                "not_timed": reason,
            }
        )
    known = all(cell["seconds"] is not None for cell in cells)
    whole = sum(cell["seconds"] for cell in cells) if known else None
    if as_json:
        echo(json_text({"cells": cells, "seconds": whole}))
        return
    rows = []
    for cell in cells:
        states = list(cell["runs"].values())
        rows.append(
            (
                cell["name"],
                str(cell["depth"]),
                str(cell["classes"]),
                ", ".join(map(str, cell["steps"])),
                ", ".join(map(str, cell["epochs"])),
                f"{cell['cost']:,}",
                f"{cell['parameters']:,}",
                "?" if cell["seconds"] is None else show_time(cell["seconds"]),
                ", ".join(f"{states.count(each)} {each}" for each in dict.fromkeys(states)),
            )
        )
    heads = ("cell", "depth", "classes", "T", "epochs", "epochs x T", "parameters", "time", "runs")
    print_table(heads, rows, right=set(range(1, 8)))
    for cell in cells:
        if cell["not_timed"] is not None:
            echo(f"{cell['name']}: {cell['not_timed']}")
    cost = sum(cell["cost"] * len(cell["runs"]) for cell in cells)
    echo(f"{len(cells)} cells, {len(runs)} runs, {cost:,} epochs x T in all")
    if whole is not None:
        echo(f"one after the other, the runs take about {show_time(whole)}")


def _time(runs: Sequence[GridRun]) -> tuple[float | None, str | None]:
    """Return the estimated time of the runs of a cell in seconds, or the reason if it is not known."""
    if not runs:
        return 0.0, None
    record = dry_run(runs[0].request, note=lambda text: None, planned=lambda record: None)
    if record["seconds"] is None:
        reasons = (
            f"phase {phase['name']} is not timed: {phase['not_timed']}"
            for phase in record["phases"]
            if "not_timed" in phase
        )
        return None, "; ".join(reasons)
    done = (0 if run.state == "changed" else run.epochs for run in runs)
    return record["seconds"] * sum(1 - each / runs[0].total for each in done), None
