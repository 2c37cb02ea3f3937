"""The augmentation of a recipe: of one image, of a batch at once, and the mixing of a batch.

All random numbers are from torch's CPU generator, which the caller seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import tv_tensors
from torchvision.transforms import v2

from danetc.dsl.recipe.item import Item
from danetc.runtime.data.augment_steps import BATCHED, MIXING_STEPS, ONE_SIZE, STEPS, Crop, Flip
from danetc.runtime.data.request import IGNORED
from danetc.runtime.system.errors import DataError
from danetc.runtime.system.seeds import kept_random_state
from danetc.runtime.system.user_code import failure_of_user

BatchTransform = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]


@dataclass(frozen=True, eq=False)
class ImageTransform:
    """The steps that change one image, and the conversion of its values to those of a network.

    ``last`` are the final steps, which change each value by itself: ``finish`` applies them to a
    batch, on any device, so that images travel there as bytes. ``random`` is true if a step uses
    random numbers.
    """

    steps: tuple[tuple[str, nn.Module], ...]
    last: tuple[tuple[str, nn.Module], ...]
    events: bool
    random: bool

    def change(self, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Pass an image [C, H, W] (uint8, or a float from 0 to 1) or frames of events [T, C, H, W]
        through all steps but ``last``, with its label.

        The classes in a map [H, W] move with the pixels (the nearest ones if the image is resized);
        any other label stays. Raises DataError if a step cannot be applied.
        """
        if label.dim() != 2 or not self.steps:
            return _through(self.steps, image), label
        # Classes count from 1, so that the zeros of a padding are pixels without a class.
        shifted = torch.where(label == IGNORED, 0, label + 1)
        pair = tv_tensors.Image(image), tv_tensors.Mask(shifted[None])
        image, mask = (each.as_subclass(Tensor) for each in _through(self.steps, pair))
        return image, torch.where(mask[0] == 0, IGNORED, mask[0] - 1)

    def at_once(self, labels: Tensor) -> bool:
        """True if a batch with these labels goes through each step at once; maps move with images."""
        batched = all(isinstance(step, BATCHED) for _, step in self.steps)
        return batched and (labels.dim() < 3 or not self.steps)

    def change_all(
        self, images: Tensor, labels: Tensor, seeds: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """Return images [N, ...] of one size, on any device, and their labels [N, ...], each changed
        as ``change`` does if torch's CPU generator is seeded with its seed.
        """
        with kept_random_state() as generator, one_thread():
            if not self.at_once(labels):
                pairs = []
                for image, label, seed in zip(images, labels, seeds, strict=True):
                    generator.manual_seed(seed)
                    pairs.append(self.change(image, label))
                changed, targets = zip(*pairs, strict=True)
                return torch.stack(changed), torch.stack(targets)
            first = [images[0]]  # before each step
            for named in self.steps:
                first.append(_through([named], first[-1]))
            drawing = [
                (step, image.shape[-2:], list[Sequence[int]]())
                for (_, step), image in zip(self.steps, first, strict=False)
                if isinstance(step, Crop | Flip)
            ]
            for seed in seeds if drawing else ():
                generator.manual_seed(seed)
                for step, size, drawn in drawing:
                    drawn.append(step.draw(*size))
        pin = images.is_cuda  # so that the host does not wait for the device
        draws = {
            step: torch.tensor(drawn, pin_memory=pin).to(images.device, non_blocking=True)
            for step, _, drawn in drawing
        }
        for _, each in self.steps:
            images = each.apply(images, draws[each]) if each in draws else each(images)
        return images, labels

    def finish(self, images: Tensor) -> Tensor:
        """Pass images [..., C, H, W] as floats through the steps of ``last``."""
        finished: Tensor = _through(self.last, images if self.last else self.floats(images))
        return finished

    def floats(self, images: Tensor) -> Tensor:
        """Convert bytes to float32: from 0 to 1, or counts of events as they are. Floats and tokens stay."""
        if images.is_floating_point() or images.dtype == torch.int64:
            return images
        floats: Tensor = v2.functional.to_dtype(images, torch.float32, scale=not self.events)
        return floats


@contextmanager
def one_thread() -> Iterator[None]:
    """Use one thread, as in a worker: sums over an image depend on the number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _through(steps: Sequence[tuple[str, nn.Module]], value: Any) -> Any:
    """Pass images, or a pair of an image and a mask, through steps."""
    for name, step in steps:
        try:
            value = step(value)
        except (ValueError, TypeError, RuntimeError) as error:
            image = value[0] if isinstance(value, tuple) else value
            shape = " x ".join(map(str, image.shape))
            reason = failure_of_user(error) or str(error).partition("\n")[0]
            raise DataError(
                f"`{name}` cannot be applied to an image of {shape}: {reason.rstrip('.')}"
            ) from error
    return value


def image_transform(items: Sequence[Item], *, events: bool = False) -> ImageTransform:
    """Return the steps of ``items`` that change one image.

    With ``events``, images are frames, which share the draws of a step. Raises DataError for a
    step that makes no sense for events.
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
    own = [number for number, (name, _) in enumerate(steps) if name == "python"]
    if own or (events and last):  # as integers, the counts would be rounded
        floats = v2.ToDtype(torch.float32, scale=not events)
        steps.insert(0 if events else own[0], ("floats", floats))
        last += 1
    return ImageTransform(
        tuple(steps[:last]),
        tuple(steps[last:]),
        events,
        random=any(row.draws for _, row in rows),
    )


def split_steps(items: Sequence[Item], one_size: bool) -> tuple[Sequence[Item], Sequence[Item]]:
    """Split ``items`` into those of loader processes and those of the device, which needs images of
    one size: all if they have one, else those after the first step that gives them one. Those up to the
    last ``python`` are of the loader, since a device has a generator of its own.
    """
    ends = (number for number, item in enumerate(items, 1) if item.name in ONE_SIZE)
    first = 0 if one_size else next(ends, len(items))
    own = [number for number, item in enumerate(items, 1) if item.name == "python"]
    first = max([first, *own])
    return items[:first], items[first:]


def batch_transform(items: Sequence[Item], classes: int) -> BatchTransform | None:
    """Return the steps that mix images [N, ...] and labels [N] of a batch by a seed, or None without any.

    Labels become shares [N, classes]. Torch's random state is kept.
    """
    steps = [MIXING_STEPS[item.name](item, classes) for item in items if item.name in MIXING_STEPS]
    if not steps:
        return None
    # A mixing step takes numbers of classes and returns shares, so one of several is drawn.
    chosen = steps[0] if len(steps) == 1 else v2.RandomChoice(steps)

    def mix(images: Tensor, labels: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        with kept_random_state() as generator:
            generator.manual_seed(seed)
            # All frames [N, T, C, H, W] of a recording are mixed in the same way.
            mixed, shares = chosen(images.flatten(1, -3), labels)
        return mixed.reshape(images.shape), shares

    return mix
