"""Sums over the images of an epoch, the steps in flight, and the clock.

On a GPU, the host reads the metrics of a step when the next one is queued, on a CPU at once.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from danetc.runtime.data.batches import Batch
from danetc.runtime.data.request import IGNORED, Target
from danetc.runtime.system.devices import has_streams
from danetc.runtime.training.observer import PARTS

_LOSS, _SKIPPED, _COMMON = 1, 5, 6
"""Places of the loss and of unreadable images, and number of sums that do not depend on the target."""


class Sums:
    """Sums on the host: images, loss, answers (images or pixels), correct ones, unreadable images.

    Accuracies are from 0 to 1; None if numbers are learned. Top-5 accuracy is None below ten classes.
    ``terms`` has the value of each term of the loss by its name; their sums are the last.
    """

    def __init__(
        self, values: tuple[float, ...], target: Target, outputs: int, names: tuple[str, ...]
    ) -> None:
        self.values, self.form = values, (target, outputs, names)
        images, loss, answers, top1, top5, skipped = values[:_COMMON]
        self.images, self.skipped = int(images), int(skipped)
        self.loss = _ratio(loss, images)
        self.top1 = None if target == "numbers" else _ratio(top1, answers)
        self.top5 = None if target == "numbers" or outputs < 10 else _ratio(top5, answers)
        terms = values[len(values) - len(names) :]
        self.terms = {name: _ratio(x, images) for name, x in zip(names, terms, strict=True)}

    @property
    def scores(self) -> dict[str, float]:
        """Scores of the target other than accuracies; ``miou`` is a mean over the classes that occur."""
        target, outputs, names = self.form
        own = self.values[_COMMON : len(self.values) - len(names)]
        if target == "numbers":
            return {"rmse": _ratio(*own) ** 0.5}
        if target == "classes":
            return {}
        if target == "steps":
            return {"perplexity": math.exp(min(self.loss, 700.0))}
        correct, predicted, labelled = (own[n * outputs : (n + 1) * outputs] for n in range(3))
        unions = [a + b - c for a, b, c in zip(predicted, labelled, correct, strict=True)]
        shares = [c / union for c, union in zip(correct, unions, strict=True) if union]
        return {"miou": _ratio(sum(shares), len(shares))}


def _ratio(total: float, count: float) -> float:
    return total / count if count else 0.0


def arriving(values: Tensor) -> Callable[[], tuple[float, ...]]:
    """Start to copy a tensor to the host. Return a function that waits for the numbers and returns them."""
    streams = has_streams(values.device)
    copy = values.detach().reshape(-1).to("cpu", non_blocking=streams, copy=True)
    arrived: Any = torch.get_device_module(values.device).Event() if streams else None
    if streams:
        arrived.record()

    @cache
    def wait() -> tuple[float, ...]:
        if streams:
            arrived.synchronize()
        return tuple(copy.tolist())

    return wait


class Totals:
    """Running sums on the device for ``outputs`` classes or numbers. Only ``read`` waits for it."""

    def __init__(
        self, device: torch.device, target: Target, outputs: int, terms: tuple[str, ...] = ()
    ) -> None:
        # MPS has no float64
        self._device = device if device.type != "mps" else torch.device("cpu")
        self._target, self._form = target, (target, outputs, terms)
        size = _COMMON + {"pixels": 3 * outputs, "numbers": 2}.get(target, 0) + len(terms)
        self._sums = torch.zeros(size, dtype=torch.float64, device=self._device)

    def add(
        self, output: Tensor, labels: Tensor, loss: Tensor, terms: Sequence[Tensor] = ()
    ) -> None:
        """Add a part of a batch with its mean loss, and the values of the terms in groups of steps.

        ``output`` and ``labels`` are [N, classes] and [N], for steps [T, N, classes] and [N, T], for
        pixels [N, classes, H, W] and [N, H, W], for numbers both [N, D].
        """
        output, labels, loss, *terms = (
            each.to(self._device) for each in (output, labels, loss, *terms)
        )
        with torch.no_grad():
            count = torch.full((), float(len(labels)), device=self._device)
            row = [count, loss.detach() * count]
            if self._target == "steps":
                output, labels = output.flatten(0, 1), labels[:, : len(output)].mT.flatten()
            if self._target == "numbers":
                distance = (output.double() - labels.double()).square().sum()
                row += [*[count * 0] * 4, distance, torch.full_like(distance, labels.numel())]
            else:
                best = output.topk(min(5, output.shape[1]), 1).indices
                predicted, counted = output.argmax(1), labels != IGNORED
                correct = (predicted == labels) & counted
                among = (best == labels.unsqueeze(1)) & counted.unsqueeze(1)
                row += [counted.sum(), correct.sum(), among.sum(), count * 0]
                if self._target == "pixels":
                    marked = (labels, correct), (predicted, counted), (labels, counted)
                    for values, where in marked:
                        row += _per_class(values, where, output.shape[1])
            row += [sum(values) * count for values in zip(*terms, strict=True)]
            self._sums += torch.stack([value.to(torch.float64) for value in row])

    def skip(self, images: int) -> None:
        if images:
            self._sums[_SKIPPED] += images

    @property
    def broken(self) -> Tensor:
        """float32 scalar on the device: 1 if the loss is no longer finite, else 0."""
        return self._sums[_LOSS].isfinite().logical_not().to(torch.float32)

    def arriving(self) -> Callable[[], Sums]:
        """Start to copy the sums to the host, as ``arriving``."""
        values = arriving(self._sums)
        return lambda: Sums(values(), *self._form)

    def read(self) -> Sums:
        return self.arriving()()

    def set(self, values: Sequence[float]) -> None:
        found = torch.tensor(list(values), dtype=torch.float64, device=self._device)
        if found.shape != self._sums.shape:
            raise ValueError(f"{len(values)} totals, not {self._sums.numel()}")
        self._sums.copy_(found)  # where a CUDA graph adds to them

    def reset(self) -> None:
        self._sums.zero_()


def _per_class(values: Tensor, where: Tensor, classes: int) -> Tensor:
    """Count each class among ``values`` at the places that ``where`` marks."""
    places = values.where(where, classes).flatten()
    count = torch.zeros(classes + 1, dtype=torch.int64, device=values.device)
    return count.scatter_add_(0, places, torch.ones_like(places))[:classes]


def added_up(parts: Sequence[Sums]) -> Sums:
    """Return the sum of several sums. The order matters for the rounding of floats."""
    columns = zip(*(part.values for part in parts), strict=True)
    return Sums(tuple(sum(column) for column in columns), *parts[0].form)


@dataclass(slots=True)
class InFlightStep:
    """A step of an epoch (from 0) with the images of its ``parts``, whose metrics may not have arrived.

    ``sums`` are those of the epoch so far; ``norm`` is that of the gradient before clipping.
    """

    epoch: int
    batch: Batch
    parts: Sequence[Tensor]
    rate: float
    sums: Callable[[], Sums]
    norm: Callable[[], tuple[float, ...]] | None = None

    @property
    def broken(self) -> bool:
        """True if the loss is no longer finite."""
        return not math.isfinite(self.sums().loss)


class Clock:
    """Adds up times by the names of laps, which are events of the stream on a GPU: nothing waits for it."""

    def __init__(self, device: torch.device) -> None:
        self._streams = has_streams(device)
        self._seconds = dict.fromkeys(PARTS, 0.0)
        self._last = self._now()
        self._open: deque[tuple[str, Any, Any]] = deque()

    def start(self) -> None:
        """Begin the next lap here."""
        self._last = self._now()

    def lap(self, part: str) -> None:
        """Count the time since the last lap as ``part``."""
        last, self._last = self._last, self._now()
        self._open.append((part, last, self._last))

    def move(self, source: str, target: str, seconds: float) -> None:
        """Count up to ``seconds`` of one part's time as another's."""
        moved = min(max(seconds, 0.0), self._resolved()[source])
        self._seconds[source] -= moved
        self._seconds[target] += moved

    def shares(self) -> dict[str, float]:
        """Return the shares of the parts, with sum 1 (or all 0)."""
        total = sum(self._resolved().values())
        return {part: value / total if total else 0.0 for part, value in self._seconds.items()}

    def _resolved(self) -> dict[str, float]:
        """Return the seconds of each part after the laps that are over."""
        while self._open and (not self._streams or self._open[0][2].query()):
            part, start, end = self._open.popleft()
            self._seconds[part] += start.elapsed_time(end) / 1000 if self._streams else end - start
        return self._seconds

    def _now(self) -> Any:
        if not self._streams:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event
