"""The augmentation of a recipe: of one image, of a batch at once, and the mixing of a batch.

All random numbers are from torch's CPU generator, which the caller seeds. The arguments of the steps, with
bounds and defaults, are in ``dsl.recipe.items``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import tv_tensors
from torchvision.transforms import AutoAugmentPolicy, v2
from torchvision.transforms.v2.functional import to_dtype

from danetc.dsl.recipe.item import Item
from danetc.runtime.data.request import IGNORED
from danetc.runtime.system.errors import DataError
from danetc.runtime.system.seeds import drawn_anew, kept_random_state
from danetc.runtime.system.user_code import failure_of_user, function_at

# -- steps, as transforms of torchvision -----------------------------------------------------------

STATISTICS: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "fashion_mnist": ((0.2860,), (0.3530,)),
}
"""Mean and standard deviation of each channel over the training images, of values 0 .. 1."""


class Crop(v2.RandomCrop):  # type: ignore[misc]
    """``v2.RandomCrop`` that also crops a batch, each image at its own position: same result, in a
    third of the time for small images.
    """

    def draw(self, height: int, width: int) -> Sequence[int]:
        """Draw the whole numbers that ``apply`` needs for an image of this size."""
        around = 2 * self.padding[0] if self.padding is not None else 0
        room = height + around - self.size[0], width + around - self.size[1]
        return [int(torch.randint(0, count + 1, size=())) if count else 0 for count in room]

    def apply(self, images: Tensor, drawn: Tensor) -> Tensor:
        """Change images [N, ..., H, W] by what was drawn for each [N, 2]."""
        padded = images.flatten(1, -3)
        if self.padding is not None:
            padded = F.pad(padded, self.padding)
        height, width = self.size
        windows = padded.unfold(-2, height, 1).unfold(-2, width, 1)  # [N, C, H', W', h, w]
        rows = torch.arange(len(images), device=images.device)
        chosen = windows[rows, :, drawn[:, 0], drawn[:, 1]]
        return chosen.reshape(*images.shape[:-2], height, width)


class Flip(v2.RandomHorizontalFlip):  # type: ignore[misc]
    """``v2.RandomHorizontalFlip`` that also flips a batch, like ``Crop``."""

    def draw(self, height: int, width: int) -> Sequence[int]:
        return (int(not torch.rand(1) >= self.p),)

    def apply(self, images: Tensor, drawn: Tensor) -> Tensor:
        chosen = drawn[:, 0].bool().view(-1, *[1] * (images.dim() - 1))
        return torch.where(chosen, images.flip(-1), images)


class _Normalize(nn.Module):
    """``v2.ToDtype(torch.float32, scale=True)`` and ``v2.Normalize``, with the same bits.

    ``v2.Normalize`` silently broadcasts grey images to three channels, and makes tensors of its
    statistics in each call, which waits for a GPU. This module keeps them on each device.
    """

    def __init__(self, statistics: str) -> None:
        super().__init__()
        self.statistics = statistics
        self._known: dict[torch.device, list[Tensor]] = {}

    def forward(self, value: Any) -> Any:
        image, *mask = value if isinstance(value, tuple) else (value,)
        statistics = STATISTICS[self.statistics]
        if image.shape[-3] != len(statistics[0]):
            raise DataError(
                f"normalize({self.statistics}) has the statistics of {len(statistics[0])} channels, "
                f"but the images have {image.shape[-3]}"
            )
        values = image.as_subclass(Tensor)
        if values.device not in self._known:
            self._known[values.device] = [
                torch.tensor(each, device=values.device).view(-1, 1, 1) for each in statistics
            ]
        mean, deviation = self._known[values.device]
        floats: Tensor = to_dtype(values, torch.float32, scale=True)
        fresh = values.dtype != torch.float32
        normalized = (floats.sub_(mean) if fresh else floats.sub(mean)).div_(deviation)
        return (normalized, *mask) if mask else normalized


class _Own(nn.Module):
    """A user's function of an image of floats. A map of classes stays as it is.

    Draws from torch, NumPy and ``random`` are seeded by one of torch's CPU generator.
    """

    def __init__(self, item: Item) -> None:
        super().__init__()
        self.item, numbers = item, dict[str, Any](item.arguments)
        place = numbers.pop("function")
        self.function = function_at("the augmentation", place, ["image"], numbers)

    def __reduce__(self) -> Any:  # for loader processes that are not forked
        return _Own, (self.item,)

    def forward(self, value: Any) -> Any:
        image, *mask = value if isinstance(value, tuple) else (value,)
        seed = int(torch.randint(2**62, ()))
        with drawn_anew() as seed_all:
            seed_all(seed)
            found = self.function(image.as_subclass(Tensor).clone())
        if not isinstance(found, Tensor) or not found.is_floating_point():
            kind = getattr(found, "dtype", type(found).__name__)
            raise TypeError(f"it returns {kind}, not a tensor of real numbers")
        if mask and found.shape != image.shape:
            raise ValueError("it changes the size of an image whose pixels have classes")
        return (found, *mask) if mask else found


BATCHED = (Crop, Flip, v2.CenterCrop, v2.ToDtype, _Normalize)
"""Steps that a batch of images can go through at once."""


@dataclass(frozen=True, slots=True)
class StepRow:
    """A step that changes one image.

    ``make`` returns the transform of an item. ``draws`` is true if it uses random numbers, ``colours``
    if it changes colours and so cannot be used for frames of events. ``by_value`` is true if it draws
    nothing and changes each value by itself: at the end of the steps of a recipe it is left to the
    device.
    """

    make: Callable[[Item], nn.Module]
    draws: bool = True
    colours: bool = False
    by_value: bool = False


STEPS: Mapping[str, StepRow] = {
    "random_resized_crop": StepRow(
        lambda item: v2.RandomResizedCrop(item["size"], scale=(item["smallest"], 1.0))
    ),
    "random_crop": StepRow(lambda item: Crop(item["size"], item["padding"] or None)),
    "horizontal_flip": StepRow(lambda item: Flip(item["p"])),
    "auto_augment": StepRow(
        lambda item: v2.AutoAugment(AutoAugmentPolicy(item["policy"])), colours=True
    ),
    "trivial_augment": StepRow(lambda item: v2.TrivialAugmentWide(), colours=True),
    "rand_augment": StepRow(lambda item: v2.RandAugment(item["n"], item["m"]), colours=True),
    "color_jitter": StepRow(lambda item: v2.ColorJitter(**dict(item.arguments)), colours=True),
    "random_erasing": StepRow(lambda item: v2.RandomErasing(item["p"])),
    "resize": StepRow(lambda item: v2.Resize(item["size"]), draws=False),
    "center_crop": StepRow(lambda item: v2.CenterCrop(item["size"]), draws=False),
    "python": StepRow(_Own),
    "normalize": StepRow(
        lambda item: _Normalize(item["statistics"]), draws=False, colours=True, by_value=True
    ),
}

ONE_SIZE = ("random_resized_crop", "random_crop", "center_crop")
"""Steps that return images of the same size."""

MIXING_STEPS: Mapping[str, Callable[[Item, int], nn.Module]] = {
    "mixup": lambda item, classes: v2.MixUp(alpha=item["alpha"], num_classes=classes),
    "cutmix": lambda item, classes: v2.CutMix(alpha=item["alpha"], num_classes=classes),
}
"""Steps that mix the images and the labels of a batch, given the number of classes."""


# -- the steps of a recipe -------------------------------------------------------------------------

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
        floats: Tensor = to_dtype(images, torch.float32, scale=not self.events)
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
