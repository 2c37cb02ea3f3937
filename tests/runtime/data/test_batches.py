"""Batches have the same bits for all workers, starts and parts, and are copied to a device."""

import os
import pickle
import re
import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor
from torchvision.transforms import AutoAugmentPolicy, v2

from danetc.dsl.recipe.item import Item
from danetc.runtime.data.augment import image_transform, split_steps
from danetc.runtime.data.batches import Batch, Batches, on_device, worker_death
from danetc.runtime.data.dataset import Memory, Samples, Source, with_channels
from danetc.runtime.data.registry import open_data
from danetc.runtime.system.errors import DataError
from danetc.runtime.system.seeds import derive, epoch_order

from .conftest import image_folder

CROP = Item("random_crop", (("size", 16), ("padding", 2)))
AUTO = Item("auto_augment", (("policy", "cifar10"),))
FLIP = Item("horizontal_flip", (("p", 0.5),))
RESIZED = Item("random_resized_crop", (("size", 16), ("smallest", 0.2)))
NORMALIZE = Item("normalize", (("statistics", "imagenet"),))
MIXUP = Item("mixup", (("alpha", 0.2),))
RANDOM = image_transform([CROP, FLIP, AUTO])
PLAIN = image_transform([])
COUNT = 75


@pytest.fixture(scope="module")
def source() -> Source:
    return open_data(f"synthetic:count={COUNT},size=16").train


def collect(
    source: Source, epoch: int = 3, start: int = 0, transform: Any = RANDOM, **options: Any
) -> list[Batch]:
    state = torch.get_rng_state()
    batches = Batches(source, transform, **{"batch": 16, "seed": 5, "train": True, **options})
    found = list(batches.epoch(epoch, start))
    assert torch.equal(torch.get_rng_state(), state)
    if start == 0:
        assert len(found) == len(batches)
    batches.close()
    return found


def assert_same(ours: Sequence[Batch], theirs: Sequence[Batch]) -> None:
    each = (
        [(x.images, x.labels, x.indices, x.step, x.total) for x in side] for side in (ours, theirs)
    )
    torch.testing.assert_close(*each, rtol=0, atol=0)


def test_a_batch_is_what_torchvision_makes_of_its_samples(source: Source) -> None:
    drawn = v2.RandomCrop(16, padding=2), v2.RandomHorizontalFlip()
    auto, scaled = v2.AutoAugment(AutoAugmentPolicy.CIFAR10), v2.ToDtype(torch.float32, scale=True)
    steps = v2.Compose([*drawn, auto, scaled])
    order = epoch_order(COUNT, 5, 3).tolist()
    assert sorted(order) == list(range(COUNT))
    found = collect(source)
    assert [index for batch in found for index in batch.indices.tolist()] == order
    for batch in found:
        for image, label, index in zip(batch.images, batch.labels, batch.indices, strict=True):
            raw, expected = source[int(index)]
            torch.manual_seed(derive("sample", 5, 3, int(index)))
            assert torch.equal(image, steps(raw))
            assert label == expected


@pytest.mark.thorough
@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_no_bit_in_any_epoch(source: Source, workers: int) -> None:
    batches = Batches(source, RANDOM, batch=16, seed=5, train=True, workers=workers)
    for epoch in (3, 0, 3):
        assert_same(list(batches.epoch(epoch)), collect(source, epoch=epoch))
    assert_same(list(batches.epoch(7, start=2)), collect(source, epoch=7)[2:])
    left = batches.epoch(4)
    next(left)  # an epoch that is left in the middle
    assert_same(list(batches.epoch(5)), collect(source, epoch=5))
    batches.close()


def test_the_last_batch() -> None:
    """A batch of one sample is dropped, since a norm has no variance over it."""
    for count, sizes in ((17, [8, 8]), (18, [8, 8, 2]), (3, [3])):
        data = Memory(torch.rand(count, 1, 4, 4), torch.arange(count))
        found = collect(data, batch=8, transform=PLAIN)
        assert [len(batch) for batch in found] == sizes


@pytest.mark.parametrize("count", [1, 7, 15, 16, 17, 33])
@pytest.mark.parametrize("world", [1, 2, 4])
def test_evaluation_sees_every_sample_once(count: int, world: int) -> None:
    data = Memory(torch.rand(count, 1, 4, 4), torch.arange(count))
    seen: list[int] = []
    for rank in range(world):
        found = collect(data, batch=4, rank=rank, world=world, train=False, transform=PLAIN)
        seen += [index for batch in found for index in batch.indices.tolist()]
        assert all(len(batch) for batch in found)
    assert sorted(seen) == list(range(count))


class Hidden:
    def __init__(self, images: Sequence[Tensor]) -> None:
        self.images = images

    def read(self, number: int) -> tuple[Tensor, None]:
        return self.images[number], None

    def where(self, number: int) -> str:
        return f"sample {number}"


