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

from danetc.runtime.data import Batch
from danetc.runtime.data.transfer import AHEAD
from danetc.runtime.sources.target import IGNORED, Target
from danetc.runtime.training.distributed import World

_IMAGES, _LOSS, _ANSWERS, _TOP1, _TOP5, _SKIPPED = range(6)
_PLAIN = 6
"""Sums of every target; those of one target stand behind."""


@dataclass(frozen=True, slots=True)
class Sums:
    """Images, loss, answers (of images, or of pixels), those that are right, and images that could
    not be read; numbers on the host. Accuracies are from 0 to 1.
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
        """The share of right answers; None of numbers, which are not right or wrong."""
        return self._share(_TOP1)

    @property
    def top5(self) -> float | None:
        return self._share(_TOP5)

    @property
    def rmse(self) -> float | None:
        """The root of the mean squared distance, of numbers."""
        if self.target != "numbers":
            return None
        squares, count = self.values[_PLAIN:]
        return (squares / count) ** 0.5 if count else 0.0

    @property
    def miou(self) -> float | None:
        """Of pixels: intersection over union, the mean over the classes that there are pixels or
        answers of.
        """
        if self.target != "pixels":
            return None
        values = self.values[_PLAIN:]
        classes = len(values) // 3
        right, found, wanted = (values[n * classes : (n + 1) * classes] for n in range(3))
        unions = [a + b - c for a, b, c in zip(found, wanted, right, strict=True)]
        shares = [c / union for c, union in zip(right, unions, strict=True) if union]
        return sum(shares) / len(shares) if shares else 0.0

    @property
    def scores(self) -> dict[str, float]:
        """What there is of this target beside accuracies, by name."""
        found = {"miou": self.miou, "rmse": self.rmse}
        return {name: value for name, value in found.items() if value is not None}

    def _share(self, which: int) -> float | None:
        if self.target == "numbers":
            return None
        answers = self.values[_ANSWERS]
        return self.values[which] / answers if answers else 0.0


class Coming:
    """Numbers of a tensor on their way to the host. Only ``get`` waits for them."""

    def __init__(self, values: Tensor) -> None:
        self._values = values.detach().reshape(-1).to("cpu", non_blocking=True, copy=True)
        self._there: Any = None
        if values.device.type != "cpu":
            self._there = torch.get_device_module(values.device).Event()
            self._there.record()

    def get(self) -> tuple[float, ...]:
        if self._there is not None:
            self._there.synchronize()
        return tuple(self._values.tolist())


class Totals:
    """Adds up what ``Sums`` are of, for ``outputs`` classes or numbers. Nothing waits for the device but
    ``read``.
    """

    def __init__(self, device: torch.device, target: Target = "classes", outputs: int = 0) -> None:
        self._device, self._target = device, target
        more = {"classes": 0, "pixels": 3 * outputs, "numbers": 2}[target]
        self._sums = torch.zeros(_PLAIN + more, dtype=torch.float64, device=device)

    def add(self, output: Tensor, labels: Tensor, loss: Tensor) -> None:
        """Count a part of a batch: ``output`` [N, classes], ``labels`` [N], its mean loss; of pixels
        [N, classes, H, W] and [N, H, W], of numbers both [N, D].
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
                right = (output.argmax(-1) == labels).sum()
                row = [count, right, among, count * 0]
            row = [count, loss.detach() * count, *row]
            self._sums += torch.stack([value.to(torch.float64) for value in row])

    def _of_pixels(self, output: Tensor, labels: Tensor) -> list[Tensor]:
        """Pixels of a class, those with the right one and with it among five; then for each class
        its pixels that are right, that were answered with it, and that are of it.
        """
        classes = output.shape[1]
        counted = labels != IGNORED
        found = output.argmax(1)
        best = output.topk(min(5, classes), 1).indices
        among = ((best == labels.unsqueeze(1)).any(1) & counted).sum()
        right = (found == labels) & counted

        def of_each(values: Tensor, where: Tensor) -> Tensor:
            """How often each class is among ``values``; what is elsewhere counts for one too many."""
            places = values.where(where, classes).flatten()
            count = torch.zeros(classes + 1, dtype=torch.int64, device=values.device)
            return count.scatter_add_(0, places, torch.ones_like(places))[:classes]

        each = [of_each(labels, right), of_each(found, counted), of_each(labels, counted)]
        total = counted.sum()
        return [total, right.sum(), among, total * 0, *torch.cat(each)]

    def skip(self, images: int) -> None:
        if images:
            self._sums[_SKIPPED] += images

    @property
    def broken(self) -> Tensor:
        """1 on the device where the loss is not finite any more, else 0, float32."""
        return self._sums[_LOSS].isfinite().logical_not().to(torch.float32)

    def coming(self) -> Coming:
        """The sums so far, as ``sums`` takes them when they are there."""
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
        """Those of all processes together, added up in their order."""
        return added_up(world.gather(self.read()))


def added_up(parts: Sequence[Sums]) -> Sums:
    """The sums of parts, in their order: floats round by it."""
    columns = zip(*(part.values for part in parts), strict=True)
    return Sums(tuple(sum(column) for column in columns), parts[0].target)


@dataclass(slots=True)
class Taken:
    """A step of an epoch (from 0), of images in ``parts``, at a learning rate. ``norm`` is that of the
    gradient before clipping.
    """

    epoch: int
    batch: Batch
    parts: Sequence[Tensor]
    rate: float
    coming: Coming
    norm: Coming | None = None


@dataclass(frozen=True, slots=True)
class Heard:
    """A step, and the sums of its epoch up to it on this process."""

    step: Taken
    sums: Sums

    @property
    def broken(self) -> bool:
        """Whether the loss is no longer finite."""
        return not math.isfinite(self.sums.loss)

    @property
    def norm(self) -> float | None:
        return None if self.step.norm is None else self.step.norm.get()[0]


class Steps:
    """The steps that were taken and not yet heard of."""

    def __init__(self, device: torch.device) -> None:
        self.ahead = AHEAD if device.type != "cpu" else 0
        self._open: deque[Taken] = deque()

    def __len__(self) -> int:
        return len(self._open)

    def take(self, step: Taken) -> Taken:
        self._open.append(step)
        return step

    def heard(self, totals: Totals, ahead: int) -> list[Heard]:
        """The oldest steps, all but ``ahead``; waits for their numbers."""
        found = []
        while len(self._open) > ahead:
            step = self._open.popleft()
            found.append(Heard(step, totals.sums(step.coming)))
        return found
