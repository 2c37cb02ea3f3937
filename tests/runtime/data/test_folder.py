"""Images in a folder for each class, against torchvision's ImageFolder."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.transforms.v2 import functional as F

from danetc.runtime.data.augment import image_transform
from danetc.runtime.data.batches import Batches
from danetc.runtime.data.registry import open_data
from danetc.runtime.system.errors import DataError, UnreadableError

from .conftest import MakeFolder, pixels


def test_a_folder_is_read_as_torchvision_reads_it(make_folder: MakeFolder) -> None:
    root = make_folder()
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


def test_the_fingerprint_is_of_names_and_sizes_not_of_the_place(
    make_folder: MakeFolder, tmp_path: Path
) -> None:
    root = make_folder()
    moved = tmp_path / "elsewhere"
    shutil.copytree(root, moved)
    first = open_data(f"folder:{root}").fingerprint
    assert open_data(f"folder:{moved}").fingerprint == first
    some = next((moved / "train" / "dog").iterdir())
    some.write_bytes(some.read_bytes() + b"\0")
    assert open_data(f"folder:{moved}").fingerprint != first
    some.unlink()
    assert open_data(f"folder:{moved}").fingerprint != first


# -- folders that are not so -----------------------------------------------------------------------


def _flat_val(root: Path) -> None:
    """As ImageNet's validation images come."""
    for number, file in enumerate(sorted((root / "val").glob("*/*"))):
        file.rename(root / "val" / f"{number}{file.suffix}")
    for folder in filter(Path.is_dir, list((root / "val").iterdir())):
        folder.rmdir()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: shutil.rmtree(root / "val"), "has no folder `val` or `test`; it has train"),
        (lambda root: shutil.rmtree(root / "train"), "has no folder `train`"),
        (_flat_val, r"val holds 12 files but no class folders; put the images of each class into"),
        (
            lambda root: (root / "val" / "cat").rename(root / "val" / "cats"),
            r"val has no class folder `cat` \(1 of 4 are missing\); did you mean `cats`\?",
        ),
        (
            lambda root: shutil.rmtree(root / "val" / "owl"),
            r"val has no class folder `owl` \(1 of 3 are missing\); both splits must have",
        ),
        (
            lambda root: [file.unlink() for file in (root / "train" / "dog").iterdir()],
            r"train/dog holds no images \(.jpg",
        ),
    ],
)
def test_a_folder_of_another_layout_is_explained(
    make_folder: MakeFolder, change: Callable[[Path], object], message: str
) -> None:
    root = make_folder()
    change(root)
    with pytest.raises(DataError, match=message):
        open_data(f"folder:{root}")


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


# (A JPEG file has no checksum: flipped bits are other colours.)
@pytest.mark.parametrize(
    ("kind", "damage"),
    [(".png", each) for each in DAMAGE] + [(".JPEG", each) for each in DAMAGE if each != _flipped],
)
def test_an_unreadable_image_names_its_file(make_folder: MakeFolder, kind: str, damage) -> None:  # type: ignore[no-untyped-def]
    root = make_folder(size=(16, 16))
    data = open_data(f"folder:{root}")
    index = next(i for i in range(12) if data.train.where(i).endswith(kind))
    damage(Path(data.train.where(index)))
    with pytest.raises(UnreadableError, match=DAMAGE[damage]) as caught:
        data.train[index]
    assert data.train.where(index) in str(caught.value)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_policy_says_whether_an_unreadable_image_stops(
    make_folder: MakeFolder, workers: int
) -> None:
    root = make_folder(size=(16, 16))
    broken = open_data(f"folder:{root}").train.where(5)
    Path(broken).write_bytes(b"")

    def tested(**policy: Any) -> Batches:
        train, plain = open_data(f"folder:{root}", **policy).train, image_transform([])
        return Batches(train, plain, batch=4, seed=0, train=False, workers=workers)

    batches = tested()
    steps = batches.epoch(0)
    assert len(next(steps)) == 4
    with pytest.raises(DataError) as caught:
        next(steps)
    batches.close()
    assert str(caught.value) == f"{broken} cannot be read: the file is empty"

    skip = open_data(f"folder:{root}", on_unreadable="skip")
    assert skip.describe()["on_unreadable"] == "skip"
    batches = tested(on_unreadable="skip")
    found = list(batches.epoch(0))
    assert [(len(each), len(each.unreadable), each.total) for each in found] == [
        (4, 0, 4),
        (3, 1, 4),
        (4, 0, 4),
    ]
    assert found[1].indices.tolist() == [4, 6, 7]
    assert found[1].labels.tolist() == [skip.train[index][1] for index in (4, 6, 7)]
    list(batches.epoch(1))
    assert list(batches.unreadable) == [f"{broken} cannot be read: the file is empty"]
    batches.close()


