"""Batches whose content is a function of (seed, epoch, step): not of workers, ranks or a resume.

The global batch ``step`` of an epoch is a stretch of that epoch's order, and each process takes its
part of it. A sample is augmented with random numbers that its own seed gives (``seeds.sample_seed``),
so it does not matter which process does it, after which others, or whether it was done before.
"""

from __future__ import annotations

import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from danetc.runtime.data.augment import ImageTransform
from danetc.runtime.data.batch import Batch
from danetc.runtime.data.source import Memory, Source, number_of
from danetc.runtime.data.transfer import on_device
from danetc.runtime.kernels.torch_internals import end_workers
from danetc.runtime.system.errors import DataError, UnreadableError
from danetc.runtime.system.seeds import drawn_anew, epoch_order, kept_random_state, sample_seed
from danetc.runtime.system.user_code import failure_of_user

PREFETCH = 4  # batches that each worker has ready: enough for a slow file or two


class Batches:
    """The batches of this process (``rank`` of ``world``) over a source.

    ``batch`` is the size of one process's part. In training the order is new in each epoch and
    samples are augmented; else every sample comes once, in order, over all processes together.

    ``drop_last`` leaves out the end of an epoch that does not fill a batch. None is: only where a
    process would get fewer than two of its samples, since a norm in training has no variance over
    one. Evaluation drops nothing.

    ``workers`` processes read ahead; they are started by the first epoch and kept, until
    ``close``. ``pin`` lets a thread put their batches where a GPU copies from without waiting.
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
        drop_last: bool | None = None,
        pin: bool = False,
    ) -> None:
        if batch < 1 or not 0 <= rank < world:
            raise ValueError(f"no part {rank} of {world} of batches of {batch}")
        if not len(source):
            raise DataError("there are no samples to make batches of")
        self._fetcher = _Fetcher(source, transform, seed)
        self._rank, self._world = rank, world
        self._train, self._seed = train, seed
        self._stretches = list(_stretches(len(source), batch, world, train, drop_last))
        if not self._stretches:
            raise DataError(
                f"the {len(source)} samples make no batch of {batch} for each of {world} "
                "processes; lower the batch"
            )
        self._finish = transform.finish
        self._jobs = _Jobs(epoch_order(0, 0, 0), [], 0)
        self._loader: DataLoader[Batch | str] | None = None
        # (Rows of a tensor are taken faster than they are handed from process to process.)
        if workers and not (self._fetcher.at_once and not transform.random):
            with warnings.catch_warnings():
                # Of more workers than cores, which a training's plan tells in its own words.
                warnings.filterwarnings("ignore", message="This DataLoader will create")
                self._loader = DataLoader(
                    self._fetcher,
                    batch_sampler=self._jobs,
                    num_workers=workers,
                    collate_fn=_same,
                    worker_init_fn=_begin_worker,
                    persistent_workers=True,
                    prefetch_factor=PREFETCH,
                    pin_memory=pin,
                    generator=torch.Generator().manual_seed(0),  # else it draws from the global one
                )
        self.unreadable: dict[str, None] = {}
        """The samples that were left out so far, each as the message that names it."""
        self.skipped = 0
        """How many were left out in the epoch begun last, also where that left nothing of a batch."""

    def __len__(self) -> int:
        """How many batches an epoch has in this process."""
        return sum(self._part(stretch) is not None for stretch in self._stretches)

    def _part(self, stretch: range) -> range | None:
        """This process's part of a stretch, or None where it has none (in evaluation only)."""
        share, more = divmod(len(stretch), self._world)
        first = self._rank * share + min(self._rank, more)
        part = stretch[first : first + share + (self._rank < more)]
        return part or None

    def epoch(
        self, epoch: int, start: int = 0, device: torch.device | None = None
    ) -> Iterator[Batch]:
        """The batches of an epoch from batch ``start`` on, as they are in the whole epoch; images and
        labels on ``device`` (None: the CPU).

        torch's random state is left as it is. Beginning an epoch ends one that goes on. Raises
        DataError where a sample cannot be read and the source's policy is to stop, where samples
        of different sizes meet, or a worker has died.
        """
        place = device if device is not None else torch.device("cpu")
        return on_device(self._read(epoch, start), place, self._finish)

    def _read(self, epoch: int, start: int) -> Iterator[Batch]:
        """The same with images that are not finished, on the CPU."""
        stretches = self._stretches[start:]
        parts = [part for part in map(self._part, stretches) if part is not None]
        length = len(self._fetcher.source)
        order = epoch_order(length, self._seed, epoch) if self._train else torch.arange(length)
        # (Evaluations see the same: what a source draws for a test image is of no epoch.)
        seeding = epoch if self._train else 0
        self._jobs.order, self._jobs.parts, self._jobs.epoch = order, parts, seeding
        loaded: Iterator[Batch | str] = (
            iter(self._loader)
            if self._loader is not None
            else (self._fetcher.__getitems__(job) for job in self._jobs)
        )
        self.skipped = 0
        for step, (stretch, _) in enumerate(zip(stretches, parts, strict=False), start):
            begun = time.perf_counter()
            found = self._next(loaded)
            wait = time.perf_counter() - begun
            if isinstance(found, str):
                raise DataError(found)
            self.unreadable.update(dict.fromkeys(found.unreadable))
            self.skipped += found.skipped
            if len(found):
                yield replace(found, wait=wait, step=step, total=len(stretch))
            elif self._train:
                raise DataError(
                    f"none of the samples of batch {step + 1} can be read; the first: "
                    f"{found.unreadable[0]}"
                )

    def _next(self, loaded: Iterator[Batch | str]) -> Batch | str:
        try:
            return next(loaded)
        except (RuntimeError, OSError, EOFError) as error:
            reason = worker_death(error)
            broken = isinstance(error, OSError | EOFError) and self._loader is not None
            if reason is None and broken and not str(error).startswith("Caught "):
                # Its worker died while a batch was on its way: then it is a connection that breaks.
                # (What a worker itself raises begins with "Caught".)
                reason = _death(str(error) or "the connection to it is broken")
            if reason is None:
                raise
            raise DataError(reason) from error

    def close(self) -> None:
        """End the workers, if there are any; the next epoch would start new ones."""
        try:
            end_workers(self._loader)
        except RuntimeError as error:  # the news of a death; the workers have ended all the same
            if worker_death(error) is None:
                raise


