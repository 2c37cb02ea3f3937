"""Images in a folder per class, against torchvision's ImageFolder, and data that do not fit a network."""

import os
import re
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.transforms.v2 import functional as F

from danetc.dsl.recipe.item import Item
from danetc.runtime.data.augment import image_transform
from danetc.runtime.data.batches import Batches
from danetc.runtime.data.dataset import DataSet, Memory, Source, with_channels
from danetc.runtime.data.files import packed
from danetc.runtime.data.fit import check_fit
from danetc.runtime.data.registry import open_data
from danetc.runtime.model.signature import Signature
from danetc.runtime.system.errors import DataError, UnreadableError
from tests.danetc.datasets import SMALL_DATA

from .conftest import class_folders, image_folder, pixels, refused


def test_a_folder_is_read_as_torchvision_reads_it(tmp_path: Path) -> None:
    root = image_folder(tmp_path)
    data = open_data(f"folder:{root}")
    for split, source in (("train", data.train), ("val", data.test)):
        theirs = ImageFolder(str(root / split))
        assert len(source) == len(theirs) == 12
        assert source.labels.tolist() == theirs.targets
        assert data.class_names == tuple(theirs.classes)
        for index in range(len(theirs)):
            image, label = theirs[index]
            ours, our_label = source[index]
            assert torch.equal(ours, F.pil_to_tensor(image))
            assert (our_label, source.where(index)) == (label, theirs.samples[index][0])
    assert data.shape is None
    assert data.describe()["test_folder"] == "val"


def test_a_path_of_any_bytes_is_kept() -> None:
    names = ["a", "", "ä/ö.png", os.fsdecode(b"\xff.png")]
    assert [os.fsdecode(each) for each in packed(names)] == names


def test_the_fingerprint_is_of_names_and_sizes_not_of_the_place(tmp_path: Path) -> None:
    root = image_folder(tmp_path)
    first = open_data(f"folder:{root}").fingerprint
    moved = root.rename(tmp_path / "elsewhere")
    assert open_data(f"folder:{moved}").fingerprint == first
    some = next((moved / "train" / "dog").iterdir())
    some.write_bytes(some.read_bytes() + b"\0")
    assert open_data(f"folder:{moved}").fingerprint != first
    some.unlink()
    assert open_data(f"folder:{moved}").fingerprint != first


# -- folders of another layout ---------------------------------------------------------------------


def test_a_folder_of_another_layout_is_explained(tmp_path: Path) -> None:
    root = image_folder(tmp_path)
    text, val, dogs = f"folder:{root}", root / "val", root / "train" / "dog"
    kept = dogs.rename(tmp_path / "dog")
    dogs.mkdir()
    refused("train/dog holds no images (.jpg", text)
    kept.rename(dogs)
    (val / "cat").rename(val / "cats")
    refused("val has no class folder `cat` (1 of 4 are missing); did you mean `cats`?", text)
    (val / "cats").rename(val / "cat")
    shutil.rmtree(val / "owl")
    refused("val has no class folder `owl` (1 of 3 are missing); both splits must have", text)
    for number, file in enumerate(sorted(val.glob("*/*"))):  # flat, as ImageNet's validation set
        file.rename(val / f"{number}{file.suffix}")
    (val / "cat").rmdir()
    (val / "dog").rmdir()
    refused("val holds 8 files but no class folders; put the images of each class into", text)
    shutil.rmtree(val)
    refused("has no folder `val` or `test`; it has train", text)
    shutil.rmtree(root / "train")
    val.mkdir()
    refused("has no folder `train`", text)


# -- files that cannot be read ---------------------------------------------------------------------


