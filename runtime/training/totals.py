"""Sums over the images seen so far, on the device that computes them.

What they are of follows from what is learned: right answers of classes, of pixels the overlap of each
class too, and squared distances of numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from danetc.runtime.sources.target import IGNORED, Target
from danetc.runtime.training.distributed import World

_IMAGES, _LOSS, _ANSWERS, _TOP1, _TOP5, _SKIPPED = range(6)
_PLAIN = 6
"""Sums of every target; those of one target stand behind."""


class Totals:
    """Images, loss, answers (of images, or of pixels), those that are right, and images that could
    not be read; of ``outputs`` classes or numbers. Accuracies are from 0 to 1.
    """

    def __init__(self, device: torch.device, target: Target = "classes", outputs: int = 0) -> None:
        self._device, self._target = device, target
        more = {"classes": 0, "pixels": 3 * outputs, "numbers": 2}[target]
        self._sums = torch.zeros(_PLAIN + more, dtype=torch.float64, device=device)
        self._read = [0.0] * len(self._sums)

    def add(self, output: Tensor, labels: Tensor, loss: Tensor) -> None:
        """Count a part of a batch: ``output`` [N, classes], ``labels`` [N], its mean loss; of pixels
        [N, classes, H, W] and [N, H, W], of numbers both [N, D].

        Nothing waits for the device before ``read``.
        """
        with torch.no_grad():
            count = torch.as_tensor(float(len(labels)), device=self._device)
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
        wanted, output = labels[counted], output.movedim(1, -1)[counted]
        found = output.argmax(-1)
        among = (output.topk(min(5, classes), -1).indices == wanted.unsqueeze(-1)).sum()
        right = found == wanted
        each = [values.bincount(minlength=classes) for values in (wanted[right], found, wanted)]
        total = counted.sum()
        return [total, right.sum(), among, total * 0, *torch.cat(each)]

    def skip(self, images: int) -> None:
        if images:
            self._sums[_SKIPPED] += images

    def read(self) -> None:
        """Take note of the sums so far."""
        self._read = self._sums.tolist()

    def as_list(self) -> list[float]:
        self.read()
        return list(self._read)

    def set(self, values: Sequence[float]) -> None:
        self._sums = torch.tensor(list(values), dtype=torch.float64, device=self._device)
        self.read()

    def reset(self) -> None:
        self.set([0.0] * len(self._sums))

    def over(self, world: World) -> Totals:
        """Those of all processes together, added up in their order."""
        found = Totals(self._device, self._target)
        found.set(_sums_of(world.gather(self.as_list())))
        return found

    @property
    def images(self) -> int:
        return int(self._read[_IMAGES])

    @property
    def skipped(self) -> int:
        return int(self._read[_SKIPPED])

    @property
    def loss(self) -> float:
        images = self._read[_IMAGES]
        return self._read[_LOSS] / images if images else 0.0

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
        if self._target != "numbers":
            return None
        squares, count = self._read[_PLAIN:]
        return (squares / count) ** 0.5 if count else 0.0

    @property
    def miou(self) -> float | None:
        """Of pixels: intersection over union, the mean over the classes that there are pixels or
        answers of.
        """
        if self._target != "pixels":
            return None
        values = self._read[_PLAIN:]
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
        if self._target == "numbers":
            return None
        answers = self._read[_ANSWERS]
        return self._read[which] / answers if answers else 0.0


def added_up(
    parts: Sequence[Sequence[float]], device: torch.device, target: Target = "classes"
) -> Totals:
    """The totals of parts (``as_list`` of each), in their order: floats round by it."""
    found = Totals(device, target)
    found.set(_sums_of(parts))
    return found


def _sums_of(parts: Sequence[Sequence[float]]) -> list[float]:
    return [sum(column) for column in zip(*parts, strict=True)]
