"""The training loop: one phase of a recipe, from its start or a checkpoint to its end.

The same settings on the same machine give the same bits, however often the run is killed and resumed.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from danetc.dsl.recipe.settings import Phase, factors_of
from danetc.dsl.recipe.text import write_setting
from danetc.runtime.data.batches import AHEAD, worker_death
from danetc.runtime.data.dataset import DataSet
from danetc.runtime.data.request import Split
from danetc.runtime.kernels.torch_internals import waited
from danetc.runtime.layers.sync import convert_sync
from danetc.runtime.model.built import Model
from danetc.runtime.model.signature import outputs_of
from danetc.runtime.model.weight_files import set_tensors
from danetc.runtime.system.devices import arithmetic, device_name, has_streams
from danetc.runtime.system.errors import DataError, TrainingError
from danetc.runtime.training import backward, guards, state
from danetc.runtime.training.checkpoints import BEST, LAST, Checkpoints, Position, Snapshot
from danetc.runtime.training.distributed import World, form_buckets, share
from danetc.runtime.training.evaluation import Evaluation, read_evaluation
from danetc.runtime.training.losses import Objective
from danetc.runtime.training.observer import Callback, Epoch, PhasePlan, RunSettings, StepReport
from danetc.runtime.training.optim import Average, Schedules, freeze, make_optimizer
from danetc.runtime.training.signals import BY_CODE, Stopped, StopRequest
from danetc.runtime.training.totals import Clock, InFlightStep, Sums, Totals, added_up, arriving
from danetc.runtime.training.training_batches import TrainingBatches


def fit(
    run: PhaseRun,
    resume: Snapshot | None = None,
    epoch_done: Callable[[PhaseRun], None] | None = None,
) -> None:
    """Train a model by a phase of a recipe, from the snapshot ``resume`` if there is one.

    ``run`` then has the results. Rank 0 calls ``epoch_done`` after each epoch. The global random states
    are restored at the end.

    Raises DataError if the data do not fit the network; TrainingError for contradictory settings, a
    loss that is no longer finite and a lack of memory; WeightsError if ``resume`` is of another network;
    Stopped if a stop was requested.
    """
    phase, number, world = run.phase, run.settings.phase, run.world
    with ExitStack() as stack:
        stack.enter_context(arithmetic(phase.precision, world.device))
        stack.enter_context(state.own_random_state(world.device))
        stack.enter_context(state.determinism(world.device, run.settings.deterministic))
        stack.callback(lambda: run.observer.on_phase_end())
        try:
            run.set_up()
            if run.checkpoints is not None:
                stack.callback(run.checkpoints.wait)
            stack.callback(run.batches.close)
            position = run.begin(resume)
            for epoch in range(position.epoch, phase.epochs):
                if epoch > position.epoch and any(world.any(run.stop.signal == BY_CODE)):
                    run.leave(Position(number, epoch, 0))
                run.train_epoch(epoch, position.step if epoch == position.epoch else 0)
                figures = run.evaluate(epoch)
                run.history.append(figures.as_dict())
                if epoch_done is not None and world.first:
                    epoch_done(run)
                run.observer.on_epoch_end(figures)
                run.finish_epoch(epoch, figures)
        except (RuntimeError, MemoryError) as error:
            if guards.is_out_of_memory(error):
                advice = guards.out_of_memory(phase, world.size, world.device)
                raise world.own(TrainingError(advice)) from error
            if died := worker_death(error):
                raise world.own(DataError(died)) from error
            raise


_UNFIT = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""Errors that a damaged state raises when it is restored."""


