"""Images as a network is tested on them: the one way from a data set to batches without augmentation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from danetc.dsl.recipe.item import Item
from danetc.runtime.data.augment import ImageTransform, image_transform
from danetc.runtime.data.batches import Batches
from danetc.runtime.data.source import DataSet, Source, Split


@dataclass(frozen=True, eq=False)
class Prepared:
    """A data set whose images go through ``steps``, those of a recipe's ``evaluate``."""

    data: DataSet
    steps: tuple[Item, ...]
    transform: ImageTransform

    def batches(
        self,
        *,
        batch: int,
        split: Split = "test",
        rank: int = 0,
        world: int = 1,
        workers: int = 0,
        pin: bool = False,
        order: Tensor | None = None,
    ) -> Batches:
        """The part of process ``rank`` of ``world`` of a split, ``batch`` images at a time, in the
        split's order, or the samples [M] of ``order`` in theirs. Raises DataError.
        """
        source: Source = self.data.split(split)
        if order is not None:
            source = source.select(order, source.labels[order])
        return Batches(
            source,
            self.transform,
            batch=batch,
            seed=0,
            rank=rank,
            world=world,
            workers=workers,
            train=False,
            pin=pin,
        )


def prepared(data: DataSet, steps: Sequence[Item]) -> Prepared:
    """``data`` as a recipe's ``evaluate`` of these steps prepares it. Raises DataError."""
    return Prepared(data, tuple(steps), image_transform(steps, events=data.events))
