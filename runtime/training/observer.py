"""Reports of a training to its callbacks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from danetc.dsl.recipe.settings import Phase
from danetc.runtime.data.request import Split
from danetc.runtime.training.evaluation import check_record
from danetc.runtime.training.signals import BY_CODE, StopRequest


@dataclass(frozen=True, slots=True)
class RunSettings:
    """Settings of a phase that are not part of the recipe.

    ``trial`` of ``trials`` and ``phase`` of ``phases`` count from 0. A checkpoint is due after
    ``checkpoint_steps`` steps (0: never), ``checkpoint_minutes`` minutes, and every epoch; one is
    kept permanently every ``keep_every`` epochs (0: none). ``train_output`` names the trained output
    if there are several. ``backend`` and ``channels_last`` describe the built model, for records. If a
    callback has ``watched`` the model, a step is reported before the next one begins.
    """

    seed: int = 0
    phase: int = 0
    phases: int = 1
    trial: int = 0
    trials: int = 1
    workers: int = 0
    sync_norm: bool = False
    train_output: str | None = None
    checkpoint_steps: int = 0
    checkpoint_minutes: float = 5.0
    keep_every: int = 0
    deterministic: bool = True
    backend: str = "eager"
    channels_last: bool = False
    cuda_graphs: bool = False
    watched: bool = False


@dataclass(frozen=True, slots=True)
class PhasePlan:
    """A phase that starts, or resumes after ``epoch`` complete epochs and ``step`` steps.

    ``steps`` is the number of steps per epoch. ``model`` and ``optimizer`` are those that it trains.
    """

    phase: Phase
    steps: int
    epoch: int = 0
    step: int = 0
    settings: RunSettings = RunSettings()
    model: Any = None
    optimizer: Any = None


@dataclass(frozen=True, slots=True)
class StepReport:
    """A finished step. ``step`` counts from 1 in its epoch (from 1), ``global_step`` in its phase.

    Loss, ``terms`` and accuracies are those of ``Epoch``, of the epoch so far and the images of this
    process. ``shares`` are of time, by PARTS. ``grad_norm`` is that before clipping; None without.
    """

    phase: str
    epoch: int
    step: int
    steps: int
    global_step: int
    loss: float
    top1: float | None
    top5: float | None
    images_per_second: float
    learning_rate: float
    shares: Mapping[str, float]
    grad_norm: float | None = None
    terms: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Epoch:
    """Figures of an epoch (from 1) over all processes. Accuracies are from 0 to 1.

    Figures of the training are means over the epoch, in which the weights change. With validation
    images, every epoch is evaluated on them, and the test figures are None before the last epoch of
    the training; without, the validation figures are None. Accuracies of pixels come with the score
    ``miou``; where numbers are learned, they are None, and the score is ``rmse``. ``images_per_second``
    and ``shares`` are of training, ``firing`` has the rates of layers on a batch of the evaluation, and
    ``skipped`` counts unreadable images. If the loss has several ``terms``, their values times their
    factors add up to ``train_loss``. Only times and speeds differ in a run that was interrupted.
    """

    phase: str
    epoch: int
    learning_rate: float  # of the last batch
    train_loss: float
    train_accuracy: float | None
    test_loss: float | None = None
    test_accuracy: float | None = None
    seconds: float = 0.0
    train_top5: float | None = None
    test_top5: float | None = None
    images_per_second: float = 0.0
    shares: Mapping[str, float] = field(default_factory=dict)
    firing: Mapping[str, float] = field(default_factory=dict)
    warnings: Sequence[str] = ()
    skipped: int = 0
    scores: Mapping[str, float] = field(default_factory=dict)
    val_loss: float | None = None
    val_accuracy: float | None = None
    val_top5: float | None = None
    val_scores: Mapping[str, float] = field(default_factory=dict)
    terms: Mapping[str, float] = field(default_factory=dict)

    @property
    def quality(self) -> float:
        """Accuracy of the evaluation, or the negative loss; the best epoch has the highest."""
        _, loss, accuracy, *_ = next(self.evaluations())
        return -loss if accuracy is None else accuracy

    def evaluations(
        self,
    ) -> Iterator[tuple[Split, float, float | None, float | None, Mapping[str, float]]]:
        """Yield the splits on which the epoch was evaluated, with loss, accuracies and scores."""
        if self.val_loss is not None:
            yield "val", self.val_loss, self.val_accuracy, self.val_top5, self.val_scores
        if self.test_loss is not None:
            yield "test", self.test_loss, self.test_accuracy, self.test_top5, self.scores

    def as_dict(self) -> dict[str, Any]:
        """Return JSON data, without the validation if there was none."""
        record, validated = asdict(self), self.val_loss is not None
        return {name: record[name] for name in record if validated or name[:4] != "val_"}

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> Epoch:
        """Read the result of ``as_dict``. Raises ValueError, TypeError."""
        absent: dict[str, Any] = dict.fromkeys(("val_loss", "val_accuracy", "val_top5"))
        return cls(**check_record(cls, {"val_scores": {}, "terms": {}, **absent, **record}))


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
        """Called when a phase begins or resumes. Later methods may change the ``plan``'s model and optimizer."""

    def on_step_end(self, report: StepReport) -> None:
        """Called after each step with its loss, accuracy and learning rate; it should be fast."""

    def on_test_batch(self, done: int, batches: int) -> None:
        """Called when ``done`` of ``batches`` batches of an evaluation are done."""

    def on_epoch_end(self, epoch: Epoch) -> None:
        """Called after an epoch and its evaluation, with the figures of both."""

    def on_checkpoint(self, path: Path) -> None:
        """Called when a checkpoint is on disk."""

    def on_notice(self, text: str) -> None:
        """Called with a message for the user."""

    def on_phase_end(self) -> None:
        """Called at the end of a phase, also after an error."""


class Callbacks(Callback):
    """Calls a sequence of callbacks, and requests a stop if one of them raises StopTraining."""

    def __init__(self, callbacks: Sequence[Callback], stop: StopRequest) -> None:
        self._callbacks, self._stop = tuple(callbacks), stop
        for name in filter(lambda name: name.startswith("on_"), dir(Callback)):
            setattr(self, name, partial(self._call, name))

    def _call(self, name: str, *arguments: object) -> None:
        for callback in self._callbacks:
            try:
                getattr(callback, name)(*arguments)
            except StopTraining:
                self._stop.signal = BY_CODE


PARTS = ("data", "forward", "backward", "communication", "optimizer")
"""``data`` is the wait for a batch and its copy to the device. ``communication`` is the wait for
other processes, but not that of synchronised norms, which is part of the pass."""
