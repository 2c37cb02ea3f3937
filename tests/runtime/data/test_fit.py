"""What is said, before the first step, where data do not fit a network or a recipe."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.transforms.v2 import functional as F

from danetc.dsl.recipe.item import Item
from danetc.runtime.data.augment import image_transform
from danetc.runtime.data.dataset import DataSet, Memory, with_channels
from danetc.runtime.data.fit import check_fit
from danetc.runtime.data.registry import open_data
from danetc.runtime.model.signature import Signature
from danetc.runtime.system.errors import DataError

from .conftest import MakeEvents, MakeFolder


def item(name: str, **arguments: Any) -> Item:
    return Item(name, tuple(arguments.items()))


CROP = [item("random_resized_crop", size=12, smallest=0.5)]
MIDDLE = [item("resize", size=14), item("center_crop", size=12)]


def check(
    data: DataSet,
    shape: tuple[int, ...],
    classes: int = 10,
    *,
    augment: Any = (),
    evaluate: Any = (),
    sequence: bool = False,
    own_steps: int = 4,
    steps: int | None = None,
) -> None:
    check_fit(
        data,
        Signature(own_steps, shape, {"out": (classes,)}, sequence),
        augment=image_transform(augment, events=data.events),
        evaluate=image_transform(evaluate, events=data.events),
        output=(classes,),
        steps=steps,
    )


@pytest.mark.parametrize(
    ("shape", "classes", "sequence", "message"),
    [
        ((3, 224, 224), 10, False, "of digits are 1 x 8 x 8, but the network takes 3 x 224 x 224; set the network's input to image(1, 8, 8)"),
        ((2, 8, 8), 10, False, "set the network's input to image(1, 8, 8)"),
        ((1, 8, 8), 10, True, "takes sequences of frames; set the network's input to image(1, 8, 8)"),
        ((1, 8, 8), 1000, False, "digits has 10 classes, but the network has 1000 outputs; set the network's classes to 10"),
    ],
)  # fmt: skip
def test_a_network_for_other_data_is_told_what_to_set(
    shape: tuple[int, ...], classes: int, sequence: bool, message: str
) -> None:
    data = open_data("digits")
    with pytest.raises(DataError, match=re.escape(message)):
        check(with_channels(data, shape[0]), shape, classes, sequence=sequence)
    check(data, (1, 8, 8))


def test_the_recipes_steps_count() -> None:
    data = open_data("digits")
    small = [item("center_crop", size=6)]
    check(data, (1, 6, 6), augment=small, evaluate=small)
    with pytest.raises(DataError, match=r"1 x 8 x 8, but the network takes 1 x 6 x 6"):
        check(data, (1, 6, 6), augment=small)
    with pytest.raises(DataError, match=r"1 x 6 x 6 after `augment`, but .* takes 1 x 8 x 8"):
        check(data, (1, 8, 8), augment=small)


def test_images_of_any_size_need_a_step_that_gives_one(make_folder: MakeFolder) -> None:
    data = open_data(f"folder:{make_folder()}")
    check(data, (3, 12, 12), 3, augment=CROP, evaluate=MIDDLE)
    with pytest.raises(
        DataError, match=r"0.*after `augment`, but .* end at that size, as random_resized_crop\(12"
    ):
        check(data, (3, 12, 12), 3, evaluate=MIDDLE)
    with pytest.raises(DataError, match=r"after `evaluate`.*as resize\(12\) -> center_crop\(12\)"):
        check(data, (3, 12, 12), 3, augment=CROP)
    with pytest.raises(DataError, match="folder has 3 classes, but the network has 10 outputs"):
        check(data, (3, 12, 12), augment=CROP, evaluate=MIDDLE)


def test_an_image_of_another_size_among_many_is_found_and_named(make_folder: MakeFolder) -> None:
    from PIL import Image

    root = make_folder(size=(12, 12))
    last = Path(open_data(f"folder:{root}").train.where(11))
    Image.new("RGB", (9, 12)).save(last, format="PNG")
    with pytest.raises(DataError, match=f"{re.escape(str(last))} is 3 x 12 x 9 after"):
        check(open_data(f"folder:{root}"), (3, 12, 12), 3)


@pytest.mark.parametrize("policy", ["stop", "skip"])
def test_an_unreadable_image_is_named_before_the_first_step(
    make_folder: MakeFolder, policy: Any
) -> None:
    root = make_folder(size=(12, 12))
    data = open_data(f"folder:{root}", on_unreadable=policy)
    Path(data.train.where(0)).write_bytes(b"")
    told = "the file is empty"
    if policy == "skip":
        check(data, (3, 12, 12), 3)
        for index in range(12):
            Path(data.test.where(index)).write_bytes(b"")
        told = "none of the 8 samples looked at can be read; the last"
    with pytest.raises(DataError, match=told):
        check(data, (3, 12, 12), 3)


def test_statistics_of_colours_on_grey_images_are_refused() -> None:
    steps = [item("normalize", statistics="cifar10")]
    with pytest.raises(DataError, match=r"normalize\(cifar10\) .* 3 channels, but .* have 1"):
        check(open_data("digits"), (1, 8, 8), augment=steps, evaluate=steps)


# -- events ----------------------------------------------------------------------------------------


def test_frames_need_a_network_of_sequences_and_its_steps(make_events: MakeEvents) -> None:
    data = open_data(f"events:{make_events(steps=4)}")
    check(data, (2, 6, 6), 2, sequence=True)
    check(data, (2, 6, 6), 2, sequence=True, own_steps=9, steps=4)
    for problem, message in (
        ({}, "takes single images; set the network's input to events(2, 6, 6)"),
        ({"sequence": True, "own_steps": 6}, "have T = 4 frames"),
        ({"sequence": True, "own_steps": 6}, "the network sets steps to 6; set steps to 4"),
        ({"sequence": True, "steps": 1}, "the recipe sets steps to 1; set steps to 4"),
    ):
        with pytest.raises(DataError, match=re.escape(message)):
            check(data, (2, 6, 6), 2, **problem)
    with pytest.raises(DataError, match=r"2 x 6 x 6, but .* 1 x 6 x 6; .* to events\(2, 6, 6\)"):
        check(data, (1, 6, 6), 2, sequence=True)


# -- channels --------------------------------------------------------------------------------------


def test_grey_images_are_given_to_each_channel_of_colour() -> None:
    grey = open_data("digits")
    data = with_channels(grey, 3)
    assert data.notices == (
        "the images of digits are grey; each is given to the network's 3 channels",
    )
    assert data.shape == (3, 8, 8)
    assert isinstance(data.train, Memory)
    assert isinstance(grey.train, Memory)
    assert torch.equal(data.train.images, F.grayscale_to_rgb(grey.train.images))
    check(data, (3, 8, 8))
    assert data.describe()["converted_to_channels"] == 3


@pytest.mark.parametrize("lazy", [False, True])
def test_colours_are_given_to_a_grey_network_as_luma(make_folder: MakeFolder, lazy: bool) -> None:
    text = f"folder:{make_folder(size=(9, 9))}" if lazy else "synthetic:size=9,count=12"
    colour = open_data(text)
    data = with_channels(colour, 1)
    assert "are in colour; the network gets their grey values" in data.notices[0]
    for index in range(12):
        image, label = data.train[index]
        before, before_label = colour.train[index]
        assert torch.equal(image, F.rgb_to_grayscale(before))
        assert label == before_label
        assert data.train.where(index) == colour.train.where(index)
    check(data, (1, 9, 9), data.classes)
