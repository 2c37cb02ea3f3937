"""State of the running phase: model, data, optimizer, progress."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from danetc.dsl.recipe.settings import Phase
from danetc.runtime.data import Batch, DataSet
from danetc.runtime.layers.sync import convert_sync
from danetc.runtime.model.built import Model
from danetc.runtime.system.errors import CheckpointError, TrainingError
from danetc.runtime.training.backward import Part, check_backward, make_backward, whole
from danetc.runtime.training.checkpoints import (
    BEST,
    LAST,
    PREVIOUS,
    Checkpoints,
    Position,
    Snapshot,
    position_on_disk,
)
from danetc.runtime.training.distributed import (
    World,
    communication,
    device_name,
    form_buckets,
    share,
)
from danetc.runtime.training.evaluation import Evaluation
from danetc.runtime.training.guards import (
    Firing,
    first_not_finite,
    is_out_of_memory,
    not_finite_tensor,
)
from danetc.runtime.training.losses import Objective, over_time
from danetc.runtime.training.observer import Clock, Epoch, Observer, PhasePlan, StepReport
from danetc.runtime.training.optim import (
    Average,
    Changes,
    make_optimizer,
    make_scheduler,
    put_at,
)
from danetc.runtime.training.settings import RunSettings, autocast
from danetc.runtime.training.signals import Stopped, StopRequest
from danetc.runtime.training.state import TrainingState, seed_everything
from danetc.runtime.training.totals import InFlightStep, StepMetrics, StepQueue, Sums, Totals
from danetc.runtime.training.training_batches import TrainingBatches

_UNFIT = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""Errors that a damaged state raises when it is restored."""


