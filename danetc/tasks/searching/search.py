"""``danetc search`` and ``danetc.search``: Optuna draws trials, which are checked and trained.

A trial is a cell of ``danetc compare`` with one seed, with the same folders and processes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from threading import Lock
from typing import TYPE_CHECKING, Any

from danetc.arguments import takes
from danetc.errors import UserError
from danetc.output.console import shows_progress
from danetc.output.echo import note
from danetc.requests import SearchRequest
from danetc.runtime.system.devices import find_device
from danetc.runtime.system.locks import locked
from danetc.runtime.training.signals import StopRequest
from danetc.tasks.grid.cells import (
    Axis,
    GridNetwork,
    cell_name,
    check_axes,
    find_networks,
    make_cell,
)
from danetc.tasks.grid.comparison import check_folder
from danetc.tasks.grid.engines import Engine, start_engine
from danetc.tasks.grid.plan import CHECKED, CellChecker, GridRun, refuse_changed
from danetc.tasks.grid.results import PATHS, Measure, measure_of, refuse_test
from danetc.tasks.grid.run import GridProgress, GridRecord, Outcome, in_parallel, train_run
from danetc.tasks.model_directory import GRID, TRAINING, epochs_in, record_if_any
from danetc.tasks.searching.results import SearchResult, read_search
from danetc.tasks.searching.study import (
    PRUNERS,
    RECORD,
    SAMPLERS,
    Dimension,
    draw,
    need_optuna,
    open_study,
    resume,
)

if TYPE_CHECKING:
    import optuna


def run_search(request: SearchRequest, *, quiet: bool) -> int | None:
    """Run trials up to the requested number. Return the exit status if a signal stops them.

    Raises UserError for errors in the request before the first training, and if the folder contains
    another search.
    """
    need_optuna()
    if request.predict is None:
        refuse_test("the best trial", request.data, request.select_on)
    find_device(request.device)  # fail before the first trial
    folder = request.folder
    networks = {each.name: each for each in find_networks(request.patterns, request.networks)}
    check_axes([*networks.values()], [each.name for each in request.axes], request.training)
    space = request.axes
    if len(networks) > 1:
        space = (Axis("network", tuple(networks)), *space)
    if not space:
        raise UserError("there is nothing to search: give an axis, as in --grid width=8..64")
    check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder), StopRequest() as stop:
        cells = _cells(request)
        study = open_study(folder, ["maximize", "minimize"] if request.front else ["maximize"])
        _refuse_another(study, request, networks, space)
        drawn = len(study.trials)
        # the seed depends on the number of trials, so that a resumed search draws other values
        study.sampler = SAMPLERS[request.sampler](request.sampler_seed + drawn)
        study.pruner = PRUNERS[request.pruner]()
        waiting = resume(study)
        left = waiting + max(0, request.trials - drawn)
        if left:
            with (
                closing(start_engine(request)) as engine,
                GridProgress(drawn - waiting + left, drawn - waiting, quiet=quiet) as shown,
            ):
                search = _Search(request, networks, space, study, engine, stop, shown, cells)
                in_parallel([search.trial] * left, engine.jobs, stop)
        return None if stop.signal is None else 128 + stop.signal


def _cells(request: SearchRequest) -> GridRecord:
    """Return the record of the folder, including the cells of earlier trials."""
    known = record_if_any(request.folder / GRID) or {}
    axes = ["network", *(each.name for each in request.axes)]
    same = (known.get("data"), known.get("axes")) == (request.data, axes)
    found = GridRecord(request, known.get("cells", ()) if same else ())
    if not known:  # do not overwrite the file of another search
        found.save()
    return found


_SHARED = (
    "data", "set", "recipe", "classes", "subset_seed", "seed", "init", "init_skip",
    "accuracy", "front", "select_on", "predict",
)  # fmt: skip
"""Fields of a request that must be the same when a search is resumed."""


def _refuse_another(
    study: optuna.Study,
    request: SearchRequest,
    networks: Mapping[str, GridNetwork],
    space: Sequence[Dimension],
) -> None:
    """Raise UserError if the study belongs to another search. Record the request in a new study."""
    record: dict[str, Any] = {
        "networks": {each.name: each.spec for each in networks.values()},
        "space": {
            each.name: list(each.values) if isinstance(each, Axis) else str(each) for each in space
        },
        **{name: getattr(request, name) for name in _SHARED},
    }
    known = study.user_attrs.get(RECORD, record)
    study.set_user_attr(RECORD, known)
    changed = [name for name in record if known.get(name) != record[name]]
    if changed:
        raise UserError(
            f"{request.folder} holds another search, which differs in {', '.join(changed)}; choose "
            "another directory with -o DIR"
        )


@dataclass
class _Search:
    """State of a search. Trials run in threads, which must hold the lock to change the state."""

    request: SearchRequest
    networks: Mapping[str, GridNetwork]
    space: Sequence[Dimension]
    study: optuna.Study
    engine: Engine
    stop: StopRequest
    shown: GridProgress
    cells: GridRecord

    def __post_init__(self) -> None:
        self.lock, self.checker = Lock(), CellChecker(note)
        self.active: dict[str, list[optuna.Trial]] = {}  # trials that wait for a cell
        self.done: dict[str, GridRun] = {}

    def trial(self) -> None:
        """Train the cell of a new trial unless that is done, and report its value to Optuna."""
        if self.stop.wanted:
            return
        with self.lock:
            trial = self.study.ask()
            run = self._drawn(trial)
            if run is None:
                return
            cell, number, pruned = run.cell.name, trial.number + 1, 0
            self.active[cell] = [trial]
            self.cells.keep(run, Outcome("waiting"))
            known = self.study.get_trials(deepcopy=False)[trial.number].intermediate_values
            reported = max(known, default=0)
        self.shown.started(run, number)

        def on_epoch(epochs: int) -> None:
            nonlocal pruned, reported
            self.shown.moved(run, epochs)
            if self.request.front or pruned:  # a pruner needs a single objective
                return
            with self.lock:
                measure, curve = self._curve(run)
                for epoch in range(reported + 1, len(curve) + 1):
                    trial.report(measure.objective(curve[epoch - 1]), epoch)
                    reported = epoch
                    if epoch < run.total and trial.should_prune():
                        pruned = epoch
                        return

        outcome = train_run(run, self.engine, lambda: self.stop.wanted or pruned > 0, on_epoch)
        with self.lock:
            trials = self.active.pop(cell)
            if outcome.state == "done":
                self._complete(trials, run)
            elif outcome.state == "failed":
                self._end(trials, "FAIL", str(outcome.error))
            elif pruned:
                outcome = replace(outcome, error=f"pruned after epoch {pruned}")
                self._end(trials, "PRUNED", f"after epoch {pruned}")
            self.cells.keep(run, outcome)
        self.shown.ended(run, number, outcome)

    def _drawn(self, trial: optuna.Trial) -> GridRun | None:
        """Return the checked run of a new trial; None if it is done, in progress or impossible."""
        chosen = draw(trial, self.space)
        name = str(chosen.pop("network", next(iter(self.networks))))
        cell = cell_name(name, chosen)
        self._note(trial, cell=cell, axes={"network": name, **chosen})
        if cell in self.active:
            self.active[cell].append(trial)
            return None
        base, folder = replace(self.request.training, seeds=1), self.request.folder
        try:
            run = self.done.get(cell)
            if run is None:
                (run,) = self.checker.runs(make_cell(self.networks[name], chosen, base, folder))
        except CHECKED as error:
            self._end([trial], "PRUNED", str(error))
            reason = str(error).partition("\n")[0]
            self.shown.passed(f"{cell}: cannot be built, so it is pruned: {reason}")
            return None
        refuse_changed([run], "choose another directory with -o DIR")
        self._note(trial, **_sizes(run))
        if self.request.predict:
            self._complete([trial], run)
            self.shown.passed(f"{cell}: fewest neurons on a path: {run.facts['fewest_neurons']}")
            return None
        if run.state == "done" or cell in self.done:
            self._complete([trial], run)
            self.cells.keep(run, Outcome("done"))
            self.shown.passed(f"{cell}: already done")
            return None
        return run

    def _curve(self, run: GridRun) -> tuple[Measure, list[float]]:
        """Return the measure of a run, and its value after each epoch."""
        if self.request.predict:
            return PATHS, [float(run.facts["fewest_neurons"])]
        epochs = epochs_in(run.path / TRAINING)
        measure = measure_of(epochs, self.request.select_on)
        return measure, [measure.of(epoch) for epoch in epochs]

    def _complete(self, trials: Sequence[optuna.Trial], run: GridRun) -> None:
        self.done[run.cell.name] = run
        measure, curve = self._curve(run)
        score = measure.best(curve) if self.request.accuracy == "best" else curve[-1]
        values = [measure.objective(score)]
        if self.request.front:
            values.append(float(run.facts["operations"]))
        for trial in trials:
            self._note(trial, score=score, measure=measure.name, **_sizes(run))
            self.study.tell(trial, values)

    def _end(self, trials: Sequence[optuna.Trial], state: str, reason: str) -> None:
        for trial in trials:
            self._note(trial, reason=reason)
            self.study.tell(trial, state=need_optuna().trial.TrialState[state])

    def _note(self, trial: optuna.Trial, **found: Any) -> None:
        trial.set_user_attr(RECORD, {**trial.user_attrs.get(RECORD, {}), **found})


def _sizes(run: GridRun) -> dict[str, int]:
    return {name: run.facts[name] for name in ("operations", "parameters")}


@takes(SearchRequest)
def search(request: SearchRequest) -> SearchResult:
    """Search networks and settings, as ``danetc search`` does (``pip install 'danetc[search]'``).

    A trial is a cell of ``danetc.compare`` with one seed. The same call resumes a search. ``grid`` has
    values, as in ``{"rule": ["chain", "densely_additive"]}``, or ranges: ``{"width": "8..64:8"}``.

    Raises UserError as the command does, if no trial is complete at the end, or a signal stops it.
    """
    if run_search(request, quiet=not shows_progress(request.progress)) is not None:
        raise UserError(f"stopped; the same call resumes the search in {request.folder}")
    found = read_search(request.folder)
    refuse_empty(found)
    return found


def refuse_empty(found: SearchResult) -> None:
    """Raise UserError if no trial is complete. The message contains the first reason."""
    if any(row.state == "complete" for row in found.trials):
        return
    reasons = [f"{row.cell}: {row.reason}" for row in found.trials if row.reason]
    first = f"; the first: {reasons[0]}" if reasons else ""
    raise UserError(f"none of {len(found.trials)} trials is complete{first}")
