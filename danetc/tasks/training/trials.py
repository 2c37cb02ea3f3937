"""A training from a plan to a directory: trials, phases, what is saved, and how a run is resumed."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from danetc.dsl.diagnostics.diagnostic import SpecError
from danetc.dsl.recipe.settings import Phase
from danetc.errors import UserError
from danetc.output.echo import Note
from danetc.requests import TrainingRequest
from danetc.runtime.model.built import Model, to_channels_last
from danetc.runtime.system.errors import TrainingError
from danetc.runtime.system.files import explain_os_error, save_record, within
from danetc.runtime.training.checkpoints import Checkpoints, Position, Snapshot
from danetc.runtime.training.distributed import FailedElsewhere, World, is_own, joined
from danetc.runtime.training.engine import Fitted, fit
from danetc.runtime.training.observer import Observer, Observers
from danetc.runtime.training.settings import RunSettings
from danetc.runtime.training.signals import Stopped, StopRequest
from danetc.runtime.training.state import check_tensors, set_tensors
from danetc.tasks.model_directory import TRIALS
from danetc.tasks.networks import initialise
from danetc.tasks.training.directory import RunDirectory, opened, refuse_run
from danetc.tasks.training.plan import make_plan, teachers_of, with_steps
from danetc.tasks.training.provenance import MACHINE, facts
from danetc.tasks.training.request import TrainingPlan
from danetc.tasks.training.tensorboard import FOLDER, WITHOUT, TensorBoard, available

Result = TypeVar("Result")


def run(
    request: TrainingRequest, *, observer: Observer, note: Note, stop: StopRequest | None = None
) -> tuple[Path, dict[str, Any]]:
    """Train a network through all phases of a recipe, once or in several trials.

    Under torchrun every process calls this. An existing run is resumed. Return the directory and its
    training.json, or its trials.json. Raises SpecError, UserError; Stopped if a signal, or ``stop``,
    has ended it; FailedElsewhere if rank 0 reports the error.
    """
    stopping = StopRequest() if stop is None else stop

    def work(plan: TrainingPlan, world: World, say: Note) -> tuple[Path, dict[str, Any]]:
        if not available():
            say(WITHOUT)
        try:
            with stopping:
                if plan.several:
                    return plan.directory, _trials(plan, world, stopping, observer, say)
                return plan.directory, Trial(plan, world, stopping, observer, say).run()
        except Stopped as stopped:
            stopped.directory = plan.directory
            raise

    return with_plan(request, note, work)


def with_plan(
    request: TrainingRequest, note: Note, work: Callable[[TrainingPlan, World, Note], Result]
) -> Result:
    """Return what ``work`` makes of a request's plan, in this process or as one of torchrun's.

    Only rank 0 gives notes. Raises as ``run`` does.
    """
    if request.deterministic:  # must be set before CUDA is initialized
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    with joined(SpecError, UserError, Stopped) as world:
        try:
            say = note if world.first else _silent
            return work(make_plan(request, world, say), world, say)
        except (SpecError, UserError) as error:
            if not world.first and not is_own(error):
                raise FailedElsewhere from error
            raise


def _silent(text: str) -> None:
    pass


def _trials(
    plan: TrainingPlan, world: World, stop: StopRequest, observer: Observer, note: Note
) -> dict[str, Any]:
    """Train each seed in a directory of its own. Return their mean and sample standard deviation."""
    world.on_first(lambda: refuse_run(plan.directory))
    results: list[dict[str, Any]] = []
    record: dict[str, Any] = {}
    for number, seed in enumerate(plan.seeds):
        trial = Trial(plan, world, stop, observer, note, number)
        accuracy = trial.run()["test_accuracy"]
        results.append({"seed": seed, "directory": trial.path.name, "test_accuracy": accuracy})
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


@dataclass
class Trial:
    """All phases of a plan under one of its seeds, in one directory."""

    plan: TrainingPlan
    world: World
    stop: StopRequest
    observer: Observer = field(default_factory=Observer)
    note: Note = _silent
    number: int = 0

    def __post_init__(self) -> None:
        self.seed = self.plan.seeds[self.number]
        folder = self.plan.directory
        self.path = within(folder, f"seed-{self.seed}") if self.plan.several else folder

    def run(self) -> dict[str, Any]:
        """Train from the newest checkpoint to the end. Return the record in training.json."""
        plan, world = self.plan, self.world
        settings = plan.settings(self.seed)
        if available():
            board = TensorBoard(self.path / FOLDER, self.note)
            self.observer = Observers([self.observer, board])
        with ExitStack() as stack:
            enter = opened(self.path, settings, plan.request, self.note)
            directory, differences = world.on_first(lambda: stack.enter_context(enter))
            observer = self.observer
            checkpoints = Checkpoints(
                directory.checkpoints, observer.notice, lambda path: observer.saved(path, path.name)
            )
            found: list[Snapshot] = []  # stays on rank 0, which alone needs to read the disk
            position = world.on_first(lambda: _newest(checkpoints, found))
            if position is not None:
                self.note(f"resuming from {checkpoints.folder}: {self._where(position)}")
            if world.first:
                for line in differences:
                    self.note(f"overridden: {line}")
                self._tell_changes(directory)
            world.on_first(lambda: self._refuse_another_network(differences, found))
            if world.first:
                directory.write_run(settings, facts(plan, world), differences)
            return self._phases(directory, checkpoints, position, found)

    def _phases(
        self,
        directory: RunDirectory,
        checkpoints: Checkpoints,
        position: Position | None,
        found: list[Snapshot],
    ) -> dict[str, Any]:
        finished: dict[str, Mapping[str, Tensor]] = {}
        history: list[dict[str, Any]] = []
        record: dict[str, Any] = {}
        for index, phase in enumerate(self.plan.recipe.phases):
            if position is not None and index < position.phase:
                continue
            resumed = position is not None and index == position.phase
            start = None
            if phase.start is not None and not resumed:
                start = self._end_of(phase.start, finished, checkpoints)
            resume = found[0] if resumed and found else None
            fitted = self._train(index, directory, checkpoints, start, resume, history)
            history, finished[phase.name] = fitted.history, fitted.weights
            record = self._record(fitted)
        return record

    def _train(
        self,
        index: int,
        directory: RunDirectory,
        checkpoints: Checkpoints,
        start: Mapping[str, Tensor] | None,
        resume: Snapshot | None,
        history: list[dict[str, Any]],
    ) -> Fitted:
        """Train a phase. It has a T and so a model of its own, which begins with ``start``.

        The network's files are written with the first weights of the phase, so that those of an
        earlier phase never are beside the network of this one, which has another T.
        """
        plan, first, phase = self.plan, self.world.first, self.plan.recipe.phases[index]
        model, matched = self.model(phase)
        if start is not None:
            set_tensors(model, start, f"phase `{phase.start}`")
        model_written = failed = False

        def write_model() -> None:
            nonlocal model_written
            chosen = plan.policies[phase.name]
            memory = None if chosen.policy == "none" else chosen.as_dict()
            network = with_steps(plan.compiled, phase)
            directory.write_model(
                network, seed=self.seed, init=matched, memory=memory, note=self.note
            )
            model_written = True

        def write(fitted: Fitted) -> None:
            if not model_written:
                write_model()
            directory.write_results(fitted.weights, self._record(fitted))

        def keep(fitted: Fitted) -> None:
            nonlocal failed
            try:
                write(fitted)
            except OSError as error:
                if not failed:  # report a full disk only once
                    last = fitted.history[-1]
                    reason = explain_os_error(error, "free some space; the run continues")
                    self.observer.notice(
                        f"the weights of {last['phase']} {last['epoch']} were not written: {reason}; "
                        "the earlier ones stay"
                    )
                failed = True

        if first and not directory.has_results:
            write_model()
        fitted = fit(
            model,
            plan.data,
            phase,
            self.settings(index),
            observer=self.observer,
            world=self.world,
            checkpoints=checkpoints if first else None,
            resume=resume,
            earlier=history,
            epoch_done=keep,
            stop=self.stop,
            teachers=teachers_of(phase, plan.backend),
        )
        if first:
            write(fitted)
        return fitted

    def _refuse_another_network(self, differences: list[str], found: list[Snapshot]) -> None:
        """Raise CheckpointError if an overridden setting changes the network, before it is written."""
        for snapshot in found:
            if differences:
                model, _ = self.model(self.plan.recipe.phases[snapshot.position.phase])
                check_tensors(model, snapshot.tensors["model"], "the checkpoint")

    def model(self, phase: Phase) -> tuple[Model, str | None]:
        """Return the phase's network with its first weights, and what was matched of given ones."""
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
        """Return the last weights of an earlier phase."""
        if phase in finished:
            return finished[phase]
        read: dict[str, Mapping[str, Tensor]] = {}

        def load() -> None:
            tensors = checkpoints.read(f"phase-{phase}").tensors
            read[phase] = tensors.get("ema", tensors["model"])

        self.world.on_first(load)
        return self.world.tensors_from_first(read.get(phase, {}))

    def settings(self, index: int) -> RunSettings:
        """Return the settings of the phase of this number that are not part of the recipe."""
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

    def _record(self, fitted: Fitted) -> dict[str, Any]:
        """Return the contents of training.json."""
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

    def _tell_changes(self, directory: RunDirectory) -> None:
        """Note changes of versions or the machine, which may change the numbers and are no settings."""
        if directory.known is None:
            return
        before: Mapping[str, Any] = directory.known.get("facts", {})
        now = facts(self.plan, self.world)
        for key, what in MACHINE.items():
            if key in before and before[key] != now[key]:
                self.note(
                    f"the run continues with {what} {now[key]}, and had {before[key]}: from here on "
                    "its numbers are not those of an uninterrupted run"
                )


def _newest(checkpoints: Checkpoints, found: list[Snapshot]) -> Position | None:
    """Read the newest checkpoint into ``found`` and return its position."""
    checkpoints.sweep()
    snapshot = checkpoints.latest()
    if snapshot is None:
        return None
    found.append(snapshot)
    return snapshot.position
