"""Batches whose content depends only on (seed, epoch, step), not on workers, ranks or a resume.

A batch is a slice of its epoch's order, of which each process takes a part. Each sample is augmented
with a seed of its own. Images travel to the device as they were read, bytes as bytes, and become floats
there. Copies run on a stream of their own: the host never waits for the batch that is computed, only for
the one before it, and is at most ``AHEAD`` batches ahead.
"""

from __future__ import annotations

import shutil
import signal
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_convert

from danetc.dsl.recipe.item import Item
from danetc.runtime.data.augment import ImageTransform, image_transform, one_thread
from danetc.runtime.data.dataset import DataSet, Memory, Samples, Source, evenly
from danetc.runtime.data.request import Split
from danetc.runtime.kernels.torch_internals import end_workers
from danetc.runtime.system.devices import has_streams
from danetc.runtime.system.errors import DataError, UnreadableError
from danetc.runtime.system.seeds import derive, drawn_anew, epoch_order
from danetc.runtime.system.torchrun import processes_here
from danetc.runtime.system.user_code import failure_of_user

SHARED_MEMORY = Path("/dev/shm")
"""Folder of shared memory, which holds the batches of workers on Linux; Docker limits it to 64 MB by default."""
PREFETCH = 4
"""Number of batches that each worker prefetches, which is enough for a few slow files."""
AHEAD = 1
"""Number of batches that the host queues while the device computes with another."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """One process's part of a batch.

    ``images`` are [N, C, H, W] or [N, T, C, H, W], float32 or what becomes that on the device; ``labels``
    are classes [N], int64, maps [N, H, W] or numbers [N, D], float32; ``indices`` [N], on the CPU, are those
    in the source. ``unreadable`` has a reason for each skipped sample. ``step`` counts the batches of the
    epoch from 0, ``total`` the samples in the parts of all processes, with skipped ones.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    unreadable: tuple[str, ...] = ()
    step: int = 0
    total: int = 0

    def __len__(self) -> int:
        return len(self.labels)

    def pin_memory(self) -> Batch:
        """Return the batch in pinned memory. A DataLoader that pins calls this."""
        return replace(self, images=self.images.pin_memory(), labels=self.labels.pin_memory())

    def to(self, device: torch.device) -> Batch:
        """Copy images and labels to ``device``, without waiting if their memory is pinned."""
        pair, streams = (self.images, self.labels), has_streams(device)
        images, labels = (each.to(device, non_blocking=streams) for each in pair)
        return replace(self, images=images, labels=labels)


def on_device(
    batches: Iterator[Batch], device: torch.device, finish: Callable[[Batch], Batch]
) -> Iterator[Batch]:
    """Yield each batch on ``device``, after ``finish``."""
    if not has_streams(device):
        yield from (finish(batch.to(device)) for batch in batches)
        return
    module = torch.get_device_module(device)
    copying = module.Stream()
    # Copies are kept until the device has computed with them: their stream may reuse free memory.
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


