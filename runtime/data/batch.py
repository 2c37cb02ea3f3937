"""A process's part of a batch, and its way to the device that computes with it.

Images travel as they were read, bytes as bytes, and become floats on the device. Copies run on a
stream of their own, beside the computation that the host has queued before: the host never waits for
the batch that is computed, only for the one before it, and is at most ``AHEAD`` batches ahead.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from danetc.runtime.system.devices import has_streams

AHEAD = 1
"""Number of batches that the host queues while the device computes with another."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """One process's part of a batch.

    ``images`` are [N, C, H, W] or [N, T, C, H, W], float32 or what becomes that on the device;
    ``labels`` are classes [N], int64, maps [N, H, W] or numbers [N, D], float32. ``indices`` [N] are
    the numbers of the samples in the source, on the CPU. ``unreadable`` holds a reason for each
    sample that was skipped, ``wait`` the time in seconds until the batch was read. ``step`` counts the
    batches of the epoch from 0, ``total`` the samples in the parts of all processes, skipped ones
    included.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    unreadable: tuple[str, ...] = ()
    wait: float = 0.0
    step: int = 0
    total: int = 0

    def __len__(self) -> int:
        return len(self.labels)

    def pin_memory(self) -> Batch:
        """Return the batch in pinned memory. A DataLoader that pins calls this."""
        return replace(self, images=self.images.pin_memory(), labels=self.labels.pin_memory())

    def to(self, device: torch.device) -> Batch:
        """Copy images and labels to ``device``, without waiting if their memory is pinned."""
        return replace(
            self,
            images=self.images.to(device, non_blocking=has_streams(device)),
            labels=self.labels.to(device, non_blocking=has_streams(device)),
        )


Finish = Callable[[Batch], Batch]
"""What is left to do for a batch on its device."""


def on_device(batches: Iterator[Batch], device: torch.device, finish: Finish) -> Iterator[Batch]:
    """Yield each batch on ``device``, after ``finish``."""
    if not has_streams(device):
        yield from (finish(batch.to(device)) for batch in batches)
        return
    module = torch.get_device_module(device)
    copying = module.Stream()
    # Copies are kept until the device has computed with them: the copying stream may reuse their
    # memory as soon as it is free.
    computing: deque[tuple[Any, Batch]] = deque()
    try:
        for batch in batches:
            with module.stream(copying):
                copied = batch.pin_memory().to(device)
            module.current_stream().wait_stream(copying)
            yield finish(copied)
            done = module.Event()
            done.record()
            computing.append((done, copied))
            if len(computing) > AHEAD:
                computing.popleft()[0].synchronize()
    finally:
        module.synchronize()
