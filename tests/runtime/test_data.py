"""Data sets, and what is said where one does not fit a network."""

from __future__ import annotations

import pytest
import torch
from danetc.runtime.data import DataError, check_fit, load_data
from danetc.runtime.model import Signature


def test_digits_are_the_whole_data_set_split_by_class() -> None:
    data = load_data("digits")
    assert data.shape == (1, 8, 8)
    assert len(data.train) + len(data.test) == 1797
    assert len(data.test) == 360
    for split in (data.train, data.test):
        assert split.images.dtype == torch.float32
        assert split.labels.dtype == torch.int64
        assert split.images.min() == 0
        assert split.images.max() == 1
        assert split.images.shape == (len(split), 1, 8, 8)
    # Every class has 174 to 183 images, so in proportion means 34 to 37 of each in the test set.
    counts = data.test.labels.bincount(minlength=10)
    assert counts.min() >= 34
    assert counts.max() <= 37


def test_no_image_of_the_test_set_is_trained_on() -> None:
    from sklearn.datasets import load_digits

    data = load_data("digits")
    together = torch.cat([data.train.images, data.test.images]).flatten(1)
    found = torch.from_numpy(load_digits().images).flatten(1).float() / 16
    assert torch.equal(_sorted(together), _sorted(found))


def _sorted(rows: torch.Tensor) -> torch.Tensor:
    return torch.tensor(sorted(rows.tolist()))


def test_the_split_does_not_depend_on_the_random_state() -> None:
    torch.manual_seed(1)
    first = load_data("digits")
    torch.manual_seed(2)
    second = load_data("digits")
    assert torch.equal(first.test.images, second.test.images)
    assert torch.equal(first.train.labels, second.train.labels)


def test_an_unknown_data_set_gets_a_hint() -> None:
    with pytest.raises(DataError, match=r"no data set `digit`; did you mean `digits`\?"):
        load_data("digit")


@pytest.mark.parametrize(
    ("wanted", "sequence", "classes", "message"),
    [
        ((3, 224, 224), False, 10, r"set the network's input to image\(1, 8, 8\)"),
        ((1, 8, 8), True, 10, "takes sequences of frames"),
        ((1, 8, 8), False, 1000, "set the network's classes to 10"),
    ],
)
def test_a_network_for_other_data_is_told_what_to_set(
    wanted: tuple[int, ...], sequence: bool, classes: int, message: str
) -> None:
    data = load_data("digits")
    signature = Signature(4, wanted, {"out": (classes,)}, sequence)
    with pytest.raises(DataError, match=message):
        check_fit(data, data.shape, signature, classes)
    check_fit(data, data.shape, Signature(4, (1, 8, 8), {"out": (10,)}), 10)
