"""Steps that are taken, and whose numbers are on their way to the host.

On a GPU the host queues a step while the one before it is computed, so it hears of that one's loss when
the next is queued: nothing waits in between. On a CPU a step is heard of at once.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from danetc.runtime.data import Batch
from danetc.runtime.data.transfer import AHEAD
from danetc.runtime.training.totals import Coming, Sums, Totals


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
