"""Callbacks of ``danetc.train``: code of the caller between the steps of a training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from danetc.runtime.training.observer import Epoch, Observer, PhasePlan, StepReport
from danetc.runtime.training.signals import BY_CODE, StopRequest


class StopTraining(Exception):
    """Raised by a callback: the training ends after the step or epoch that is done. Its state is saved,
    so that the same call of ``danetc.train`` resumes bit-identically.
    """


class Callback:
    """Is called while ``danetc.train`` trains, on rank 0 alone. Every method does nothing by default.

    What a method raises ends the training: ``StopTraining`` after its state is saved, anything else at
    once, with the last checkpoint on disk.
    """

    def on_phase_start(self, plan: PhasePlan) -> None:
        """A phase of the recipe begins, or is resumed from ``plan.epoch`` epochs and ``plan.step``."""

    def on_step_end(self, report: StepReport) -> None:
        """A step is done: its loss, accuracy and learning rate. Called for each one: be quick."""

    def on_epoch_end(self, epoch: Epoch) -> None:
        """An epoch is done and tested: ``epoch.test_loss``, ``epoch.test_accuracy``, ``epoch.scores``."""

    def on_checkpoint(self, path: Path) -> None:
        """A checkpoint is on disk."""

    def on_phase_end(self) -> None:
        """A phase is over, in whatever way."""


class Calling(Observer):
    """Calls callbacks in their order, and asks for a stop where one of them wants it."""

    def __init__(self, callbacks: Sequence[Callback], stop: StopRequest) -> None:
        self._callbacks, self._stop = tuple(callbacks), stop

    def begin(self, plan: PhasePlan) -> None:
        self._each(lambda each: each.on_phase_start(plan))

    def step(self, report: StepReport) -> None:
        self._each(lambda each: each.on_step_end(report))

    def epoch(self, epoch: Epoch) -> None:
        self._each(lambda each: each.on_epoch_end(epoch))

    def saved(self, path: Path, kind: str) -> None:
        self._each(lambda each: each.on_checkpoint(path))

    def end(self) -> None:
        self._each(lambda each: each.on_phase_end())

    def _each(self, call: Callable[[Callback], None]) -> None:
        for each in self._callbacks:
            try:
                call(each)
            except StopTraining:
                self._stop.request(BY_CODE)
