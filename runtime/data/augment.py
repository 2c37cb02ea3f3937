"""The augmentation of a recipe: of one image, of a batch at once, and the mixing of a batch.

All random numbers are torch's, from its CPU generator: whoever seeds it decides what is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from danetc.dsl.recipe.item import Item
from danetc.runtime.data.augment_steps import MIXING_STEPS, STEPS
from danetc.runtime.data.request import IGNORED
from danetc.runtime.data.vectorized import DeterministicStep, VectorizedStep, apply_vectorized
from danetc.runtime.system.errors import DataError
from danetc.runtime.system.seeds import kept_random_state

BatchTransform = Callable[..., tuple[Tensor, Tensor]]
"""Images [N, ...], labels [N] and ``seed`` to mixed images and shares [N, classes]."""


@dataclass(frozen=True, eq=False)
class ImageTransform:
    """The steps that change one image, and how its values become the network's.

    ``random`` says that a step uses random numbers. ``vectorized`` are the same steps for a batch,
    where all of them have that form, else None. ``last`` are the steps behind them that change each
    value by itself: ``finish`` takes them, for a batch at once and on whatever device it is, so that
    images travel there as the bytes that they are.
    """

    steps: tuple[tuple[str, nn.Module], ...]
    vectorized: tuple[VectorizedStep, ...] | None
    last: tuple[tuple[str, nn.Module], ...]
    events: bool
    random: bool

    def __call__(self, image: Tensor) -> Tensor:
        """An image [C, H, W] (uint8, or a float from 0 to 1) or frames of events [T, C, H, W],
        through all steps; gives floats. Raises DataError where a step cannot be applied to it.
        """
        return self.finish(self.change(image))

    def change(self, image: Tensor) -> Tensor:
        """An image through all steps but ``last``, its values as they come out of them."""
        return _through(self.steps, image)

    def change_pair(self, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """An image through the steps of ``change``, and its label: classes of pixels [H, W] go where
        the pixels go, the nearest of them where an image is resized; another label stays.
        """
        if label.dim() != 2 or not self.steps:
            return self.change(image), label
        # Counted from 1, so that the zeros of a padding are pixels of no class.
        shifted = torch.where(label == IGNORED, 0, label + 1)
        pair: Any = tv_tensors.Image(image), tv_tensors.Mask(shifted[None])
        for name, step in self.steps:
            try:
                pair = step(*pair)
            except (ValueError, TypeError, RuntimeError) as error:
                raise _unfit(name, image, error) from error
        mask = pair[1].as_subclass(Tensor)[0]
        return pair[0].as_subclass(Tensor), torch.where(mask == 0, IGNORED, mask - 1)

    def change_batch(self, images: Tensor, seeds: Sequence[int]) -> Tensor:
        """Images [N, ...] of one size as ``change`` gives them one by one, each after torch's CPU
        generator is given its seed. Only where the steps are ``vectorized``.
        """
        assert self.vectorized is not None, "steps that have no form for batches"
        try:
            return apply_vectorized(self.vectorized, images, seeds if self.random else ())
        except ValueError as error:
            names = " -> ".join(name for name, _ in self.steps)
            raise _unfit(names, images[0], error) from error

    def finish(self, images: Tensor) -> Tensor:
        """Values as numbers of a network [..., C, H, W], through the steps of ``last``."""
        return _through(self.last, self.floats(images))

    def floats(self, images: Tensor) -> Tensor:
        """Bytes from 0 to 255 as float32 from 0 to 1, or, where they count events, as what they are;
        floats stay.
        """
        if images.is_floating_point():
            return images
        floats: Tensor = F.to_dtype(images, torch.float32, scale=not self.events)
        return floats


def _through(steps: Sequence[tuple[str, nn.Module]], images: Tensor) -> Tensor:
    for name, step in steps:
        try:
            images = step(images)
        except (ValueError, TypeError, RuntimeError) as error:
            raise _unfit(name, images, error) from error
    return images


def _unfit(name: str, image: Tensor, error: Exception) -> DataError:
    if isinstance(error, DataError):
        return error
    shape = " x ".join(map(str, image.shape))
    reason = str(error).partition("\n")[0].rstrip(".")
    return DataError(f"`{name}` cannot be applied to an image of {shape}: {reason}")


def image_transform(items: Sequence[Item], *, events: bool = False) -> ImageTransform:
    """The steps of ``items`` that change one image; ``events`` are frames, whose steps share what
    is drawn for them.

    Raises DataError for a step that makes no sense of events.
    """
    rows = [(item, STEPS[item.name]) for item in items if item.name not in MIXING_STEPS]
    for item, row in rows:
        if events and row.colours:
            raise DataError(
                f"`{item.name}` changes colours, and frames of events hold counts; leave it out "
                "of the recipe"
            )
    last = len(rows)
    while last and rows[last - 1][1].by_value:
        last -= 1
    steps = [(item.name, row.make(item)) for item, row in rows]
    vectorized = [row.vectorized(item) for item, row in rows[:last] if row.vectorized is not None]
    every = len(vectorized) == last
    if events and last:  # as floats: a resize would round counts to whole ones
        floats = v2.ToDtype(torch.float32)
        steps.insert(0, ("events", floats))
        vectorized.insert(0, DeterministicStep(floats))
        last += 1
    return ImageTransform(
        tuple(steps[:last]),
        tuple(vectorized) if every else None,
        tuple(steps[last:]),
        events,
        random=any(row.draws for _, row in rows),
    )


def batch_transform(items: Sequence[Item], classes: int) -> BatchTransform | None:
    """The steps that mix images [N, ...] and labels [N] of a batch, or None.

    The labels become shares [N, classes]. Given a ``seed``, what is drawn depends on that alone
    and torch's random state is left as it is.
    """
    steps = [MIXING_STEPS[item.name](item, classes) for item in items if item.name in MIXING_STEPS]
    if not steps:
        return None
    # Mixing takes labels as numbers, so two steps cannot follow each other: one of them is drawn.
    chosen = steps[0] if len(steps) == 1 else v2.RandomChoice(steps)

    def mix(images: Tensor, labels: Tensor, seed: int | None = None) -> tuple[Tensor, Tensor]:
        with kept_random_state() if seed is not None else nullcontext() as generator:
            if generator is not None and seed is not None:
                generator.manual_seed(seed)
            # Frames [N, T, C, H, W] share what is drawn for their recording, as channels do.
            mixed, shares = chosen(images.flatten(1, -3), labels)
        return mixed.reshape(images.shape), shares

    return mix
