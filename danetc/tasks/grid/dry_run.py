"""``danetc compare --dry-run``: the cells of a grid, and the time that their runs will take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from danetc.output.echo import echo, json_text
from danetc.output.summary import print_table
from danetc.output.text import note
from danetc.runtime.kernels.announcing import Silent, announced_by, announcer
from danetc.tasks.grid.cells import GridCell
from danetc.tasks.grid.plan import GridRun
from danetc.tasks.training.dry_run import dry_run
from danetc.tasks.training.progress import show_time


def dry_run_grid(runs: Sequence[GridRun], *, seconds: float, quiet: bool, as_json: bool) -> None:
    """Print the cells, and the time that their runs will take by some timed steps of each, taken for
    ``seconds`` at most."""
    grouped: dict[str, list[GridRun]] = {}
    for run in runs:
        grouped.setdefault(run.cell.name, []).append(run)
    cells = [(own[0].cell, own) for own in grouped.values()]
    if not as_json:
        _print_cells(cells)
    timed: list[tuple[float | None, str | None]] = []
    for number, (cell, own) in enumerate(cells, 1):
        todo = [run for run in own if run.state != "done"]
        if not todo:
            timed.append((0.0, None))
            continue
        if not quiet:
            note(f"timing steps of {cell.name}, {number} of {len(cells)}")
        with announced_by(Silent() if quiet or as_json else announcer()):
            whole, reason = _time(todo[0], seconds)
        total = sum(todo[0].facts.epochs)
        share = sum(1 - _done(run) / total for run in todo)
        timed.append((None if whole is None else whole * share, reason))
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


def _time(run: GridRun, seconds: float) -> tuple[float | None, str | None]:
    """Seconds of a whole run, by ten steps of each of its phases, and what was not waited for."""
    request = replace(run.cell.request, output=run.path, seed=run.seed, seeds=None)

    def ignored(message: Any) -> None:
        pass

    record = dry_run(request, note=ignored, planned=ignored, late=ignored, seconds=seconds)
    reasons = [
        f"phase {phase['name']}: {'not timed: ' if 'not_timed' in phase else ''}{reason}"
        for phase in record["phases"]
        if (reason := phase.get("not_timed") or phase.get("not_waited_for")) is not None
    ]
    return record["seconds"], "; ".join(reasons) or None


def _done(run: GridRun) -> int:
    return 0 if run.state == "changed" else run.epochs


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