@pytest.mark.parametrize("shape", [(16, 16), (12, 20)])
def test_rows_taken_at_once_are_the_samples_one_by_one(shape: tuple[int, int]) -> None:
    """The images are bytes, or floats with fewer rows than the crop."""
    source = open_data(f"synthetic:count={COUNT},size=16").train
    if shape != (16, 16):
        source = Memory(torch.rand(COUNT, 3, *shape), source.labels)
    images = [source[number][0] for number in range(COUNT)]
    hidden = Samples(Hidden(images), source.labels, torch.arange(COUNT))
    middle = Item("center_crop", (("size", 9),))
    for items in ([], [middle], [NORMALIZE], [CROP, FLIP, NORMALIZE], [FLIP, AUTO]):
        transform = image_transform(items)
        assert_same(collect(source, transform=transform), collect(hidden, transform=transform))
        for each in (source, hidden):
            later = collect(each, transform=PLAIN, later=transform)
            assert_same(later, collect(source, transform=transform))
        plain = collect(source, transform=transform, workers=1)
        assert_same(plain, collect(hidden, transform=transform))


def test_the_device_gets_the_steps_of_images_of_one_size() -> None:
    items = [RESIZED, FLIP, AUTO, MIXUP]
    assert split_steps(items, False) == ([RESIZED], [FLIP, AUTO, MIXUP])
    assert split_steps(items, True) == ([], items)
    items[:2] = [Item("resize", (("size", 8),))]  # no step makes all sizes equal
    assert split_steps(items, False) == (items, [])


def test_what_the_device_draws_depends_on_the_sample_alone(source: Source) -> None:
    first, later = image_transform([RESIZED]), image_transform([FLIP, AUTO])
    options: dict[str, Any] = {"transform": first, "later": later}
    whole = collect(source, **options)
    assert_same(collect(source, start=2, workers=1, **options), whole[2:])
    parts = [collect(source, batch=8, rank=rank, world=2, **options) for rank in range(2)]
    for one, two, both in zip(*parts, whole, strict=True):
        assert torch.equal(torch.cat([one.images, two.images]), both.images)
    flipped = collect(source, transform=first, later=image_transform([FLIP]))
    plain = collect(source, transform=first)
    images = (torch.cat([batch.images for batch in each]) for each in (flipped, plain))
    pairs = list(zip(*images, strict=True))
    assert all(torch.equal(a, b) or torch.equal(a, b.flip(-1)) for a, b in pairs)
    assert 0.2 < sum(torch.equal(a, b) for a, b in pairs) / COUNT < 0.8


def test_several_threads_change_no_bit() -> None:
    """Contrast needs the mean of a large image, which several threads would sum in parts."""
    images = torch.rand(12, 3, 300, 300, generator=torch.Generator().manual_seed(0))
    data = Memory(images, torch.arange(12))
    contrast = {"brightness": 0.0, "contrast": 0.9, "saturation": 0.0, "hue": 0.0}
    jitter = image_transform([Item("color_jitter", tuple(contrast.items()))])
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 4):
            torch.set_num_threads(threads)
            found.append(collect(data, batch=6, transform=jitter))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert_same(*found)


def test_impossible_batches_are_refused(source: Source) -> None:
    with pytest.raises(DataError):
        collect(source, batch=2, world=99)
    with pytest.raises(DataError, match="no samples"):
        collect(Memory(torch.rand(0, 1, 4, 4), torch.zeros(0, dtype=torch.int64)))


# -- copies to a device -----------------------------------------------------------------------------


