"""Callbacks of ``danetc.train``, called between the steps of a training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from danetc.runtime.training.observer import Epoch, Observer, PhasePlan, StepReport
from danetc.runtime.training.signals import BY_CODE, StopRequest


class StopTraining(Exception):
    """Raised by a callback to stop the training after the current step or epoch.

    The state is saved, so that the same call of ``danetc.train`` resumes bit-identically.
    """


class Callback:
    """Base class of callbacks of ``danetc.train``, called on rank 0 only. Every method does nothing.

    An exception ends the training: ``StopTraining`` after the state is saved, any other at once, with
    the last checkpoint on disk.
    """

    def on_phase_start(self, plan: PhasePlan) -> None:
        """Called when a phase begins, or resumes after ``plan.epoch`` epochs and ``plan.step`` steps."""

    def on_step_end(self, report: StepReport) -> None:
        """Called after each step with its loss, accuracy and learning rate; it should be fast."""

    def on_epoch_end(self, epoch: Epoch) -> None:
        """Called after an epoch and its test: ``epoch.test_loss``, ``epoch.test_accuracy``, ``epoch.scores``."""

    def on_checkpoint(self, path: Path) -> None:
        """Called when a checkpoint is on disk."""

    def on_phase_end(self) -> None:
        """Called at the end of a phase, also after an error."""


class Calling(Observer):
    """Calls callbacks in order, and requests a stop if one of them raises ``StopTraining``."""

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
