"""``danetc compare`` and `danetc.compare`: from a request to trained cells and their results."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import BarColumn, MofNCompleteColumn

from danetc.arguments import check_choice, takes
from danetc.errors import UserError
from danetc.output.console import shows_progress, terminal_bar
from danetc.output.echo import echo, note
from danetc.output.returned import Returned, frame
from danetc.requests import ComparisonRequest
from danetc.runtime.system.locks import LOCK, locked
from danetc.runtime.system.torchrun import under_torchrun
from danetc.runtime.training.signals import StopRequest
from danetc.tasks.grid.cells import cell_name, combinations, find_networks, make_cell
from danetc.tasks.grid.engines import start_engine
from danetc.tasks.grid.plan import CHECKED, CellChecker, GridRun, refuse_changed
from danetc.tasks.grid.plot import FIGURES, across, draw
from danetc.tasks.grid.results import GridResults, read_results, refuse_test
from danetc.tasks.grid.run import GridProgress, GridRecord, in_parallel, train_run
from danetc.tasks.model_directory import GRID

if TYPE_CHECKING:
    import pandas


def checked_runs(request: ComparisonRequest, *, quiet: bool) -> list[GridRun]:
    """Return all runs of a grid, checked. Nothing is written.

    Raises UserError for the first thing that is wrong.
    """
    if request.accuracy == "best":
        refuse_test("the best epoch", request.data, request.select_on)
    check_folder(request.folder)
    networks = find_networks(request.patterns, request.networks)
    chosen = combinations(networks, request.axes, request.training)
    columns = ("checking cells", BarColumn(), MofNCompleteColumn())
    checker, runs = CellChecker(note), []
    with terminal_bar(*columns, stream=sys.stderr, hidden=quiet) as bar:
        for network, values in bar.track(chosen):
            try:
                runs += checker.runs(make_cell(network, values, request.training, request.folder))
            except CHECKED as error:
                name = cell_name(network.name, values)
                raise UserError(f"cell {name}: {error}\nnothing was trained") from error
    return runs


def planned(runs: Sequence[GridRun], request: ComparisonRequest) -> GridResults:
    """Return the cells with the results so far. Nothing is written."""
    record = GridRecord.of(request, runs).as_dict()
    return read_results(request.folder, request.accuracy, request.select_on, record)


def check_folder(folder: Path) -> None:
    """Check that the folder is new, empty or the folder of a grid. Raises UserError if not."""
    if under_torchrun():
        raise UserError("a grid starts its own processes; run it without torchrun")
    if folder.is_dir() and not (folder / GRID).is_file():
        foreign = sorted(each.name for each in folder.iterdir() if each.name != LOCK)
        if foreign:
            raise UserError(
                f"{folder} is not the folder of a comparison (it has no {GRID}) and not empty; "
                "choose another directory with -o DIR"
            )


def train_grid(runs: Sequence[GridRun], request: ComparisonRequest, *, quiet: bool) -> int | None:
    """Train the runs that are not done. Return the exit status if a signal has stopped it.

    Raises UserError if runs have changed and the request does not say what to do with them, and if
    another process trains the same grid.
    """
    todo = [run for run in runs if run.state != "done"]
    with _recorded(runs, request) as record, StopRequest() as stop:
        if not quiet and len(todo) < len(runs):
            echo(f"{len(runs) - len(todo)} of {len(runs)} runs are done", err=True)
        if todo:
            with (
                closing(start_engine(request)) as engine,
                GridProgress(len(todo), quiet=quiet) as shown,
            ):

                def train(number: int, run: GridRun) -> None:
                    if stop.wanted:
                        return
                    shown.started(run, number)
                    stopping, on_epoch = (lambda: stop.wanted), partial(shown.moved, run)
                    outcome = train_run(run, engine, stopping, on_epoch)
                    record.keep(run, outcome)
                    shown.ended(run, number, outcome)

                tasks = [partial(train, number, run) for number, run in enumerate(todo, 1)]
                in_parallel(tasks, engine.jobs, stop)
        return None if stop.signal is None else 128 + stop.signal


def commands(runs: Sequence[GridRun], request: ComparisonRequest) -> list[str]:
    """Return the shell command of each run that is not done.

    The grid is recorded without them, so that ``--only-report`` reads what they have trained. Raises
    UserError as ``train_grid`` does.
    """
    with _recorded(runs, request):
        return [shlex.join(run.request.command()) for run in runs if run.state != "done"]


@contextmanager
def _recorded(runs: Sequence[GridRun], request: ComparisonRequest) -> Iterator[GridRecord]:
    """Lock the folder of a grid and record its runs."""
    if not (request.fresh or request.override):
        refuse_changed(
            runs,
            "choose another directory with -o DIR, resume with the new settings (--override), or "
            "start such runs over with --fresh (the old ones are moved aside)",
        )
    request.folder.mkdir(parents=True, exist_ok=True)
    with locked(request.folder):
        record = GridRecord.of(request, runs)
        record.save()
        yield record


@dataclass(frozen=True, repr=False)
class Comparison(Returned, GridResults):
    """Results of a grid: a row for each cell, with its values on the axes, scores and curves.

    ``danetc compare -o DIRECTORY --only-report`` shows them again.
    """

    directory: Path = Path()

    def frame(self) -> pandas.DataFrame:
        """Return a row for each cell; accuracies are from 0 to 1. Raises UserError without pandas."""
        names = ("name", *self.varying(), "parameters", "mean", "deviation", "best", "state")
        split = {"split": self.measure.split}
        return frame({name: row[name] for name in names} | split for row in self.as_dict()["cells"])

    def figure(self, name: str = "accuracy", x: str | None = None) -> Any:
        """Return a figure of matplotlib, as ``danetc compare`` draws it.

        Args:
            name: ``accuracy`` (the RMSE of numbers) over epochs and at the end, or ``training`` for
                loss and accuracy of the training over epochs.
            x: The axis, or the fact, to draw over; by default the depth.

        Raises UserError without matplotlib.
        """
        check_choice("name", name, FIGURES)
        across(self, x)
        return draw(self, name, x)

    def _line(self) -> str:
        best = [row for row in self.rows if self.is_best(row, self.rows)]
        shown = ", ".join(f"{row.name} ({self.measure.text(row.mean)})" for row in best)
        told = f"; the best {self.measure.head}: {shown}" if best else ""
        return f"{self.directory}: {len(self.rows)} cells on {self.data}{told}"


@takes(ComparisonRequest)
def compare(request: ComparisonRequest) -> Comparison:
    """Train a grid of networks and compare their results, as ``danetc compare`` does.

    Each run is a process of its own. Runs that are in ``output`` already are resumed, or left as
    they are if they are finished. ``grid`` is, for example, ``{"rule": ["chain", "densely_additive"],
    "steps": [1, 4]}``.

    Raises UserError for errors in the specs, the axes or the data, if runs fail (the others
    continue), and if a signal stops it: the same call resumes.
    """
    quiet = not shows_progress(request.progress)
    runs = checked_runs(request, quiet=quiet)
    if train_grid(runs, request, quiet=quiet) is not None:
        raise UserError(f"stopped; the same call resumes the runs in {request.folder}")
    found = read_results(request.folder, request.accuracy, request.select_on)
    refuse_failed(found, len(runs), request.folder)
    return Comparison(**vars(found), directory=request.folder)


def refuse_failed(results: GridResults, runs: int, folder: Path) -> None:
    """Raise UserError if some of all ``runs`` failed, with the reason of each."""
    failed = [
        f"{row.name} seed {seed}: {text}"
        for row in results.rows
        for seed, text in row.errors.items()
    ]
    if failed:
        listed = "\n".join(failed)
        raise UserError(f"{len(failed)} of {runs} runs failed; logs are in {folder}\n{listed}")
