"""The augmentation of a recipe: of one image, of a batch at once, and the mixing of a batch.

Random numbers are from torch's CPU generator, which the caller seeds. Arguments are in ``dsl.recipe.items``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision import tv_tensors
from torchvision.transforms import AutoAugmentPolicy, v2
from torchvision.transforms.v2.functional import normalize, to_dtype

from danetc.dsl.recipe.item import Item
from danetc.runtime.data.request import IGNORED
from danetc.runtime.system.errors import DataError
from danetc.runtime.system.seeds import drawn_anew, kept_random_state
from danetc.runtime.system.user_code import failure_of_user, function_at

STATISTICS: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "fashion_mnist": ((0.2860,), (0.3530,)),
}
"""Mean and standard deviation of each channel over the training images, of values 0 .. 1."""


class Crop(v2.RandomCrop):  # type: ignore[misc]
    """``v2.RandomCrop`` that also crops a batch, each image at its own position: same result, but faster."""

    def draw(self, dice: torch.Generator, images: Tensor) -> Sequence[int]:
        """Draw the whole numbers that ``apply`` needs for one of the images."""
        around = 2 * self.padding[0] if self.padding is not None else 0
        room = [n + around - size for n, size in zip(images.shape[-2:], self.size, strict=True)]
        return [int(torch.randint(n + 1, (), generator=dice)) if n else 0 for n in room]

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

    def draw(self, dice: torch.Generator, images: Tensor) -> Sequence[int]:
        return (int(not torch.rand(1, generator=dice) >= self.p),)

    def apply(self, images: Tensor, drawn: Tensor) -> Tensor:
        chosen = drawn[:, 0].bool().view(-1, *[1] * (images.dim() - 1))
        return torch.where(chosen, images.flip(-1), images)


@cache
def _statistics(name: str, device: torch.device) -> list[Tensor]:
    return [torch.tensor(each, device=device) for each in STATISTICS[name]]


class _Normalize(nn.Module):
    """``v2.ToDtype(torch.float32, scale=True)`` and ``v2.Normalize``, with the same bits.

    ``v2.Normalize`` silently broadcasts grey images to three channels, and makes tensors of its
    statistics in each call, which waits for a GPU.
    """

    def __init__(self, statistics: str) -> None:
        super().__init__()
        self.statistics = statistics

    def forward(self, value: Any) -> Any:
        image, *mask = value if isinstance(value, tuple) else (value,)
        channels = len(STATISTICS[self.statistics][0])
        if image.shape[-3] != channels:
            raise DataError(
                f"normalize({self.statistics}) has the statistics of {channels} channels, "
                f"but the images have {image.shape[-3]}"
            )
        values = image.as_subclass(Tensor)
        floats: Tensor = to_dtype(values, torch.float32, scale=True)
        mean, deviation = _statistics(self.statistics, values.device)
        normalized = normalize(floats, mean, deviation, inplace=values.dtype != torch.float32)
        return (normalized, *mask) if mask else normalized


class _Own(nn.Module):
    """A user's function of an image of floats, with draws of torch, NumPy and ``random``. A map stays."""

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


STEPS: Mapping[str, Callable[[Item], nn.Module]] = {
    "random_resized_crop": lambda item: v2.RandomResizedCrop(
        item["size"], scale=(item["smallest"], 1.0)
    ),
    "random_crop": lambda item: Crop(item["size"], item["padding"] or None),
    "horizontal_flip": lambda item: Flip(item["p"]),
    "auto_augment": lambda item: v2.AutoAugment(AutoAugmentPolicy(item["policy"])),
    "trivial_augment": lambda item: v2.TrivialAugmentWide(),
    "rand_augment": lambda item: v2.RandAugment(item["n"], item["m"]),
    "color_jitter": lambda item: v2.ColorJitter(**dict(item.arguments)),
    "random_erasing": lambda item: v2.RandomErasing(item["p"]),
    "resize": lambda item: v2.Resize(item["size"]),
    "center_crop": lambda item: v2.CenterCrop(item["size"]),
    "python": _Own,
    "normalize": lambda item: _Normalize(item["statistics"]),
}
"""Steps that change one image."""
FIXED = (v2.Resize, v2.CenterCrop, v2.ToDtype, _Normalize)
"""Steps that draw no random numbers."""
BATCHED = (Crop, Flip, v2.CenterCrop, v2.ToDtype, _Normalize)
"""Steps that a batch of images can go through at once."""
COLOURS = (v2.AutoAugment, v2.TrivialAugmentWide, v2.RandAugment, v2.ColorJitter, _Normalize)
"""Steps that change colours, which frames of events do not have."""
ONE_SIZE = ("random_resized_crop", "random_crop", "center_crop")
"""Steps that return images of the same size."""