def _flipped(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[30:60] = bytes(255 - byte for byte in data[30:60])
    file.write_bytes(data)


def _pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


DEEP = Image.fromarray(pixels(0, 8, 8).astype(np.uint16) * 256)
DAMAGE: dict[Callable[[Path], object], str] = {
    lambda file: file.write_bytes(file.read_bytes()[:200]): "cannot be read",
    lambda file: file.write_bytes(b""): "the file is empty",
    lambda file: file.write_text("this is no image"): "it is not an image, or a damaged one",
    _flipped: "cannot be read",
    lambda file: DEEP.save(file, format="PNG"): "more than 8 bits a value",
    lambda file: file.unlink(): "No such file",
    **({_pipe: "not a regular file"} if hasattr(os, "mkfifo") else {}),
}


# A JPEG file has no checksum, so flipped bits only change colours.
@pytest.mark.parametrize(
    ("kind", "damage"),
    [(".png", each) for each in DAMAGE] + [(".JPEG", each) for each in DAMAGE if each != _flipped],
)
def test_an_unreadable_image_names_its_file(tmp_path: Path, kind: str, damage) -> None:  # type: ignore[no-untyped-def]
    root = image_folder(tmp_path, size=(16, 16))
    data = open_data(f"folder:{root}")
    index = next(i for i in range(12) if data.train.where(i).endswith(kind))
    damage(Path(data.train.where(index)))
    with pytest.raises(UnreadableError, match=DAMAGE[damage]) as caught:
        data.train[index]
    assert data.train.where(index) in str(caught.value)


def plain(source: Source, **options: Any) -> Batches:
    given = {"batch": 4, "seed": 0, "train": True, **options}
    return Batches(source, image_transform([]), **given)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_policy_says_whether_an_unreadable_image_stops(tmp_path: Path, workers: int) -> None:
    text = f"folder:{image_folder(tmp_path, size=(16, 16))}"
    stop, skip = open_data(text), open_data(text, on_unreadable="skip")
    broken = stop.train.where(5)
    Path(broken).write_bytes(b"")
    told = f"{broken} cannot be read: the file is empty"
    with closing(plain(stop.train, train=False, workers=workers)) as batches:
        steps = batches.epoch(0)
        assert len(next(steps)) == 4
        with pytest.raises(DataError) as caught:
            next(steps)
    assert str(caught.value) == told

    assert skip.describe()["on_unreadable"] == "skip"
    with closing(plain(skip.train, train=False, workers=workers)) as batches:
        found = list(batches.epoch(0))
        sizes = [(len(each), len(each.unreadable), each.total) for each in found]
        assert sizes == [(4, 0, 4), (3, 1, 4), (4, 0, 4)]
        assert found[1].indices.tolist() == [4, 6, 7]
        assert found[1].labels.tolist() == [skip.train[index][1] for index in (4, 6, 7)]
        list(batches.epoch(1))
        assert list(batches.unreadable) == [told]


def test_a_batch_without_any_readable_image_ends_training_but_not_a_test(tmp_path: Path) -> None:
    data = open_data(f"folder:{image_folder(tmp_path, size=(16, 16))}", on_unreadable="skip")
    for source, count in ((data.train, 12), (data.test, 4)):
        for index in range(count):
            Path(source.where(index)).write_bytes(b"")
    told = "none of the samples of batch 1 can be read; the first: /"
    with pytest.raises(DataError, match=told):
        list(plain(data.train).epoch(0))
    tests = plain(data.test, train=False)
    assert [batch.step for batch in tests.epoch(0)] == [1, 2]
    assert len(tests.unreadable) == 4


def test_images_of_different_sizes_in_a_batch_are_named(tmp_path: Path) -> None:
    data = open_data(f"folder:{image_folder(tmp_path)}")
    told = r"is 3 x \d+ x \d+ after the recipe's steps, but .*random_resized_crop"
    with pytest.raises(DataError, match=told):
        list(plain(data.train).epoch(0))


# -- options -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("here")
def test_splits_of_other_names_shares_and_a_list_of_classes() -> None:
    for *_, path in class_folders(Path("data"), {"learn": 4, "exam": 2}, ("ant", "bee", "cow")):
        Image.new("RGB", (4, 4)).save(f"{path}.png")
    data = open_data("folder:data,train=learn,test=exam")
    assert (len(data.train), len(data.test), data.class_names) == (12, 6, ("ant", "bee", "cow"))
    assert len(open_data("folder:data,train=exam,test=0.5").test) == 3
    for name, text in (("SOME", "cow\nant\n"), ("FOX", "ant\nfox"), ("TWICE", "ant\nant")):
        Path(name).write_text(text)
    some = open_data("folder:data,train=learn,test=exam,classes=SOME")
    assert some.class_names == ("cow", "ant")
    folders = [Path(some.train.where(number)).parent.name for number in range(8)]
    assert [("cow", "ant")[label] for label in some.train.labels.tolist()] == folders
    held, other = (open_data(f"folder:data/learn,test={share}") for share in (0.25, 0.5))
    assert (len(held.train), held.test.labels.tolist()) == (9, [0, 1, 2])
    paths = {source.where(n) for source in (held.train, held.test) for n in range(len(source))}
    assert len(paths) == 12
    assert other.fingerprint != held.fingerprint
    for options, told in (
        ("", "has no folder `train` or `training`; it has exam, learn (say ,train=NAME)"),
        (",train=learn", "no folder `val` or `test`"),
        (",train=laern,test=exam", "has no folder `laern`; did you mean `learn`?"),
        (",train=learn,test=exams", "has no folder `exams`; did you mean `exam`?"),
        (",train=learn,test=exam,classes=FOX", "has no class folder `fox`"),
        (",train=learn,test=exam,classes=TWICE", "must name 2 or more different classes"),
        (",layout=hwc", "`folder` has no option `layout`"),
    ):
        refused(told, f"folder:data{options}")


# -- errors before the first step, where data do not fit a network or a recipe ----------------------


def item(name: str, **arguments: Any) -> Item:
    return Item(name, tuple(arguments.items()))


CROP = [item("random_resized_crop", size=12, smallest=0.5)]
MIDDLE = [item("resize", size=14), item("center_crop", size=12)]


def check(data: DataSet, shape: Any, classes: int = 10, own_steps: int = 3, **more: Any) -> None:
    signature = Signature(own_steps, shape, {"out": (classes,)}, more.pop("sequence", False))
    for way in ("augment", "evaluate"):
        more[way] = image_transform(more.get(way, ()), events=data.events)
    check_fit(data, signature, output=(classes,), **{"steps": None, **more})


def misfit(told: str, *given: Any, **more: Any) -> None:
    with pytest.raises(DataError, match=told):
        check(*given, **more)


@pytest.mark.parametrize(
    ("shape", "classes", "sequence", "told"),
    [
        ((3, 224, 224), 10, False, "of digits are 1 x 8 x 8, but the network takes 3 x 224 x 224; set the network's input to image(1, 8, 8)"),
        ((2, 8, 8), 10, False, "set the network's input to image(1, 8, 8)"),
        ((1, 8, 8), 10, True, "takes sequences of frames; set the network's input to image(1, 8, 8)"),
        ((1, 8, 8), 1000, False, "digits has 10 classes, but the network has 1000 outputs; set the network's classes to 10"),
    ],
)  # fmt: skip
def test_a_network_is_told_what_to_set(shape: Any, classes: int, sequence: bool, told: str) -> None:
    data = open_data("digits")
    misfit(re.escape(told), with_channels(data, shape[0]), shape, classes, sequence=sequence)
    check(data, (1, 8, 8))


def test_the_recipes_steps_count() -> None:
    data = open_data("digits")
    small = [item("center_crop", size=6)]
    check(data, (1, 6, 6), augment=small, evaluate=small)
    misfit("1 x 8 x 8, but the network takes 1 x 6 x 6", data, (1, 6, 6), augment=small)
    misfit("1 x 6 x 6 after `augment`, but .* takes 1 x 8 x 8", data, (1, 8, 8), augment=small)
    steps = {"augment": (colours := [item("normalize", statistics="cifar10")]), "evaluate": colours}
    misfit(r"normalize\(cifar10\) .* 3 channels, but .* have 1", data, (1, 8, 8), **steps)


def test_images_of_any_size_need_a_step_that_gives_one(tmp_path: Path) -> None:
    data = open_data(f"folder:{image_folder(tmp_path)}")
    check(data, (3, 12, 12), 3, augment=CROP, evaluate=MIDDLE)
    told = r"0.*after `augment`, but .* end at that size, as random_resized_crop\(12"
    misfit(told, data, (3, 12, 12), 3, evaluate=MIDDLE)
    told = r"after `evaluate`.*as resize\(12\) -> center_crop\(12\)"
    misfit(told, data, (3, 12, 12), 3, augment=CROP)
    told = "folder has 3 classes, but the network has 10 outputs"
    misfit(told, data, (3, 12, 12), augment=CROP, evaluate=MIDDLE)


def test_an_image_of_another_size_among_many_is_found_and_named(tmp_path: Path) -> None:
    text = f"folder:{image_folder(tmp_path, size=(12, 12))}"
    last = Path(open_data(text).train.where(11))
    Image.new("RGB", (9, 12)).save(last, format="PNG")
    misfit(f"{re.escape(str(last))} is 3 x 12 x 9 after", open_data(text), (3, 12, 12), 3)


@pytest.mark.parametrize("policy", ["stop", "skip"])
def test_an_unreadable_image_is_named_before_the_first_step(tmp_path: Path, policy: Any) -> None:
    root = image_folder(tmp_path, size=(12, 12))
    data = open_data(f"folder:{root}", on_unreadable=policy)
    Path(data.train.where(0)).write_bytes(b"")
    told = "the file is empty"
    if policy == "skip":
        check(data, (3, 12, 12), 3)
        for index in range(12):
            Path(data.test.where(index)).write_bytes(b"")
        told = "none of the 8 samples looked at can be read; the last"
    misfit(told, data, (3, 12, 12), 3)


# -- events ----------------------------------------------------------------------------------------


def test_frames_need_a_network_of_sequences_and_its_steps(tmp_path: Path) -> None:
    data = open_data(SMALL_DATA["events"].make(tmp_path))
    check(data, (2, 8, 8), 2, sequence=True)
    check(data, (2, 8, 8), 2, sequence=True, own_steps=9, steps=3)
    for problem, message in (
        ({}, "takes single images; set the network's input to events(2, 8, 8)"),
        ({"sequence": True, "own_steps": 6}, "have T = 3 frames"),
        ({"sequence": True, "own_steps": 6}, "the network sets steps to 6; set steps to 3"),
        ({"sequence": True, "steps": 1}, "the recipe sets steps to 1; set steps to 3"),
    ):
        misfit(re.escape(message), data, (2, 8, 8), 2, **problem)
    told = r"2 x 8 x 8, but .* 1 x 8 x 8; .* to events\(2, 8, 8\)"
    misfit(told, data, (1, 8, 8), 2, sequence=True)


# -- channels --------------------------------------------------------------------------------------


def test_grey_images_are_given_to_each_channel_of_colour() -> None:
    grey = open_data("digits")
    data = with_channels(grey, 3)
    told = "the images of digits are grey; each is given to the network's 3 channels"
    assert data.notices == (told,)
    assert data.shape == (3, 8, 8)
    assert isinstance(data.train, Memory)
    assert isinstance(grey.train, Memory)
    assert torch.equal(data.train.images, F.grayscale_to_rgb(grey.train.images))
    check(data, (3, 8, 8))
    assert data.describe()["converted_to_channels"] == 3


@pytest.mark.parametrize("lazy", [False, True])
def test_colours_are_given_to_a_grey_network_as_luma(tmp_path: Path, lazy: bool) -> None:
    text = f"folder:{image_folder(tmp_path, size=(9, 9))}" if lazy else "synthetic:size=9,count=12"
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
