"""Batches of a phase in one process, on its device and split into parts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from danetc.dsl.recipe.settings import Phase
from danetc.runtime.data.augment import batch_transform, image_transform, split_steps
from danetc.runtime.data.batches import Batch, Batches, Prepared
from danetc.runtime.data.dataset import DataSet
from danetc.runtime.data.fit import check_fit
from danetc.runtime.data.request import Split
from danetc.runtime.model.built import Model
from danetc.runtime.system.devices import has_streams
from danetc.runtime.system.errors import DataError, TrainingError
from danetc.runtime.system.seeds import derive
from danetc.runtime.training.distributed import World
from danetc.runtime.training.observer import RunSettings

Piece = tuple[Tensor, Tensor, Tensor]
"""Input of the network, labels, and targets of the loss: labels, or mixed ones (mixup, cutmix)."""


class TrainingBatches:
    """Batches of a data set for this process, for training and evaluation.

    ``output`` is the shape of the trained output. This process takes ``part`` images in each of the
    ``steps`` of an epoch. No process has more than ``rounds`` batches of the ``tests`` of a split.

    Raises DataError if the data do not fit the network, TrainingError if a batch cannot be divided.
    """

    def __init__(
        self,
        data: DataSet,
        phase: Phase,
        settings: RunSettings,
        world: World,
        model: Model,
        output: tuple[int, ...],
    ) -> None:
        self._phase, self._world, self._signature = phase, world, model.signature
        self._dtype = torch.int64 if data.tokens else next(model.parameters()).dtype
        self._events = data.events
        augment = image_transform(phase.augment, events=data.events)
        later = None
        tests = Prepared(data, phase.evaluate)
        check_fit(
            data, model.signature, augment=augment, evaluate=tests.transform, output=output,
            steps=phase.steps,
        )  # fmt: skip
        self._mix = batch_transform(phase.augment, output[0])
        if self._mix is not None and (data.tokens or data.target != "classes"):
            raise DataError(
                "mixup and cutmix share the classes of images, and the "
                f"{'samples' if data.tokens else 'labels'} of {data.name} are "
                f"{'tokens' if data.tokens else data.target}; leave them out of `augment`"
            )
        count = world.size * phase.accumulate
        if phase.batch % count:
            raise TrainingError(
                f"a batch of {phase.batch} cannot be divided into {count} equal parts ({world.size} "
                f"processes, accumulate = {phase.accumulate}); choose a multiple of {count}"
            )
        self.part = phase.batch // world.size
        self._seed = derive("phase", settings.seed, settings.phase)
        common: dict[str, Any] = {
            "batch": self.part,
            "rank": world.rank,
            "world": world.size,
            "workers": settings.workers,
            "pin": has_streams(world.device),
        }
        if phase.augment_on == "device":
            parts = split_steps(phase.augment, one_size=data.shape is not None)
            augment, later = (image_transform(part, events=data.events) for part in parts)
        self._batches = Batches(
            data.train, augment, later=later, train=True, seed=self._seed, **common
        )
        splits: set[Split] = {data.judged_on, "test"}
        self.tests = {split: tests.batches(split=split, **common) for split in sorted(splits)}
        self.steps = len(self._batches)
        self.rounds = {split: max(world.gather(len(x))) for split, x in self.tests.items()}

    def training(self, epoch: int, start: int) -> Iterator[tuple[Batch, list[Piece]]]:
        """Iterate over the batches of an epoch (from 0) from step ``start`` on, with their parts.

        The last batch may have fewer than ``accumulate``, because a norm has no variance over one image.
        """
        world, accumulate = self._world, self._phase.accumulate
        for batch in self._read(self._batches.epoch(epoch, start, world.device)):
            x, labels, targets = batch.images.to(self._dtype), batch.labels, batch.labels
            if self._mix is not None:
                seed = derive("mix", self._seed, epoch, batch.step, world.rank)
                x, targets = self._mix(x, labels, seed)
            count = accumulate
            if batch.total < self._phase.batch:
                count = max(1, min(count, batch.total // world.size // 2))
            pieces = (each.tensor_split(count) for each in (x, labels, targets))
            yield batch, [(self._input(x), *y) for x, *y in zip(*pieces, strict=True) if len(x)]

    def testing(self, split: Split, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Iterate over inputs and labels of an evaluation after an epoch."""
        for batch in self._read(self.tests[split].epoch(epoch, device=self._world.device)):
            yield self._input(batch.images.to(self._dtype)), batch.labels

    def zeros(self) -> Tensor:
        """Return an input of zeros in the shape of a part of a batch."""
        count, lead = self.part // self._phase.accumulate, [self._signature.steps] * self._events
        size = (*lead, count, *self._signature.input)
        return torch.zeros(size, device=self._world.device, dtype=self._dtype)

    def close(self) -> None:
        """Stop the loaders."""
        for batches in (self._batches, *self.tests.values()):
            batches.close()

    def _input(self, images: Tensor) -> Tensor:
        """Return images [N, ...] or events [N, T, ...] in the layout of inputs of networks."""
        return images.transpose(0, 1) if self._events else images

    def _read(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Mark errors in the data as errors of this process alone."""
        try:
            yield from batches
        except DataError as error:
            raise self._world.own(error) from error
