"""Table of the steps of a recipe that change images, as transforms of torchvision.

Their arguments, with bounds and defaults, are in ``dsl.recipe.items``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import AutoAugmentPolicy, v2
from torchvision.transforms.v2.functional import to_dtype

from danetc.dsl.recipe.item import Item
from danetc.runtime.system.errors import DataError
from danetc.runtime.system.seeds import drawn_anew
from danetc.runtime.system.user_code import function_at

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
