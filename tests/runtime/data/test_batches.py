"""Batches: the same bits whoever makes them, whenever, and in whatever parts."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torchvision.transforms import AutoAugmentPolicy, v2

from danetc.dsl.recipe.item import Item
from danetc.runtime.data.augment import image_transform, split_steps
from danetc.runtime.data.batches import Batch, Batches, worker_death
from danetc.runtime.data.dataset import Memory, Samples, Source, with_channels
from danetc.runtime.data.registry import open_data
from danetc.runtime.system.errors import DataError
from danetc.runtime.system.seeds import derive, epoch_order

from .conftest import MakeFolder

CROP = Item("random_crop", (("size", 16), ("padding", 2)))
AUTO = Item("auto_augment", (("policy", "cifar10"),))
FLIP = Item("horizontal_flip", (("p", 0.5),))
RESIZED = Item("random_resized_crop", (("size", 16), ("smallest", 0.2)))
MIXUP = Item("mixup", (("alpha", 0.2),))
RANDOM = image_transform([CROP, FLIP, AUTO])
PLAIN = image_transform([])
COUNT = 75


@pytest.fixture(scope="module")
def source() -> Source:
    return open_data(f"synthetic:count={COUNT},size=16").train


def collect(
    source: Source, *, epoch: int = 3, start: int = 0, transform: Any = RANDOM, **options: Any
) -> list[Batch]:
    batches = Batches(source, transform, **{"batch": 16, "seed": 5, "train": True, **options})
    found = list(batches.epoch(epoch, start))
    if start == 0:
        assert len(found) == len(batches)
    batches.close()
    return found


def assert_same(ours: Sequence[Batch], theirs: Sequence[Batch]) -> None:
    assert len(ours) == len(theirs)
    for one, two in zip(ours, theirs, strict=True):
        assert torch.equal(one.images, two.images)
        assert torch.equal(one.labels, two.labels)
        assert torch.equal(one.indices, two.indices)
        assert (one.step, one.total) == (two.step, two.total)


def test_a_batch_is_what_torchvision_makes_of_its_samples(source: Source) -> None:
    steps = v2.Compose(
        [
            v2.RandomCrop(16, padding=2),
            v2.RandomHorizontalFlip(),
            v2.AutoAugment(AutoAugmentPolicy.CIFAR10),
            v2.ToDtype(torch.float32, scale=True),
        ]
    )
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


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("start", [1, 4, 5])
def test_an_epoch_goes_on_where_it_was_left(source: Source, workers: int, start: int) -> None:
    assert_same(collect(source, start=start, workers=workers), collect(source)[start:])


@pytest.mark.parametrize("world", [2, 3])
@pytest.mark.parametrize("train", [True, False])
def test_processes_share_the_batches_of_one(source: Source, world: int, train: bool) -> None:
    size = 30 // world
    whole = collect(source, batch=30, train=train)
    parts = [
        collect(source, batch=size, rank=rank, world=world, train=train) for rank in range(world)
    ]
    for step, batch in enumerate(whole):
        shares = [part[step] for part in parts if step < len(part)]
        assert torch.equal(torch.cat([share.images for share in shares]), batch.images)
        assert torch.equal(torch.cat([share.labels for share in shares]), batch.labels)
        assert {(share.step, share.total) for share in shares} == {(step, len(batch))}
    assert [len(batch) for batch in whole] == [30, 30, 15]


@pytest.mark.parametrize(
    ("count", "train", "sizes"),
    [
        (17, True, [8, 8]),  # a norm has no variance over one sample
        (18, True, [8, 8, 2]),
        (17, False, [8, 8, 1]),  # every sample is tested
        (3, True, [3]),
    ],
)
def test_the_last_batch(count: int, train: bool, sizes: list[int]) -> None:
    data = Memory(torch.rand(count, 1, 4, 4), torch.arange(count))
    found = collect(data, batch=8, train=train, transform=PLAIN)
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


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("transform", [RANDOM, PLAIN])
def test_torchs_random_state_is_neither_read_nor_changed(
    source: Source, workers: int, transform: Any
) -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = collect(source, workers=workers, transform=transform)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert_same(collect(source, workers=workers, transform=transform), first)


def test_rows_taken_at_once_are_the_samples_one_by_one(source: Source) -> None:
    """Of data in memory, against the same data behind a source that is not."""

    class Hidden:
        def read(self, number: int) -> tuple[torch.Tensor, None]:
            return source[number][0], None

        def where(self, number: int) -> str:
            return source.where(number)

    hidden = Samples(Hidden(), source.labels, torch.arange(COUNT))
    for items in ([], [Item("center_crop", (("size", 9),))], [CROP, FLIP], [FLIP, AUTO]):
        transform = image_transform(items)
        assert_same(collect(source, transform=transform), collect(hidden, transform=transform))
        for device in (source, hidden):
            later = collect(device, transform=PLAIN, later=transform)
            assert_same(later, collect(source, transform=transform))
        plain = collect(source, transform=transform, workers=1)
        assert_same(plain, collect(hidden, transform=transform))


@pytest.mark.parametrize(
    ("one_size", "first"), [(False, [RESIZED]), (True, []), (None, [RESIZED, FLIP, AUTO, MIXUP])]
)
def test_the_device_gets_the_steps_of_images_of_one_size(
    source: Source, one_size: bool | None, first: list[Item]
) -> None:
    items = [RESIZED, FLIP, AUTO, MIXUP]
    if one_size is None:  # no step gives images of several sizes one
        items = first = [Item("resize", (("size", 8),)), FLIP, MIXUP]
    assert split_steps(items, bool(one_size)) == (first, items[len(first) :])


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
    pairs = [
        pair
        for a, b in zip(flipped, plain, strict=True)
        for pair in zip(a.images, b.images, strict=True)
    ]
    assert all(torch.equal(a, b) or torch.equal(a, b.flip(-1)) for a, b in pairs)
    assert 0.2 < sum(torch.equal(a, b) for a, b in pairs) / COUNT < 0.8


def test_several_threads_change_no_bit() -> None:
    """A large image's mean, as contrast needs it, is summed in parts where there are threads."""
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


