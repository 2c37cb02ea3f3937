"""A search: trials are drawn, checked, trained and told to Optuna, as many at a time as an engine takes.

A trial is a cell of ``danetc compare`` with one seed, in the same folders, trained by the same process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from danetc.errors import UserError
from danetc.output.text import note
from danetc.runtime.system.files import save_record
from danetc.runtime.training.signals import StopRequest
from danetc.setting import Setting
from danetc.tasks.grid.attempt import Attempt, Engine, Outcome
from danetc.tasks.grid.cells import (
    Axis,
    GridNetwork,
    cell_name,
    check_axes,
    find_networks,
    make_cell,
)
from danetc.tasks.grid.comparison import cell_record, check_folder, grid_record
from danetc.tasks.grid.engines import start_engine
from danetc.tasks.grid.measures import Measure, measure_of
from danetc.tasks.grid.plan import CHECKED, CellChecker, GridRun
from danetc.tasks.grid.progress import GridProgress
from danetc.tasks.grid.request import GridRequest
from danetc.tasks.grid.run import keep_busy
from danetc.tasks.model_directory import GRID, TRAINING
from danetc.tasks.records import epochs_in, record_if_any
from danetc.tasks.searching.space import Dimension, ends, written
from danetc.tasks.searching.study import (
    RECORD,
    StudyRequest,
    draw,
    most,
    need_optuna,
    open_study,
    tell,
    unfinished,
)
from danetc.tasks.training.directory import locked

if TYPE_CHECKING:
    import optuna

    from danetc.tasks.training.request import TrainingRequest


@dataclass(frozen=True, kw_only=True)
class SearchRequest:
    """What is searched, and how. ``trials`` counts those that are there already."""

    cells: GridRequest
    space: tuple[Dimension, ...]
    trials: int = 20
    sampler: str = "tpe"
    pruner: str = "none"
    sampler_seed: int = 0
    front: bool = False


def search(asked: SearchRequest, *, quiet: bool) -> int | None:
    """Train trials until there are as many as are asked for. Gives the exit status where a signal has
    stopped it; the same call resumes.

    Raises UserError with what is wrong before anything is trained, and where the folder holds
    another search.
    """
    need_optuna()
    base, folder = asked.cells.training, asked.cells.folder
    if base.seeds not in (None, 1):
        raise UserError("a search trains each cell with one seed; compare the best with more")
    base = replace(base, seeds=1)
    networks = {each.name: each for each in find_networks(asked.cells.specs, asked.cells.networks)}
    check_axes(list(networks.values()), [ends(each) for each in asked.space], base)
    space = asked.space
    if len(networks) > 1:
        space = (Axis("network", tuple(networks)), *space)
    if not space:
        raise UserError("there is nothing to search: give an axis, as in --grid width=8..64")
    wanted = StudyRequest(
        space, _record(asked, base, networks, space), asked.sampler, asked.pruner,
        asked.sampler_seed, asked.front,
    )  # fmt: skip
    limit = min(asked.trials, most(wanted))
    check_folder(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder), StopRequest() as stop:
        cells = _Cells(folder, base, [each.name for each in asked.space])
        study = open_study(folder, wanted)
        waiting = unfinished(study)
        drawn = len(study.trials)
        left = max(0, limit - drawn)
        if waiting or left:
            with (
                closing(start_engine(asked.cells.engine)) as engine,
                GridProgress(drawn + left, drawn - len(waiting), quiet=quiet) as shown,
            ):
                checker = CellChecker(note)
                _Loop(
                    asked, base, networks, space, study, engine, stop, shown, cells, checker,
                    waiting, left,
                ).run()  # fmt: skip
        return None if stop.signal is None else 128 + stop.signal


def _record(
    asked: SearchRequest,
    base: TrainingRequest,
    networks: Mapping[str, GridNetwork],
    space: Sequence[Dimension],
) -> dict[str, Any]:
    """By which a search is known: what its trials share, and between what they are drawn."""
    return {
        "data": base.data,
        "networks": {each.name: each.spec for each in networks.values()},
        "space": {name: found for each in space for name, found in written(each).items()},
        "set": dict(base.settings),
        "recipe": base.recipe,
        "classes": base.classes,
        "subset_seed": base.subset_seed,
        "seed": base.seed,
        "init": base.init,
        "accuracy": asked.cells.accuracy,
        "front": asked.front,
    }


class _Cells:
    """grid.json: the cells of all trials, kept as they come. Those of earlier calls stay."""

    def __init__(self, folder: Path, base: TrainingRequest, axes: Sequence[str]) -> None:
        self.folder, self._data, self._axes = folder, base.data, axes
        known = record_if_any(folder / GRID, base.allow_changed) or {}
        same = known.get("data") == base.data and known.get("axes") == ["network", *axes]
        self._cells = {each["name"]: each for each in known.get("cells", ()) if same}
        if not known:  # the file of another search stays until that is looked at
            self._save()

    def keep(self, run: GridRun, outcome: Outcome) -> None:
        record = cell_record(run.cell, [run], self.folder, {run.path: outcome})
        self._cells[run.cell.name] = record
        self._save()

    def keep_done(self, run: GridRun) -> None:
        """One that was found done: what is known of its training stays."""
        known = self._cells.get(run.cell.name, {"runs": ()})
        if not any(each["state"] == "done" for each in known["runs"]):
            self.keep(run, Outcome("done"))

    def _save(self) -> None:
        record = grid_record(self._data, self._axes, list(self._cells.values()))
        save_record(record, self.folder / GRID)


@dataclass
class _Active:
    """A run under way, and the trials that have drawn its cell: there may be several."""

    attempt: Attempt
    trials: list[optuna.Trial]
    reported: int
    pruned: int | None = None


@dataclass
class _Loop:
    asked: SearchRequest
    base: TrainingRequest
    networks: Mapping[str, GridNetwork]
    space: Sequence[Dimension]
    study: optuna.Study
    engine: Engine
    stop: StopRequest
    shown: GridProgress
    cells: _Cells
    checker: CellChecker
    waiting: list[optuna.Trial]
    left: int
    active: dict[str, _Active] = field(default_factory=dict)
    done: dict[str, GridRun] = field(default_factory=dict)

    def run(self) -> None:
        """Until all trials are over, or those under way have saved their state after a signal."""
        keep_busy(self.engine, self.stop, self._begin_next, self._look)

    def _begin_next(self, keep: Callable[[Attempt], None]) -> bool:
        """Begin the next training that a trial needs."""
        while not self.stop.wanted and (trial := self._next()) is not None:
            run = self._run_of(trial)
            if run is not None:
                self._start(trial, run, keep)
                return True
        return False

    def _next(self) -> optuna.Trial | None:
        if self.waiting:
            return self.waiting.pop(0)
        if not self.left:
            return None
        self.left -= 1
        return self.study.ask()

    def _run_of(self, trial: optuna.Trial) -> GridRun | None:
        """What a trial has drawn, checked, and to be trained; None where that is done or under way."""
        chosen = draw(trial, self.space)
        name = str(chosen.pop("network", next(iter(self.networks))))
        cell = cell_name(name, chosen)
        self._note(trial, cell=cell, axes={"network": name, **chosen})
        if cell in self.active:
            self.active[cell].trials.append(trial)
            return None
        try:
            run = self.done.get(cell) or self._checked(name, chosen)
        except CHECKED as error:
            self._prune(trial, str(error))
            self.shown.passed(f"{cell}: it cannot be, and is pruned: {_first(str(error))}")
            return None
        if run.state == "changed":
            raise UserError(
                f"{run.path} holds a run under other settings:"
                + "".join(f"\n  {line}" for line in run.changes)
                + "\nchoose another place with -o DIR"
            )
        self._note(trial, operations=run.facts.operations, parameters=run.facts.parameters)
        if run.state == "done" or cell in self.done:
            self._complete([trial], run)
            self.cells.keep_done(run)
            self.shown.passed(f"{cell}: it is done")
            return None
        return run

    def _checked(self, name: str, chosen: Mapping[str, Setting]) -> GridRun:
        cell = make_cell(self.networks[name], chosen, self.base, self.cells.folder)
        (run,) = self.checker.runs(cell)
        return run

    def _start(self, trial: optuna.Trial, run: GridRun, keep: Callable[[Attempt], None]) -> None:
        known = self.study.get_trials(deepcopy=False)[trial.number].intermediate_values
        attempt = self.engine.start(run, trial.number + 1)
        keep(attempt)
        self.active[run.cell.name] = _Active(attempt, [trial], max(known, default=0))
        self.cells.keep(run, Outcome("waiting"))
        self.shown.started(run, trial.number + 1)

    def _look(self, attempt: Attempt) -> bool:
        run = attempt.run
        each = self.active[run.cell.name]
        if attempt.has_moved():
            self.shown.moved(run, attempt.epochs, sum(run.facts.epochs), None)
            self._report(each)
        outcome = attempt.outcome(self.stop.wanted or each.pruned is not None)
        if outcome is None:
            return False
        del self.active[run.cell.name]
        match outcome.state:
            case "done":
                self._complete(each.trials, run)
            case "failed":
                for trial in each.trials:
                    self._note(trial, reason=outcome.error)
                    tell(self.study, trial, "failed", None)
            case "waiting" if each.pruned is not None:
                outcome = replace(outcome, error=f"pruned after epoch {each.pruned}")
                for trial in each.trials:
                    self._prune(trial, str(outcome.error))
            case "waiting":  # after a signal: the trials go on with the same command
                pass
        self.cells.keep(run, outcome)
        self.shown.ended(run, attempt.number, outcome)
        return True

    def _report(self, each: _Active) -> None:
        """Tell the pruner the figures that are new, and stop the run where it says so.

        With two objectives there is no pruner to tell.
        """
        if self.asked.front or each.pruned is not None:
            return
        measure, curve = self._curve(each.attempt.run)
        total = sum(each.attempt.run.facts.epochs)
        trial = each.trials[0]
        for epoch in range(each.reported + 1, len(curve) + 1):
            trial.report(measure.objective(curve[epoch - 1]), epoch)
            each.reported = epoch
            if epoch < total and trial.should_prune():
                each.pruned = epoch
                each.attempt.ask_to_stop()
                return

    def _curve(self, run: GridRun) -> tuple[Measure, list[float]]:
        """What a run is compared by, and that after each epoch."""
        epochs = epochs_in(run.path / TRAINING, self.base.allow_changed)
        measure = measure_of(epochs)
        return measure, [measure.of(epoch) for epoch in epochs]

    def _complete(self, trials: Sequence[optuna.Trial], run: GridRun) -> None:
        measure, curve = self._curve(run)
        score = measure.best(curve) if self.asked.cells.accuracy == "best" else curve[-1]
        values = [measure.objective(score)]
        if self.asked.front:
            values.append(float(run.facts.operations))
        self.done[run.cell.name] = run
        facts = {"operations": run.facts.operations, "parameters": run.facts.parameters}
        for trial in trials:
            self._note(trial, score=score, measure=measure.name, **facts)
            tell(self.study, trial, "complete", values)

    def _prune(self, trial: optuna.Trial, reason: str) -> None:
        self._note(trial, reason=reason)
        tell(self.study, trial, "pruned", None)

    def _note(self, trial: optuna.Trial, **found: Any) -> None:
        trial.set_user_attr(RECORD, {**trial.user_attrs.get(RECORD, {}), **found})


def _first(text: str) -> str:
    return text.partition("\n")[0]
