"""``danetc compare`` from its arguments to trained cells."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, MofNCompleteColumn

from danetc.errors import UserError
from danetc.output.console import terminal_bar
from danetc.output.echo import echo
from danetc.output.text import note
from danetc.runtime.system.files import save_record
from danetc.runtime.system.torchrun import under_torchrun
from danetc.runtime.training.signals import StopRequest
from danetc.tasks.grid.attempt import Outcome, train_arguments
from danetc.tasks.grid.cells import Axis, GridCell, find_networks, make_cells
from danetc.tasks.grid.engines import start_engine
from danetc.tasks.grid.plan import GridRun, by_cell, check_cells, refuse_changed
from danetc.tasks.grid.progress import GridProgress
from danetc.tasks.grid.request import GridRequest
from danetc.tasks.grid.results import FORMAT
from danetc.tasks.grid.run import as_record, train_all
from danetc.tasks.model_directory import GRID, LOCKS
from danetc.tasks.training.directory import locked
from danetc.version import version

if TYPE_CHECKING:
    from danetc.tasks.training.request import TrainingRequest


def checked_runs(asked: GridRequest, axes: Sequence[Axis], *, quiet: bool) -> list[GridRun]:
    """All runs of a grid, checked. Nothing is written. Raises UserError with all that is wrong."""
    check_folder(asked.folder)
    networks = find_networks(asked.specs, asked.networks)
    cells = make_cells(networks, axes, asked.training, asked.folder)
    columns = ("checking cells", BarColumn(), MofNCompleteColumn())
    with terminal_bar(*columns, stream=sys.stderr, hidden=quiet) as bar:
        task = bar.add_task("", total=len(cells))
        return check_cells(cells, note, lambda cell: bar.advance(task))


def check_folder(folder: Path) -> None:
    """Raise UserError unless a grid can be trained here: in a folder of a grid, an empty one or none."""
    if under_torchrun():
        raise UserError("a grid starts its own processes; run it without torchrun")
    if folder.is_dir() and not (folder / GRID).is_file():
        foreign = sorted(each.name for each in folder.iterdir() if each.name not in LOCKS)
        if foreign:
            raise UserError(
                f"{folder} is no folder of a comparison (there is no {GRID} in it) and not empty; "
                "choose another place with -o DIR"
            )


def compare(
    runs: Sequence[GridRun], axes: Sequence[Axis], asked: GridRequest, *, quiet: bool
) -> int | None:
    """Train what is not trained yet. Gives the exit status where a signal has stopped it.

    Raises UserError where runs have changed and nothing says what to do, and where another process
    trains the same grid.
    """
    base, folder = asked.training, asked.folder
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
        if todo:
            with (
                closing(start_engine(asked.engine)) as started,
                GridProgress(len(todo), quiet=quiet) as shown,
            ):
                train_all(todo, engine=started, stop=stop, shown=shown, record=record)
        return None if stop.signal is None else 128 + stop.signal


def commands(runs: Sequence[GridRun], axes: Sequence[Axis], asked: GridRequest) -> list[str]:
    """The command of each run that is not done, for the shell; the grid is written down without them,
    so that ``--only-report`` reads what they have trained. Raises UserError as ``compare`` does."""
    base, folder = asked.training, asked.folder
    if not (base.fresh or base.override):
        refuse_changed(runs)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        outcomes = {run.path: Outcome("done" if run.state == "done" else "waiting") for run in runs}
        save_record(_grid(runs, axes, base, folder, outcomes), folder / GRID)
    todo = (run for run in runs if run.state != "done")
    return [shlex.join(["danetc", "train", *train_arguments(run)]) for run in todo]


def _grid(
    runs: Sequence[GridRun],
    axes: Sequence[Axis],
    base: TrainingRequest,
    folder: Path,
    outcomes: dict[Path, Outcome],
) -> dict[str, Any]:
    cells = [cell_record(cell, own, folder, outcomes) for cell, own in by_cell(runs)]
    return grid_record(base.data, [axis.name for axis in axes], cells)


def grid_record(
    data: str, axes: Sequence[str], cells: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """What stands in grid.json."""
    return {
        "format": FORMAT,
        "danetc": version(),
        "data": data,
        "axes": ["network", *axes],
        "cells": list(cells),
    }


def cell_record(
    cell: GridCell, own: Sequence[GridRun], folder: Path, outcomes: Mapping[Path, Outcome]
) -> dict[str, Any]:
    """What stands there of a cell and its runs."""
    return {
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
