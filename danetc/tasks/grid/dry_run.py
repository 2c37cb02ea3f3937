"""``danetc compare --dry-run``: the cells of a grid, and the time that their runs will take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace

from danetc.output.echo import echo, json_text
from danetc.output.summary import print_table
from danetc.output.text import note
from danetc.runtime.kernels.announcing import Silent, announced_by, announcer
from danetc.tasks.grid.cells import GridCell
from danetc.tasks.grid.plan import GridRun
from danetc.tasks.training.dry_run import dry_run
from danetc.tasks.training.progress import show_time


def dry_run_grid(runs: Sequence[GridRun], *, quiet: bool, as_json: bool) -> None:
    """Print the cells, and the time that their runs will take by some timed steps of each."""
    grouped: dict[str, list[GridRun]] = {}
    for run in runs:
        grouped.setdefault(run.cell.name, []).append(run)
    cells = [(own[0].cell, own) for own in grouped.values()]
    if not as_json:
        _print_cells(cells)
    timed: list[tuple[float | None, str | None]] = []
    for number, (cell, own) in enumerate(cells, 1):
        todo = [run for run in own if run.state != "done"]
        if todo and not quiet:
            note(f"timing steps of {cell.name}, {number} of {len(cells)}")
        with announced_by(Silent() if quiet or as_json else announcer()):
            timed.append(_time(todo))
    known = [each for each, _ in timed if each is not None]
    whole = sum(known) if len(known) == len(timed) else None
    if as_json:
        record = {
            "cells": [
                {
                    "name": cell.name,
                    "axes": dict(cell.axes),
                    **asdict(own[0].facts),
                    "runs": {str(run.seed): run.state for run in own},
                    "seconds": each,
                    "not_timed": reason,
                }
                for (cell, own), (each, reason) in zip(cells, timed, strict=True)
            ],
            "seconds": whole,
        }
        echo(json_text(record))
        return
    echo()
    rows = [
        (cell.name, "?" if each is None else show_time(each))
        for (cell, _), (each, _) in zip(cells, timed, strict=True)
    ]
    print_table(("cell", "left"), rows, right={1})
    for (cell, _), (_, reason) in zip(cells, timed, strict=True):
        if reason is not None:
            echo(f"{cell.name}: {reason}")
    if whole is not None:
        echo(f"one after the other, the runs take about {show_time(whole)}")


def _time(runs: Sequence[GridRun]) -> tuple[float | None, str | None]:
    """Return the seconds that runs of a cell will take, by some steps of one; or why not known."""
    if not runs:
        return 0.0, None
    first = runs[0]
    request = replace(first.cell.request, output=first.path, seed=first.seed, seeds=None)
    record = dry_run(request, note=lambda text: None, planned=lambda record: None)
    if record["seconds"] is None:
        reasons = (
            f"phase {phase['name']} is not timed: {phase['not_timed']}"
            for phase in record["phases"]
            if "not_timed" in phase
        )
        return None, "; ".join(reasons)
    total = sum(first.facts.epochs)
    done = (0 if run.state == "changed" else run.epochs for run in runs)
    return record["seconds"] * sum(1 - each / total for each in done), None


def _print_cells(cells: Sequence[tuple[GridCell, list[GridRun]]]) -> None:
    rows = []
    for cell, own in cells:
        facts = own[0].facts
        states = [run.state for run in own]
        message = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
        rows.append(
            (
                cell.name,
                str(facts.depth),
                str(facts.classes),
                ", ".join(map(str, facts.steps)),
                ", ".join(map(str, facts.epochs)),
                f"{facts.cost:,}",
                f"{facts.parameters:,}",
                message,
            )
        )  # fmt: skip
    heads = ("cell", "depth", "classes", "T", "epochs", "epochs x T", "parameters", "runs")
    print_table(heads, rows, right=set(range(1, 7)))
    count = sum(len(own) for _, own in cells)
    cost = sum(own[0].facts.cost * len(own) for _, own in cells)
    echo(f"{len(cells)} cells, {count} runs, {cost:,} epochs x T in all")