# -- processes that end ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("free", "here", "count", "told"),
    [
        (2**20, 1, COUNT, None),
        (
            60_000,
            1,
            COUNT,
            r"^with workers = 2, 5 x 0.0 MiB are read ahead: 0 MiB, .*=1g .* to 1 ",
        ),
        (60_000, 1, 60, None),  # four batches
        (
            110_000,
            2,
            COUNT,
            r"ahead for each of 2 processes: .* --shm-size=1g or --ipc=host, or .* 1 ",
        ),
        (0, 1, COUNT, "lower workers to 0 "),
    ],
)
def test_batches_read_ahead_fit_in_shared_memory(
    source: Source, free: int, here: int, count: int, told: str | None,
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    """Of 16 x (3 x 16 x 16 + 8) = 12,416 bytes."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(here))
    options: dict[str, Any] = {"batch": 16, "seed": 5, "train": True, "workers": 2}
    some = source.select(torch.arange(count), source.labels[:count])
    with nullcontext() if told is None else pytest.raises(DataError, match=told):
        Batches(some, RANDOM, **options).close()
    Batches(some, RANDOM, **{**options, "workers": 0}).close()
    Batches(some, PLAIN, **options).close()  # rows of a tensor, which no worker reads
    monkeypatch.setattr("danetc.runtime.data.batches.SHARED_MEMORY", tmp_path / "none")
    Batches(some, RANDOM, **options).close()


def _workers(batches: Batches) -> list[Any]:
    loader: Any = batches._loader
    return list(loader._iterator._workers)


def test_a_worker_that_is_killed_is_reported(make_folder: MakeFolder) -> None:
    data = open_data(f"folder:{make_folder(count=40, size=(64, 64))}")
    batches = Batches(data.train, PLAIN, batch=1, seed=0, train=False, workers=1)
    steps = batches.epoch(0)
    next(steps)
    os.kill(_workers(batches)[0].pid, signal.SIGKILL)
    try:
        with pytest.raises((DataError, RuntimeError)) as caught:
            list(steps)
        # The news may come while this process waits for a batch, or anywhere else in it.
        told = str(caught.value)
        if not isinstance(caught.value, DataError):
            told = worker_death(caught.value) or ""
        assert "a loader process has died" in told
        assert "lower workers" in told
    finally:
        batches.close()


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


def test_what_a_worker_is_given_can_be_sent_to_it(make_folder: MakeFolder, source: Source) -> None:
    """Where processes are not forked (Python 3.14's default), it travels as bytes."""
    data = with_channels(open_data(f"folder:{make_folder(size=(16, 16))}", classes=2), 1)
    for each in (data.train, source):
        batches = Batches(each, RANDOM, batch=4, seed=0, train=True)
        sent = pickle.loads(pickle.dumps(batches._fetcher))
        ours, theirs = (fetcher.__getitems__([0, 3, 1, 2]) for fetcher in (batches._fetcher, sent))
        assert torch.equal(ours.images, theirs.images)


def test_other_errors_are_no_worker_that_died() -> None:
    assert worker_death(RuntimeError("out of memory")) is None
    assert worker_death(ValueError("DataLoader worker")) is None


def test_a_path_of_any_bytes_is_kept() -> None:
    from danetc.runtime.data.files import packed

    names = ["a", "", "ä/ö.png", os.fsdecode(b"\xff.png")]
    assert [os.fsdecode(each) for each in packed(names)] == names