def test_copies_have_a_stream_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host is one batch ahead, and a loop that is left waits for pending copies."""
    log, now, numbers = list[str](), ["computing"], iter(range(4))
    note = log.append

    @contextmanager
    def stream(name: str) -> Iterator[None]:
        now.append(name)
        yield
        now.pop()

    def event() -> Any:
        name = f"event {next(numbers)}"
        return Mock(record=lambda: note(name), synchronize=lambda: note(f"host waits for {name}"))

    def batches() -> Iterator[Batch]:
        for step in range(3):
            note(f"read {step}")
            yield Batch(torch.full((2, 1, 2, 2), step), torch.zeros(2), torch.arange(2), step=step)

    def moved(self: Batch, device: torch.device) -> Batch:
        note(f"copy {self.step} on {now[-1]}")
        return self

    def finish(batch: Batch) -> Batch:
        note(f"finish on {now[-1]}")
        return replace(batch, images=batch.images.float())

    monkeypatch.setattr("danetc.runtime.data.batches.has_streams", lambda device: True)
    device = Mock(
        Stream=lambda: "copying",
        stream=stream,
        Event=event,
        synchronize=lambda: note("host waits for all"),
    )
    device.current_stream().wait_stream = lambda each: note(f"{now[-1]} waits for {each}")
    monkeypatch.setattr(torch, "get_device_module", lambda _: device)
    monkeypatch.setattr(Batch, "pin_memory", lambda self: self)
    monkeypatch.setattr(Batch, "to", moved)
    for batch in on_device(batches(), torch.device("cpu"), finish):
        assert batch.images.dtype == torch.float32
        note(f"step {batch.step}")
    each = ["read {0}", "copy {0} on copying", "computing waits for copying", "finish on computing",
            "step {0}", "event {0}"]  # fmt: skip
    wanted = [[line.format(step) for line in each] for step in range(3)]
    wanted[1].append("host waits for event 0")
    wanted[2].append("host waits for event 1")
    assert log == [*wanted[0], *wanted[1], *wanted[2], "host waits for all"]
    left: Any = on_device(batches(), torch.device("cpu"), finish)
    next(left)
    left.close()
    assert log[-2:] == ["finish on computing", "host waits for all"]


def test_bytes_beside_floats_are_scaled_each_as_they_are() -> None:
    images = [torch.full((1, 2, 2), 255, dtype=torch.uint8), torch.ones(1, 2, 2)]
    mixed = Samples(Hidden(images), torch.zeros(2, dtype=torch.int64), torch.arange(2))
    (batch,) = collect(mixed, train=False, transform=PLAIN)
    assert torch.equal(batch.images, torch.ones(2, 1, 2, 2))


# -- processes that end ----------------------------------------------------------------------------


def test_batches_read_ahead_fit_in_shared_memory(
    source: Source, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A batch has 16 x (3 x 16 x 16 + 8) = 12,416 bytes."""
    options: dict[str, Any] = {"batch": 16, "seed": 5, "train": True, "workers": 2}
    one = r"^with workers = 2, 5 x 0.0 MiB are read ahead: 0 MiB, .*=1g .* to 1 "
    two = r"ahead for each of 2 processes: .* --shm-size=1g or --ipc=host, or .* 1 "
    for free, here, count, told in (
        (2**20, 1, COUNT, None),
        (60_000, 1, COUNT, one),
        (60_000, 1, 60, None),  # four batches
        (110_000, 2, COUNT, two),
        (0, 1, COUNT, "lower workers to 0 "),
    ):
        usage = SimpleNamespace(free=free)
        monkeypatch.setattr(shutil, "disk_usage", lambda path, usage=usage: usage)
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(here))
        some = source.select(torch.arange(count), source.labels[:count])
        with nullcontext() if told is None else pytest.raises(DataError, match=told):
            Batches(some, RANDOM, **options).close()
        Batches(some, RANDOM, **{**options, "workers": 0}).close()
        Batches(some, PLAIN, **options).close()  # no worker reads rows of a tensor
    monkeypatch.setattr("danetc.runtime.data.batches.SHARED_MEMORY", tmp_path / "none")
    Batches(source, RANDOM, **options).close()


def _workers(batches: Batches) -> list[Any]:
    loader: Any = batches._loader
    return list(loader._iterator._workers)


def test_a_worker_that_is_killed_is_reported(tmp_path: Path) -> None:
    data = open_data(f"folder:{image_folder(tmp_path, count=40, size=(64, 64))}")
    batches = Batches(data.train, PLAIN, batch=1, seed=0, train=False, workers=1)
    steps = batches.epoch(0)
    next(steps)
    os.kill(_workers(batches)[0].pid, signal.SIGKILL)
    with closing(batches), pytest.raises((DataError, RuntimeError)) as caught:
        list(steps)
    # The error may be raised while this process waits for a batch, or anywhere else in it.
    found = caught.value
    told = str(found if isinstance(found, DataError) else worker_death(found))
    assert re.search("a loader process has died.*lower workers", told)
    assert worker_death(RuntimeError("out of memory")) is None
    assert worker_death(ValueError("DataLoader worker")) is None


def test_a_worker_outlives_the_signals_that_ask_the_main_process_to_save(source: Source) -> None:
    batches = Batches(source, RANDOM, batch=4, seed=0, train=True, workers=1)
    steps = batches.epoch(0)
    next(steps)
    (worker,) = _workers(batches)
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(worker.pid, number)
    assert len(list(steps)) == len(batches) - 1
    assert worker.is_alive()
    batches.close()
    assert not worker.is_alive()


def test_what_a_worker_is_given_can_be_sent_to_it(tmp_path: Path, source: Source) -> None:
    """Where processes are not forked (Python 3.14's default), it is pickled."""
    data = with_channels(open_data(f"folder:{image_folder(tmp_path, size=(16, 16))}", classes=2), 1)
    for each in (data.train, source):
        batches = Batches(each, RANDOM, batch=4, seed=0, train=True)
        sent = pickle.loads(pickle.dumps(batches._fetcher))
        ours, theirs = (fetcher.__getitems__([0, 3, 1, 2]) for fetcher in (batches._fetcher, sent))
        assert torch.equal(ours.images, theirs.images)
