"""What a training reports to its observers, and where the time of a step goes."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from danetc.dsl.recipe.settings import Phase

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True, slots=True)
class PhasePlan:
    """A phase that starts, or resumes after ``epoch`` complete epochs and ``step`` steps.

    ``steps`` is the number of steps per epoch. ``batch`` and ``images`` are over all processes.
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
    """A finished step. ``step`` counts from 1 in its epoch (from 1), ``global_step`` in its phase.

    Loss and accuracies (None if numbers are learned) are means of the epoch so far over the images
    of this process. ``shares`` are the shares of time of PARTS in this epoch. ``grad_norm`` is that
    before clipping; None without clipping.
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
    """Figures of an epoch (from 1) over all processes. Accuracies are from 0 to 1.

    Those of training are means over the epoch, of augmented images and changing weights. If pixels
    are classified, accuracies are of pixels and ``scores`` has ``miou``; if numbers are learned,
    accuracies are None and ``scores`` has ``rmse``. ``images_per_second`` and ``shares`` are of
    training, ``firing`` has the rates of layers on a batch of test images, and ``skipped`` counts
    unreadable images. Only times and speeds differ in a run that was interrupted.
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
        """Criterion of the best epoch: test accuracy, or the negative test loss without one."""
        return -self.test_loss if self.test_accuracy is None else self.test_accuracy

    def as_dict(self) -> dict[str, object]:
        record = asdict(self)
        return {**record, "warnings": list(self.warnings)}


def read_epochs(record: object) -> list[dict[str, Any]]:
    """Check a list of results of ``Epoch.as_dict``. Raises ValueError for anything else."""
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
    """Is notified of the progress of a training, on rank 0. Methods do nothing by default."""

    def begin(self, plan: PhasePlan) -> None:
        """A phase starts or resumes."""

    def step(self, report: StepReport) -> None:
        """A step is done. Called for each step, so it should be fast."""

    def testing(self, done: int, batches: int) -> None:
        """``done`` of ``batches`` batches of the evaluation are done."""

    def epoch(self, epoch: Epoch) -> None:
        """An epoch is done and evaluated."""

    def notice(self, text: str) -> None:
        """A message for the user."""

    def saved(self, path: Path, kind: str) -> None:
        """A checkpoint is on disk; ``kind`` is its name."""

    def end(self) -> None:
        """The phase has ended, with or without an error."""


class Observers(Observer):
    """Forwards notifications to several observers."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        for name in ("begin", "step", "testing", "epoch", "notice", "saved", "end"):
            setattr(self, name, partial(self._forward, name, tuple(observers)))

    @staticmethod
    def _forward(name: str, observers: tuple[Observer, ...], *arguments: object) -> None:
        for observer in observers:
            getattr(observer, name)(*arguments)


PARTS = ("data", "forward", "backward", "communication", "optimizer")
"""``data`` is the wait for a batch and its copy to the device. ``communication`` is the wait for
other processes: exchanges of gradients that computation does not hide, and agreements. Exchanges of
synchronised norms count as part of the pass."""


class Clock:
    """Adds up the times between laps by the name of the lap.

    On a GPU, laps are events of the stream, so that nothing waits; ``resolve`` reads those that are
    over.
    """

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._seconds = dict.fromkeys(PARTS, 0.0)
        self._last = self._now()
        self._open: list[tuple[str, Any, Any]] = []

    def start(self) -> None:
        """Restart: the next lap counts from here."""
        self._last = self._now()

    def lap(self, part: str) -> None:
        """Count the time since the last lap as ``part``."""
        now = self._now()
        if self._cuda:
            self._open.append((part, self._last, now))
        else:
            self._seconds[part] += now - self._last
        self._last = now

    def resolve(self) -> None:
        """Read the laps of a GPU that are over."""
        waiting = []
        for part, start, end in self._open:
            if end.query():
                self._seconds[part] += start.elapsed_time(end) / 1000
            else:
                waiting.append((part, start, end))
        self._open = waiting

    def move(self, source: str, target: str, seconds: float) -> None:
        """Count up to ``seconds`` of one part's time as another's."""
        moved = min(max(seconds, 0.0), self._seconds[source])
        self._seconds[source] -= moved
        self._seconds[target] += moved

    def shares(self) -> dict[str, float]:
        """Return the shares of the parts, with sum 1 (or all 0)."""
        total = sum(self._seconds.values())
        return {part: value / total if total else 0.0 for part, value in self._seconds.items()}

    def _now(self) -> Any:
        if not self._cuda:
            return time.perf_counter()
        import torch  # late: pages of runs read records without it

        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event
