"""``danetc compare`` from its arguments to trained cells."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from danetc.errors import UserError
from danetc.model_directory import GRID, LOCKS
from danetc.output.echo import echo, json_text
from danetc.output.summary import print_table
from danetc.output.text import note
from danetc.runtime.kernels.announcing import Silent, announced_by, announcer
from danetc.runtime.system.files import save_record
from danetc.runtime.system.torchrun import under_torchrun
from danetc.runtime.training.signals import StopRequest
from danetc.tasks.grid.cells import Axis, GridCell, find_networks, make_cells
from danetc.tasks.grid.plan import GridRun, check_cells, epochs_of, refuse_changed
from danetc.tasks.grid.results import FORMAT
from danetc.tasks.grid.run import Outcome, as_record, train_all, train_arguments
from danetc.tasks.grid.show import GridProgress
from danetc.tasks.training.directory import locked
from danetc.tasks.training.progress import show_time

if TYPE_CHECKING:
    from danetc.tasks.training.request import TrainingRequest


def checked_runs(
    specs: Sequence[str],
    networks: Sequence[str],
    axes: Sequence[Axis],
    base: TrainingRequest,
    folder: Path,
    *,
    quiet: bool,
) -> list[GridRun]:
    """All runs of a grid, checked. Nothing is written. Raises UserError with all that is wrong."""
    if under_torchrun():
        raise UserError("danetc compare starts its own processes; run it without torchrun")
    if folder.is_dir() and not (folder / GRID).is_file():
        foreign = sorted(each.name for each in folder.iterdir() if each.name not in LOCKS)
        if foreign:
            raise UserError(
                f"{folder} is no folder of a comparison (there is no {GRID} in it) and not empty; "
                "choose another place with -o DIR"
            )
    cells = make_cells(find_networks(specs, networks), axes, base, folder)
    with click.progressbar(
        length=len(cells),
        label="checking cells",
        file=sys.stderr,
        hidden=quiet or not sys.stderr.isatty(),
    ) as bar:
        return check_cells(cells, note, lambda cell: bar.update(1))


def compare(
    runs: Sequence[GridRun],
    axes: Sequence[Axis],
    base: TrainingRequest,
    folder: Path,
    *,
    jobs: int,
    quiet: bool,
) -> int | None:
    """Train what is not trained yet. Gives the exit status where a signal has stopped it.

    Raises UserError where runs have changed and nothing says what to do, and where another process
    trains the same grid.
    """
    if not (base.fresh or base.override):
        refuse_changed(runs)
    todo = [run for run in runs if run.state != "done"]
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder), StopRequest() as stop:
        outcomes = {run.path: Outcome("done" if run.state == "done" else "waiting") for run in runs}

        def record(run: GridRun, outcome: Outcome) -> None:
            outcomes[run.path] = outcome
            save_record(_grid(runs, axes, base, folder, outcomes), folder / GRID)

        save_record(_grid(runs, axes, base, folder, outcomes), folder / GRID)
        if not quiet and len(todo) < len(runs):
            echo(f"{len(runs) - len(todo)} of {len(runs)} runs are done", err=True)
        with GridProgress(len(todo), quiet=quiet) as shown:
            train_all(todo, jobs=jobs, stop=stop, shown=shown, record=record)
        return None if stop.signal is None else 128 + stop.signal


def _grid(
    runs: Sequence[GridRun],
    axes: Sequence[Axis],
    base: TrainingRequest,
    folder: Path,
    outcomes: dict[Path, Outcome],
) -> dict[str, Any]:
    """What stands in grid.json."""
    from danetc.version import version

    return {
        "format": FORMAT,
        "danetc": version(),
        "data": base.data,
        "axes": ["network", *(axis.name for axis in axes)],
        "cells": [
            {
                "name": cell.name,
                "spec": cell.request.spec,
                "axes": dict(cell.axes),
                "facts": own[0].facts.as_dict(),
                "runs": [
                    {
                        "seed": run.seed,
                        "directory": str(run.path.relative_to(folder)),
                        "command": ["danetc", "train", *train_arguments(replace(run, state="new"))],
                        **as_record(outcomes[run.path]),
                    }
                    for run in own
                ],
            }
            for cell, own in _by_cell(runs)
        ],
    }


def _by_cell(runs: Sequence[GridRun]) -> list[tuple[GridCell, list[GridRun]]]:
    cells: dict[str, list[GridRun]] = {}
    for run in runs:
        cells.setdefault(run.cell.name, []).append(run)
    return [(own[0].cell, own) for own in cells.values()]


# -- before anything is trained --------------------------------------------------------------------


def foretell(runs: Sequence[GridRun], *, seconds: float, quiet: bool, as_json: bool) -> None:
    """Print the cells, and the time that their runs will take by some timed steps of each, taken for
    ``seconds`` at most."""
    cells = _by_cell(runs)
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
                    **own[0].facts.as_dict(),
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
    from danetc.tasks.training.dry_run import dry_run

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
    return 0 if run.state == "changed" else epochs_of(run)


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
