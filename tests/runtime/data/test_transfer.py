"""Batches on their way to a device: the order in which streams and events are used."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from danetc.runtime.data.augment import image_transform
from danetc.runtime.data.batches import Batch, Batches, on_device
from danetc.runtime.data.dataset import Samples

CPU = torch.device("cpu")


class Queues:
    """What a device module has of streams and events; notes what is asked of it."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.events = 0
        self.now = "computing"

    def Stream(self) -> str:
        return "copying"

    @contextmanager
    def stream(self, name: str) -> Iterator[None]:
        self.now = name
        yield
        self.now = "computing"

    def current_stream(self) -> Any:
        queues = self

        class Current:
            def wait_stream(self, other: str) -> None:
                queues.log.append(f"{queues.now} waits for {other}")

        return Current()

    def Event(self) -> Any:
        queues, number = self, self.events
        self.events += 1

        class Event:
            def record(self) -> None:
                queues.log.append(f"event {number}")

            def synchronize(self) -> None:
                queues.log.append(f"host waits for event {number}")

        return Event()

    def synchronize(self) -> None:
        self.log.append("host waits for all")


@pytest.fixture
def queues(monkeypatch: pytest.MonkeyPatch) -> Queues:
    """The streams of the CPU, which has none."""
    found = Queues()
    monkeypatch.setattr("danetc.runtime.data.batches.has_streams", lambda device: True)
    monkeypatch.setattr(torch, "get_device_module", lambda device: found)
    return found


def test_copies_have_a_stream_of_their_own_and_the_host_is_one_batch_ahead(
    queues: Queues, monkeypatch: pytest.MonkeyPatch
) -> None:
    def batches() -> Iterator[Batch]:
        for step in range(3):
            queues.log.append(f"read {step}")
            yield Batch(torch.full((2, 1, 2, 2), step), torch.zeros(2), torch.arange(2), step=step)

    def moved(self: Batch, device: torch.device) -> Batch:
        queues.log.append(f"copy {self.step} on {queues.now}")
        return self

    def finish(batch: Batch) -> Batch:
        queues.log.append(f"finish on {queues.now}")
        return replace(batch, images=batch.images.float())

    monkeypatch.setattr(Batch, "pin_memory", lambda self: self)
    monkeypatch.setattr(Batch, "to", moved)
    for batch in on_device(batches(), CPU, finish):
        assert batch.images.dtype == torch.float32
        queues.log.append(f"step {batch.step}")
    each = ["read {0}", "copy {0} on copying", "computing waits for copying", "finish on computing",
            "step {0}", "event {0}"]  # fmt: skip
    wanted = [[line.format(step) for line in each] for step in range(3)]
    wanted[1].append("host waits for event 0")
    wanted[2].append("host waits for event 1")
    assert queues.log == [*wanted[0], *wanted[1], *wanted[2], "host waits for all"]


def test_a_loop_that_is_left_waits_for_what_is_copied(
    queues: Queues, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Batch, "pin_memory", lambda self: self)
    batch = Batch(torch.zeros(1, 1, 2, 2), torch.zeros(1), torch.zeros(1))
    given: Any = on_device(iter([batch] * 3), CPU, lambda each: each)
    next(given)
    given.close()
    assert queues.log[-1] == "host waits for all"


def test_a_batch_is_pinned_and_copied_with_its_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    """(Without a GPU nothing can be pinned.)"""
    monkeypatch.setattr(Tensor, "pin_memory", lambda self: self + 1)
    batch = Batch(torch.zeros(1, 1, 2, 2), torch.zeros(1), torch.arange(1), ("a", "b"), total=3)
    moved = batch.pin_memory().to(torch.device("meta"))
    assert (moved.images.device.type, moved.labels.device.type) == ("meta", "meta")
    assert (moved.indices.tolist(), len(moved.unreadable), moved.total) == ([0], 2, 3)
    assert batch.pin_memory().images.sum() == 4
    assert batch.pin_memory().labels.tolist() == [1]


def test_bytes_beside_floats_are_scaled_each_as_they_are() -> None:
    class Mixed:
        def read(self, number: int) -> tuple[Tensor, None]:
            samples = torch.full((1, 2, 2), 255, dtype=torch.uint8), torch.ones(1, 2, 2)
            return samples[number], None

        def where(self, number: int) -> str:
            return f"sample {number}"

    mixed = Samples(Mixed(), torch.zeros(2, dtype=torch.int64), torch.arange(2))
    (batch,) = Batches(mixed, image_transform([]), batch=2, seed=0, train=False).epoch(0)
    assert torch.equal(batch.images, torch.ones(2, 1, 2, 2))
