"""A training from a plan to a directory: trials, phases, what is kept and how a run is resumed."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from danetc.dsl.diagnostics.diagnostic import SpecError
from danetc.dsl.recipe.settings import Phase
from danetc.errors import UserError
from danetc.output.echo import Note
from danetc.requests import TrainingRequest
from danetc.runtime.model.built import Model, to_channels_last
from danetc.runtime.system.errors import DataError, TrainingError
from danetc.runtime.system.files import explain_os_error, save_record
from danetc.runtime.training.checkpoints import Checkpoints, Position, Snapshot
from danetc.runtime.training.distributed import FailedElsewhere, World, is_own, joined
from danetc.runtime.training.engine import Fitted, fit
from danetc.runtime.training.observer import Observer, Observers
from danetc.runtime.training.settings import RunSettings
from danetc.runtime.training.signals import Stopped, StopRequest
from danetc.runtime.training.state import check_tensors, set_tensors
from danetc.tasks.model_directory import TRIALS
from danetc.tasks.networks import CompiledNetwork, initialise
from danetc.tasks.records import inside
from danetc.tasks.training.directory import RunDirectory, opened, refuse_run
from danetc.tasks.training.plan import make_plan, with_steps
from danetc.tasks.training.provenance import MACHINE, facts
from danetc.tasks.training.request import TrainingPlan
from danetc.tasks.training.teachers import teachers_of
from danetc.tasks.training.tensorboard import FOLDER, WITHOUT, TensorBoard, available

__all__ = ["TrainingRequest", "run"]

Result = TypeVar("Result")


def run(
    request: TrainingRequest, *, observer: Observer, note: Note, stop: StopRequest | None = None
) -> tuple[Path, dict[str, Any]]:
    """Train a network of a spec through all phases of a recipe, once or in several trials.

    Under torchrun every process calls this. A run that exists is resumed. Gives the
    directory and what stands in its training.json, or its trials.json. Raises SpecError, UserError;
    Stopped where a signal, or ``stop``, has ended it; FailedElsewhere where rank 0 tells what is
    wrong.
    """
    asked = stop if stop is not None else StopRequest()

    def work(plan: TrainingPlan, world: World, say: Note) -> tuple[Path, dict[str, Any]]:
        if not available():
            say(WITHOUT)
        try:
            with asked:
                if plan.several:
                    return plan.directory, _trials(plan, world, asked, observer, say)
                trial = Trial(plan, plan.seeds[0], 0, plan.directory, world, asked)
                return plan.directory, trial.run(observer, say)
        except Stopped as stopped:
            stopped.directory = plan.directory
            raise

    return with_plan(request, note, work)


def with_plan(
    request: TrainingRequest, note: Note, work: Callable[[TrainingPlan, World, Note], Result]
) -> Result:
    """What ``work`` makes of a request's plan, in this process alone or as one of torchrun's.

    ``note`` is heard on rank 0 alone. Raises as ``run`` does.
    """
    if request.deterministic:  # read when CUDA's libraries are loaded
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    try:
        with joined(SpecError, UserError, DataError, TrainingError, Stopped) as world:
            try:
                say = note if world.first else _silent
                return work(make_plan(request, world, say), world, say)
            except (SpecError, UserError, DataError, TrainingError) as error:
                if not world.first and not is_own(error):
                    raise FailedElsewhere from error
                raise
    except (DataError, TrainingError) as error:
        raise UserError(str(error)) from error


def _silent(text: str) -> None:
    """Other processes than the first tell nothing."""


def _trials(
    plan: TrainingPlan, world: World, stop: StopRequest, observer: Observer, note: Note
) -> dict[str, Any]:
    """Each seed in a directory of its own; their mean and sample standard deviation."""
    world.on_first(lambda: refuse_run(plan.directory))
    results: list[dict[str, Any]] = []
    record: dict[str, Any] = {}
    for number, seed in enumerate(plan.seeds):
        folder = inside(plan.directory, f"seed-{seed}")
        trained = Trial(plan, seed, number, folder, world, stop).run(observer, note)
        results.append(
            {"seed": seed, "directory": folder.name, "test_accuracy": trained["test_accuracy"]}
        )
        accuracies = [
            each["test_accuracy"] for each in results if each["test_accuracy"] is not None
        ]
        record = {
            "seeds": list(plan.seeds),
            "trials": results,
            "test_accuracy": statistics.fmean(accuracies) if accuracies else None,
            "deviation": statistics.stdev(accuracies) if len(accuracies) > 1 else None,
        }
        if world.first:
            save_record(record, plan.directory / TRIALS)
    return record


@dataclass(frozen=True)
class Trial:
    """One run of a plan: all phases under one seed, in one directory."""

    plan: TrainingPlan
    seed: int
    number: int
    path: Path
    world: World
    stop: StopRequest

    def run(self, observer: Observer, note: Note) -> dict[str, Any]:
        """Train from where the run is to its end. Gives the record in training.json."""
        request = self.plan.request
        settings = self.plan.settings(self.seed)
        if available():
            observer = Observers([observer, TensorBoard(self.path / FOLDER, note)])
        with ExitStack() as stack:
            enter = opened(
                self.path,
                settings,
                fresh=request.fresh,
                override=request.override,
                allow_changed=request.allow_changed,
                note=note,
            )
            directory, differences = self.world.on_first(lambda: stack.enter_context(enter))
            checkpoints = Checkpoints(
                directory.checkpoints, observer.notice, lambda path: observer.saved(path, path.name)
            )
            found: list[Snapshot | None] = []  # stays on rank 0, which alone needs to read the disk
            position = self.world.on_first(lambda: _newest(checkpoints, found))
            if position is not None:
                note(f"resuming from {checkpoints.folder}: {self._where(position)}")
            if self.world.first:
                for line in differences:
                    note(f"overridden: {line}")
                _tell_changes(directory, self.plan, self.world, note)
            self.world.on_first(lambda: self._refuse_another_network(differences, found))
            if self.world.first:
                directory.write_run(settings, facts(self.plan, self.world), differences)
            return self._phases(
                directory, checkpoints, position, found[0] if found else None, observer, note
            )

    def _phases(
        self,
        directory: RunDirectory,
        checkpoints: Checkpoints,
        position: Position | None,
        snapshot: Snapshot | None,
        observer: Observer,
        note: Note,
    ) -> dict[str, Any]:
        """Each phase has its own T and so its own model; weights go from one to the next."""
        plan, world = self.plan, self.world
        finished: dict[str, Mapping[str, Tensor]] = {}
        history: list[dict[str, Any]] = []
        record: dict[str, Any] = {}
        for index, phase in enumerate(plan.recipe.phases):
            if position is not None and index < position.phase:
                continue
            resumed = position is not None and index == position.phase
            model, matched = self.model(phase)
            if phase.start is not None and not resumed:
                weights = self._end_of(phase.start, finished, checkpoints)
                set_tensors(model, weights, f"phase `{phase.start}`")
            compiled = with_steps(plan.compiled, phase)
            results = Results(self, directory, compiled, phase, matched, note)
            if world.first and not directory.has_results:
                results.write_model()

            unwritten: list[object] = []

            def keep(
                fitted: Fitted, results: Results = results, unwritten: list[object] = unwritten
            ) -> None:
                try:
                    results.write(fitted)
                except OSError as error:
                    if unwritten:  # a disk that is full stays so: once is enough
                        return
                    last = fitted.history[-1]
                    unwritten.append(last)
                    observer.notice(
                        f"the weights of {last['phase']} {last['epoch']} were not written: "
                        f"{explain_os_error(error, 'free some space; the run continues')}; those of "
                        "before stay"
                    )

            fitted = fit(
                model,
                plan.data,
                phase,
                self.settings(index),
                observer=observer,
                world=world,
                checkpoints=checkpoints if world.first else None,
                resume=snapshot if resumed else None,
                earlier=history,
                epoch_done=keep,
                stop=self.stop,
                teachers=teachers_of(phase, plan.backend),
            )
            history, finished[phase.name] = fitted.history, fitted.weights
            record = self.record(fitted)
            if world.first:
                results.write(fitted)
        return record

    def _refuse_another_network(
        self, differences: list[str], found: Sequence[Snapshot | None]
    ) -> None:
        """Raise CheckpointError where what is overridden has made it one, before it is written."""
        for snapshot in found:
            if differences and snapshot is not None:
                model, _ = self.model(self.plan.recipe.phases[snapshot.position.phase])
                check_tensors(model, snapshot.tensors["model"], "the checkpoint")

    def model(self, phase: Phase) -> tuple[Model, str | None]:
        """The phase's network with its first weights, and what was matched of those given."""
        plan, request = self.plan, self.plan.request
        model, matched = initialise(
            with_steps(plan.compiled, phase).graph,
            self.seed,
            request.init if phase.start is None else None,
            plan.backend,
            plan.policies[phase.name].policy,
        )
        if request.channels_last:
            to_channels_last(model)
        return model, matched

    def _end_of(
        self, phase: str, finished: Mapping[str, Mapping[str, Tensor]], checkpoints: Checkpoints
    ) -> Mapping[str, Tensor]:
        """The weights that an earlier phase has ended with."""
        if phase in finished:
            return finished[phase]
        read: dict[str, Mapping[str, Tensor]] = {}

        def load() -> None:
            tensors = checkpoints.read(f"phase-{phase}").tensors
            read[phase] = tensors.get("ema", tensors["model"])

        self.world.on_first(load)
        return self.world.tensors_from_first(read.get(phase, {}))

    def settings(self, index: int) -> RunSettings:
        """How the phase of this number is run."""
        recipe, request = self.plan.recipe, self.plan.request
        return RunSettings(
            seed=self.seed,
            phase=index,
            phases=len(recipe.phases),
            trial=self.number,
            trials=len(self.plan.seeds),
            workers=recipe.workers,
            sync_norm=recipe.sync_norm,
            train_output=request.train_output,
            checkpoint_steps=recipe.checkpoint_every,
            checkpoint_minutes=recipe.checkpoint_minutes,
            keep_every=recipe.keep_every,
            deterministic=request.deterministic,
            backend=self.plan.backend,
            channels_last=request.channels_last,
        )

    def record(self, fitted: Fitted) -> dict[str, Any]:
        """What stands in training.json."""
        plan, epochs = self.plan, fitted.history
        return {
            "data": plan.request.data,
            "recipe": plan.recipe.as_dict(),
            "seed": self.seed,
            "init": plan.request.init,
            "backend": plan.backend,
            "channels_last": plan.request.channels_last,
            "memory": {name: chosen.as_dict() for name, chosen in plan.policies.items()},
            "epochs": list(epochs),
            "test_accuracy": epochs[-1]["test_accuracy"],
            "evaluation": fitted.tested,
        }

    def _where(self, position: Position) -> str:
        phases = self.plan.recipe.phases
        if position.phase >= len(phases):
            raise TrainingError(
                f"the run is in its phase {position.phase + 1}, but the recipe has {len(phases)}"
            )
        phase = phases[position.phase]
        if position.phase == len(phases) - 1 and position.epoch >= phase.epochs:
            return "the run is complete (--fresh trains anew)"
        return f"phase {phase.name}, {position.epoch} whole epochs, {position.step} steps"


