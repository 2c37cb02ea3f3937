"""Batches of a phase in one process: on its device, mixed, and cut into parts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from danetc.dsl.recipe.settings import Phase
from danetc.runtime.data import Batch, Batches, DataSet, check_fit, derive, mix_seed, prepared
from danetc.runtime.data.augment import BatchTransform, batch_transform, image_transform
from danetc.runtime.model.signature import Signature
from danetc.runtime.system.errors import DataError, TrainingError
from danetc.runtime.training.distributed import World, split_evenly
from danetc.runtime.training.settings import RunSettings


class TrainingBatches:
    """Batches of a data set for this process, for training and evaluation.

    ``output`` is the shape of the trained output, and ``dtype`` that of the network's parameters.
    This process takes ``part`` images of each batch. An epoch has ``steps`` steps, and an
    evaluation at most ``rounds`` batches in any process.

    Raises DataError if the data do not fit the network, TrainingError if a batch cannot be divided.
    """

    def __init__(
        self,
        data: DataSet,
        phase: Phase,
        settings: RunSettings,
        world: World,
        signature: Signature,
        output: tuple[int, ...],
        dtype: torch.dtype,
    ) -> None:
        self.phase, self.world, self.signature, self.dtype = phase, world, signature, dtype
        self.events = data.events
        augment = image_transform(phase.augment, events=data.events)
        tests = prepared(data, phase.evaluate)
        check_fit(
            data,
            signature,
            augment=augment,
            evaluate=tests.transform,
            output=output,
            steps=phase.steps,
        )
        self._mix: BatchTransform | None = batch_transform(phase.augment, output[0])
        if self._mix is not None and data.target != "classes":
            raise DataError(
                "mixup and cutmix share the classes of images, and the labels of "
                f"{data.name} are {data.target}; leave them out of `augment`"
            )
        part = split_evenly(phase.batch, world, "a batch")
        if part % phase.accumulate:
            raise TrainingError(
                f"the {part} images that a process has of a batch have no {phase.accumulate} equal "
                "parts; choose another accumulate, or another batch"
            )
        self.seed = derive("phase", settings.seed, settings.phase)
        common: dict[str, Any] = {
            "batch": part,
            "rank": world.rank,
            "world": world.size,
            "workers": settings.workers,
            "pin": world.device.type == "cuda",
        }
        self.part = part
        self._batches = Batches(data.train, augment, train=True, seed=self.seed, **common)
        self._tests = tests.batches(**common)
        self.steps = len(self._batches)
        self.rounds = max(world.gather(len(self._tests)))
        self.images, self.tests = len(data.train), len(data.test)

    def training(self, epoch: int, start: int) -> Iterator[Batch]:
        """Iterate over the batches of an epoch (from 0), from step ``start`` on."""
        return self._own_errors(self._batches.epoch(epoch, start, self.world.device))

    def testing(self, epoch: int) -> Iterator[Batch]:
        """Iterate over the batches of the evaluation after an epoch."""
        return self._own_errors(self._tests.epoch(epoch, device=self.world.device))

    @property
    def skipped_tests(self) -> int:
        """Number of unreadable test images of this process in the last evaluation."""
        return self._tests.skipped

    def close(self) -> None:
        """Stop the loaders."""
        self._batches.close()
        self._tests.close()

    def taken(self, batch: Batch, epoch: int | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return images, labels and targets, mixed (mixup, cutmix) in a training ``epoch``."""
        x, y = batch.images.to(self.dtype), batch.labels
        if self._mix is None or epoch is None:
            return x, y, y
        mixed, shares = self._mix(
            x, y, seed=mix_seed(self.seed, epoch, batch.step, self.world.rank)
        )
        return mixed, y, shares

    def _own_errors(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """Mark errors of reading as errors of this process."""
        try:
            yield from batches
        except DataError as error:
            raise self.world.own(error) from error

    def parts(
        self, batch: Batch, images: Tensor, labels: Tensor, targets: Tensor
    ) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Split a batch into the parts of gradient accumulation, equally many in every process.

        If the last batch of an epoch is too small, there are fewer parts with at least two images
        each, because a norm has no variance over one.
        """
        count = self.phase.accumulate
        if batch.total < self.phase.batch:
            count = max(1, min(count, batch.total // self.world.size // 2))
        parts = zip(
            images.tensor_split(count),
            labels.tensor_split(count),
            targets.tensor_split(count),
            strict=True,
        )
        return [part for part in parts if len(part[1])]

    def zeros(self) -> Tensor:
        """Return zeros in the shape of the images of a part, [N, ...]."""
        count = self.part // self.phase.accumulate
        time_steps = (self.signature.steps,) if self.events else ()
        shape = (count, *time_steps, *self.signature.input)
        return torch.zeros(shape, device=self.world.device, dtype=self.dtype)
