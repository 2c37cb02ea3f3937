"""Training of a plan: its trials and phases, the files that are written, and the resumption of a run."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from danetc.dsl.diagnostics.diagnostic import SpecError
from danetc.dsl.recipe.settings import Phase
from danetc.errors import UserError
from danetc.output.echo import Note
from danetc.requests import TrainingRequest
from danetc.runtime.model.built import Model, to_channels_last
from danetc.runtime.model.weight_files import set_tensors
from danetc.runtime.system.errors import TrainingError
from danetc.runtime.system.files import explain_os_error, save_record
from danetc.runtime.training.checkpoints import Checkpoints, Position, Snapshot, read_checkpoint
from danetc.runtime.training.distributed import FailedElsewhere, World, is_own, joined
from danetc.runtime.training.engine import PhaseRun, fit
from danetc.runtime.training.observer import Callback, Callbacks, RunSettings
from danetc.runtime.training.signals import Stopped, StopRequest
from danetc.tasks.model_directory import TRAINING, TRIALS, model_files
from danetc.tasks.networks import initialise
from danetc.tasks.training.directory import RunDirectory, opened, refuse_run, weights_of
from danetc.tasks.training.plan import TrainingPlan, fields_of, make_plan, teachers_of, with_steps
from danetc.tasks.training.provenance import differences
from danetc.tasks.training.tensorboard import FOLDER, WITHOUT, TensorBoard, available

Result = TypeVar("Result")


def run(
    request: TrainingRequest, *, observer: Callback, note: Note, stop: StopRequest | None = None
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
                if len(plan.seeds) > 1:
                    return plan.directory, _trials(plan, world, stopping, observer, say)
                return plan.directory, Trial(plan, world, stopping, observer, say).run()
        except Stopped as stopped:
            stopped.directory = plan.directory
            raise

    return with_plan(request, note, work)


def with_plan(
    request: TrainingRequest, note: Note, work: Callable[[TrainingPlan, World, Note], Result]
) -> Result:
    """Return the result of ``work`` on the plan of a request, in this process or in those of torchrun.

    Only rank 0 prints notes. Raises as ``run`` does.
    """
    if request.deterministic:  # must be set before CUDA is initialized
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    with joined(SpecError, UserError, Stopped, device=request.device) as world:
        try:
            say = note if world.first else lambda text: None
            return work(make_plan(request, world, say), world, say)
        except (SpecError, UserError) as error:
            if not world.first and not is_own(error):
                raise FailedElsewhere from error
            raise


def _trials(
    plan: TrainingPlan, world: World, stop: StopRequest, observer: Callback, note: Note
) -> dict[str, Any]:
    """Train each seed in a directory of its own. Return their mean and sample standard deviation."""
    world.on_first(lambda: refuse_run(plan.directory))
    trials: list[dict[str, Any]] = []
    record: dict[str, Any] = {}
    for number, (seed, place) in enumerate(plan.places()):
        accuracy = Trial(plan, world, stop, observer, note, number).run()["test_accuracy"]
        trials.append({"seed": seed, "directory": place.name, "test_accuracy": accuracy})
        known = [each["test_accuracy"] for each in trials if each["test_accuracy"] is not None]
        record = {
            "seeds": list(plan.seeds),
            "trials": trials,
            "test_accuracy": statistics.fmean(known) if known else None,
            "deviation": statistics.stdev(known) if len(known) > 1 else None,
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
    observer: Callback = field(default_factory=Callback)
    note: Note = lambda text: None
    number: int = 0

    def __post_init__(self) -> None:
        self.seed, self.path = self.plan.places()[self.number]

    def run(self) -> dict[str, Any]:
        """Train from the newest checkpoint to the end. Return the record in training.json."""
        plan, world, phases = self.plan, self.world, self.plan.recipe.phases
        settings = plan.settings(self.seed)
        if available():
            board = TensorBoard(self.path / FOLDER, self.note)
            self.observer = Callbacks([self.observer, board], self.stop)
        finished: dict[str, Mapping[str, Tensor]] = {}
        record: dict[str, Any] = {"epochs": []}
        with ExitStack() as stack:
            enter = opened(self.path, settings, plan.request, self.note)
            directory, changes = world.on_first(lambda: stack.enter_context(enter))
            checkpoints = Checkpoints(
                directory.checkpoints, self.observer.on_notice, self.observer.on_checkpoint
            )
            resume = world.on_first(checkpoints.latest)
            begun = 0 if resume is None else resume.position.phase
            if resume is not None:
                self.note(f"resuming from {checkpoints.folder}: {self._where(resume.position)}")
                if changes:
                    model, _ = self.model(phases[begun])
                    source = "the checkpoint is of another network: it"
                    set_tensors(model, resume.tensors["model"], source)
            if world.first:
                facts = plan.facts(world)
                for change in changes:
                    self.note(f"overridden: {change}")
                for difference in differences((directory.known or {}).get("facts", {}), facts):
                    self.note(
                        f"the run continues, but {difference}: from here on its numbers are not "
                        "those of an uninterrupted run"
                    )
                if (git := facts["git"]) is not None and git["changed"] is None:
                    both = "the commit and " if git["commit"] is None else ""
                    self.note(
                        f"git did not report {both}the changed files: run.json has null there"
                    )
                directory.write_run(settings, facts, changes)
            for index, phase in enumerate(phases[begun:], begun):
                model, matched = self.model(phase)
                snapshot = resume if index == begun else None
                if phase.start is not None and snapshot is None:
                    start = finished.get(phase.start) or self._end_of(phase.start, checkpoints)
                    set_tensors(model, start, f"phase `{phase.start}`")
                finished[phase.name], record = self._train(
                    index, model, matched, directory, checkpoints, snapshot, record["epochs"]
                )
        return record

    def _train(
        self,
        index: int,
        model: Model,
        matched: str | None,
        directory: RunDirectory,
        checkpoints: Checkpoints,
        resume: Snapshot | None,
        earlier: list[dict[str, Any]],
    ) -> tuple[Mapping[str, Tensor], dict[str, Any]]:
        """Train a phase, and write the network and the results to the directory. Return weights and record.

        The network's files are written with the first weights of the phase, so that those of an
        earlier phase, which may have another T, are never beside the network of this one.
        """
        plan, first, phase = self.plan, self.world.first, self.plan.recipe.phases[index]
        network_written = False

        def write(run: PhaseRun | None) -> None:
            nonlocal network_written
            if not network_written:
                chosen = plan.policies[phase.name]
                memory = None if chosen.policy == "none" else asdict(chosen)
                network = with_steps(plan.compiled, phase)
                files = model_files(
                    network, seed=self.seed, init=matched, memory=memory, note=self.note
                )
                directory.write_model(files)
                network_written = True
            if run is not None:
                directory.write_results(run.weights, self._record(run))

        def epoch_done(run: PhaseRun) -> None:
            try:
                write(run)
            except OSError as error:
                last = run.history[-1]
                reason = explain_os_error(error, "free some space; the run continues")
                self.observer.on_notice(
                    f"the weights of {last['phase']} {last['epoch']} were not written: {reason}; "
                    "the earlier ones are kept"
                )

        if first and not (directory.path / TRAINING).is_file():
            write(None)
        run = PhaseRun(
            model,
            plan.data,
            phase,
            self.settings(index),
            self.observer,
            self.world,
            checkpoints if first else None,
            self.stop,
            earlier,
            teachers_of(phase, plan.backend),
        )
        fit(run, resume, epoch_done)
        if first:
            write(run)
        return run.weights, self._record(run)

    def model(self, phase: Phase) -> tuple[Model, str | None]:
        """Return the phase's network with its first weights, and what was matched of given ones."""
        plan, request = self.plan, self.plan.request
        is_first = phase.start is None
        model, matched = initialise(
            with_steps(plan.compiled, phase).graph,
            self.seed,
            request.init if is_first else None,
            plan.backend,
            plan.policies[phase.name].policy,
            skip=request.init_skip if is_first else None,
        )
        if request.channels_last:
            to_channels_last(model)
        return model, matched

    def _end_of(self, phase: str, checkpoints: Checkpoints) -> Mapping[str, Tensor]:
        """Return the weights at the end of a phase that was trained before the run was resumed."""
        return self.world.on_first(
            lambda: weights_of(read_checkpoint(checkpoints.folder / f"phase-{phase}"))
        )

    def settings(self, index: int) -> RunSettings:
        """Return the settings of the phase of this number that are not part of the recipe."""
        recipe, request = self.plan.recipe, self.plan.request
        given = [type(each).on_phase_start for each in request.callbacks]
        return RunSettings(
            seed=self.seed,
            phase=index,
            phases=len(recipe.phases),
            trial=self.number,
            trials=len(self.plan.seeds),
            checkpoint_steps=recipe.checkpoint_every,
            backend=self.plan.backend,
            watched=any(method is not Callback.on_phase_start for method in given),
            **fields_of(recipe, "workers", "sync_norm", "checkpoint_minutes", "keep_every"),
            **fields_of(request, "train_output", "deterministic", "channels_last", "cuda_graphs"),
        )

    def _record(self, run: PhaseRun) -> dict[str, Any]:
        """Return the contents of training.json."""
        plan, epochs = self.plan, run.history
        return {
            **fields_of(plan.request, "data", "init", "channels_last"),
            "recipe": plan.recipe.as_dict(),
            "seed": self.seed,
            "backend": plan.backend,
            "memory": {name: asdict(chosen) for name, chosen in plan.policies.items()},
            "epochs": list(epochs),
            "test_accuracy": epochs[-1]["test_accuracy"],
            "evaluation": dict(run.tested),
        }

    def _where(self, position: Position) -> str:
        phases = self.plan.recipe.phases
        if position.phase >= len(phases):
            raise TrainingError(
                f"the run is in its phase {position.phase + 1}, but the recipe has {len(phases)}"
            )
        phase = phases[position.phase]
        if position.phase == len(phases) - 1 and position.epoch >= phase.epochs:
            return "the run is complete (--fresh trains again)"
        return f"phase {phase.name}, {position.epoch} whole epochs, {position.step} steps"