class PhaseRun:
    """A phase while it runs. ``kept`` is the model that is tested and saved at the end."""

    def __init__(
        self,
        model: Model,
        data: DataSet,
        phase: Phase,
        settings: RunSettings,
        world: World,
        observer: Observer,
        checkpoints: Checkpoints | None,
        stop: StopRequest,
        earlier: Sequence[dict[str, Any]],
        teachers: Mapping[str, Model],
    ) -> None:
        self.phase, self.settings, self.world = phase, settings, world
        self.observer, self.checkpoints, self.stop = observer, checkpoints, stop
        output = settings.train_output
        target = data.target
        self.loss = Objective(phase.loss, model.signature, output, model, teachers, target)
        self.test_loss = Objective(phase.loss, model.signature, output, target=target)
        check_backward(phase.gradient, model, self.loss)
        self.backward = make_backward(phase.gradient)
        dtype = next(model.parameters()).dtype
        self.batches = TrainingBatches(
            data, phase, settings, world, model.signature, self.loss.shape, dtype
        )
        self.evaluation = Evaluation(
            phase=phase.name,
            phase_index=settings.phase,
            seed=settings.seed,
            steps=model.signature.steps,
            evaluate=phase.evaluate,
            loss=phase.loss,
            output=output,
            precision=phase.precision,
            ema=phase.ema is not None,
            batch=self.batches.part,
            processes=world.size,
            backend=settings.backend,
            channels_last=settings.channels_last,
            deterministic=settings.deterministic,
            device=device_name(world.device),
            threads=torch.get_num_threads(),
            data=data.describe(),
        )
        seed_everything(settings.seed, settings.phase, world.rank)
        model.to(world.device)
        for teacher in teachers.values():
            teacher.to(world.device).eval()
        synchronised = settings.sync_norm and world.size > 1
        self.model: Model = model
        if synchronised:
            convert_sync(model)
        several = len(model.signature.outputs) > 1
        self.shared: nn.Module = model
        if whole(phase.gradient):  # else the loop takes the mean of gradients itself
            self.shared = share(model, world, synchronised=synchronised, unused=several)
        average: AveragedModel | None = None
        self.kept: nn.Module = model
        if phase.ema is not None:
            average = Average(model, phase.ema)
            self.kept = average.module
        self.changes = Changes(phase, self.batches.steps, model, self.kept)
        optimizer = make_optimizer(model, phase.optimizer)
        scaler = torch.amp.GradScaler(world.device.type, enabled=phase.precision == "mixed")
        self.state = TrainingState(
            model,
            optimizer,
            make_scheduler(optimizer, phase, self.batches.steps),
            scaler,
            average,
            self.totals(),
            world,
            self.evaluation.as_dict(),
            history=list(earlier),
        )
        self.clock = Clock(world.device)
        self.steps = StepQueue(world.device)
        self.rate = 0.0
        self._folder = None if checkpoints is None else checkpoints.folder
        """Folder of the checkpoints; ``begin`` tells it to every process."""
        self._saved_at = time.monotonic()
        self._saved_step = 0
        self._lap = time.perf_counter()
        self._epoch_began = self._lap
        self._epoch_images = 0
        self._speed = 0.0

    # -- beginning and ending ----------------------------------------------------------------------

    def begin(self, resume: Snapshot | None) -> Position:
        """Restore a snapshot, and return the position from which the phase goes on."""
        position = Position(self.settings.phase)
        found = self._from_first(resume)
        self._folder = self.world.from_first(self._folder)
        form_buckets(self.shared, self._loss_of_nothing)
        seed_everything(self.settings.seed, self.settings.phase, self.world.rank)
        if found is not None:
            try:
                position = self._restore(found)
            except _UNFIT as error:
                if isinstance(error, TrainingError) or is_out_of_memory(error):
                    raise
                raise CheckpointError(
                    "the checkpoint is damaged: its state is not as danetc writes it "
                    f"({type(error).__name__}: {str(error).partition(chr(10))[0]})"
                ) from error
        self.changes.put(self.state.done)
        self._saved_step = self.state.done
        phase, settings = self.phase, self.settings
        if self.world.first and self.checkpoints is not None:
            self.checkpoints.sweep()
        if self.world.heartbeat is not None:
            self.world.heartbeat.hint = self.last_good
        self.observer.begin(
            PhasePlan(
                phase,
                settings.phase,
                settings.phases,
                phase.epochs,
                self.batches.steps,
                position.epoch,
                position.step,
                phase.batch,
                self.batches.images,
                self.batches.tests,
                self.world.size,
                str(self.world.device),
                settings.trial,
                settings.trials,
                settings.seed,
            )
        )
        return position

    def _from_first(self, resume: Snapshot | None) -> Snapshot | None:
        """Return the snapshot of rank 0 in every process; only rank 0 needs to read the disk."""
        world = self.world
        if world.size == 1:
            return resume
        head = None if resume is None else (resume.position, resume.state, list(resume.tensors))
        head = world.from_first(head)
        if head is None:
            return None
        position, state, stems = head
        tensors = {
            stem: world.tensors_from_first({} if resume is None else resume.tensors[stem])
            for stem in stems
        }
        return Snapshot(position, tensors, state)

    def _restore(self, found: Snapshot) -> Position:
        position = found.position
        if found.state["world"] != self.world.size:
            self.observer.notice(
                f"the run was on {found.state['world']} processes and is on {self.world.size} now: "
                "from here on its numbers are not those of a run left alone"
            )
            # The stored random states are of other processes: seed these by their position.
            seed_everything(
                self.settings.seed, self.settings.phase, self.world.rank, found.state["done"]
            )
        same = found.state["optimizer_name"] == self.phase.optimizer.name
        if not same:
            self.observer.notice(
                f"the state of {found.state['optimizer_name']} does not fit {self.phase.optimizer.name}, "
                "which starts without one"
            )
        self.state.restore(found, with_optimizer=same)
        self.rate = float(found.state["rate"])
        if found.state["steps"] != self.batches.steps:
            position = self._moved(position, found.state["steps"])
        return position

    def _moved(self, position: Position, before: int) -> Position:
        """Scale a position to an epoch that now has another number of steps."""
        step = position.step * self.batches.steps // before
        self.state.done = position.epoch * self.batches.steps + step
        put_at(self.state.scheduler, self.state.done)
        self.observer.notice(
            f"an epoch has {self.batches.steps} steps now, not {before}; it resumes at step {step}"
        )
        return Position(position.phase, position.epoch, step)

    def close(self) -> None:
        """Stop the loaders and wait for the checkpoint that is being written."""
        self.batches.close()
        if self.checkpoints is not None:
            self.checkpoints.wait()

    # -- the network -------------------------------------------------------------------------------

    def learn(
        self, images: Tensor, labels: Tensor, targets: Tensor, share: float, clock: Clock
    ) -> None:
        """Add the gradients of a part of a batch, weighted by ``share``, and its totals."""
        part = Part(
            self.shared,
            self.model,
            self.as_taken(images),
            targets,
            self.loss,
            self.autocast,
            lambda loss: self.state.scaler.scale(loss * share),
            clock.lap,
        )
        outputs, loss = self.backward(part)
        self.state.totals.add(over_time(self.loss.output(outputs)), labels, loss)

    def gather_gradients(self) -> None:
        """Average gradients over processes unless DDP has done so."""
        if self.world.size > 1 and not whole(self.phase.gradient):
            self.world.mean([p.grad for p in self.model.parameters() if p.grad is not None])

    def as_taken(self, images: Tensor) -> Tensor:
        """Return images [N, ...] or events [N, T, ...] in the layout that networks take."""
        return images.transpose(0, 1) if self.batches.events else images

    def _loss_of_nothing(self) -> Tensor:
        images = self.batches.zeros()
        labels = self.batches.labels_like(images)
        with self.autocast():
            return self.loss(self.shared(self.as_taken(images)), labels, self.as_taken(images))

    def totals(self) -> Totals:
        """Return empty totals."""
        return Totals(self.world.device, self.loss.target, self.loss.classes)

    def autocast(self) -> AbstractContextManager[object]:
        return autocast(self.phase.precision, self.world.device)

    # -- what is reported ------------------------------------------------------------------------------

    def start_epoch(self, start: int) -> Clock:
        """Start the clock, and reset the totals unless the epoch resumes at step ``start``."""
        if start == 0:
            self.state.totals.reset()
            self.state.seconds = 0.0
        self.clock = Clock(self.world.device)
        self._lap = self._epoch_began = time.perf_counter()
        self._epoch_images = 0
        return self.clock

    def add_step(self, epoch: int, batch: Batch, parts: Sequence[Tensor]) -> InFlightStep:
        """Queue a step whose gradients are computed, or queued on the device."""
        self.rate = float(self.state.optimizer.param_groups[0]["lr"])
        return self.steps.add(
            InFlightStep(epoch, batch, parts, self.rate, self.state.totals.coming())
        )

    def hold_back_if_broken(self) -> None:
        """Make the optimizer skip the step if its loss, which the host reads later, is not finite."""
        if self.steps.ahead and not self.state.scaler.is_enabled():
            optimizer: Any = self.state.optimizer
            optimizer.grad_scale, optimizer.found_inf = None, self.state.totals.broken

    def report_all(self) -> None:
        """Report all steps in flight. Raises TrainingError as ``not_finite``."""
        if not len(self.steps):
            return
        done = self.steps.read(self.state.totals, 0)
        if any(self.world.any(any(each.broken for each in done))):
            raise self.not_finite(done)
        self.report(done)

    def report(self, done: Sequence[StepMetrics]) -> None:
        for each in done:
            step, sums = each.step, each.sums
            self._epoch_images += step.batch.total
            self._speed = self._epoch_images / max(1e-9, time.perf_counter() - self._epoch_began)
            self.observer.step(
                StepReport(
                    self.phase.name,
                    step.epoch + 1,
                    step.batch.step + 1,
                    self.batches.steps,
                    step.epoch * self.batches.steps + step.batch.step + 1,
                    sums.loss,
                    sums.top1,
                    sums.top5,
                    self._speed,
                    step.rate,
                    self.clock.shares(),
                    each.norm,
                )
            )

    def figures(self, epoch: int, test: Sums, firing: Firing) -> Epoch:
        """Return the figures of an epoch after its evaluation."""
        train = self.state.totals.over(self.world)
        self._count_seconds()
        exposed = communication(self.shared) * max(1, self._epoch_images // self.phase.batch)
        self.clock.resolve()
        self.clock.move("backward", "communication", exposed)
        return Epoch(
            self.phase.name,
            epoch + 1,
            self.rate,
            train.loss,
            train.top1,
            test.loss,
            test.top1,
            self.state.seconds,
            train.top5,
            test.top5,
            self._speed,
            self.clock.shares(),
            firing.rates,
            firing.warnings(),
            train.skipped + test.skipped,
            test.scores,
        )

    def _count_seconds(self) -> None:
        now = time.perf_counter()
        self.state.seconds += now - self._lap
        self._lap = now

    # -- what is saved -----------------------------------------------------------------------------

    def checkpoint_is_due(self) -> bool:
        """True on rank 0 if a checkpoint is due."""
        if not self.world.first or self.checkpoints is None:
            return False
        every, minutes = self.settings.checkpoint_steps, self.settings.checkpoint_minutes
        steps = self.state.done + 1 - self._saved_step
        late = minutes > 0 and time.monotonic() - self._saved_at >= 60 * minutes
        return late or (every > 0 and steps >= every)

    def save_later(self, position: Position, *names: str) -> None:
        """Copy the state now, and write it while the training goes on."""
        snapshot = self._snapshot(position)
        if snapshot is not None and self.checkpoints is not None:
            self.checkpoints.write_later(snapshot, *names)

    def finish_epoch(self, epoch: int, figures: Epoch) -> None:
        """Save the state after an epoch, under the further names that apply to it."""
        phase, settings = self.phase, self.settings
        names = [LAST]
        if self.state.best is None or figures.quality > self.state.best:
            self.state.best = figures.quality
            names.append(BEST)
        if settings.keep_every and (epoch + 1) % settings.keep_every == 0:
            names.append(f"epoch-{len(self.state.history):04}")
        if epoch + 1 == phase.epochs and settings.phases > 1:
            names.append(f"phase-{phase.name}")
        self.state.totals.reset()
        self.state.seconds = 0.0
        self.save_later(Position(settings.phase, epoch + 1, 0), *names)

    def leave(self, position: Position) -> None:
        """Save the state and raise Stopped, in every process."""
        snapshot = self._snapshot(position)
        done = False
        if snapshot is not None and self.checkpoints is not None:
            done = self.checkpoints.write(snapshot, LAST)
        done = self.world.from_first(done)
        signum = max(self.world.gather(self.stop.signal or 0))
        raise Stopped(signum, f"{self.phase.name}, {position}", done)

    def _snapshot(self, position: Position) -> Snapshot | None:
        """Return the current state on rank 0. Raises TrainingError if a tensor is not finite."""
        broken = not_finite_tensor(self.model)
        if any(self.world.any(broken is not None)):
            named = next(name for name in self.world.gather(broken) if name is not None)
            raise TrainingError(
                f"`{named}` is no longer finite after {position}; lower optimizer.lr, lengthen "
                "warmup, or set clip" + self.last_good()
            )
        self._count_seconds()
        self._saved_at, self._saved_step = time.monotonic(), self.state.done
        extra = {
            "steps": self.batches.steps,
            "phase": self.phase.name,
            "optimizer_name": self.phase.optimizer.name,
            "rate": self.rate,
        }
        return self.state.snapshot(position, extra)

    def last_good(self) -> str:
        """Return the end of a message that names the newest checkpoint, or ``""``."""
        if self._folder is None:
            return ""
        # Other ranks read the disk, where `last` is missing if rank 0 died while replacing it.
        for place in (self._folder / LAST, self._folder / PREVIOUS):
            newest = (
                self.checkpoints.last_written() if self.checkpoints else position_on_disk(place)
            )
            if newest is not None:
                return f"; the last good checkpoint is {place} ({newest})"
        return ""

    def not_finite(self, done: Sequence[StepMetrics]) -> TrainingError:
        """Return the error of a step whose loss is not finite, with the layer where that begins.

        All processes call it, each for its part of the batch.
        """

        def again(x: Tensor) -> object:
            with self.autocast():
                return self.model(self.as_taken(x))

        (last,) = done
        step = last.step
        places = [first_not_finite(self.model, x, again) for x in step.parts]
        found = next((place for place in places if "loss alone" not in place), places[0])
        gathered = self.world.gather((last.broken, found))
        rank, where = next((n, place) for n, (is_bad, place) in enumerate(gathered) if is_bad)
        on = f" on rank {rank}" if self.world.size > 1 else ""
        return TrainingError(
            f"the loss is no longer finite in phase `{self.phase.name}`, epoch {step.epoch + 1}, step "
            f"{step.batch.step + 1}{on}, at a learning rate of {step.rate:.3g}; it begins in {where}; "
            "lower optimizer.lr, lengthen warmup, or set clip" + self.last_good()
        )
