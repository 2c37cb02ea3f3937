"""``masks:DIR``: images with the classes of their pixels, in folders side by side."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from danetc.runtime.data import DataError, DataSet, UnreadableError, open_data
from danetc.runtime.sources.target import IGNORED
from tests.danetc.datasets import SMALL_DATA

DICE = np.random.default_rng(0)


def pair(images: Path, masks: Path, name: str, values: np.ndarray, mode: str = "L") -> None:
    for folder in (images, masks):
        folder.mkdir(parents=True, exist_ok=True)
    colours = DICE.integers(0, 255, (*values.shape, 3), dtype=np.uint8)
    Image.fromarray(colours).save(images / f"{name}.png")
    mask = Image.fromarray(values.astype(np.uint8))
    if mode == "P":
        mask.putpalette([each for value in range(256) for each in (255 - value, value, 7)])
    mask.save(masks / f"{name}.png")


def seen(data: DataSet) -> list[list[list[int]]]:
    return [data.train[index][1].tolist() for index in range(len(data.train))]  # type: ignore[union-attr]


VALUES = [np.array([[0, 1, 2], [2, 255, 0]]), np.array([[2, 2, 1], [0, 1, 1]])]
CLASSES = [np.where(each == 255, IGNORED, each).tolist() for each in VALUES]


@pytest.mark.parametrize("mode", ["L", "P"])
@pytest.mark.parametrize("layout", ["{split}/{kind}", "{kind}/{split}"])
def test_images_and_masks_of_one_name_are_a_sample(tmp_path: Path, layout: str, mode: str) -> None:
    """Grey masks and those with a palette, whose numbers are the classes."""
    for split in ("train", "val"):
        folders = (tmp_path / layout.format(split=split, kind=kind) for kind in ("images", "masks"))
        images, masks = folders
        for number, values in enumerate(VALUES):
            pair(images, masks, f"{split}{number}", values, mode)
    data = open_data(f"masks:{tmp_path}")
    assert (data.target, data.classes, len(data.train), len(data.test)) == ("pixels", 3, 2, 2)
    assert seen(data) == CLASSES
    place = tmp_path / layout.format(split="train", kind="images") / "train1.png"
    assert torch.equal(
        data.train[1][0].permute(1, 2, 0), torch.from_numpy(np.array(Image.open(place)))
    )
    assert data.train.where(1) == str(place)


def test_other_names_values_and_shares(tmp_path: Path) -> None:
    for number in range(10):
        values = np.where(VALUES[number % 2] == 1, 200, 50)
        pair(tmp_path / "photos", tmp_path / "truth", str(number), values)
        Path(tmp_path, "truth", f"{number}.png").rename(tmp_path / "truth" / f"{number}_mask.png")
    text = f"masks:{tmp_path},image=photos,label=truth,test=0.3"
    data = open_data(f"{text},values=50;200,classes=wall;door")
    assert (data.class_names, len(data.train), len(data.test)) == (("wall", "door"), 7, 3)
    wanted = [np.where(each == 1, 1, 0).tolist() for each in VALUES]
    places = [int(Path(data.train.where(index)).stem) for index in range(7)]
    assert seen(data) == [wanted[number % 2] for number in places]
    only = open_data(f"{text},values=200;7")
    assert sorted({each for mask in seen(only) for row in mask for each in row}) == [IGNORED, 0]
    assert len({data.fingerprint, only.fingerprint, open_data(text).fingerprint}) == 3


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("", "hold 0 and 255 alone, and 255 is a pixel of no class; say which value each class has"),
        (",classes=a;b", "hold 0 and 255 alone"),
        (",values=0;x", "the option `values` is `0;x`"),
        (",values=0", "needs two values or more"),
        (",values=0;255,classes=a;b;c", "`classes` names 3 classes, and `values` has 2"),
        (",train=trian", "of the split `trian`; did you mean `train`?"),
        (",labels=masks", "has no option `labels`; did you mean `label`?"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said(tmp_path: Path, options: str, told: str) -> None:
    for split in ("train", "val"):
        pair(tmp_path / split / "images", tmp_path / split / "masks", "a", np.eye(3) * 255)
    with pytest.raises(DataError, match=re.escape(told)):
        open_data(f"masks:{tmp_path}{options}")


def test_files_that_do_not_go_together(tmp_path: Path) -> None:
    root = Path(SMALL_DATA["masks"].make(tmp_path / "data").partition(":")[2])
    with pytest.raises(DataError, match=re.escape("which are no classes; for images with maps of")):
        open_data(f"folder:{root}")
    masks = root / "train" / "masks"
    Image.fromarray(np.zeros((3, 3), np.uint8)).save(masks / "3.png")
    (masks / "5.png").write_text("no image")
    Image.fromarray(np.zeros((12, 13, 3), np.uint8)).save(masks / "0.png")
    Image.fromarray(np.zeros((3, 3), np.uint8)).save(masks / "unused.png")
    with pytest.raises(UnreadableError, match="is in colour"):
        open_data(f"masks:{root}")
    data = open_data(f"masks:{root}", on_unreadable="skip")
    assert data.classes == 3
    assert data.notices == (f"1 masks in {masks} have no image and are not used",)
    for index, told in (
        (0, "is in colour"),
        (3, "is 3 x 3, but its image is 15 x 16"),
        (5, "5.png cannot be read: it is no image"),
    ):
        place = next(n for n in range(20) if Path(data.train.where(n)).stem == str(index))
        with pytest.raises(UnreadableError, match=told):
            data.train[place]
    (masks / "7.png").unlink()
    with pytest.raises(DataError, match=r"7.png has no mask .*7.png \(1 of 20 images have none\)"):
        open_data(f"masks:{root}")