class Batches:
    """The batches of this process (``rank`` of ``world``) over a source.

    ``batch`` is the size of one process's part. In training, each epoch has its own order, and an end of it
    that does not fill a batch is dropped if a process would get fewer than two samples, over which a norm
    has no variance; otherwise every sample comes once, in order, in one of the processes.

    The first epoch starts ``workers`` processes that read ahead, ``close`` ends them. With ``pin``, a thread
    moves their batches to pinned memory. ``later`` are the steps after ``transform``, on the device.
    """

    def __init__(
        self,
        source: Source,
        transform: ImageTransform,
        *,
        batch: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        workers: int = 0,
        train: bool,
        pin: bool = False,
        later: ImageTransform | None = None,
    ) -> None:
        if not len(source):
            raise DataError("there are no samples")
        self._fetcher = Fetcher(source, transform, seed)
        self._rank, self._world, self._whole = rank, world, batch * world
        self._train, self._later = train, later
        rest = len(source) % self._whole
        self._used = len(source) - rest * (train and rest < 2 * world)  # samples of an epoch
        if not self._used:
            raise DataError(
                f"the {len(source)} samples make no batch of {batch} for each of {world} "
                "processes; lower the batch"
            )
        self._jobs: list[list[int]] = []
        """For each batch of the epoch, the number of the epoch and those of the samples."""
        self._loader: DataLoader[Batch | str] | None = None
        # Indexing a tensor is faster than passing its rows between processes.
        if workers and not (self._fetcher.at_once and not transform.random):
            _check_shared_memory(self._fetcher, batch, workers, len(self))
            # A warning about more workers than cores is part of the plan of a training.
            warnings.filterwarnings("ignore", message="This DataLoader will create")
            self._loader = DataLoader(
                self._fetcher,
                batch_sampler=self._jobs,
                num_workers=workers,
                collate_fn=default_convert,  # leaves a `Batch` as it is
                worker_init_fn=_ignore_signals,
                persistent_workers=True,
                prefetch_factor=PREFETCH,
                pin_memory=pin,
                generator=torch.Generator().manual_seed(0),  # not the global one
            )
        self.unreadable: dict[str, None] = {}
        """Messages of all samples that were skipped so far."""
        self.skipped = 0
        """Number of samples that were skipped in the latest epoch, in empty batches too."""

    def __len__(self) -> int:
        """Number of batches of an epoch in this process."""
        return len(range(self._rank, self._used, self._whole))

    def epoch(
        self, epoch: int, start: int = 0, device: torch.device | None = None
    ) -> Iterator[Batch]:
        """Yield the batches of an epoch from batch ``start`` on, on ``device`` (None: the CPU).

        The random state of torch is kept. Starting an epoch ends the previous one. Raises DataError if a
        sample cannot be read and the policy is to stop, if sizes differ, or if a worker has died.
        """

        def finish(batch: Batch) -> Batch:
            last, images, labels = self._fetcher.transform, batch.images, batch.labels
            if self._later is not None:
                # Without steps in the loader, the draws are those that the loader would have made.
                seed = derive("later", self._fetcher.seed) if last.steps else self._fetcher.seed
                seeds = [derive("sample", seed, epoch, index) for index in batch.indices.tolist()]
                last = self._later
                images, labels = last.change_all(images, labels, seeds)
            return replace(batch, images=last.finish(images), labels=labels)

        return on_device(self._read(epoch, start), device or torch.device("cpu"), finish)

    def _read(self, epoch: int, start: int) -> Iterator[Batch]:
        """Yield the batches on the CPU, before ``finish``."""
        length = len(self._fetcher.source)
        order, seeding = torch.arange(length), 0
        if self._train:  # evaluations of all epochs see the same samples, also of sources that draw
            order, seeding = epoch_order(length, self._fetcher.seed, epoch), epoch
        stretches = order[: self._used].split(self._whole)[start:]
        parts = (stretch.tensor_split(self._world)[self._rank] for stretch in stretches)
        jobs = [[seeding, *part.tolist()] for part in parts if len(part)]
        self._jobs[:] = jobs
        loaded: Iterator[Batch | str] = map(self._fetcher.__getitems__, jobs)
        if self._loader is not None:
            loaded = iter(self._loader)
        self.skipped = 0
        for step, (stretch, _) in enumerate(zip(stretches, jobs, strict=False), start):
            try:
                found = next(loaded)
            except (RuntimeError, OSError, EOFError) as error:
                reason = worker_death(error, sending=self._loader is not None)
                if reason is None:
                    raise
                raise DataError(reason) from error
            if isinstance(found, str):
                raise DataError(found)
            self.unreadable.update(dict.fromkeys(found.unreadable))
            self.skipped += len(found.unreadable)
            if len(found):
                yield replace(found, step=step, total=len(stretch))
            elif self._train:
                raise DataError(
                    f"none of the samples of batch {step + 1} can be read; the first: "
                    f"{found.unreadable[0]}"
                )

    def close(self) -> None:
        """End the workers. The next epoch would start new ones."""
        try:
            end_workers(self._loader)
        except RuntimeError as error:  # a worker had died; all have ended now
            if worker_death(error) is None:
                raise


@dataclass(frozen=True, eq=False)
class Prepared:
    """A data set whose images go through ``steps``, those of a recipe's ``evaluate``."""

    data: DataSet
    steps: tuple[Item, ...]

    @cached_property
    def transform(self) -> ImageTransform:
        return image_transform(self.steps, events=self.data.events)

    def batches(
        self, *, split: Split = "test", order: Tensor | None = None, **options: Any
    ) -> Batches:
        """Return the batches of a split in its order, or of the samples ``order`` [M]."""
        source = self.data.split(split)
        if order is not None:
            source = source.select(order, source.labels[order])
        return Batches(source, self.transform, seed=0, train=False, **options)


def _check_shared_memory(fetcher: Fetcher, batch: int, workers: int, batches: int) -> None:
    """Raise DataError if the batches that workers read ahead, with samples like the first that can be read,
    exceed what is free in shared memory: a worker would hang or be killed."""
    if not SHARED_MEMORY.is_dir():
        return
    _, image, label = next(fetcher.samples(evenly(len(fetcher.source))))
    size, here = batch * (image.nbytes + label.nbytes), processes_here()
    ahead = min(workers * PREFETCH, batches)
    need, free = size * ahead * here, shutil.disk_usage(SHARED_MEMORY).free
    if need > free:
        each = f" for each of {here} processes" * (here > 1)
        fit = free // (size * PREFETCH * here)
        raise DataError(
            f"with workers = {workers}, {ahead} x {size / 2**20:,.1f} MiB are read ahead{each}: "
            f"{need / 2**20:,.0f} MiB, of which {SHARED_MEMORY} has {free / 2**20:,.0f} free; start "
            f"the container with --shm-size={-(-need // 2**30)}g or --ipc=host, or lower workers to "
            f"{fit} (recipe.workers in training, --workers in `eval`)"
        )


