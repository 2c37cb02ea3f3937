"""THE table of a recipe's steps that change images: each as torchvision's transform.

Their arguments, with bounds and defaults, are in ``dsl.recipe.items``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms import AutoAugmentPolicy, v2
from torchvision.transforms.v2 import functional as F

from danetc.dsl.recipe.item import Item
from danetc.runtime.data.vectorized import (
    DeterministicStep,
    VectorizedCrop,
    VectorizedFlip,
    VectorizedStep,
)
from danetc.runtime.system.errors import DataError


@dataclass(frozen=True, slots=True)
class StepRow:
    """A step that changes one image.

    ``make`` gives the transform of an item. ``vectorized`` gives the same for a batch at once, where
    there is such a form. ``draws`` says that it uses random numbers, ``colours`` that it changes
    colours, so that frames of events cannot go through it. ``by_value`` says that it draws nothing
    and changes each value by itself: at the end of a recipe's steps it is left to the device.
    """

    make: Callable[[Item], nn.Module]
    vectorized: Callable[[Item], VectorizedStep] | None = None
    draws: bool = True
    colours: bool = False
    by_value: bool = False


def _resized_crop(item: Item) -> nn.Module:
    step: nn.Module = v2.RandomResizedCrop(
        item.integer("size"), scale=(item.number("smallest"), 1.0)
    )
    return step


def _crop(item: Item) -> nn.Module:
    step: nn.Module = v2.RandomCrop(item.integer("size"), item.integer("padding") or None)
    return step


def _jitter(item: Item) -> nn.Module:
    names = ("brightness", "contrast", "saturation", "hue")
    step: nn.Module = v2.ColorJitter(*(item.number(name) for name in names))
    return step


def _center_crop(item: Item) -> nn.Module:
    step: nn.Module = v2.CenterCrop(item.integer("size"))
    return step


def _normalize(item: Item) -> nn.Module:
    return _Normalize(item.choice("statistics"))


STEPS: Mapping[str, StepRow] = {
    "random_resized_crop": StepRow(_resized_crop),
    "random_crop": StepRow(
        _crop, lambda item: VectorizedCrop(item.integer("size"), item.integer("padding"))
    ),
    "horizontal_flip": StepRow(
        lambda item: v2.RandomHorizontalFlip(item.number("p")),
        lambda item: VectorizedFlip(item.number("p")),
    ),
    "auto_augment": StepRow(
        lambda item: v2.AutoAugment(AutoAugmentPolicy(item.choice("policy"))), colours=True
    ),
    "trivial_augment": StepRow(lambda item: v2.TrivialAugmentWide(), colours=True),
    "rand_augment": StepRow(
        lambda item: v2.RandAugment(item.integer("n"), item.integer("m")), colours=True
    ),
    "color_jitter": StepRow(_jitter, colours=True),
    "random_erasing": StepRow(lambda item: v2.RandomErasing(item.number("p"))),
    "resize": StepRow(lambda item: v2.Resize(item.integer("size")), draws=False),
    "center_crop": StepRow(
        _center_crop,
        lambda item: DeterministicStep(_center_crop(item), item.integer("size")),
        draws=False,
    ),
    "normalize": StepRow(
        _normalize,
        lambda item: DeterministicStep(_normalize(item)),
        draws=False,
        colours=True,
        by_value=True,
    ),
}

MIXING_STEPS: Mapping[str, Callable[[Item, int], nn.Module]] = {
    "mixup": lambda item, classes: v2.MixUp(alpha=item.number("alpha"), num_classes=classes),
    "cutmix": lambda item, classes: v2.CutMix(alpha=item.number("alpha"), num_classes=classes),
}
"""Steps that mix the images of a batch of so many classes, and their labels."""

STATISTICS: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "fashion_mnist": ((0.2860,), (0.3530,)),
}
"""Mean and standard deviation of each channel over the training images, of values 0 .. 1."""


class _Normalize(nn.Module):
    """``v2.ToDtype(torch.float32, scale=True)``, then ``v2.Normalize``: the same bits.

    ``v2.Normalize`` silently broadcasts a grey image to three channels, and makes a tensor of its
    statistics in each call, for which a GPU is waited. This one keeps them on each device.
    """

    def __init__(self, statistics: str) -> None:
        super().__init__()
        self.statistics = statistics
        self.channels = len(STATISTICS[statistics][0])
        self._known: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def forward(self, image: Tensor, mask: Tensor | None = None) -> Any:
        if image.shape[-3] != self.channels:
            raise DataError(
                f"normalize({self.statistics}) has the statistics of {self.channels} channels, but "
                f"the images have {image.shape[-3]}"
            )
        values = image.as_subclass(Tensor)
        mean, deviation = self._on(values.device)
        floats: Tensor = F.to_dtype(values, torch.float32, scale=True)
        normalized = floats.sub(mean).div_(deviation)
        return normalized if mask is None else (normalized, mask)

    def _on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Mean and deviation [C, 1, 1]."""
        if device not in self._known:
            mean, deviation = STATISTICS[self.statistics]
            self._known[device] = (
                torch.tensor(mean, device=device).view(-1, 1, 1),
                torch.tensor(deviation, device=device).view(-1, 1, 1),
            )
        return self._known[device]