def test_a_batch_without_any_readable_image_ends_training_but_not_a_test(
    make_folder: MakeFolder,
) -> None:
    root = make_folder(size=(16, 16))
    data = open_data(f"folder:{root}", on_unreadable="skip")
    for index in range(12):
        Path(data.train.where(index)).write_bytes(b"")
        if index < 4:
            Path(data.test.where(index)).write_bytes(b"")
    training = Batches(data.train, image_transform([]), batch=4, seed=0, train=True)
    with pytest.raises(
        DataError, match=r"none of the samples of batch 1 can be read; the first: /"
    ):
        list(training.epoch(0))
    tests = Batches(data.test, image_transform([]), batch=4, seed=0, train=False)
    assert [batch.step for batch in tests.epoch(0)] == [1, 2]
    assert len(tests.unreadable) == 4


def test_images_of_different_sizes_in_a_batch_are_named(make_folder: MakeFolder) -> None:
    data = open_data(f"folder:{make_folder()}")
    batches = Batches(data.train, image_transform([]), batch=4, seed=0, train=True)
    with pytest.raises(
        DataError, match=r"is 3 x \d+ x \d+ after the recipe's steps, but"
    ) as caught:
        list(batches.epoch(0))
    assert "random_resized_crop" in str(caught.value)


# -- options -------------------------------------------------------------------------------------


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for split, count in (("learn", 4), ("exam", 2)):
        for name in ("ant", "bee", "cow"):
            folder = tmp_path / "data" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                Image.fromarray(np.full((4, 4, 3), number, np.uint8)).save(folder / f"{number}.png")
    return tmp_path / "data"


def test_splits_of_other_names_and_a_list_of_classes(root: Path, tmp_path: Path) -> None:
    data = open_data(f"folder:{root},train=learn,test=exam")
    assert (len(data.train), len(data.test), data.class_names) == (12, 6, ("ant", "bee", "cow"))
    (tmp_path / "classes.txt").write_text("cow\nant\n")
    some = open_data(f"folder:{root},train=learn,test=exam,classes={tmp_path / 'classes.txt'}")
    assert some.class_names == ("cow", "ant")
    folders = [Path(some.train.where(number)).parent.name for number in range(8)]
    assert [("cow", "ant")[label] for label in some.train.labels.tolist()] == folders


def test_a_share_of_one_folder_is_held_out(root: Path) -> None:
    data = open_data(f"folder:{root / 'learn'},test=0.25")
    assert (len(data.train), len(data.test)) == (9, 3)
    assert data.test.labels.tolist() == [0, 1, 2]
    paths = {source.where(n) for source in (data.train, data.test) for n in range(len(source))}
    assert len(paths) == 12
    other = open_data(f"folder:{root / 'learn'},test=0.5")
    assert other.fingerprint != data.fingerprint
    assert len(open_data(f"folder:{root},train=exam,test=0.5").test) == 3


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("", "has no folder `train` or `training`; it has exam, learn (say ,train=NAME)"),
        (",train=learn", "no folder `val` or `test`"),
        (",train=laern,test=exam", "has no folder `laern`; did you mean `learn`?"),
        (",train=learn,test=exams", "has no folder `exams`; did you mean `exam`?"),
        (",train=learn,test=exam,classes=FOX", "has no class folder `fox`"),
        (",train=learn,test=exam,classes=TWICE", "must name 2 or more different classes"),
        (",layout=hwc", "`folder` has no option `layout`"),
    ],
)
def test_what_is_not_there_is_said(
    root: Path, options: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    Path("FOX").write_text("ant\nfox")
    Path("TWICE").write_text("ant\nant")
    with pytest.raises(DataError, match=re.escape(told)):
        open_data(f"folder:{root}{options}")
