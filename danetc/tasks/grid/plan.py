"""What the cells of a grid will be: checked, counted and held against what is already trained."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from danetc.compiler.frontend.topology import TopologyError
from danetc.dsl.diagnostics.diagnostic import SpecError
from danetc.errors import UserError
from danetc.output.text import Note
from danetc.runtime.data import DataSet, check_fit, open_data, prepared
from danetc.runtime.data.augment import image_transform
from danetc.runtime.system.errors import DataError, TrainingError
from danetc.runtime.training.distributed import alone
from danetc.runtime.training.losses import Objective
from danetc.tasks.grid.cells import GridCell, raise_failures
from danetc.tasks.measuring.measure import layout_of
from danetc.tasks.model_directory import TRAINING
from danetc.tasks.networks import initialise
from danetc.tasks.records import epochs_in, inside
from danetc.tasks.training.directory import compare, read_run, state_of
from danetc.tasks.training.plan import make_plan, with_steps
from danetc.tasks.training.request import TrainingPlan

if TYPE_CHECKING:
    from danetc.runtime.model.built import Model

State = Literal["new", "begun", "done", "changed"]


@dataclass(frozen=True)
class Facts:
    """What a cell is, beside its values on the axes.

    ``cost`` is the sum over the phases of epochs x T (Table VI). ``operations`` are the
    multiplications with additions (MACs) and the additions of the trained network for one image, over
    all time steps; ``work`` those of a whole run, by which times are estimated.
    """

    network: str
    connection: str
    rule: str
    depth: int
    classes: int
    steps: tuple[int, ...]
    epochs: tuple[int, ...]
    parameters: int
    recipe: str
    operations: int
    work: int

    @property
    def cost(self) -> int:
        return sum(epochs * steps for epochs, steps in zip(self.epochs, self.steps, strict=True))

    def as_dict(self) -> dict[str, Any]:
        return {
            "network": self.network,
            "connection": self.connection,
            "rule": self.rule,
            "depth": self.depth,
            "classes": self.classes,
            "steps": list(self.steps),
            "epochs": list(self.epochs),
            "parameters": self.parameters,
            "recipe": self.recipe,
            "operations": self.operations,
            "cost": self.cost,
        }


@dataclass(frozen=True)
class GridRun:
    """A training of a cell under one seed. ``changes`` are those of a run that is there."""

    cell: GridCell
    facts: Facts
    seed: int
    path: Path
    state: State
    changes: tuple[str, ...] = ()


def by_cell(runs: Sequence[GridRun]) -> list[tuple[GridCell, list[GridRun]]]:
    """The cells in their order, with the runs of each."""
    cells: dict[str, list[GridRun]] = {}
    for run in runs:
        cells.setdefault(run.cell.name, []).append(run)
    return [(own[0].cell, own) for own in cells.values()]


def check_cells(
    cells: Sequence[GridCell],
    note: Note,
    on_progress: Callable[[GridCell], None] = lambda cell: None,
) -> list[GridRun]:
    """The runs of all cells, after everything about them is checked. Nothing is written.

    Raises UserError with all that is wrong, by cell.
    """
    checker = CellChecker(note)
    runs: list[GridRun] = []
    failures: dict[str, list[str]] = {}
    for cell in cells:
        on_progress(cell)
        try:
            runs += checker.runs(cell)
        except CHECKED as error:
            failures.setdefault(str(error), []).append(cell.name)
    raise_failures(failures)
    return runs


CHECKED = (SpecError, TopologyError, UserError, DataError, TrainingError)
"""What the check of a cell raises where something is wrong with it."""


class CellChecker:
    """Checks cells one after the other: each data set is opened once, and each note given once."""

    def __init__(self, note: Note) -> None:
        self._note = note
        self._opened: dict[Any, DataSet] = {}
        self._seen: set[str] = set()

    def runs(self, cell: GridCell) -> list[GridRun]:
        """A run for each seed. Raises what ``CHECKED`` lists."""
        return _runs(cell, self._once, self._open)

    def _open(self, text: str, **options: Any) -> DataSet:
        key = (text, *sorted(options.items()))
        if key not in self._opened:
            self._opened[key] = open_data(text, **options)
        return self._opened[key]

    def _once(self, text: str) -> None:
        if text not in self._seen:
            self._seen.add(text)
            self._note(text)


def _runs(cell: GridCell, note: Note, opening: Callable[..., DataSet]) -> list[GridRun]:
    plan = make_plan(cell.request, alone(), note, opening)
    facts = _facts(plan)
    found = []
    for seed in plan.seeds:
        path = inside(plan.directory.parent, plan.directory.name, f"seed-{seed}")
        state, changes = _state(
            path, plan.settings(seed), sum(facts.epochs), cell.request.allow_changed
        )
        found.append(GridRun(cell, facts, seed, path, state, tuple(changes)))
    if any(run.state != "done" for run in found):
        _check_model(plan)
    return found


def _facts(plan: TrainingPlan) -> Facts:
    summary = plan.compiled.summary
    graphs = [with_steps(plan.compiled, phase) for phase in plan.recipe.phases]
    operations = [graph.summary.macs + graph.summary.additions for graph in graphs]
    epochs = tuple(phase.epochs for phase in plan.recipe.phases)
    layout = layout_of(plan.compiled.graph)
    return Facts(
        network=plan.compiled.graph.name,
        connection=layout.connection,
        rule=layout.rule,
        depth=layout.depth,
        classes=plan.data.classes,
        steps=tuple(graph.graph.steps for graph in graphs),
        epochs=epochs,
        parameters=summary.parameters,
        recipe=plan.recipe.name,
        operations=operations[-1],
        work=len(plan.data.train)
        * sum(n * each for n, each in zip(epochs, operations, strict=True)),
    )


def _state(
    path: Path, settings: Mapping[str, Any], epochs: int, allow_changed: Collection[str]
) -> tuple[State, list[str]]:
    """What there is of a run. Raises UserError where it could not begin, or is damaged."""
    state_of(path, settings, allow_changed)
    known = read_run(path, allow_changed)
    if known is None:
        return "new", []
    changes = compare(known["settings"], settings)
    if changes:
        return "changed", changes
    return ("done" if len(epochs_in(path / TRAINING, allow_changed)) == epochs else "begun"), []


def epochs_of(run: GridRun) -> int:
    """How many epochs of a run are done. Raises UserError where its figures are damaged."""
    return len(epochs_in(run.path / TRAINING, run.cell.request.allow_changed))


def _check_model(plan: TrainingPlan) -> None:
    """That the backend takes the network, and the network the data. Raises as training does."""
    model: Model
    model, _ = initialise(
        with_steps(plan.compiled, plan.recipe.phases[0]).graph,
        plan.seeds[0],
        plan.request.init,
        plan.backend,
    )
    for phase in plan.recipe.phases:
        objective = Objective(
            phase.loss, model.signature, plan.request.train_output, target=plan.data.target
        )
        check_fit(
            plan.data,
            model.signature,
            augment=image_transform(phase.augment, events=plan.data.events),
            evaluate=prepared(plan.data, phase.evaluate).transform,
            output=objective.shape,
            steps=phase.steps,
        )


def refuse_changed(runs: Sequence[GridRun]) -> None:
    """Raise UserError where a run that is there has other settings, with the differences."""
    changed = [run for run in runs if run.state == "changed"]
    if not changed:
        return
    listed = []
    for run in changed[:3]:
        differences = "".join(f"\n  {line}" for line in run.changes)
        listed.append(f"{run.path} holds a run under other settings:{differences}")
    if len(changed) > 3:
        listed.append(f"and so do {len(changed) - 3} more")
    raise UserError(
        "\n".join(listed)
        + "\nchoose another place with -o DIR, resume under the new settings with "
        "--override, or begin such runs anew with --fresh (the old ones are moved aside)"
    )
