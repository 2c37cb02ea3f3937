"""What is done to images: in training, and in tests."""

from __future__ import annotations

from collections.abc import Mapping

from danetc.dsl.recipe.schema import (
    POSITIVE,
    PROBABILITY,
    SIZE,
    Argument,
    ChoiceType,
    FloatType,
    IntType,
    ItemSpec,
    family,
)

RESIZE = ItemSpec(
    "resize",
    "the shorter side to this size",
    (Argument("size", SIZE, None, "of the shorter side"),),
    example="resize(256)",
)
CENTER_CROP = ItemSpec(
    "center_crop",
    "the middle of the image",
    (Argument("size", SIZE, None, "of the result"),),
    example="center_crop(224)",
)
NORMALIZE = ItemSpec(
    "normalize",
    "subtracts the mean of each channel over a data set, and divides by its standard deviation",
    (
        Argument(
            "statistics",
            ChoiceType(("imagenet", "cifar10", "cifar100", "fashion_mnist")),
            "imagenet",
            "the data set they are of",
        ),
    ),
)


AUGMENT: Mapping[str, ItemSpec] = family(
    ItemSpec(
        "random_resized_crop",
        "a random part of the image, of random area and aspect ratio, resized",
        (
            Argument("size", SIZE, None, "of the result"),
            Argument("smallest", FloatType(0, 1, open_low=True), 0.08, "share of the area"),
        ),
        example="random_resized_crop(224)",
    ),
    ItemSpec(
        "random_crop",
        "a part of the image at a random place",
        (
            Argument("size", SIZE, None, "of the result"),
            Argument("padding", IntType(0, 1000), 0, "zeros around the image"),
        ),
        example="random_crop(32, padding = 4)",
    ),
    ItemSpec(
        "horizontal_flip",
        "mirrors the image, left to right",
        (Argument("p", PROBABILITY, 0.5, "the probability of it"),),
    ),
    ItemSpec(
        "auto_augment",
        "a random pair of operations of a policy that was learnt on a data set (Cubuk et al., CVPR 2019)",
        (
            Argument(
                "policy",
                ChoiceType(("imagenet", "cifar10", "svhn")),
                "imagenet",
                "the data set that it was learnt on",
            ),
        ),
    ),
    ItemSpec(
        "trivial_augment",
        "one random operation of random strength for each image (Mueller and Hutter, ICCV 2021)",
    ),
    ItemSpec(
        "rand_augment",
        "random operations, each of one strength (RandAugment: Cubuk et al., 2020)",
        (
            Argument("n", IntType(1, 20), 2, "how many operations for an image"),
            Argument("m", IntType(0, 30), 9, "their strength"),
        ),
    ),
    ItemSpec(
        "color_jitter",
        "random brightness, contrast, saturation and hue",
        (
            Argument(
                "brightness", FloatType(0.0, 10.0), 0.4, "a factor within 1 - this and 1 + this"
            ),
            Argument(
                "contrast", FloatType(0.0, 10.0), 0.4, "a factor within 1 - this and 1 + this"
            ),
            Argument(
                "saturation", FloatType(0.0, 10.0), 0.4, "a factor within 1 - this and 1 + this"
            ),
            Argument("hue", FloatType(0.0, 0.5), 0.0, "at most this share of the colour circle"),
        ),
    ),
    RESIZE,
    CENTER_CROP,
    NORMALIZE,
    ItemSpec(
        "random_erasing",
        "a random rectangle is made 0",
        (Argument("p", PROBABILITY, 0.25, "the probability of it"),),
    ),
    ItemSpec(
        "mixup",
        "pairs of images and of their labels, added with random weights (Zhang et al., ICLR 2018)",
        (Argument("alpha", POSITIVE, 0.2, "of the beta distribution that shares are drawn from"),),
        whole_batch=True,
    ),
    ItemSpec(
        "cutmix",
        "a part of one image put into another; labels are mixed by area (Yun et al., ICCV 2019)",
        (Argument("alpha", POSITIVE, 1.0, "of the beta distribution that shares are drawn from"),),
        whole_batch=True,
    ),
)
"""Steps of an augmentation."""

EVALUATE: Mapping[str, ItemSpec] = family(RESIZE, CENTER_CROP, NORMALIZE)
"""Steps that draw nothing."""
