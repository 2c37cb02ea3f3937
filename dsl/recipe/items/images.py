"""Transforms of training and test images."""

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
    "resizes the shorter side to this size",
    (Argument("size", SIZE, None, "size of the shorter side, in pixels"),),
    example="resize(256)",
)
CENTER_CROP = ItemSpec(
    "center_crop",
    "crops the centre of the image",
    (Argument("size", SIZE, None, "height and width of the result, in pixels"),),
    example="center_crop(224)",
)
NORMALIZE = ItemSpec(
    "normalize",
    "subtracts the mean of each channel and divides by its standard deviation",
    (
        Argument(
            "statistics",
            ChoiceType(("imagenet", "cifar10", "cifar100", "fashion_mnist")),
            "imagenet",
            "data set whose mean and standard deviation are used",
        ),
    ),
)


AUGMENT: Mapping[str, ItemSpec] = family(
    ItemSpec(
        "random_resized_crop",
        "crops a random area with a random aspect ratio and resizes it",
        (
            Argument("size", SIZE, None, "height and width of the result, in pixels"),
            Argument(
                "smallest", FloatType(0, 1, open_low=True), 0.08, "smallest share of the image area"
            ),
        ),
        example="random_resized_crop(224)",
    ),
    ItemSpec(
        "random_crop",
        "crops the image at a random position",
        (
            Argument("size", SIZE, None, "height and width of the result, in pixels"),
            Argument("padding", IntType(0, 1000), 0, "zero padding on each side, in pixels"),
        ),
        example="random_crop(32, padding = 4)",
    ),
    ItemSpec(
        "horizontal_flip",
        "flips the image horizontally",
        (Argument("p", PROBABILITY, 0.5, "probability of a flip"),),
    ),
    ItemSpec(
        "auto_augment",
        "applies a random sub-policy of AutoAugment (Cubuk et al., CVPR 2019)",
        (
            Argument(
                "policy",
                ChoiceType(("imagenet", "cifar10", "svhn")),
                "imagenet",
                "data set that the policy was learnt on",
            ),
        ),
    ),
    ItemSpec(
        "trivial_augment",
        "applies one random operation of random strength per image (Mueller and Hutter, ICCV 2021)",
    ),
    ItemSpec(
        "rand_augment",
        "applies random operations of a fixed strength (RandAugment: Cubuk et al., 2020)",
        (
            Argument("n", IntType(1, 20), 2, "number of operations per image"),
            Argument("m", IntType(0, 30), 9, "strength of the operations"),
        ),
    ),
    ItemSpec(
        "color_jitter",
        "randomly changes brightness, contrast, saturation and hue",
        (
            Argument(
                "brightness", FloatType(0.0, 10.0), 0.4, "maximum deviation of the factor from 1"
            ),
            Argument(
                "contrast", FloatType(0.0, 10.0), 0.4, "maximum deviation of the factor from 1"
            ),
            Argument(
                "saturation", FloatType(0.0, 10.0), 0.4, "maximum deviation of the factor from 1"
            ),
            Argument(
                "hue", FloatType(0.0, 0.5), 0.0, "maximum shift, as a share of the colour circle"
            ),
        ),
    ),
    RESIZE,
    CENTER_CROP,
    NORMALIZE,
    ItemSpec(
        "random_erasing",
        "sets a random rectangle to 0",
        (Argument("p", PROBABILITY, 0.25, "probability of erasing"),),
    ),
    ItemSpec(
        "mixup",
        "mixes pairs of images and of their labels with random weights (Zhang et al., ICLR 2018)",
        (
            Argument(
                "alpha", POSITIVE, 0.2, "parameter of the beta distribution of the mixing weights"
            ),
        ),
        whole_batch=True,
    ),
    ItemSpec(
        "cutmix",
        "pastes a rectangle of one image into another and mixes labels by area (Yun et al., ICCV 2019)",
        (
            Argument(
                "alpha", POSITIVE, 1.0, "parameter of the beta distribution of the mixing weights"
            ),
        ),
        whole_batch=True,
    ),
)
"""Transforms of training images."""

EVALUATE: Mapping[str, ItemSpec] = family(RESIZE, CENTER_CROP, NORMALIZE)
"""Transforms of test images, which are deterministic."""
