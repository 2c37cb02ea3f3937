"""Batches on their way to the device that computes with them.

Images travel as they were read, bytes as bytes, and become numbers on the device. Copies run on a stream
of their own, beside the computing that the host has queued before: nothing here waits for the batch
that is computed, but for the one before it, so that the host is never more than ``AHEAD`` batches ahead.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from danetc.runtime.data.batch import Batch

AHEAD = 1
"""Batches that the host may have queued while the device computes with another."""
Finish = Callable[[Tensor], Tensor]


def on_device(batches: Iterator[Batch], device: torch.device, finish: Finish) -> Iterator[Batch]:
    """Each batch on ``device``, its images through ``finish`` there."""
    if device.type == "cpu":
        for batch in batches:
            yield replace(batch, images=finish(batch.images))
    else:
        yield from streamed(batches, device, finish, torch.get_device_module(device))


def streamed(
    batches: Iterator[Batch], device: torch.device, finish: Finish, module: Any
) -> Iterator[Batch]:
    """The same where work is queued; ``module`` has the streams and events of the device, as
    ``torch.cuda`` has them.
    """
    copying = module.Stream()
    # What was copied is kept until the device has computed with it: the stream of the copies may
    # use its memory again as soon as it is free.
    computing: deque[tuple[Any, Batch]] = deque()
    try:
        for batch in batches:
            with module.stream(copying):
                copied = batch.pin_memory().to(device)
            module.current_stream().wait_stream(copying)
            yield replace(copied, images=finish(copied.images))
            done = module.Event()
            done.record()
            computing.append((done, copied))
            if len(computing) > AHEAD:
                computing.popleft()[0].synchronize()
    finally:
        module.synchronize()
