"""Data sets by name, the ones that need no files, and classes drawn from a set."""

from __future__ import annotations

import json

import pytest
import torch

from danetc.runtime.data.dataset import DataSet, Memory
from danetc.runtime.data.registry import open_data
from danetc.runtime.system.errors import DataError


def memory(data: DataSet) -> tuple[Memory, Memory]:
    assert isinstance(data.train, Memory)
    assert isinstance(data.test, Memory)
    return data.train, data.test


def test_digits_are_those_of_scikit_learn_in_its_split() -> None:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    data = open_data("digits")
    train, test = memory(data)
    assert (data.shape, data.classes, data.events) == ((1, 8, 8), 10, False)
    assert (len(train) + len(test), len(test)) == (1797, 360)
    assert train.images.dtype == torch.float32
    assert train.labels.dtype == torch.int64
    source = load_digits()
    images, labels = source.images.reshape(-1, 1, 8, 8) / 16, source.target
    parts = train_test_split(images, labels, test_size=0.2, random_state=0, stratify=labels)
    for ours, theirs in zip(
        (train.images, test.images, train.labels, test.labels), parts, strict=True
    ):
        assert ours.tolist() == theirs.tolist()
    # Every class has 174 to 183 images, so in proportion means 34 to 37 of each in the test set.
    counts = test.labels.bincount(minlength=10)
    assert counts.min() >= 34
    assert counts.max() <= 37


@pytest.mark.parametrize("text", ["digits", "synthetic:count=30"])
def test_what_is_made_does_not_depend_on_the_random_state(text: str) -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = open_data(text)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    second = open_data(text)
    assert first.fingerprint == second.fingerprint
    for one, two in zip(memory(first), memory(second), strict=True):
        assert torch.equal(one.images, two.images)
        assert torch.equal(one.labels, two.labels)


def test_synthetic_options_are_sizes() -> None:
    data = open_data("synthetic:classes=7,size=9,channels=1,count=21,test=14")
    train, test = memory(data)
    assert train.images.shape == (21, 1, 9, 9)
    assert test.images.shape == (14, 1, 9, 9)
    assert train.images.dtype == torch.uint8
    assert train.labels.bincount().tolist() == [3] * 7
    assert data.shape == (1, 9, 9)
    assert data.fingerprint != open_data("synthetic:classes=7,size=9,count=21").fingerprint


@pytest.mark.parametrize("more", ["", ",frames=3", ",noise=70"])
def test_synthetic_classes_can_be_learned(more: str) -> None:
    """By the plainest means: the nearest of the classes' means over the training images."""
    data = open_data("synthetic:count=200,size=8,test=100" + more)
    train, test = memory(data)
    rows, test_rows = train.images.flatten(1).float(), test.images.flatten(1).float()
    means = torch.stack([rows[train.labels == label].mean(0) for label in range(10)])
    right = torch.cdist(test_rows, means).argmin(1) == test.labels
    assert right.float().mean() > 0.9
    assert data.events == ("frames" in more)
    if data.events:
        assert data.shape == (3, 3, 8, 8)
        assert set(train.images.unique().tolist()) == {0, 1}


# -- classes drawn at random -----------------------------------------------------------------------


def test_drawn_classes_are_numbered_anew_and_recorded() -> None:
    whole = open_data("digits")
    data = open_data("digits", classes=4, subset_seed=3)
    drawn = data.subset
    assert drawn is not None
    assert data.classes == len(set(drawn)) == 4
    assert list(drawn) == sorted(drawn)
    assert data.class_names == tuple(whole.class_names[number] for number in drawn)
    for split, of in zip(memory(data), memory(whole), strict=True):
        expected = torch.isin(of.labels, torch.tensor(drawn))
        assert torch.equal(split.images, of.images[expected])
        old = torch.tensor(drawn)[split.labels]
        assert torch.equal(old, of.labels[expected])
    record = json.loads(json.dumps(data.describe()))
    assert record["subset"] == {
        "seed": 3,
        "of": 10,
        "indices": list(drawn),
        "names": list(data.class_names),
    }
    assert record["train"] == len(data.train)
    assert record["fingerprint"] != whole.fingerprint


def test_the_draw_depends_on_its_seed_alone() -> None:
    def draw(seed: int, count: int = 20) -> tuple[int, ...] | None:
        text = "synthetic:classes=100,size=2,count=100,test=100"
        return open_data(text, classes=count, subset_seed=seed).subset

    assert draw(0) == draw(0) != draw(1)
    few, many = draw(0, 5), draw(0)
    assert few is not None
    assert many is not None
    assert {*few} < {*many}


@pytest.mark.parametrize("count", [-1, 0, 1, 11])
def test_classes_that_cannot_be_drawn_are_an_error(count: int) -> None:
    with pytest.raises(DataError, match=r"cannot be drawn from the 10 of digits"):
        open_data("digits", classes=count)
