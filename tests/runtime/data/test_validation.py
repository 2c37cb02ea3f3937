"""Validation samples: a share of those for training, for every source of data."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from danetc.runtime.data.dataset import DataSet, Memory, Source
from danetc.runtime.data.registry import open_data
from danetc.runtime.data.request import has_validation
from danetc.runtime.data.sources import SOURCES
from danetc.runtime.system.errors import DataError
from tests.danetc.datasets import SMALL_DATA


def samples(source: Source) -> Counter[tuple[int, object]]:
    """Return every sample as its label and its bytes, or its number if it is read when it is used."""
    memory = isinstance(source, Memory)
    pairs = ((source.labels[n], source[n][0].numpy().tobytes() if memory else source.number(n))
             for n in range(len(source)))  # fmt: skip
    return Counter((int(label.flatten()[0] * 1000), sample) for label, sample in pairs)


def parts(text: str) -> tuple[DataSet, Source]:
    data = open_data(text, frames=3)
    assert data.val is not None
    return data, data.val


@pytest.mark.parametrize("name", [name for name in SOURCES if name != "cifar100"])
def test_every_source_holds_out_a_share_of_each_class(tmp_path: Path, name: str) -> None:
    """Together with the rest it is the training set, and the test set stays."""
    text = SMALL_DATA[name].make(tmp_path / "data")
    whole, (data, val) = open_data(text, frames=3), parts(f"{text},val=0.4")
    assert (has_validation(text), has_validation(data.text)) == (False, True)
    assert open_data(data.text, frames=3).fingerprint == data.fingerprint != whole.fingerprint
    assert samples(data.train) + samples(val) == samples(whole.train)
    assert samples(data.test) == samples(whole.test)
    counts = Counter(whole.train.labels.tolist())
    assert Counter(val.labels.tolist()) == {n: round(0.4 * count) for n, count in counts.items()}
    record = data.describe()
    assert (record["train"], record["val"]) == (len(data.train), len(val))
    assert record["validation"] == {"share": 0.4, "of": "each class"}
    assert "val" not in whole.describe()


def test_a_share_to_test_on_is_held_out_first(tmp_path: Path) -> None:
    text = f"{SMALL_DATA['folder'].make(tmp_path / 'data')},test=0.25"
    whole, (data, val) = open_data(text), parts(f"{text},val=0.3")
    assert samples(data.test) == samples(whole.test)
    assert samples(data.train) + samples(val) == samples(whole.train)
    assert (len(data.train), len(val), len(data.test)) == (18, 9, 9)  # 12 of each of three classes


@pytest.mark.parametrize(
    ("labels", "target"),
    [
        (np.arange(40, dtype=np.float32)[:, None] * [1, 2], "numbers"),
        (np.arange(40)[:, None, None] + np.zeros((40, 4, 4), int), "pixels"),
    ],
)
def test_numbers_and_maps_are_not_stratified(
    tmp_path: Path, labels: np.ndarray, target: str
) -> None:
    images = np.random.default_rng(0).random((40, 4, 4))
    arrays = {"x_train": images, "y_train": labels, "x_test": images[:9], "y_test": labels[:9]}
    np.savez(tmp_path / "a.npz", **arrays)  # type: ignore[arg-type]
    whole, (data, val) = open_data(f"{tmp_path}/a.npz"), parts(f"{tmp_path}/a.npz,val=0.1")
    assert (data.target, len(data.train), len(val)) == (target, 36, 4)
    assert samples(data.train) + samples(val) == samples(whole.train)
    assert data.details["validation"] == {"share": 0.1, "of": "all samples"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        *((f"digits,val={share}", f"the option `val` of `digits` is {share}; a share is between 0 and 1, "
           "as in val=0.1") for share in ("0", "1", "-0.1", "nan", "inf", "some")),
        ("synthetic:val=2,count=64", "the option `val` of `synthetic` is 2; a share"),
        ("digits,val=", "the option `val` of `digits` is empty; a share"),
        ("digits,val=0.1,val=0.2", "the option `val` of `digits` is 0.1 and 0.2; a share is between"),
        ("digits,vale=0.1", "`digits` takes no argument but ,val=SHARE, and got `,vale=0.1`"),
        ("digits,val=0.003", "digits: val=0.003 of each class leaves none of the 142 training samples of "
         "class `0` to validate on; choose another share, or add samples"),
        ("digits,val=0.999", "of class `0` to train on; choose another share"),
    ],
)  # fmt: skip
def test_what_is_no_share(text: str, said: str) -> None:
    with pytest.raises(DataError, match=re.escape(said)):
        open_data(text)


@pytest.mark.parametrize("text", ["digits:val=0.2", "digits, val = 0.2"])
def test_spellings_that_mean_the_same(text: str) -> None:
    assert open_data(text).fingerprint == open_data("digits,val=0.2").fingerprint


@pytest.mark.thorough
def test_the_split_is_the_same_in_every_process() -> None:
    """It does not depend on global random states, nor on the hashes of a process."""
    torch.manual_seed(11)
    code = "from danetc.runtime.data.registry import open_data as o; print(o('digits,val=0.2').fingerprint)"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == open_data("digits,val=0.2").fingerprint


def test_drawn_classes_and_colours_keep_the_split() -> None:
    """The validation samples of a class are the same among fewer classes."""
    _, whole = parts("digits,val=0.2")
    few = open_data("digits,val=0.2", classes=4, channels=3)
    assert few.subset is not None
    assert isinstance(few.val, Memory)
    for number, old in enumerate(few.subset):
        one, other = few.val.images[few.val.labels == number], whole.images[whole.labels == old]  # type: ignore[union-attr]
        assert torch.equal(one, other.expand(-1, 3, -1, -1))
    with pytest.raises(
        DataError, match=r"digits has no validation samples; ,val=0\.1 holds some out"
    ):
        open_data("digits").split("val")
