"""Sums over the images of an epoch, and steps whose metrics are still on their way to the host.

The target decides the sums: correct answers for classes, for pixels also the overlap of each class,
and squared distances for numbers. On a GPU the host queues a step while the device computes the one
before, so it reads the metrics of that one when the next is queued. On a CPU it reads them at once.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from danetc.runtime.data.batch import AHEAD, Batch
from danetc.runtime.data.request import IGNORED, Target
from danetc.runtime.training.distributed import World

_IMAGES, _LOSS, _ANSWERS, _TOP1, _TOP5, _SKIPPED = range(6)
_COMMON = 6
"""Number of sums that every target has; those of one target follow."""


@dataclass(frozen=True, slots=True)
class Sums:
    """Sums on the host: images, loss, answers (images or pixels), correct ones, unreadable images.

    Accuracies are from 0 to 1.
    """

    values: tuple[float, ...]
    target: Target = "classes"

    @property
    def images(self) -> int:
        return int(self.values[_IMAGES])

    @property
    def skipped(self) -> int:
        return int(self.values[_SKIPPED])

    @property
    def loss(self) -> float:
        images = self.values[_IMAGES]
        return self.values[_LOSS] / images if images else 0.0

    @property
    def top1(self) -> float | None:
        """Share of correct answers; None if numbers are learned."""
        return self._share(_TOP1)

    @property
    def top5(self) -> float | None:
        return self._share(_TOP5)

    @property
    def rmse(self) -> float | None:
        """Root mean squared error of numbers; None for other targets."""
        if self.target != "numbers":
            return None
        squares, count = self.values[_COMMON:]
        return (squares / count) ** 0.5 if count else 0.0

    @property
    def miou(self) -> float | None:
        """Intersection over union of pixels, averaged over the classes that occur."""
        if self.target != "pixels":
            return None
        values = self.values[_COMMON:]
        classes = len(values) // 3
        correct, predicted, labelled = (values[n * classes : (n + 1) * classes] for n in range(3))
        unions = [a + b - c for a, b, c in zip(predicted, labelled, correct, strict=True)]
        shares = [c / union for c, union in zip(correct, unions, strict=True) if union]
        return sum(shares) / len(shares) if shares else 0.0

    @property
    def scores(self) -> dict[str, float]:
        """Scores of the target other than accuracies, by name."""
        found = {"miou": self.miou, "rmse": self.rmse}
        return {name: value for name, value in found.items() if value is not None}

    def _share(self, which: int) -> float | None:
        if self.target == "numbers":
            return None
        answers = self.values[_ANSWERS]
        return self.values[which] / answers if answers else 0.0


class Coming:
    """A copy of a tensor on its way to the host. Only ``get`` waits for it."""

    def __init__(self, values: Tensor) -> None:
        self._values = values.detach().reshape(-1).to("cpu", non_blocking=True, copy=True)
        self._arrived: Any = None
        if values.device.type != "cpu":
            self._arrived = torch.get_device_module(values.device).Event()
            self._arrived.record()

    def get(self) -> tuple[float, ...]:
        if self._arrived is not None:
            self._arrived.synchronize()
        return tuple(self._values.tolist())


class Totals:
    """Running sums on the device, for ``outputs`` classes or numbers. Only ``read`` waits for it."""

    def __init__(self, device: torch.device, target: Target = "classes", outputs: int = 0) -> None:
        self._device, self._target = device, target
        more = {"classes": 0, "pixels": 3 * outputs, "numbers": 2}[target]
        self._sums = torch.zeros(_COMMON + more, dtype=torch.float64, device=device)

    def add(self, output: Tensor, labels: Tensor, loss: Tensor) -> None:
        """Add a part of a batch with its mean loss.

        ``output`` and ``labels`` are [N, classes] and [N], for pixels [N, classes, H, W] and
        [N, H, W], for numbers both [N, D].
        """
        with torch.no_grad():
            count = torch.full((), float(len(labels)), device=self._device)
            if self._target == "numbers":
                distance = (output.double() - labels.double()).square().sum()
                values = [distance, torch.full_like(distance, labels.numel())]
                row = [count * 0, count * 0, count * 0, count * 0, *values]
            elif self._target == "pixels":
                row = self._of_pixels(output, labels)
            else:
                best = output.topk(min(5, output.shape[-1]), dim=-1).indices
                among = (best == labels.unsqueeze(-1)).sum()
                correct = (output.argmax(-1) == labels).sum()
                row = [count, correct, among, count * 0]
            row = [count, loss.detach() * count, *row]
            self._sums += torch.stack([value.to(torch.float64) for value in row])

    def _of_pixels(self, output: Tensor, labels: Tensor) -> list[Tensor]:
        """Return the counts of labelled, top-1 and top-5 pixels, then for each class those of its
        correct, predicted and labelled pixels.
        """
        classes = output.shape[1]
        counted = labels != IGNORED
        predicted = output.argmax(1)
        best = output.topk(min(5, classes), 1).indices
        among = ((best == labels.unsqueeze(1)).any(1) & counted).sum()
        correct = (predicted == labels) & counted

        def per_class(values: Tensor, where: Tensor) -> Tensor:
            """Count each class among ``values`` at the places ``where`` marks."""
            places = values.where(where, classes).flatten()
            count = torch.zeros(classes + 1, dtype=torch.int64, device=values.device)
            return count.scatter_add_(0, places, torch.ones_like(places))[:classes]

        counts = [
            per_class(labels, correct), per_class(predicted, counted), per_class(labels, counted)
        ]  # fmt: skip
        total = counted.sum()
        return [total, correct.sum(), among, total * 0, *torch.cat(counts)]

    def skip(self, images: int) -> None:
        if images:
            self._sums[_SKIPPED] += images

    @property
    def broken(self) -> Tensor:
        """float32 scalar on the device: 1 if the loss is no longer finite, else 0."""
        return self._sums[_LOSS].isfinite().logical_not().to(torch.float32)

    def coming(self) -> Coming:
        """Start to copy the sums to the host, for ``sums``."""
        return Coming(self._sums)

    def sums(self, coming: Coming) -> Sums:
        return Sums(coming.get(), self._target)

    def read(self) -> Sums:
        return self.sums(self.coming())

    def set(self, values: Sequence[float]) -> None:
        found = torch.tensor(list(values), dtype=torch.float64, device=self._device)
        if found.shape != self._sums.shape:
            raise ValueError(f"{len(values)} totals, not {self._sums.numel()}")
        self._sums = found

    def reset(self) -> None:
        self._sums = torch.zeros_like(self._sums)

    def over(self, world: World) -> Sums:
        """Return the sums over all processes."""
        return added_up(world.gather(self.read()))


def added_up(parts: Sequence[Sums]) -> Sums:
    """Add up the sums of parts in their order, by which floats round."""
    columns = zip(*(part.values for part in parts), strict=True)
    return Sums(tuple(sum(column) for column in columns), parts[0].target)


@dataclass(slots=True)
class InFlightStep:
    """A step of an epoch (from 0) with the images of its ``parts``, whose metrics are not read yet.

    ``norm`` is that of the gradient before clipping.
    """

    epoch: int
    batch: Batch
    parts: Sequence[Tensor]
    rate: float
    coming: Coming
    norm: Coming | None = None


@dataclass(frozen=True, slots=True)
class StepMetrics:
    """A step, and the sums of its epoch up to it on this process."""

    step: InFlightStep
    sums: Sums

    @property
    def broken(self) -> bool:
        """True if the loss is no longer finite."""
        return not math.isfinite(self.sums.loss)

    @property
    def norm(self) -> float | None:
        return None if self.step.norm is None else self.step.norm.get()[0]


class StepQueue:
    """Steps in flight: metrics not yet read by the host."""

    def __init__(self, device: torch.device) -> None:
        self.ahead = AHEAD if device.type != "cpu" else 0
        self._open: deque[InFlightStep] = deque()

    def __len__(self) -> int:
        return len(self._open)

    def add(self, step: InFlightStep) -> InFlightStep:
        self._open.append(step)
        return step

    def read(self, totals: Totals, ahead: int) -> list[StepMetrics]:
        """Wait for the metrics of the oldest steps, all but ``ahead``."""
        found = []
        while len(self._open) > ahead:
            step = self._open.popleft()
            found.append(StepMetrics(step, totals.sums(step.coming)))
        return found