def worker_death(error: BaseException, *, sending: bool = False) -> str | None:
    """Return the message for an error that reports the death of a worker, else None. A signal reports it, so any
    line of the main process can raise the error, but while a worker is ``sending`` a batch, its connection
    breaks instead. (Messages of errors of the worker itself begin with "Caught".)"""
    text = str(error)
    died = isinstance(error, RuntimeError) and "DataLoader worker" in text
    broken = sending and isinstance(error, OSError | EOFError) and not text.startswith("Caught ")
    if not died and not broken:
        return None
    reason = text.partition("\n")[0].rstrip(". ") or "the connection to it is broken"
    return (
        f"a loader process has died ({reason}); if it was out of memory, lower workers or the batch"
    )


@dataclass(eq=False)
class Fetcher(Dataset[Batch | str]):
    """Makes batches, in the main process or in a worker."""

    source: Source
    transform: ImageTransform
    seed: int
    _first: tuple[tuple[int, ...], str] | None = None

    @property
    def at_once(self) -> bool:
        """True if batches are rows of a tensor, with the same bits as samples one by one."""
        return isinstance(self.source, Memory) and self.transform.at_once(self.source.labels)

    def __getitems__(self, job: list[int]) -> Batch | str:
        """Return a batch, or the message of its error, to which a DataLoader would add a traceback."""
        epoch, *indices = job
        try:
            return self._read(epoch, indices)
        except DataError as error:
            return str(error)
        except Exception as error:
            where = failure_of_user(error)
            if where is None:
                raise
            return where

    def samples(self, indices: Sequence[int]) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield the index, the image (of any size) and the label of each sample that can be read.
        Raises DataError if none can."""
        unreadable: list[str] = []
        for index in indices:
            found = Fetcher(self.source, self.transform, self.seed).__getitems__([0, index])
            if isinstance(found, str):
                raise DataError(found)
            unreadable += found.unreadable
            if len(found):
                yield index, found.images[0], found.labels[0]
        if len(unreadable) == len(indices):
            raise DataError(
                f"none of the {len(indices)} samples looked at can be read; the last: {unreadable[-1]}"
            )

    def _read(self, epoch: int, indices: list[int]) -> Batch:
        seeds = [derive("sample", self.seed, epoch, index) for index in indices]
        if isinstance(self.source, Memory) and self.at_once:
            chosen = torch.tensor(indices, dtype=torch.int64)
            images, labels = self.source.images[chosen], self.source.labels[chosen]
            return Batch(*self.transform.change_all(images, labels, seeds), chosen)
        found: list[tuple[int, Tensor, Tensor]] = []
        unreadable: list[str] = []
        with drawn_anew() as seed_all, one_thread():
            for index, seed in zip(indices, seeds, strict=True):
                if isinstance(self.source, Samples):  # a user's Dataset may draw
                    seed_all(self.source.number(index), epoch, self.seed)
                try:
                    sample, label = self.source[index]
                except UnreadableError as error:
                    if self.source.on_unreadable == "stop":
                        raise
                    unreadable.append(str(error))
                    continue
                if self.transform.random:
                    torch.default_generator.manual_seed(seed)
                image, target = self.transform.change(sample, label)
                shape, where = tuple(image.shape), self.source.where(index)
                self._first = self._first or (shape, where)
                if shape != self._first[0]:
                    raise DataError(
                        f"{where} is {size(shape)} after the recipe's steps, but "
                        f"{self._first[1]} is {size(self._first[0])}; add a step that gives all one size, such "
                        "as random_resized_crop in augment, and resize -> center_crop in evaluate"
                    )
                found.append((index, image, target))
        if not found:
            nothing = torch.empty(0, dtype=torch.int64)
            return Batch(nothing, nothing, nothing, tuple(unreadable))
        kept, several, targets = zip(*found, strict=True)
        if len({image.dtype for image in several}) > 1:  # bytes and floats
            several = tuple(map(self.transform.floats, several))
        images, labels = torch.stack(several), torch.stack(targets)
        return Batch(images, labels, torch.tensor(kept), tuple(unreadable))


def size(shape: tuple[int, ...]) -> str:
    """Return a shape as text: ``3 x 224 x 224``."""
    return " x ".join(map(str, shape))


def _ignore_signals(number: int) -> None:
    """Let only the main process end a worker: after Ctrl-C or a scheduler's SIGTERM, which reach every process
    of a group, it still finishes its batch, and saves."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
