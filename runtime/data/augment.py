"""What a recipe does to images, as torchvision transforms. The rows are ``recipe.schema.ITEMS``.

All random numbers are torch's, from its CPU generator: who seeds that decides what is drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms import AutoAugmentPolicy, v2
from torchvision.transforms.v2 import functional as F

from danetc.dsl.recipe.item import Item
from danetc.dsl.recipe.schema import ITEMS
from danetc.runtime.data.augment_rows import CropRows, FixedStep, FlipRows, Rows, apply_rows
from danetc.runtime.system.errors import DataError
from danetc.runtime.system.seeds import kept_random_state

BatchTransform = Callable[..., tuple[Tensor, Tensor]]
"""Images [N, ...], labels [N] and ``seed`` to mixed images and shares [N, classes]."""

STATISTICS: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "fashion_mnist": ((0.2860,), (0.3530,)),
}
"""Mean and standard deviation of each channel over the training images, of values 0 .. 1."""

_COLOURS = frozenset(
    {"auto_augment", "trivial_augment", "rand_augment", "color_jitter", "normalize"}
)
_FIXED = frozenset({"resize", "center_crop", "normalize"})  # draw nothing


@dataclass(frozen=True, eq=False)
class ImageTransform:
    """The steps that change one image, and how its values become the network's.

    ``random`` says that a step draws. ``rows`` are the same steps for a batch, where all of them
    have that form (see ``augment_rows``), else None.
    """

    steps: tuple[tuple[str, nn.Module], ...]
    rows: tuple[Rows, ...] | None
    events: bool
    random: bool

    def __call__(self, image: Tensor) -> Tensor:
        """An image [C, H, W] (uint8, or a float from 0 to 1) or frames of events [T, C, H, W],
        through all steps; gives floats. Raises DataError where a step cannot be applied to it.
        """
        return self.finish(self.change(image))

    def change(self, image: Tensor) -> Tensor:
        """An image through all steps, its values as they come out of them."""
        for name, step in self.steps:
            try:
                image = step(image)
            except (ValueError, TypeError, RuntimeError) as error:
                raise _unfit(name, image, error) from error
        return image

    def change_rows(self, images: Tensor, seeds: Sequence[int]) -> Tensor:
        """Images [N, ...] of one size as ``change`` gives them one by one, each after torch's CPU
        generator is given its seed. Only where there are ``rows``.
        """
        assert self.rows is not None, "steps that have no form for batches"
        try:
            return apply_rows(self.rows, images, seeds if self.random else ())
        except ValueError as error:
            names = " -> ".join(dict.fromkeys(name for name, _ in self.steps))
            raise _unfit(names, images[0], error) from error

    def finish(self, images: Tensor) -> Tensor:
        """Values as numbers of a network: bytes from 0 to 255 become float32 from 0 to 1, or, where
        they count events, what they are; floats stay.
        """
        if images.is_floating_point():
            return images
        floats: Tensor = F.to_dtype(images, torch.float32, scale=not self.events)
        return floats


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
    own = [item for item in items if not _mixes(item)]
    for item in own:
        if events and item.name in _COLOURS:
            raise DataError(
                f"`{item.name}` changes colours, and frames of events hold counts; leave it out "
                "of the recipe"
            )
    steps = [(item.name, step) for item in own for step in _steps(item)]
    rows = [row for item in own for row in _rows(item)]
    if events:  # as floats: a resize would round counts to whole ones
        floats = v2.ToDtype(torch.float32)
        steps.insert(0, ("events", floats))
        rows.insert(0, FixedStep(floats))
    return ImageTransform(
        tuple(steps),
        None if None in rows else tuple(row for row in rows if row is not None),
        events,
        random=any(item.name not in _FIXED for item in own),
    )


def batch_transform(items: Sequence[Item], classes: int) -> BatchTransform | None:
    """The steps that mix images [N, ...] and labels [N] of a batch, or None.

    The labels become shares [N, classes]. Given a ``seed``, what is drawn depends on that alone
    and torch's random state is left as it is.
    """
    steps = [_mixing_step(item, classes) for item in items if _mixes(item)]
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


def _mixes(item: Item) -> bool:
    row = ITEMS["augment"].get(item.name)
    return row is not None and row.whole_batch


def _mixing_step(item: Item, classes: int) -> Any:
    alpha = dict(item.arguments)["alpha"]
    kind = {"mixup": v2.MixUp, "cutmix": v2.CutMix}[item.name]
    return kind(alpha=alpha, num_classes=classes)


def _steps(item: Item) -> list[nn.Module]:
    given: dict[str, Any] = dict(item.arguments)
    match item.name:
        case "random_resized_crop":
            step = v2.RandomResizedCrop(given["size"], scale=(given["smallest"], 1.0))
        case "random_crop":
            step = v2.RandomCrop(given["size"], padding=given["padding"] or None)
        case "horizontal_flip":
            step = v2.RandomHorizontalFlip(given["p"])
        case "auto_augment":
            step = v2.AutoAugment(AutoAugmentPolicy(given["policy"]))
        case "trivial_augment":
            step = v2.TrivialAugmentWide()
        case "rand_augment":
            step = v2.RandAugment(given["n"], given["m"])
        case "color_jitter":
            step = v2.ColorJitter(
                given["brightness"], given["contrast"], given["saturation"], given["hue"]
            )
        case "random_erasing":
            step = v2.RandomErasing(given["p"])
        case "resize":
            step = v2.Resize(given["size"])
        case "center_crop":
            step = v2.CenterCrop(given["size"])
        case "normalize":
            return [v2.ToDtype(torch.float32, scale=True), _Normalize(given["statistics"])]
        case name:
            raise NotImplementedError(f"a recipe step without a transform: {name}")
    assert isinstance(step, nn.Module)
    return [step]


def _rows(item: Item) -> list[Rows | None]:
    """The steps of an item for a batch; None for one that has no such form."""
    match item.name:
        case "random_crop":
            return [CropRows(item.integer("size"), item.integer("padding"))]
        case "horizontal_flip":
            return [FlipRows(item.number("p"))]
        case "center_crop":
            return [FixedStep(step, item.integer("size")) for step in _steps(item)]
        case "normalize":
            return [FixedStep(step) for step in _steps(item)]
        case _:
            return [None]


class _Normalize(nn.Module):
    """``v2.Normalize``, which would give a grey image three channels without a word."""

    def __init__(self, statistics: str) -> None:
        super().__init__()
        mean, deviation = STATISTICS[statistics]
        self.statistics, self.channels = statistics, len(mean)
        self.step = v2.Normalize(mean, deviation)

    def forward(self, image: Tensor) -> Tensor:
        if image.shape[-3] != self.channels:
            raise DataError(
                f"normalize({self.statistics}) has the statistics of {self.channels} channels, but "
                f"the images have {image.shape[-3]}"
            )
        normalized: Tensor = self.step(image)
        return normalized
