"""What a training reports to its observers, and where the time of a step goes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch

from danetc.dsl.recipe.settings import Phase


@dataclass(frozen=True, slots=True)
class PhasePlan:
    """A phase that begins, or goes on from ``epoch`` whole epochs and ``step`` steps.

    ``steps`` are those of an epoch. ``batch`` and ``images`` are over all processes.
    """

    phase: Phase
    index: int
    phases: int
    epochs: int
    steps: int
    epoch: int
    step: int
    batch: int
    images: int
    tests: int
    world: int
    device: str
    trial: int = 0
    trials: int = 1
    seed: int = 0

    @property
    def resumed(self) -> bool:
        return (self.epoch, self.step) != (0, 0)


@dataclass(frozen=True, slots=True)
class StepReport:
    """A step is done. ``step`` counts from 1 in its epoch (from 1), ``global_step`` in its phase.

    Loss and accuracies (None where numbers are learned) are means of the epoch so far, on this
    process's images. ``shares`` are
    those of ``timing.PARTS`` in this epoch, since the process began. ``grad_norm`` is before
    clipping, and None without.
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


@dataclass(frozen=True, slots=True)
class Epoch:
    """The figures of an epoch (counted from 1), over all processes. Accuracies are from 0 to 1.

    Those of training are means over the epoch, while the weights changed and of augmented images.
    Accuracies are of images; where pixels have classes of pixels, and ``scores`` has ``miou``, the
    mean intersection over union of the test images; where numbers are learned they are None, and it
    has ``rmse``, the root of their mean squared distance.
    ``images_per_second`` and ``shares`` are of its training, ``firing`` of some test images by
    layer. ``skipped`` images could not be read. Times and what follows from them are the only
    figures that are not the same in a run that was interrupted.
    """

    phase: str
    epoch: int
    learning_rate: float  # of the last batch
    train_loss: float
    train_accuracy: float | None
    test_loss: float
    test_accuracy: float | None
    seconds: float
    train_top5: float | None = 0.0
    test_top5: float | None = 0.0
    images_per_second: float = 0.0
    shares: Mapping[str, float] = field(default_factory=dict)
    firing: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    skipped: int = 0
    scores: Mapping[str, float] = field(default_factory=dict)

    @property
    def quality(self) -> float:
        """By which one epoch is better than another: accuracy, without it the loss, both of tests."""
        return -self.test_loss if self.test_accuracy is None else self.test_accuracy

    def as_dict(self) -> dict[str, object]:
        record = asdict(self)
        return {**record, "warnings": list(self.warnings)}


def read_epochs(record: object) -> list[dict[str, Any]]:
    """A list of what ``Epoch.as_dict`` gave. Raises ValueError where it is something else."""
    if not isinstance(record, list) or not all(map(_is_epoch, record)):
        raise ValueError("the figures of its epochs are not as they were written")
    return list(record)


def _is_epoch(record: object) -> bool:
    if not isinstance(record, dict):
        return False
    for each in fields(Epoch):
        value, number = record.get(each.name), (int, float)
        match each.name:
            case "phase":
                fits = isinstance(value, str)
            case "epoch" | "skipped":
                fits = type(value) is int
            case "shares" | "firing" | "scores":
                fits = isinstance(value, dict) and all(
                    isinstance(x, number) for x in value.values()
                )
            case "warnings":
                fits = isinstance(value, list)
            case "train_accuracy" | "test_accuracy" | "train_top5" | "test_top5":
                fits = value is None or isinstance(value, number)
            case _:
                fits = isinstance(value, number)
        if not fits:
            return False
    return True


class Observer:
    """Is notified of the progress of a training, on rank 0 alone. Every method does nothing by default."""

    def begin(self, plan: PhasePlan) -> None:
        """A phase begins, or goes on."""

    def step(self, report: StepReport) -> None:
        """A step is done. Called for each one: be quick."""

    def testing(self, done: int, batches: int) -> None:
        """So many batches of the evaluation are done."""

    def epoch(self, epoch: Epoch) -> None:
        """An epoch is done and evaluated."""

    def notice(self, text: str) -> None:
        """Something that a person should know."""

    def saved(self, path: Path, kind: str) -> None:
        """A checkpoint is on disk; ``kind`` is its name."""

    def end(self) -> None:
        """The phase is over, in whatever way."""


class Observers(Observer):
    """Tells several."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = tuple(observers)

    def begin(self, plan: PhasePlan) -> None:
        for each in self._observers:
            each.begin(plan)

    def step(self, report: StepReport) -> None:
        for each in self._observers:
            each.step(report)

    def testing(self, done: int, batches: int) -> None:
        for each in self._observers:
            each.testing(done, batches)

    def epoch(self, epoch: Epoch) -> None:
        for each in self._observers:
            each.epoch(epoch)

    def notice(self, text: str) -> None:
        for each in self._observers:
            each.notice(text)

    def saved(self, path: Path, kind: str) -> None:
        for each in self._observers:
            each.saved(path, kind)

    def end(self) -> None:
        for each in self._observers:
            each.end()


PARTS = ("data", "forward", "backward", "communication", "optimizer")
"""``data`` is the wait for a batch and its way to the device, ``communication`` what other
processes make this one wait for: gradients that no computing hides, and agreements. What norms
over all processes exchange inside a pass counts in that pass."""


class Clock:
    """Adds up the time between laps under the name of each lap.

    On a GPU a lap is an event in its stream, so that nothing is waited for; ``settle`` reads the
    laps so far and belongs where the stream is waited for anyway.
    """

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._seconds = dict.fromkeys(PARTS, 0.0)
        self._last = self._now()
        self._open: list[tuple[str, Any, Any]] = []

    def start(self) -> None:
        """Begin anew: the next lap counts from here."""
        self._last = self._now()

    def lap(self, part: str) -> None:
        """The time since the last lap belongs to ``part``."""
        now = self._now()
        if self._cuda:
            self._open.append((part, self._last, now))
        else:
            self._seconds[part] += now - self._last
        self._last = now

    def settle(self) -> None:
        """Read the laps of a GPU that are over."""
        waiting = []
        for part, start, end in self._open:
            if end.query():
                self._seconds[part] += start.elapsed_time(end) / 1000
            else:
                waiting.append((part, start, end))
        self._open = waiting

    def move(self, source: str, target: str, seconds: float) -> None:
        """Count so much of one part's time as another's."""
        moved = min(max(seconds, 0.0), self._seconds[source])
        self._seconds[source] -= moved
        self._seconds[target] += moved

    @property
    def seconds(self) -> Mapping[str, float]:
        return dict(self._seconds)

    def shares(self) -> dict[str, float]:
        """The parts as shares of their sum, which is 1 (or all are 0)."""
        total = sum(self._seconds.values())
        return {part: value / total if total else 0.0 for part, value in self._seconds.items()}

    def _now(self) -> Any:
        if not self._cuda:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event
