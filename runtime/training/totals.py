"""Sums over the images seen so far, on the device that computes them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from danetc.runtime.training.distributed import World

_IMAGES, _LOSS, _TOP1, _TOP5, _SKIPPED = range(5)


class Totals:
    """Images, loss, right answers, and images that could not be read. Accuracies are from 0 to 1."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._sums = torch.zeros(5, dtype=torch.float64, device=device)
        self._read = [0.0] * 5

    def add(self, output: Tensor, labels: Tensor, loss: Tensor) -> None:
        """Count a part of a batch: ``output`` [N, classes], ``labels`` [N], its mean loss.

        Nothing waits for the device before ``read``.
        """
        with torch.no_grad():
            best = output.topk(min(5, output.shape[-1]), dim=-1).indices
            among = (best == labels.unsqueeze(-1)).sum()
            right = (output.argmax(-1) == labels).sum()
            count = torch.as_tensor(float(len(labels)), device=self._device)
            row = (count, loss.detach() * count, right, among, torch.zeros_like(count))
            self._sums += torch.stack([value.to(torch.float64) for value in row])

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
        self.set([0.0] * 5)

    def over(self, world: World) -> Totals:
        """Those of all processes together, added up in their order."""
        return added_up(world.gather(self.as_list()), self._device)

    @property
    def images(self) -> int:
        return int(self._read[_IMAGES])

    @property
    def skipped(self) -> int:
        return int(self._read[_SKIPPED])

    @property
    def loss(self) -> float:
        return self._mean(_LOSS)

    @property
    def top1(self) -> float:
        return self._mean(_TOP1)

    @property
    def top5(self) -> float:
        return self._mean(_TOP5)

    def _mean(self, which: int) -> float:
        images = self._read[_IMAGES]
        return self._read[which] / images if images else 0.0


def added_up(parts: Sequence[Sequence[float]], device: torch.device) -> Totals:
    """The totals of parts (``as_list`` of each), in their order: floats round by it."""
    found = Totals(device)
    found.set([sum(column) for column in zip(*parts, strict=True)])
    return found