def _stretches(
    length: int, batch: int, world: int, train: bool, drop_last: bool | None
) -> Iterator[range]:
    """The places in an epoch's order of each batch of all processes together."""
    whole = batch * world
    for start in range(0, length, whole):
        stretch = range(start, min(start + whole, length))
        partial = len(stretch) < whole
        if train and partial and (drop_last or (drop_last is None and len(stretch) < 2 * world)):
            return
        yield stretch


def worker_death(error: BaseException) -> str | None:
    """What to tell where ``error`` says that a loader process has died, else None.

    The news comes by a signal, so it is raised from whatever the main process does just then.
    """
    text = str(error)
    if isinstance(error, RuntimeError) and "DataLoader worker" in text:
        return _death(text)
    return None


def _death(text: str) -> str:
    reason = text.partition("\n")[0].rstrip(". ")
    return (
        f"a loader process has died ({reason}); if it was out of memory, lower workers or the batch"
    )


@dataclass
class _Jobs(Sampler[list[int]]):
    """What is to be loaded in an epoch: for each batch the epoch's number, then its samples."""

    order: Tensor
    parts: list[range]
    epoch: int

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[list[int]]:
        for part in self.parts:
            yield [self.epoch, *self.order[part.start : part.stop].tolist()]


@dataclass(eq=False)
class _Fetcher(Dataset[Batch | str]):
    """Makes batches, in the main process or in a worker."""

    source: Source
    transform: ImageTransform
    seed: int
    _shape: tuple[int, ...] | None = None
    _first: str = ""

    @property
    def at_once(self) -> bool:
        """Whether a batch is made of rows of a tensor: the same bits as one after the other."""
        if not isinstance(self.source, Memory) or self.transform.vectorized is None:
            return False
        return self.source.labels.dim() < 3 or not self.transform.steps  # masks change with images

    def __len__(self) -> int:
        return len(self.source)

    def __getitems__(self, job: list[int]) -> Batch | str:
        """A batch, or what to tell where there is none.

        (As text, since a DataLoader puts a worker's traceback into an exception's message.)
        """
        epoch, *indices = job
        try:
            make = self._at_once if self.at_once else self._one_by_one
            return make(epoch, indices)
        except DataError as error:
            return str(error)
        except Exception as error:
            where = failure_of_user(error)
            if where is None:
                raise
            return where

    def _at_once(self, epoch: int, indices: list[int]) -> Batch:
        assert isinstance(self.source, Memory)
        chosen = torch.tensor(indices, dtype=torch.int64)
        seeds = [sample_seed(self.seed, epoch, index) for index in indices]
        images = self.transform.change_batch(self.source.images[chosen], seeds)
        return Batch(images, self.source.labels[chosen], chosen)

    def _one_by_one(self, epoch: int, indices: list[int]) -> Batch:
        images: list[Tensor] = []
        labels: list[Tensor] = []
        kept: list[int] = []
        unreadable: list[str] = []
        with kept_random_state() as generator, self._seeding() as before, _one_thread():
            for index in indices:
                before(epoch, index)
                try:
                    sample, label = self.source[index]
                except UnreadableError as error:
                    if self.source.on_unreadable == "stop":
                        raise
                    unreadable.append(str(error))
                    continue
                if self.transform.random:
                    generator.manual_seed(sample_seed(self.seed, epoch, index))
                image, target = self.transform.change_pair(sample, torch.as_tensor(label))
                self._check_shape(image, index)
                images.append(image)
                labels.append(target)
                kept.append(index)
            if len({image.dtype for image in images}) > 1:  # bytes beside floats
                images = [self.transform.floats(image) for image in images]
        return Batch(
            torch.stack(images) if images else torch.empty(0),
            torch.stack(labels) if labels else torch.empty(0, dtype=torch.int64),
            torch.tensor(kept, dtype=torch.int64),
            tuple(unreadable),
        )

    @contextmanager
    def _seeding(self) -> Iterator[Callable[[int, int], None]]:
        """What seeds the reading of a sample in an epoch, where a source draws at random."""
        if not self.source.draws:
            yield lambda epoch, index: None
            return
        with drawn_anew() as seed:
            yield lambda epoch, index: seed(self.seed, epoch, number_of(self.source, index))

    def _check_shape(self, image: Tensor, index: int) -> None:
        shape = tuple(image.shape)
        if self._shape is None:
            self._shape, self._first = shape, self.source.where(index)
        elif shape != self._shape:
            raise DataError(
                f"{self.source.where(index)} is {size(shape)} after the recipe's steps, but "
                f"{self._first} is {size(self._shape)}; let a step give all one size, as "
                "random_resized_crop in augment, and resize -> center_crop in evaluate"
            )


def size(shape: tuple[int, ...]) -> str:
    """A shape as an error says it: ``3 x 224 x 224``."""
    return " x ".join(map(str, shape))


@contextmanager
def _one_thread() -> Iterator[None]:
    """As in a worker: sums over an image would depend on how threads share it."""
    before = torch.get_num_threads()
    if before == 1:
        yield
        return
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _begin_worker(number: int) -> None:
    """Leave it to the main process to end a worker.

    Ctrl-C and a scheduler's SIGTERM reach every process of a group; a worker that died of one
    would take with it the batch that the main process finishes before it saves.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _same(batch: Any) -> Any:
    """Instead of a DataLoader's own way of making a batch: it is one already."""
    return batch
