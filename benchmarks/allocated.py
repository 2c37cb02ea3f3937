"""What a training step holds: bytes kept for the backward pass, and bytes at its peak.

On a CPU every allocation of torch's allocator is recorded, whoever asks for it: saved tensors,
attributes of contexts, modules, compiled kernels. The numbers are those of the tensors, equal in
every run. On a GPU they are those of the caching allocator.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._C._profiler import _EventType
from torch.profiler import ProfilerActivity, profile


def saved_bytes(step: Callable[[], Tensor]) -> int:
    """Bytes that a forward pass holds for its backward pass, whatever holds them.

    ``step`` runs a forward pass and gives the loss. It runs twice: what the first run leaves for
    good (compiled kernels, caches) does not count, nor does what was there before (parameters,
    inputs). Each storage counts once, the loss itself does not.
    """
    step()
    with _recording() as record:
        loss = step()
        gc.collect()
    return record.held() - loss.untyped_storage().nbytes()


def peak_bytes(step: Callable[[], object]) -> int:
    """The most bytes that live at a time during a step, beyond what was there before it.

    Run a step before, so that kernels are compiled and an optimizer's state is there: those count
    where the step makes them.
    """
    gc.collect()
    with _recording() as record:
        step()
    return record.peak()


class _Record:
    """Allocations between two moments: (address, bytes), or (address, 0) for one given back."""

    def __init__(self) -> None:
        self.events: list[tuple[int, int]] = []
        self.cuda_held = 0
        self.cuda_peak = 0

    def held(self) -> int:
        """Bytes allocated in between and still there."""
        live: dict[int, int] = {}
        for address, size in self.events:
            if size:
                live[address] = size
            else:
                live.pop(address, None)
        return sum(live.values()) + self.cuda_held

    def peak(self) -> int:
        """The most bytes allocated in between and not given back at a time."""
        live: dict[int, int] = {}
        now = peak = 0
        for address, size in self.events:
            if size:
                live[address] = size
                now += size
                peak = max(peak, now)
            else:
                now -= live.pop(address, 0)
        return peak + self.cuda_peak


@contextmanager
def _recording() -> Iterator[_Record]:
    record = _Record()
    cuda = torch.cuda.is_available() and torch.cuda.is_initialized()
    before = 0
    if cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    recorder = profile(activities=[ProfilerActivity.CPU], profile_memory=True)
    with _quiet(), recorder:
        yield record
        if cuda:
            torch.cuda.synchronize()
            record.cuda_held = torch.cuda.memory_allocated() - before
            record.cuda_peak = torch.cuda.max_memory_allocated() - before
    record.events = _allocations(recorder)


def _allocations(recorder: profile) -> list[tuple[int, int]]:
    """Return (address, bytes) of the CPU's allocations in order of time, with 0 bytes for freed memory."""
    found: list[tuple[int, int, int]] = []
    waiting = list(recorder.profiler.kineto_results.experimental_event_tree())  # type: ignore[union-attr]
    waiting.reverse()
    while waiting:  # depth first: those of one moment stay in their order
        event = waiting.pop()
        waiting.extend(reversed(event.children))
        if event.tag == _EventType.Allocation:
            fields: Any = event.extra_fields
            if fields.device.type == "cpu" and fields.ptr is not None:
                found.append((event.start_time_ns, fields.ptr, fields.alloc_size))
    found.sort(key=lambda item: item[0])
    return [(address, max(size, 0)) for _, address, size in found]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the profiler and the allocator write to stderr about being watched."""
    sys.stderr.flush()
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