@dataclass
class Results:
    """What a phase leaves in its run's directory: a network and its weights, written together.

    The network's files wait for the first weights of the phase, so that those of an earlier phase
    do not come to stand beside the network of this one, which has another T.
    """

    trial: Trial
    directory: RunDirectory
    compiled: CompiledNetwork
    phase: Phase
    init: str | None
    note: Note
    _written: bool = False

    def write(self, fitted: Fitted) -> None:
        if not self._written:
            self.write_model()
        self.directory.write_results(fitted.weights, self.trial.record(fitted))

    def write_model(self) -> None:
        chosen = self.trial.plan.policies[self.phase.name]
        memory = None if chosen.policy == "none" else chosen.as_dict()
        self.directory.write_model(
            self.compiled, seed=self.trial.seed, init=self.init, memory=memory, note=self.note
        )
        self._written = True


def _newest(checkpoints: Checkpoints, found: list[Snapshot | None]) -> Position | None:
    """Read the newest checkpoint into ``found``; where it stands."""
    checkpoints.sweep()
    snapshot = checkpoints.latest()
    found.append(snapshot)
    return None if snapshot is None else snapshot.position


def _tell_changes(directory: RunDirectory, plan: TrainingPlan, world: World, note: Note) -> None:
    """Note what has changed around a run that may change its numbers, and is no setting."""
    if directory.known is None:
        return
    before: Mapping[str, Any] = directory.known.get("facts", {})
    now = facts(plan, world)
    for key, what in MACHINE.items():
        if key in before and before[key] != now[key]:
            note(
                f"the run continues with {what} {now[key]}, and had {before[key]}: from here on its "
                "numbers are not those of a run left alone"
            )
