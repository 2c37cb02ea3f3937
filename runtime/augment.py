"""What a recipe does to images, as torchvision transforms. The rows are ``recipe_schema.ITEMS``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from danetc.dsl.recipe import Item
from danetc.dsl.recipe_schema import ITEMS
from torch import Tensor, nn
from torchvision.transforms import AutoAugmentPolicy, v2

Transform = Callable[[Tensor], Tensor]
BatchTransform = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def image_transform(items: Sequence[Item]) -> Transform:
    """The steps that change one image [C, H, W] of values 0 .. 1."""
    steps = [_step(item) for item in items if not _mixes(item)]
    return nn.Sequential(*steps)


def batch_transform(items: Sequence[Item], classes: int) -> BatchTransform | None:
    """The steps that mix images [N, C, H, W] and labels [N] of a batch, or None.

    The labels become shares [N, classes].
    """
    steps = [_mixing_step(item, classes) for item in items if _mixes(item)]
    if not steps:
        return None
    # Mixing takes labels as numbers, so two steps cannot follow each other: one of them is drawn.
    chosen = steps[0] if len(steps) == 1 else v2.RandomChoice(steps)
    return lambda images, labels: chosen(images, labels)


def _mixes(item: Item) -> bool:
    row = ITEMS["augment"].get(item.name)
    return row is not None and row.whole_batch


def _mixing_step(item: Item, classes: int) -> Any:
    alpha = dict(item.arguments)["alpha"]
    kind = {"mixup": v2.MixUp, "cutmix": v2.CutMix}[item.name]
    return kind(alpha=alpha, num_classes=classes)


def _step(item: Item) -> nn.Module:
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
        case "random_erasing":
            step = v2.RandomErasing(given["p"])
        case "resize":
            step = v2.Resize(given["size"])
        case "center_crop":
            step = v2.CenterCrop(given["size"])
        case name:
            raise NotImplementedError(f"a recipe step without a transform: {name}")
    assert isinstance(step, nn.Module)
    return step
