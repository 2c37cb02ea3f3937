"""The training loop: one phase of a recipe, from its start or a checkpoint to its end.

``fit`` reads from top to bottom: set up, restore, then epochs of steps. ``run.PhaseRun`` holds
what survives a step, and ``checkpoints`` writes it. The same settings on the same machine
give the same bits, however often the run is killed and resumed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from typing import Any

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from danetc.runtime.data.batches import worker_death
from danetc.runtime.data.request import Split
from danetc.runtime.system.devices import arithmetic
from danetc.runtime.system.errors import DataError, TrainingError
from danetc.runtime.training.checkpoints import LAST, Position, Snapshot
from danetc.runtime.training.guards import is_out_of_memory, out_of_memory, watching_firing
from danetc.runtime.training.optim import freeze
from danetc.runtime.training.run import PhaseRun
from danetc.runtime.training.settings import determinism
from danetc.runtime.training.signals import BY_CODE
from danetc.runtime.training.state import own_random_state, seed_everything
from danetc.runtime.training.totals import InFlightStep, Sums, added_up


def fit(
    run: PhaseRun,
    resume: Snapshot | None = None,
    epoch_done: Callable[[PhaseRun], None] | None = None,
) -> None:
    """Train a model by a phase of a recipe, from the snapshot ``resume`` if there is one.

    ``run`` then has the results. Rank 0 calls ``epoch_done`` after each epoch. The global random states
    are restored at the end. If the head of the network keeps time, its output is [T, N, classes]:
    `cross_entropy` and the accuracy take the mean over T, and `tet` takes every step.

    Raises DataError if the data do not fit the network; TrainingError for contradictory settings, a
    loss that is no longer finite and a lack of memory; WeightsError if ``resume`` is of another network;
    Stopped if a stop was requested.
    """
    phase, number, world = run.phase, run.settings.phase, run.world
    with ExitStack() as stack:
        stack.enter_context(arithmetic(phase.precision, world.device))
        stack.enter_context(own_random_state(world.device))
        stack.enter_context(determinism(world.device, run.settings.deterministic))
        stack.callback(lambda: run.observer.on_phase_end())
        try:
            run.set_up()
            stack.callback(run.close)
            position = run.begin(resume)
            for epoch in range(position.epoch, phase.epochs):
                if epoch > position.epoch and any(world.any(run.stop.signal == BY_CODE)):
                    run.leave(Position(number, epoch, 0))
                _train_epoch(run, epoch, position.step if epoch == position.epoch else 0)
                found = {split: _evaluate(run, epoch, split) for split in run.splits(epoch)}
                tested = {split: sums for split, (sums, _) in found.items()}
                figures = run.figures(epoch, tested, found[run.batches.judged_on][1])
                run.history.append(figures.as_dict())
                if epoch_done is not None and world.first:
                    epoch_done(run)
                run.observer.on_epoch_end(figures)
                run.finish_epoch(epoch, figures)
        except (RuntimeError, MemoryError) as error:
            if is_out_of_memory(error):
                advice = out_of_memory(phase, world.size, world.device)
                raise world.own(TrainingError(advice)) from error
            if died := worker_death(error):
                raise world.own(DataError(died)) from error
            raise


def _train_epoch(run: PhaseRun, epoch: int, start: int) -> None:
    """Run the steps of an epoch from ``start`` on; ``run.totals`` then has its sums."""
    world, scaler = run.world, run.scaler
    optimizer: Any = run.optimizer
    run.shared.train()
    freeze(run.model, run.frozen)
    clock = run.start_epoch(start)
    for batch, parts in run.batches.training(epoch, start):
        clock.lap("data")
        optimizer.zero_grad(set_to_none=True)
        for number, (x, labels, targets) in enumerate(parts, 1):
            # DDP averages gradients over processes; a part is weighted by its number of images.
            share = len(labels) * world.size / batch.total
            with (
                run.shared.no_sync()  # gradients are exchanged with the last part of a batch only
                if number < len(parts) and isinstance(run.shared, DistributedDataParallel)
                else nullcontext()
            ):
                (run.graphed or run.learn)(x, labels, targets, share=share)
                clock.lap("backward")
        run.average_gradients()
        run.totals.skip(len(batch.unreadable))
        run.rate, sums = run.schedules.rate, run.totals.arriving()
        step = InFlightStep(epoch, batch, [x for x, _, _ in parts], run.rate, sums)
        run.in_flight.append(step)
        done = run.arrived(run.ahead)
        stopping, due, broken = world.any(
            run.stop.wanted, run.checkpoint_is_due(), any(each.broken for each in done)
        )
        clock.lap("communication")
        if broken:
            raise run.not_finite(done[-1])
        if run.ahead and not scaler.is_enabled():  # skip the step if its loss is not finite
            optimizer.grad_scale, optimizer.found_inf = None, run.totals.broken
        step.norm = run.update_weights()
        if run.average is not None:
            run.average.update(run.model, first=run.done == 0)
        run.done += 1
        run.schedules.put(run.done)
        clock.lap("optimizer")
        run.report(done)
        position = Position(run.settings.phase, epoch, batch.step + 1)
        if stopping or due:
            run.report_all()
        if stopping:
            run.leave(position)
        if due:
            run.save_later(position, LAST)
        clock.start()
    run.report_all()


def _evaluate(run: PhaseRun, epoch: int, split: Split) -> tuple[Sums, dict[str, list[float]]]:
    """Return loss and accuracy of the kept model on the images of a split, over all processes.

    Firing rates are those of the first batch. Random numbers of the network are seeded by the
    epoch, and the training continues with its own.
    """
    world, kept = run.world, run.kept
    evaluation = replace(run.evaluation, epoch=epoch + 1)
    totals, firing = run.new_totals(), dict[str, list[float]]()
    if world.size > 1:  # the running statistics of rank 0 are saved
        for buffer in kept.buffers():
            dist.broadcast(buffer, src=0)
    kept.eval()
    batches, rounds = run.batches.testing(split, epoch), run.batches.rounds[split]
    stopping = False
    with own_random_state(world.device):
        seed_everything(*evaluation.seeds(world.rank))
        for number in range(rounds):
            (stopping,) = world.any(run.stop.wanted)
            if stopping:
                break
            found = next(batches, None)
            if found is None:
                continue  # other processes have one more
            x, labels = found
            with (
                watching_firing(kept, firing) if number == 0 else nullcontext(),
                torch.inference_mode(),
                run.autocast(),
            ):
                outputs = kept(x)
                loss = run.test_loss(outputs, labels)
            totals.add(run.test_loss.answers(outputs), labels, loss)
            run.observer.on_test_batch(number + 1, rounds)
    if stopping:  # saved with the random states of training, which are restored now
        run.leave(Position(run.settings.phase, epoch, run.batches.steps))
    totals.skip(run.batches.tests[split].skipped)
    whole = added_up(world.gather(totals.read()))
    if not math.isfinite(whole.loss):
        raise TrainingError(
            f"the loss of the {split} images is {whole.loss}: the weights or the running statistics "
            "of a norm are no longer finite; lower the learning rate or set clip" + run.last_good()
        )
    run.tested = evaluation.as_dict()
    return whole, firing