MIXING_STEPS = {"mixup": v2.MixUp, "cutmix": v2.CutMix}
"""Steps that mix the images and the labels of a batch."""


BatchTransform = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]


@dataclass(frozen=True, eq=False)
class ImageTransform:
    """The steps that change one image, and the conversion of its values to those of a network.

    ``last`` are the final steps, which change each value by itself: ``finish`` applies them to a batch, on
    any device, so that images travel there as bytes. ``random`` is true if a step draws numbers.
    """

    steps: tuple[tuple[str, nn.Module], ...]
    last: tuple[tuple[str, nn.Module], ...]
    events: bool
    random: bool

    def change(self, image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
        """Pass an image [C, H, W] (uint8, or a float from 0 to 1) or frames of events [T, C, H, W], with its
        label, through all steps but ``last``. The classes in a map [H, W] move with the pixels (the nearest
        ones if the image is resized). Raises DataError if a step cannot be applied.
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
        if not self.at_once(labels):
            pairs = []
            with kept_random_state() as generator, one_thread():
                for image, label, seed in zip(images, labels, seeds, strict=True):
                    generator.manual_seed(seed)
                    pairs.append(self.change(image, label))
            changed, targets = zip(*pairs, strict=True)
            return torch.stack(changed), torch.stack(targets)
        dice = [torch.Generator().manual_seed(seed) for seed in seeds if self.random]
        pin = images.is_cuda  # so that the host does not wait for the device
        for named in self.steps:
            with kept_random_state():
                _through([named], images[0])  # raises DataError for images of a wrong size
            if isinstance(step := named[1], Crop | Flip):
                drawn = torch.tensor([step.draw(each, images) for each in dice], pin_memory=pin)
                images = step.apply(images, drawn.to(images.device, non_blocking=True))
            else:
                images = step(images)
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
    """Return the steps of ``items`` that change one image, or with ``events`` its frames, by the same draws.
    Raises DataError for steps that change colours of frames."""
    steps = [(item.name, STEPS[item.name](item)) for item in items if item.name not in MIXING_STEPS]
    for name, step in steps:
        if events and isinstance(step, COLOURS):
            raise DataError(
                f"`{name}` changes colours, and frames of events hold counts; leave it out of the "
                "recipe"
            )
    last = len(steps)
    while last and isinstance(steps[last - 1][1], _Normalize):
        last -= 1
    own = [number for number, (name, _) in enumerate(steps) if name == "python"]
    if own or (events and last):  # as integers, the counts would be rounded
        floats = v2.ToDtype(torch.float32, scale=not events)
        steps.insert(0 if events else own[0], ("floats", floats))
        last += 1
    drawn = any(not isinstance(step, FIXED) for _, step in steps)
    return ImageTransform(tuple(steps[:last]), tuple(steps[last:]), events, drawn)


def split_steps(items: Sequence[Item], one_size: bool) -> tuple[Sequence[Item], Sequence[Item]]:
    """Split ``items`` into those of loader processes and those of the device, which needs images of
    one size: all if they have one, else those after the first step that gives them one. Those up to the
    last ``python`` are of the loader, since a device has a generator of its own.
    """
    ends = (number for number, item in enumerate(items, 1) if item.name in ONE_SIZE)
    own = (number for number, item in enumerate(items, 1) if item.name == "python")
    first = max(0 if one_size else next(ends, len(items)), *own, 0)
    return items[:first], items[first:]


def batch_transform(items: Sequence[Item], classes: int) -> BatchTransform | None:
    """Return the steps that mix images [N, ...] and labels [N] of a batch by a seed, or None without any. Labels
    become shares [N, classes]. Torch's random state is kept."""
    found = [(MIXING_STEPS[item.name], item) for item in items if item.name in MIXING_STEPS]
    steps = [kind(alpha=item["alpha"], num_classes=classes) for kind, item in found]
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
