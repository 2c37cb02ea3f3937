"""Runs of a grid. The cells are checked, and compared with the runs that exist already."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from danetc.compiler.emit.layout import layout_of
from danetc.compiler.frontend.topology import TopologyError
from danetc.dsl.diagnostics.diagnostic import SpecError
from danetc.dsl.recipe.settings import Phase
from danetc.errors import UserError
from danetc.output.echo import Note
from danetc.requests import TrainingRequest
from danetc.runtime.data.augment import image_transform
from danetc.runtime.data.batches import Prepared
from danetc.runtime.data.dataset import DataSet
from danetc.runtime.data.fit import check_fit
from danetc.runtime.data.registry import open_data
from danetc.runtime.model.signature import Signature
from danetc.runtime.system.devices import find_device
from danetc.runtime.system.errors import DataError, TrainingError
from danetc.runtime.system.files import within
from danetc.runtime.training.distributed import World
from danetc.runtime.training.losses import Objective
from danetc.tasks.grid.cells import GridCell
from danetc.tasks.model_directory import TRAINING, epochs_in
from danetc.tasks.networks import initialise
from danetc.tasks.training.directory import compare, read_run, state_of
from danetc.tasks.training.plan import TrainingPlan, make_plan, with_steps

State = Literal["new", "begun", "done", "changed"]
CHECKED = (SpecError, TopologyError, UserError, DataError, TrainingError)
"""Exceptions that are raised if a cell is not valid."""


@dataclass(frozen=True)
class GridRun:
    """A training of a cell with one of the seeds.

    ``facts`` are the properties of the cell in grid.json; ``changes`` lists the settings that an
    existing run lacks.
    """

    cell: GridCell
    facts: Mapping[str, Any]
    seed: int
    path: Path
    state: State
    changes: tuple[str, ...] = ()

    @property
    def request(self) -> TrainingRequest:
        """The request of this run. Only a run with other settings is moved aside or overridden."""
        cell, changed = self.cell.request, self.state == "changed"
        return replace(
            cell, output=self.path, seed=self.seed, seeds=None, fresh=cell.fresh and changed,
            override=cell.override and changed,
        )  # fmt: skip

    @property
    def total(self) -> int:
        """Number of epochs of the whole run."""
        return sum(self.facts["epochs"])

    @property
    def epochs(self) -> int:
        """Number of epochs on disk. Raises UserError if their record is damaged."""
        return len(epochs_in(self.path / TRAINING))


class CellChecker:
    """Checks the cells of a grid. Each data set is opened only once, and each note is given only once."""

    def __init__(self, note: Note) -> None:
        self._once, self._open = cache(note), cache(open_data)

    def runs(self, cell: GridCell) -> list[GridRun]:
        """Return a run for each seed. Nothing is written. Raises the exceptions in ``CHECKED``."""
        plan = make_plan(
            cell.request, World(find_device(cell.request.device)), self._once, self._open
        )
        facts = _facts(plan)
        found = []
        for seed in plan.seeds:
            path = within(plan.directory.parent, plan.directory.name, f"seed-{seed}")
            found.append(_run(cell, facts, seed, path, plan.settings(seed)))
        if any(run.state != "done" for run in found):
            _check_model(plan)
        return found


def _facts(plan: TrainingPlan) -> dict[str, Any]:
    """Return the properties of a cell; ``steps`` and ``epochs`` are those of each phase."""
    graphs = [with_steps(plan.compiled, phase) for phase in plan.recipe.phases]
    steps = [graph.graph.steps for graph in graphs]
    epochs = [phase.epochs for phase in plan.recipe.phases]
    layout = layout_of(plan.compiled.graph)
    return {
        "network": plan.compiled.graph.name,
        "connection": layout.connection,
        "rule": layout.rule,
        "depth": layout.depth,
        "classes": plan.data.classes,
        "steps": steps,
        "epochs": epochs,
        "parameters": plan.compiled.summary.parameters,
        "recipe": plan.recipe.name,
        # The number of MACs and additions for one image, over all time steps.
        "operations": graphs[-1].summary.macs + graphs[-1].summary.additions,
        "fewest_neurons": graphs[-1].summary.fewest_neurons,
        "cost": sum(map(operator.mul, epochs, steps)),
    }


def _run(
    cell: GridCell, facts: Mapping[str, Any], seed: int, path: Path, settings: dict[str, Any]
) -> GridRun:
    """Return the run in this directory. Raises UserError if it could not begin, or is damaged."""
    state_of(path, settings)
    known = read_run(path)
    if known is None:
        return GridRun(cell, facts, seed, path, "new")
    changes = tuple(compare(known["settings"], settings))
    run = GridRun(cell, facts, seed, path, "changed" if changes else "begun", changes)
    return replace(run, state="done") if not changes and run.epochs == run.total else run


def _check_model(plan: TrainingPlan) -> None:
    """Check that the backend takes the network, and the network the data."""
    first = with_steps(plan.compiled, plan.recipe.phases[0]).graph
    init, skip = plan.request.init, plan.request.init_skip
    model, _ = initialise(first, plan.seeds[0], init, plan.backend, skip=skip)
    for phase in plan.recipe.phases:
        check_phase(plan.data, model.signature, phase, plan.request.train_output)


def check_phase(
    data: DataSet, signature: Signature, phase: Phase, output: str | None = None
) -> None:
    """Check that a network can learn the data in a phase of a recipe. Raises DataError."""
    check_fit(
        data,
        signature,
        augment=image_transform(phase.augment, events=data.events),
        evaluate=Prepared(data, phase.evaluate).transform,
        output=Objective(phase.loss, signature, output, target=data.target).shape,
        steps=phase.steps,
    )


def refuse_changed(runs: Sequence[GridRun], hint: str) -> None:
    """Check that existing runs have the same settings. Raises UserError with the differences."""
    listed = [
        "\n  ".join([f"{run.path} holds a run with other settings:", *run.changes])
        for run in runs
        if run.state == "changed"
    ]
    if listed:
        raise UserError("\n".join([*listed, hint]))
