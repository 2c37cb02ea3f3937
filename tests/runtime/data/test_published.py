"""Data sets by name: published, generated and drawn ones, their errors, and held-out shares."""

import gzip
import json
import pickle
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from torchvision.datasets.folder import IMG_EXTENSIONS

from danetc.runtime.data.dataset import DataSet, Memory, Source
from danetc.runtime.data.registry import open_data
from danetc.runtime.data.request import EXTENSIONS, has_validation
from danetc.runtime.data.sources import SOURCES, look_at
from danetc.runtime.data.sources.python import in_memory
from danetc.runtime.system.errors import DataError
from tests.danetc.datasets import SMALL_DATA, make_folder

from .conftest import Trap, refused


def memory(data: DataSet) -> tuple[Memory, Memory]:
    assert isinstance(data.train, Memory)
    assert isinstance(data.test, Memory)
    return data.train, data.test


# -- Fashion-MNIST ---------------------------------------------------------------------------------


def test_fashion_mnist_is_read_as_torchvision_reads_it(tmp_path: Path) -> None:
    text = SMALL_DATA["fashion-mnist"].make(tmp_path)
    data = open_data(text)
    for train, source in zip((True, False), memory(data), strict=True):
        theirs = torchvision.datasets.FashionMNIST(str(tmp_path), train=train, download=False)
        assert torch.equal(source.images.squeeze(1), theirs.data)
        assert torch.equal(source.labels, theirs.targets)
        assert data.class_names == tuple(theirs.classes)
    assert data.shape == (1, 28, 28)
    # Files may be compressed, and may be in the folder itself.
    (tmp_path / "packed").mkdir()
    for file in (tmp_path / "FashionMNIST" / "raw").iterdir():
        (tmp_path / "packed" / f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
    packed = open_data(f"{text}/packed")
    assert torch.equal(memory(packed)[0].images, memory(data)[0].images)
    assert packed.fingerprint == data.fingerprint


def test_damaged_fashion_mnist_is_named(tmp_path: Path) -> None:
    text = SMALL_DATA["fashion-mnist"].make(tmp_path)
    raw = tmp_path / "FashionMNIST" / "raw"
    changes: Any = (
        ("train-images-idx3", lambda data: data[:-5], "is not an idx file of bytes in 3"),
        ("train-images-idx3", lambda data: b"\x01" + data[1:], "not an idx file of bytes in 3"),
        ("train-images-idx3", lambda data: data[:6], "not an idx file"),
        ("train-labels-idx1", lambda data: data[:-1] + b"\x0b", "up to 11, and `classes` names 10"),
        (
            "train-labels-idx1",
            lambda data: data[:7] + b"\x27" + data[8:-1],
            "fashion-mnist (train) has 40 images and 39 labels",
        ),
    )
    for name, change, told in changes:
        path = raw / f"{name}-ubyte"
        whole = path.read_bytes()
        path.write_bytes(change(whole))
        refused(told, text)
        path.write_bytes(whole)
    (raw / "t10k-images-idx3-ubyte").unlink()
    refused("does not hold t10k-images-idx3-ubyte", text)


# -- CIFAR -----------------------------------------------------------------------------------------


def test_a_pickle_that_is_not_the_published_one_is_never_unpickled(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch", "batches.meta"):
        (folder / name).write_bytes(pickle.dumps(Trap(trap), protocol=2))
    with pytest.raises(DataError, match=r"not the published one .*nothing was unpickled"):
        open_data(f"cifar10:{tmp_path}")
    assert not trap.exists()
    pickle.loads((folder / "test_batch").read_bytes())
    assert trap.exists(), "the trap works"


@pytest.mark.parametrize("kind", [torchvision.datasets.CIFAR10, torchvision.datasets.CIFAR100])
def test_cifar_is_what_torchvision_gives(kind: Any, tmp_path: Path) -> None:
    """The checksums of the test's files replace the published ones."""
    text = SMALL_DATA[kind.__name__.lower()].make(tmp_path / "data")
    theirs = kind(str(tmp_path / "data"), train=True)
    for place in (text, f"{text}/{theirs.base_folder}"):
        data = open_data(place)
        train, _ = memory(data)
        assert torch.equal(train.images.permute(0, 2, 3, 1), torch.from_numpy(theirs.data))
        assert train.labels.tolist() == theirs.targets
        assert data.class_names == tuple(theirs.classes)


# -- data sets that need no files ------------------------------------------------------------------


def test_digits_are_those_of_scikit_learn_in_its_split() -> None:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    data = open_data("digits")
    train, test = memory(data)
    assert (data.shape, data.classes, data.events) == ((1, 8, 8), 10, False)
    assert train.images.dtype == torch.float32
    assert train.labels.dtype == torch.int64
    source = load_digits()
    images, labels = source.images.reshape(-1, 1, 8, 8) / 16, source.target
    parts = train_test_split(images, labels, test_size=0.2, random_state=0, stratify=labels)
    ours = train.images, test.images, train.labels, test.labels
    assert all(a.tolist() == b.tolist() for a, b in zip(ours, parts, strict=True))


def test_what_is_made_does_not_depend_on_the_random_state() -> None:
    for text in ("digits", "synthetic:count=30"):
        torch.manual_seed(1)
        state = torch.get_rng_state()
        first = open_data(text)
        assert torch.equal(torch.get_rng_state(), state)
        torch.manual_seed(2)
        second = open_data(text)
        assert first.fingerprint == second.fingerprint
        assert samples(first.train) == samples(second.train)
        assert samples(first.test) == samples(second.test)


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
    named = {"indices": list(drawn), "names": list(data.class_names)}
    assert record["subset"] == {"seed": 3, "of": 10, **named}
    assert record["train"] == len(data.train)
    assert record["fingerprint"] != whole.fingerprint
    for count in (-1, 0, 1, 11):
        refused("cannot be drawn from the 10 of digits", "digits", classes=count)


def test_the_draw_depends_on_its_seed_alone() -> None:
    def draw(seed: int, count: int = 20) -> tuple[int, ...] | None:
        text = "synthetic:classes=100,size=2,count=100,test=100"
        return open_data(text, classes=count, subset_seed=seed).subset

    assert draw(0) == draw(0) != draw(1)
    assert {*(draw(0, 5) or ())} < {*(draw(0) or ())}


# -- validation samples: a share of the training samples ----------------------------------------------


def samples(source: Source) -> Counter[tuple[int, object]]:
    """Return every sample as its label and its bytes, or its number if the source is not in memory."""
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


def test_numbers_and_maps_are_not_stratified() -> None:
    images, count = np.random.default_rng(0).random((40, 4, 4)), np.arange(40)
    for labels, target in (
        (count[:, None].astype(np.float32) * [1, 2], "numbers"),
        (count[:, None, None] + np.zeros((40, 4, 4), int), "pixels"),
    ):
        given = {"train": (images, labels), "test": (images[:9], labels[:9])}
        whole, (data, val) = open_data(in_memory(given)), parts(in_memory({**given, "val": 0.1}))
        assert (data.target, len(data.train), len(val)) == (target, 36, 4)
        assert samples(data.train) + samples(val) == samples(whole.train)
        assert data.details["validation"] == {"share": 0.1, "of": "all samples"}


@pytest.mark.thorough
def test_the_split_is_the_same_in_every_process() -> None:
    torch.manual_seed(11)
    code = "from danetc.runtime.data.registry import open_data as o; print(o('digits,val=0.2').fingerprint)"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == open_data("digits,val=0.2").fingerprint


def test_drawn_classes_and_colours_keep_the_split() -> None:
    data, whole = parts("digits,val=0.2")
    for text in ("digits:val=0.2", "digits, val = 0.2"):
        assert open_data(text).fingerprint == data.fingerprint
    few = open_data("digits,val=0.2", classes=4, channels=3)
    assert few.subset is not None
    assert isinstance(few.val, Memory)
    for number, old in enumerate(few.subset):
        one, other = few.val.images[few.val.labels == number], whole.images[whole.labels == old]  # type: ignore[union-attr]
        assert torch.equal(one, other.expand(-1, 3, -1, -1))
    told = "of each class leaves none of the 142 training samples of class `0` to validate on;"
    told = f"digits: val=0.003 {told} choose another share, or add samples"
    refused(told, "digits,val=0.003")
    refused("of class `0` to train on; choose another share", "digits,val=0.999")
    told = r"digits has no validation samples; ,val=0\.1 holds some out"
    with pytest.raises(DataError, match=told):
        open_data("digits").split("val")


# -- errors before data are opened ---------------------------------------------------------------------


@pytest.mark.parametrize("name", SOURCES)
def test_a_look_sees_what_is_there_and_what_is_not(name: str, tmp_path: Path) -> None:
    text = SMALL_DATA[name].make(tmp_path / "data")
    look_at(text)
    if str(tmp_path) not in text:
        return
    assert open_data(text, frames=3).text == text
    if name in ("npz", "python"):
        place = text.partition(":")[2]
        look_at(place)  # its suffix or its form tells the source
        assert open_data(place).text == text
    if name in ("npz", "python", "huggingface", "tonic"):
        return  # a single file, or a library that reports what is missing
    for place in (tmp_path / "daat", tmp_path / "data" / "missing"):
        with pytest.raises(DataError, match=re.escape(str(place))):
            look_at(f"{name}:{place}")
    for path in sorted((tmp_path / "data").rglob("*"), reverse=True):
        if path.is_file():
            path.rename(path.with_suffix(".old"))
    with pytest.raises(DataError):
        look_at(text)
    shutil.rmtree(tmp_path / "data")
    (tmp_path / "data").mkdir()
    with pytest.raises(DataError, match=r"is empty|holds no shards"):
        look_at(text)


SHARE = "the option `val` of `digits` is {}; a share is between 0 and 1, as in"
NO_DATA = (
    ("digits.npz", "there is no data set `digits.npz`; did you mean `digits`?"),
    ("csv:t.csv,a=b", "no data set `csv:t.csv,a=b`; tables are not read: save their columns"),
    ("a/table.csv", "no data set `a/table.csv`; tables are not read"),
    ("masks:x", "no data set `masks:x`; folders of masks are not read: write a Dataset, "),
    ("", "there is no data set ``. Data sets are digits, fashion-mnist:DIR"),
    (":x", "there is no data set `:x`. Data sets are digits, fashion-mnist:DIR"),
    ("folder:b", "b is not a folder; folder:DIR takes one that holds train/CLASS/"),
    ("cifar10:x", "there is no folder x; cifar10:DIR takes one that holds cifar-10-batches-py/"),
    ("webdataset:{train,val}.tar", "there is no folder {train,val}.tar; webdataset:DIR takes"),
    ("npz:nowhere", "there is no file nowhere"),
    ("python:nowhere.py:make", "there is no file `nowhere"),
    ("npz:b,tset=0.2", "has no option `tset`; did you mean `test`"),
    ("python:b.py:make,tset=0.2", "has no option `tset`; did you mean `test`"),
    ("digit", "there is no data set `digit`; did you mean `digits`?"),
    ("fashionmnist:x", "did you mean `fashion-mnist`?"),
    ("zzz", "there is no data set `zzz`. Data sets are digits, fashion-mnist:DIR, cifar10:DIR"),
    ("digits:x", "`digits` takes no argument"),
    ("folder:a,test=", "the option `test` of `folder` is empty; write test=VALUE"),
    ("folder:a,test=a,test=b", "`folder` has the option `test` twice; leave one out"),
    ("folder:a,classes=b", "b must name 2 or more different classes"),
    ("folder:a,classes=a", "a is not a file; classes:FILE takes one"),
    ("events:a", "a/val/cat holds no recordings (.npz, .npy)"),
    ("synthetic:sise=3", "no option `sise`; did you mean `size`?"),
    ("synthetic:size=0", "`0`; it must be a whole number from 1"),
    ("synthetic:size=big", "`big`; it must be a whole number from 1"),
    ("synthetic:count", "must be a whole number from 2"),
    ("synthetic:count=10000000,size=500", "GiB do not fit the limit of 8 GiB"),
    ("folder", "`folder` needs a folder: folder:DIR"),
    ("fashion-mnist", "`fashion-mnist` needs a folder"),
    ("cifar100:", "`cifar100` needs a folder"),
    ("events", "`events` needs a folder"),
    ("webdataset", "`webdataset` needs a folder: webdataset:DIR"),
    *((f"digits,val={x}", SHARE.format(x)) for x in ("0", "1", "-0.1", "nan", "inf", "some")),
    ("digits,val=2", "is 2; a share is between 0 and 1, as in val=0.1"),
    ("synthetic:val=2,count=64", "the option `val` of `synthetic` is 2; a share"),
    ("digits,val=", "the option `val` of `digits` is empty; a share"),
    ("digits,val=1,val=2", "the option `val` of `digits` is 1 and 2; a share is between"),
    ("digits,vale=0.1", "`digits` takes no argument but ,val=SHARE, and got `,vale=0.1`"),
    ("nothing\x1b[2J", "there is no data set `nothing\\x1b[2J`"),
)


def test_what_names_no_data_is_told_what_it_may_mean(here: Path) -> None:
    make_folder(here / "a")
    (here / "b").write_text("")
    for text, told in NO_DATA:
        refused(told, text)
        with pytest.raises(DataError, match=re.escape(told)):
            look_at(text)


def test_names_that_no_file_can_have() -> None:
    for name in ("folder:", "events:", "cifar10:", "webdataset:", ""):
        for place in ("x" * 5000, "a/b\0c"):
            with pytest.raises(DataError) as caught:
                look_at(name + place)
            assert len(str(caught.value)) < 11000


def test_a_folder_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: Path) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "iterdir", refused)
    with pytest.raises(DataError, match="Permission denied"):
        look_at(f"folder:{tmp_path}")


def test_images_end_as_torchvision_has_them() -> None:
    assert set(EXTENSIONS["images"]) == set(IMG_EXTENSIONS)
