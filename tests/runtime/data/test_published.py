"""Fashion-MNIST and CIFAR from files in the published layouts, against torchvision's readers."""

from __future__ import annotations

import gzip
import pickle
from pathlib import Path

import pytest
import torch
import torchvision

from danetc.runtime.data.dataset import Memory, Source
from danetc.runtime.data.registry import open_data
from danetc.runtime.system.errors import DataError
from tests.danetc.datasets import SMALL_DATA

from .conftest import Trap


def values(source: Source) -> tuple[torch.Tensor, torch.Tensor]:
    assert isinstance(source, Memory)
    return source.images, source.labels


# -- Fashion-MNIST ---------------------------------------------------------------------------------


def test_fashion_mnist_is_read_as_torchvision_reads_it(fashion: Path) -> None:
    data = open_data(f"fashion-mnist:{fashion}")
    for train, source in ((True, data.train), (False, data.test)):
        theirs = torchvision.datasets.FashionMNIST(str(fashion), train=train, download=False)
        images, labels = values(source)
        assert torch.equal(images.squeeze(1), theirs.data)
        assert torch.equal(labels, theirs.targets)
        assert data.class_names == tuple(theirs.classes)
    assert data.shape == (1, 28, 28)


def test_fashion_mnist_may_be_packed_and_may_lie_in_the_folder_itself(
    fashion: Path, tmp_path: Path
) -> None:
    packed = tmp_path / "packed"
    packed.mkdir()
    for file in (fashion / "FashionMNIST" / "raw").iterdir():
        (packed / f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
    first, second = open_data(f"fashion-mnist:{fashion}"), open_data(f"fashion-mnist:{packed}")
    assert torch.equal(values(first.train)[0], values(second.train)[0])
    assert first.fingerprint == second.fingerprint


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("t10k-images-idx3-ubyte", None, "does not hold t10k-images-idx3-ubyte"),
        ("train-images-idx3-ubyte", lambda data: data[:-5], "is not an idx file of bytes in 3"),
        ("train-images-idx3-ubyte", lambda data: b"\x01" + data[1:], "not an idx file of bytes in 3"),
        ("train-images-idx3-ubyte", lambda data: data[:6], "not an idx file"),
        ("train-labels-idx1-ubyte", lambda data: data[:-1] + b"\x0b", r"has labels up to 11, and `classes` names 10"),
        (
            "train-labels-idx1-ubyte",
            lambda data: data[:7] + b"\x1d" + data[8:-1],
            r"fashion-mnist \(train\) has 30 images and 29 labels",
        ),
    ],
)  # fmt: skip
def test_damaged_fashion_mnist_is_named(fashion: Path, file: str, change, message: str) -> None:  # type: ignore[no-untyped-def]
    path = fashion / "FashionMNIST" / "raw" / file
    if change is None:
        path.unlink()
    else:
        path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match=message):
        open_data(f"fashion-mnist:{fashion}")


# -- CIFAR -----------------------------------------------------------------------------------------


FILES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta"]


def test_a_pickle_that_is_not_the_published_one_is_never_unpickled(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name in FILES:
        (folder / name).write_bytes(pickle.dumps(Trap(trap), protocol=2))
    with pytest.raises(DataError, match=r"not the published one .*nothing was unpickled"):
        open_data(f"cifar10:{tmp_path}")
    assert not trap.exists()
    pickle.loads((folder / "test_batch").read_bytes())
    assert trap.exists(), "the trap works"


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_is_what_torchvision_gives(name: str, tmp_path: Path) -> None:
    """With the sums of these files in place of the published ones."""
    text = SMALL_DATA[name].make(tmp_path / "data")
    known = {"cifar10": torchvision.datasets.CIFAR10, "cifar100": torchvision.datasets.CIFAR100}
    theirs = known[name](str(tmp_path / "data"), train=True)
    for place in (text, f"{text}/{theirs.base_folder}"):
        data = open_data(place)
        images, labels = values(data.train)
        assert torch.equal(images.permute(0, 2, 3, 1), torch.from_numpy(theirs.data))
        assert labels.tolist() == theirs.targets
        assert data.class_names == tuple(theirs.classes)
