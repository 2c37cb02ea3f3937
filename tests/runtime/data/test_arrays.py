"""Arrays of one's own: which are images and which labels, their layouts, types and targets."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from danetc.runtime.data.arrays import images_of, labels_of
from danetc.runtime.data.dataset import Memory, held_out
from danetc.runtime.data.registry import open_data
from danetc.runtime.data.request import IGNORED
from danetc.runtime.system.errors import DataError

DICE = np.random.default_rng(0)


def save(path: Path, **arrays: Any) -> str:
    np.savez(path / "a.npz", **arrays)
    return str(path / "a.npz")


@pytest.mark.parametrize(
    "names",
    [
        ("x_train", "y_train", "x_test", "y_test"),
        ("train_images", "train_labels", "test_images", "test_labels"),
        ("X_train", "Y_train", "X_val", "Y_val"),
        ("trainX", "trainY", "testX", "testY"),
        ("training-data", "training-targets", "valid-data", "valid-targets"),
    ],
)
def test_arrays_are_known_by_usual_names(names: tuple[str, ...], tmp_path: Path) -> None:
    x = DICE.integers(0, 256, (10, 3, 4, 5), dtype=np.uint8)
    y = np.arange(10) % 3
    text = save(tmp_path, **dict(zip(names, (x[:6], y[:6], x[6:], y[6:]), strict=True)))
    data = open_data(text)
    assert isinstance(data.train, Memory)
    assert isinstance(data.test, Memory)
    assert np.array_equal(data.train.images, x[:6])
    assert np.array_equal(data.test.labels, y[6:])
    assert (data.shape, data.class_names, data.target) == ((3, 4, 5), ("0", "1", "2"), "classes")


def test_arrays_of_other_names_and_splits_are_chosen(tmp_path: Path) -> None:
    x, y = DICE.random((20, 4, 4)), np.arange(20) % 2
    text = save(
        tmp_path, pictures=x[:12], kinds=y[:12], x_train=x, y_train=y, x_val=x[:4], y_val=y[:4],
        x_test=x[4:9], y_test=y[4:9], class_names=np.array(["even", "odd"]),
    )  # fmt: skip
    usual = open_data(text)
    assert (len(usual.train), len(usual.test), usual.class_names) == (20, 4, ("even", "odd"))
    assert len(open_data(f"{text},test=test").test) == 5
    (tmp_path / "names").write_text("no\nyes\nmaybe\n")
    own = open_data(f"{text},train=pictures;kinds,test=val,classes={tmp_path / 'names'}")
    assert (len(own.train), own.class_names) == (12, ("no", "yes", "maybe"))
    held = open_data(f"{text},test=0.25")
    assert (len(held.train), len(held.test)) == (16, 4)  # of each class: 7.5 and so 8 of 10


def test_layouts_and_types_become_those_of_images() -> None:
    last = DICE.random((5, 8, 9, 3))
    found = images_of(last, "x")
    assert np.array_equal(found, np.moveaxis(last, -1, 1).astype(np.float32))
    assert images_of(np.zeros((5, 8, 9)), "x").shape == (5, 1, 8, 9)
    assert images_of(np.zeros((5, 7)), "x").shape == (5, 7, 1, 1)
    assert images_of(np.zeros((5, 3, 8, 3)), "x").shape == (5, 3, 8, 3)  # first, where both can
    assert images_of(np.zeros((5, 3, 8, 3)), "x", True).shape == (5, 3, 3, 8)
    frames = images_of(np.full((2, 4, 2, 8, 8), 700), "x")
    assert frames.dtype == torch.float32
    assert frames.max() == 700
    assert images_of(np.arange(256).reshape(1, 16, 16), "x").dtype == torch.uint8
    for wrong, told in (
        (np.full((1, 8, 8), 300), "whole numbers from 300 to 300"),
        (np.full((1, 8, 8), np.nan), "not finite"),
        (np.full((1, 8, 8), 1e300), "not finite, or too large for float32"),
        (np.array(["a"] * 64).reshape(1, 8, 8), "not numbers"),
        (np.zeros(4), "the shape [4]"),
        (np.zeros((0, 8, 8)), "the shape [0, 8, 8]"),
    ):
        with pytest.raises(DataError, match=re.escape(told)):
            images_of(wrong, "x")


def test_labels_say_what_is_learned() -> None:
    def target(y: Any, **asked: Any) -> tuple[str, list[int]]:
        found = labels_of(np.asarray(y), "y", **asked)
        return found.target, list(found.values.shape)

    assert target([0, 2, 1]) == ("classes", [3])
    assert target([[0], [2], [1]]) == ("classes", [3])
    assert target([0.5, 1.0]) == ("numbers", [2, 1])
    assert target([[0.5, 1.0]]) == ("numbers", [1, 2])
    assert target(np.zeros((2, 4, 4), int)) == ("pixels", [2, 4, 4])
    named = labels_of(np.array(["owl", "cat", "owl"]), "y")
    assert (named.values.tolist(), named.names) == ([1, 0, 1], ("cat", "owl"))
    mask = labels_of(np.array([[[0, 255], [1, 2]]]), "y").values
    assert mask.tolist() == [[[0, IGNORED], [1, 2]]]
    for wrong, asked, told in (
        ([-1, 2], {}, "labels from -1 to 2"),
        ([10**6], {}, "floats are for a regression"),
        ([[1, 0], [0, 1]], {}, "the shape [2, 2] and the type int64; labels are [N]"),
        (
            np.zeros((2, 4, 4)),
            {},
            "has the shape [2, 4, 4] and the type float64; labels are [N] names",
        ),
        (["fox"], {"classes": ("cat", "owl")}, "`fox`, which is not one of cat, owl"),
        ([np.inf], {}, "not finite"),
    ):
        with pytest.raises(DataError, match=re.escape(told)):
            target(wrong, **asked)


def test_a_share_is_held_out_of_each_class() -> None:
    source = Memory(torch.arange(60).reshape(60, 1, 1, 1), torch.tensor([0] * 50 + [1] * 10))
    train, test = held_out(source, 0.2)
    assert test.labels.bincount().tolist() == [10, 2]
    numbers = [
        int(image) for part in (train, test) for image, _ in (part[n] for n in range(len(part)))
    ]  # type: ignore[arg-type]
    assert sorted(numbers) == list(range(60))
    torch.manual_seed(7)
    assert torch.equal(held_out(source, 0.2)[1].images, test.images)  # type: ignore[attr-defined]
    with pytest.raises(DataError, match="leaves none to test on"):
        held_out(source, 0.001)


@pytest.mark.parametrize(
    ("arrays", "options", "told"),
    [
        (
            {"x": 1, "y": 1},
            "",
            "has no images and labels of `val` or `test` (say ,test=NAME; every epoch is tested on one",
        ),
        ({"x": 1, "y": 1}, ",test=1.5", "a share is between 0 and 1"),
        (
            {"pictures": 1, "kinds": 1},
            ",test=0.5",
            "train=IMAGES;LABELS (it holds pictures, kinds)",
        ),
        ({"x_train": 1, "y_train": 1}, ",test=x_train;y_tarin", "did you mean `y_train`?"),
        ({"x": 1, "y": 1}, ",test=0.5,classes=nowhere", "there is no file nowhere"),
    ],
)
def test_what_is_not_said_is_asked_for(
    arrays: dict[str, int], options: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = save(tmp_path, **{name: np.zeros((4, 2)) for name in arrays})
    with pytest.raises(DataError, match=re.escape(told)):
        open_data(text + options)


X, Y = np.zeros((4, 2, 2), np.uint8), [0, 1, 0, 1]
SHAPES = {"[0]": [], "[]": 1, "[4, 0]": np.zeros((4, 0)), "[0, 3, 3]": np.zeros((0, 3, 3))}
NO_TEXT = np.full(4, 0x110000, np.uint32).view("<U1"), np.array([b"\xff"] * 4)


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"x_train": np.array([{}], dtype=object)}, "Python objects, not numbers"),
        ({"x_train": np.zeros((3, 4, 4)), "y_train": [0, 1]}, "has 3 images and 2 labels"),
        *(
            ({"y_train": labels}, rf"the label array of a.npz \(train\) has the shape {re.escape(shape)} and")
            for shape, labels in SHAPES.items()
        ),
        *(({"y_train": names}, "label array of .* holds names that are not text") for names in NO_TEXT),
        *(({"class_names": names}, "`class_names` of .* holds names that are not") for names in NO_TEXT),
    ],
)  # fmt: skip
def test_wrong_arrays_are_named(arrays: dict[str, Any], told: str, tmp_path: Path) -> None:
    usual = {"x_train": X, "y_train": Y, "x_test": X, "y_test": Y}
    with pytest.raises(DataError, match=told):
        open_data(save(tmp_path, **{**usual, **arrays}))


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<i8', 'fortran_order': False, 'shape': (4",
        "{'descr': '<i8', 'fortran_order': False, 'shape': (800000000000000,)}",
        "{'descr': '<i8', 'fortran_order': False, 'shape': (9999999999999999999999,)}",
        "{'descr': '<i8', 'fortran_order': False, 'shape': (-4,)}",
        "{b'descr': '<i8', 'fortran_order': False, 'shape': (4,)}",
        None,
    ],
)
def test_a_damaged_array_is_named(header: str | None, tmp_path: Path) -> None:
    text = save(tmp_path, x_train=X, x_test=X, y_test=Y)
    path = text.removeprefix("npz:")
    member = b"no array"
    if header is not None:
        member = b"\x93NUMPY\1\0" + len(header).to_bytes(2, "little") + header.encode() + bytes(32)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("y_train.npy", member)
    with pytest.raises(DataError, match=re.escape(f"`y_train` of {path} cannot be read: ")):
        open_data(text)


@pytest.mark.parametrize("front", [False, True])
def test_what_is_no_file_of_savez(tmp_path: Path, front: bool) -> None:
    """A text, and an npy file in front of an archive."""
    path = Path(save(tmp_path, x_train=X, y_train=Y, x_test=X, y_test=Y))
    np.save(tmp_path / "front.npy", X)
    data = (tmp_path / "front.npy").read_bytes() + path.read_bytes()
    path.write_bytes(data if front else b"no archive")
    with pytest.raises(DataError, match=r"a.npz cannot be read: it is not a file of numpy.savez"):
        open_data(str(path))
