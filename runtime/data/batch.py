"""One process's part of a batch."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """One process's part of a batch.

    ``images`` [N, C, H, W] (or [N, T, C, H, W]), float32, or what becomes that on the device;
    ``labels`` [N], int64 (of pixels [N, H, W]; numbers [N, D], float32), and ``indices`` [N] of the
    source, which stay on the CPU. ``skipped`` samples are missing because they cannot be read, for
    the reasons in ``unreadable``. ``wait`` is how long the batch was waited for, in seconds.
    ``step`` counts the epoch's batches from 0; ``total`` is how many samples the batch of all
    processes has, the skipped ones included.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    unreadable: tuple[str, ...] = ()
    wait: float = 0.0
    step: int = 0
    total: int = 0

    @property
    def skipped(self) -> int:
        return len(self.unreadable)

    def __len__(self) -> int:
        return len(self.labels)

    def pin_memory(self) -> Batch:
        """The same in pinned memory. (A DataLoader that pins calls this.)"""
        return replace(self, images=self.images.pin_memory(), labels=self.labels.pin_memory())

    def to(self, device: torch.device) -> Batch:
        """Images and labels on ``device``. Nothing waits for the copies where memory is pinned."""
        return replace(
            self,
            images=self.images.to(device, non_blocking=True),
            labels=self.labels.to(device, non_blocking=True),
        )