@dataclass(eq=False)
class PhaseRun:
    """A phase of a recipe, and its state while it runs.

    All processes of the ``world`` have the same arguments; ``observer`` and ``checkpoints`` matter on rank 0
    only. ``earlier`` has the figures of the phases before this one. ``teachers`` are the networks that terms of
    the loss learn from, by their directories.

    State: ``shared`` is called in place of ``model`` in training: the model, or DDP around it. ``kept`` is
    tested and saved at the end: the model, or the ``average`` of its weights. ``done`` counts the steps of the
    phase. ``tested`` describes the last evaluation (``Evaluation.as_dict``), before the first one the next.
    ``history`` has the figures of the epochs of all phases.
    """

    model: Model
    data: DataSet
    phase: Phase
    settings: RunSettings = RunSettings()
    observer: Callback = field(default_factory=Callback)
    world: World = field(default_factory=World)
    checkpoints: Checkpoints | None = None
    stop: StopRequest = field(default_factory=StopRequest)
    earlier: Sequence[dict[str, Any]] = ()
    teachers: Mapping[str, Model] = field(default_factory=dict)

    @property
    def weights(self) -> dict[str, Tensor]:
        """Copies of the tensors of ``kept``, on the CPU."""
        return state.copies(self.kept.state_dict())

    def set_up(self) -> None:
        """Create the objects that the phase needs. Raises DataError and TrainingError like ``fit``."""
        model, data, phase, settings = self.model, self.data, self.phase, self.settings
        world, teachers = self.world, self.teachers
        if not world.first:
            self.observer = Callback()
        output, target = settings.train_output, data.target
        self.loss = Objective(phase.loss, model.signature, output, model, teachers, target)
        self.test_loss = Objective(phase.loss, model.signature, output, target=target)
        self.new_totals = partial(Totals, world.device, target, self.loss.shape[0])
        self.autocast = partial(state.autocast, phase.precision, world.device)
        backward.check_backward(phase.gradient, model, self.loss, phase.accumulate)
        self.backward = backward.make_backward(phase.gradient)
        self.batches = TrainingBatches(data, phase, settings, world, model, self.loss.shape)
        self.evaluation = Evaluation(
            phase=phase.name,
            phase_index=settings.phase,
            steps=model.signature.steps,
            output=output,
            ema=phase.ema is not None,
            batch=self.batches.part,
            processes=world.size,
            device=device_name(world.device),
            threads=torch.get_num_threads(),
            data=data.describe(),
            **{key: getattr(phase, key) for key in ("evaluate", "loss", "precision")},
            **{key: getattr(settings, key) for key in ("seed", "backend", "deterministic")},
            channels_last=settings.channels_last,
        )
        model.to(world.device)
        freeze(model, factors_of(phase.freeze))
        for teacher in teachers.values():
            teacher.to(world.device).eval()
        self.shared: nn.Module = model
        if world.size > 1:
            if settings.sync_norm:
                convert_sync(model)
            if phase.gradient.name == "bptt":  # otherwise the training loop averages the gradients
                self.shared = share(model, world, synchronised=settings.sync_norm)
        self.average = None if phase.ema is None else Average(model, phase.ema)
        self.kept: nn.Module = model if self.average is None else self.average.module
        state.seed_everything(settings.seed, settings.phase)  # an optimizer of the user's may draw
        self.optimizer = make_optimizer(model, phase.optimizer, factors_of(phase.lr_scale))
        self.own_optimizer = "function" in phase.optimizer  # its state is for its arguments alone
        text = write_setting("optimizer", phase.optimizer)
        self.optimizer_name = text if self.own_optimizer else phase.optimizer.name
        self.schedules = Schedules(phase, self.batches.steps, self.optimizer, model, self.kept)
        self.graphed: backward.GraphedPass | None = None
        if settings.cuda_graphs:
            backward.check_graphs(phase, world)
            self.graphed = backward.GraphedPass(self.learn, [*model.parameters()])
        self.scaler = torch.amp.GradScaler(world.device.type, enabled=phase.precision == "fp16")
        self.done = 0
        self.history = list(self.earlier)
        self.tested = self.evaluation.as_dict()
        self.totals = self.new_totals(terms=self.loss.terms)
        # An optimizer of the user's does not skip a step whose loss is not finite, and a callback that
        # gets the model sees it after the step that is reported.
        at_once = self.own_optimizer or settings.watched
        self.ahead = AHEAD if has_streams(world.device) and not at_once else 0
        self.in_flight: deque[InFlightStep] = deque()
        self._speed = 0.0

    def begin(self, resume: Snapshot | None) -> Position:
        """Restore a snapshot, and return the position from which the phase goes on."""
        settings, world = self.settings, self.world
        form_buckets(self.shared, self._dummy_loss)
        state.seed_everything(settings.seed, settings.phase, world.rank)
        position = Position(settings.phase)
        if resume is not None:
            try:
                position = self._restore(resume)
            except _UNFIT as error:
                if guards.is_out_of_memory(error):
                    raise
                raise TrainingError(
                    "the checkpoint is damaged: its state is not as danetc writes it "
                    f"({type(error).__name__}: {str(error).partition(chr(10))[0]})"
                ) from error
        self.schedules.put(self.done)
        self._saved_at, self._saved_step = time.monotonic(), self.done
        progress = self.batches.steps, *position[1:]
        plan = PhasePlan(self.phase, *progress, settings, self.model, self.optimizer)
        self.observer.on_phase_start(plan)
        return position

    def _dummy_loss(self) -> Tensor:
        with self.autocast():
            outputs = outputs_of(self.shared(self.batches.zeros()))
            return torch.stack([output.float().mean() for output in outputs]).sum()

    def _restore(self, found: Snapshot) -> Position:
        """Restore a snapshot, which every process has, and return its position.

        With another number of processes, the random states are seeded by the position instead.
        Raises WeightsError if the snapshot is of another network.
        """
        record, tensors, world = found.state, found.tensors, self.world
        source = "the checkpoint is of another network: it"
        set_tensors(self.model, tensors["model"], source)
        if record["optimizer_name"] == self.optimizer_name:
            saved = tensors["optimizer"], record["optimizer"]
            state.set_optimizer_state(self.model, self.optimizer, *saved)
        else:
            self.observer.on_notice(
                f"the state of {record['optimizer_name']} does not fit {self.optimizer_name}, "
                "which starts without one"
            )
        if record["scaler"] and self.scaler.is_enabled():
            self.scaler.load_state_dict(record["scaler"])
        if self.average is not None:
            set_tensors(self.average.module, tensors.get("ema", tensors["model"]), source)
        self.rate = float(record["rate"])
        self._began = time.perf_counter() - float(record["seconds"])
        self.history = [Epoch.read(each).as_dict() for each in record["history"]]
        self.tested = read_evaluation(record["tested"]).as_dict()
        position, steps = found.position, self.batches.steps
        if record["steps"] != steps:
            position = position._replace(step=position.step * steps // record["steps"])
            self.observer.on_notice(
                f"an epoch has {steps} steps now, not {record['steps']}; it resumes at step {position.step}"
            )
        self.done = position.epoch * steps + position.step
        # for generators that the snapshot lacks, such as those of another device
        state.seed_everything(self.settings.seed, self.settings.phase, world.rank, self.done)
        if record["world"] == world.size:
            self.totals.set(record["totals"][world.rank])
            state.set_random_state(tensors[f"rank-{world.rank}"], world.device)
        else:
            self.observer.on_notice(
                f"the run was on {record['world']} processes and is on {world.size} now: from here on "
                "its numbers are not those of an uninterrupted run"
            )
            if world.first:
                self.totals.set([sum(column) for column in zip(*record["totals"], strict=True)])
        return position

    def checkpoint_is_due(self) -> bool:
        """True on rank 0 if a checkpoint is due."""
        every, minutes = self.settings.checkpoint_steps, self.settings.checkpoint_minutes
        late = minutes > 0 and time.monotonic() - self._saved_at >= 60 * minutes
        due = late or 0 < every <= self.done + 1 - self._saved_step
        return due and self.checkpoints is not None

    def save_later(self, position: Position, *names: str) -> None:
        """Copy the state now, and write it as ``last`` and under ``names`` while the training goes on.

        All processes call it together. Raises TrainingError if a parameter or buffer is not finite.
        """
        world = self.world
        broken = next(filter(None, world.gather(guards.not_finite_tensor(self.model))), None)
        if broken is not None:
            raise TrainingError(
                f"`{broken}` is no longer finite after {position}; lower optimizer.lr, lengthen "
                "warmup, or set clip" + self.last_good()
            )
        self._saved_at, self._saved_step = time.monotonic(), self.done
        everyone = world.gather((state.random_state(world.device), list(self.totals.read().values)))
        if not world.first:
            return
        saved, rest = state.optimizer_state(self.model, self.optimizer, groups=self.own_optimizer)
        tensors = {
            "model": state.copies(self.model.state_dict()),
            "optimizer": saved,
            **{f"rank-{rank}": drawn for rank, (drawn, _) in enumerate(everyone)},
        }
        if self.average is not None:
            tensors["ema"] = state.copies(self.average.module.state_dict())
        record = {
            "world": world.size,
            "steps": self.batches.steps,
            "seconds": time.perf_counter() - self._began,
            "history": list(self.history),
            "totals": [totals for _, totals in everyone],
            "optimizer": rest,
            "scaler": self.scaler.state_dict(),
            **{key: getattr(self, key) for key in ("rate", "tested", "optimizer_name")},
        }
        if self.checkpoints is not None:
            self.checkpoints.write_later(Snapshot(position, tensors, record), LAST, *names)

    def finish_epoch(self, epoch: int, figures: Epoch) -> None:
        """Save the state after an epoch, under all names that apply to it."""
        phase, settings = self.phase, self.settings
        epochs = [Epoch(**each) for each in self.history if each["phase"] == phase.name]
        names = [BEST] * all(figures.quality > each.quality for each in epochs[:-1])
        if settings.keep_every and (epoch + 1) % settings.keep_every == 0:
            names.append(f"epoch-{len(self.history):04}")
        if epoch + 1 == phase.epochs and settings.phases > 1:
            names.append(f"phase-{phase.name}")
        self.save_later(Position(settings.phase, epoch + 1, 0), *names)

    def leave(self, position: Position) -> None:
        """Save the state and raise Stopped, in every process."""
        self.save_later(position)
        saved = self.world.from_first(self.checkpoints is not None and self.checkpoints.wait())
        signum = max(self.world.gather(self.stop.signal or 0))
        raise Stopped(signum, f"{self.phase.name}, {position}", saved)

    def train_epoch(self, epoch: int, start: int) -> None:
        """Run the steps of an epoch from ``start`` on; ``totals`` then has its sums."""
        world, scaler = self.world, self.scaler
        optimizer: Any = self.optimizer
        self.shared.train()
        freeze(self.model, factors_of(self.phase.freeze))
        if start == 0:
            self.totals.reset()
            self._began = time.perf_counter()  # of the epoch, as if it had not been interrupted
        self.clock = clock = Clock(world.device)
        self._images_began, self._epoch_images = time.perf_counter(), 0
        for batch, parts in self.batches.training(epoch, start):
            clock.lap("data")
            optimizer.zero_grad(set_to_none=True)
            for number, (x, labels, targets) in enumerate(parts, 1):
                # DDP averages gradients over processes; a part is weighted by its number of images.
                share = len(labels) * world.size / batch.total
                if isinstance(self.shared, DistributedDataParallel):  # exchange the sum of parts
                    self.shared.require_backward_grad_sync = number == len(parts)
                (self.graphed or self.learn)(x, labels, targets, share=share)
                clock.lap("backward")
            self.average_gradients()
            self.totals.skip(len(batch.unreadable))
            self.rate, sums = self.schedules.rate, self.totals.arriving()
            step = InFlightStep(epoch, batch, [x for x, _, _ in parts], self.rate, sums)
            self.in_flight.append(step)
            flags = self.stop.wanted, self.checkpoint_is_due()
            done, (stopping, due) = self.arrived(self.ahead, *flags)
            clock.lap("communication")
            if self.ahead and not scaler.is_enabled():  # skip the step if its loss is not finite
                optimizer.grad_scale, optimizer.found_inf = None, self.totals.broken
            step.norm = self.update_weights()
            if self.average is not None:
                self.average.update(self.model, first=self.done == 0)
            self.done += 1
            self.schedules.put(self.done)
            clock.lap("optimizer")
            self.report(done)
            position = Position(self.settings.phase, epoch, batch.step + 1)
            if stopping or due:
                self.report(self.arrived()[0])
                (self.leave if stopping else self.save_later)(position)
            clock.start()
        self.report(self.arrived()[0])

    def learn(self, x: Tensor, labels: Tensor, targets: Tensor, share: float) -> None:
        """Add the gradients of a part of a batch, weighted by ``share``, and its totals."""
        lap = self.clock.lap if self.graphed is None else lambda part: None

        def learn_from(loss: Tensor) -> None:
            lap("forward")
            self.scaler.scale(loss * share).backward()
            lap("backward")

        loss_of = partial(self.loss, labels=targets, images=x)
        rest = self.autocast, self.update_between
        part = backward.Part(self.shared, self.model, x, loss_of, learn_from, *rest)
        outputs, loss = self.backward(part)
        self.totals.add(self.loss.answers(outputs), labels, loss, self.loss.seen)
        self.loss.seen.clear()

    def average_gradients(self) -> None:
        """Average the gradients of all processes, which DDP does itself."""
        if self.world.size > 1 and self.shared is self.model:
            for grad in [p.grad for p in self.model.parameters() if p.grad is not None]:
                dist.all_reduce(grad)
                grad.div_(self.world.size)

    def update_weights(self) -> Callable[[], tuple[float, ...]] | None:
        """Clip the gradients and take a step of the optimizer; return the norm if they are clipped."""
        norm = None
        if self.phase.clip is not None:
            self.scaler.unscale_(self.optimizer)
            norm = arriving(nn.utils.clip_grad_norm_(self.shared.parameters(), self.phase.clip))
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return norm

    def update_between(self) -> None:
        """Update the weights between two time steps of a batch."""
        self.average_gradients()
        self.update_weights()
        self.optimizer.zero_grad(set_to_none=True)

    def arrived(self, ahead: int = 0, *flags: bool) -> tuple[list[InFlightStep], list[bool]]:
        """Remove and return the oldest steps in flight, all but ``ahead``, and whether any process has set a flag.

        Raises TrainingError if a loss is no longer finite. All processes call it together.
        """
        done = [self.in_flight.popleft() for _ in range(len(self.in_flight) - ahead)]
        broken, *found = self.world.any(any(step.broken for step in done), *flags)
        if broken:
            raise self.not_finite(done[-1])
        return done, found

    def not_finite(self, step: InFlightStep) -> TrainingError:
        """Return the error of a step whose loss is not finite, with the layer where that begins.

        All processes call it, each for its part of the batch.
        """
        places = [guards.first_not_finite(self.model, x, self.autocast) for x in step.parts]
        found = next((place for place in places if place != guards.ONLY_LOSS), places[0])
        gathered = self.world.gather((step.broken, found))
        rank, where = next((n, place) for n, (is_bad, place) in enumerate(gathered) if is_bad)
        on = f" on rank {rank}" if self.world.size > 1 else ""
        return TrainingError(
            f"the loss is no longer finite in phase `{self.phase.name}`, epoch {step.epoch + 1}, step "
            f"{step.batch.step + 1}{on}, at a learning rate of {step.rate:.3g}; it begins in {where}; "
            "lower optimizer.lr, lengthen warmup, or set clip" + self.last_good()
        )

    def last_good(self) -> str:
        """Return the end of a message that names the newest checkpoint, or ``""``."""
        if self.checkpoints is None:
            return ""
        self.checkpoints.wait()
        place, newest = self.checkpoints.folder / LAST, self.checkpoints.saved
        return "" if newest is None else f"; the last good checkpoint is {place} ({newest})"

    def report(self, done: Sequence[InFlightStep]) -> None:
        for step in done:
            sums, number, steps = step.sums(), step.batch.step + 1, self.batches.steps
            self._epoch_images += step.batch.total
            self._speed = self._epoch_images / max(1e-9, time.perf_counter() - self._images_began)
            report = StepReport(
                phase=self.phase.name,
                epoch=step.epoch + 1,
                step=number,
                steps=steps,
                global_step=step.epoch * steps + number,
                images_per_second=self._speed,
                learning_rate=step.rate,
                shares=self.clock.shares(),
                grad_norm=None if step.norm is None else step.norm()[0],
                **{key: getattr(sums, key) for key in ("loss", "top1", "top5", "terms")},
            )
            self.observer.on_step_end(report)

    def evaluate(self, epoch: int) -> Epoch:
        """Return the figures of an epoch: the test images are evaluated once if others are held out."""
        last = self.settings.phase + 1 == self.settings.phases and epoch + 1 == self.phase.epochs
        splits: list[Split] = [self.data.judged_on, "test"] if last else [self.data.judged_on]
        tested = {split: self._evaluate(epoch, split) for split in dict.fromkeys(splits)}
        firing = tested[splits[0]][1]
        sums = added_up(self.world.gather(self.totals.read()))
        by_split = {"train": sums, **{split: found for split, (found, _) in tested.items()}}
        if isinstance(self.shared, DistributedDataParallel):
            steps = max(1, self._epoch_images // self.phase.batch)
            self.clock.move("backward", "communication", steps * (waited(self.shared) or 0.0))
        values: dict[str, Any] = {
            f"{split}_{key}": getattr(each, name)
            for split, each in by_split.items()
            for key, name in (("loss", "loss"), ("accuracy", "top1"), ("top5", "top5"))
        }
        scores = {split: found.scores for split, (found, _) in tested.items()}
        return Epoch(
            phase=self.phase.name,
            epoch=epoch + 1,
            learning_rate=self.rate,
            seconds=time.perf_counter() - self._began,
            images_per_second=self._speed,
            shares=self.clock.shares(),
            firing={name: rate for name, (rate, _, _) in firing.items()},
            warnings=guards.constant_layers(firing),
            skipped=sum(each.skipped for each in by_split.values()),
            scores=scores.get("test", {}),
            val_scores=scores.get("val", {}),
            terms=sums.terms,
            **values,
        )

    def _evaluate(self, epoch: int, split: Split) -> tuple[Sums, dict[str, list[float]]]:
        """Return figures of the kept model on a split, over all processes, and rates on its first batch.

        Random numbers of the network are seeded by the epoch, and the training continues with its own.
        """
        world, kept = self.world, self.kept
        evaluation = replace(self.evaluation, epoch=epoch + 1)
        totals, firing = self.new_totals(), dict[str, list[float]]()
        if world.size > 1:  # the running statistics of rank 0 are saved
            for buffer in kept.buffers():
                dist.broadcast(buffer, src=0)
        kept.eval()
        batches, rounds = self.batches.testing(split, epoch), self.batches.rounds[split]
        stopping = False
        with state.own_random_state(world.device):
            state.seed_everything(*evaluation.seeds(world.rank))
            for number in range(rounds):
                if stopping := any(world.any(self.stop.wanted)):
                    break
                if (found := next(batches, None)) is None:
                    continue  # other processes have one more
                x, labels = found
                with (
                    guards.watching_firing(kept, firing) if number == 0 else nullcontext(),
                    torch.inference_mode(),
                    self.autocast(),
                ):
                    outputs = kept(x)
                    loss = self.test_loss(outputs, labels)
                totals.add(self.test_loss.answers(outputs), labels, loss)
                self.observer.on_test_batch(number + 1, rounds)
        if stopping:  # saved with the random states of training, which are restored now
            self.leave(Position(self.settings.phase, epoch, self.batches.steps))
        totals.skip(self.batches.tests[split].skipped)
        whole = added_up(world.gather(totals.read()))
        if not math.isfinite(whole.loss):
            raise TrainingError(
                f"the loss of the {split} images is {whole.loss}: the weights or the running statistics "
                "of a norm are no longer finite; lower the learning rate or set clip"
                + self.last_good()
            )
        self.tested = evaluation.as_dict()
        return whole, firing
