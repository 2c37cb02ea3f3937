"""Fashion-MNIST and CIFAR from files in the published layouts, against torchvision's readers."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision

from danetc.runtime.data import DataError, Memory, Source, open_data

from .conftest import Trap, pixels, write_idx


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
    for prefix, count in (("train", 30), ("t10k", 10)):
        write_idx(packed / f"{prefix}-images-idx3-ubyte.gz", pixels(count, count, 28, 28))
        labels = np.arange(count, dtype=np.uint8) % 10
        write_idx(packed / f"{prefix}-labels-idx1-ubyte.gz", labels)
    first, second = open_data(f"fashion-mnist:{fashion}"), open_data(f"fashion-mnist:{packed}")
    assert torch.equal(values(first.train)[0], values(second.train)[0])
    assert first.fingerprint == second.fingerprint


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("t10k-images-idx3-ubyte", None, "does not hold t10k-images-idx3-ubyte"),
        ("train-images-idx3-ubyte", lambda data: data[:-5], "should hold 23520 values and holds 23515"),
        ("train-images-idx3-ubyte", lambda data: b"\x01" + data[1:], "not an idx file of bytes in 3"),
        ("train-images-idx3-ubyte", lambda data: b"", "not an idx file"),
        ("train-labels-idx1-ubyte", lambda data: data[:-1] + b"\x0b", "has the label 11, but there are 10"),
        (
            "train-labels-idx1-ubyte",
            lambda data: data[:7] + b"\x1d" + data[8:-1],
            "has 30 images, but .* has 29 labels",
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


def test_a_packed_file_that_is_cut_short_is_named(fashion: Path) -> None:
    path = fashion / "FashionMNIST" / "raw" / "train-images-idx3-ubyte"
    values = pixels(30, 30, 28, 28)
    path.unlink()
    packed = path.with_name(f"{path.name}.gz")
    write_idx(packed, values)
    packed.write_bytes(packed.read_bytes()[:-40])
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte.gz cannot be read"):
        open_data(f"fashion-mnist:{fashion}")


# -- CIFAR -----------------------------------------------------------------------------------------


@pytest.fixture
def cifar10(tmp_path: Path) -> Path:
    """The binary version, 6 images a file."""
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for number, name in enumerate([*(f"data_batch_{each}" for each in range(1, 6)), "test_batch"]):
        rows = pixels(number, 6, 3073)
        rows[:, 0] = (np.arange(6) + number) % 10
        (folder / f"{name}.bin").write_bytes(rows.tobytes())
    names = torchvision_names("cifar10")
    (folder / "batches.meta.txt").write_text("\n".join(names) + "\n\n")
    return tmp_path


def torchvision_names(kind: str) -> list[str]:
    count = {"cifar10": 10, "cifar100": 100}[kind]
    return [f"{kind}_{number}" for number in range(count)]


def test_cifar10s_binary_version(cifar10: Path) -> None:
    data = open_data(f"cifar10:{cifar10}")
    images, labels = values(data.train)
    assert images.shape == (30, 3, 32, 32)
    raw = np.frombuffer(
        (cifar10 / "cifar-10-batches-bin" / "data_batch_2.bin").read_bytes(), dtype=np.uint8
    ).reshape(6, 3073)
    assert torch.equal(labels[6:12], torch.from_numpy(raw[:, 0].astype(np.int64)))
    # A record's pixels are a plane of red, then green, then blue, each row by row.
    assert images[7, 1, 2, 3] == raw[1, 1 + 1024 + 2 * 32 + 3]
    assert len(data.test) == 6
    assert data.class_names == tuple(torchvision_names("cifar10"))
    inside = open_data(f"cifar10:{cifar10 / 'cifar-10-batches-bin'}")
    assert inside.fingerprint == data.fingerprint


def test_cifar100_takes_the_fine_label(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-100-binary"
    folder.mkdir()
    for name, count in (("train", 200), ("test", 100)):
        rows = pixels(count, count, 3074)
        rows[:, 0], rows[:, 1] = 7, np.arange(count) % 100
        (folder / f"{name}.bin").write_bytes(rows.tobytes())
    (folder / "fine_label_names.txt").write_text("\n".join(torchvision_names("cifar100")))
    data = open_data(f"cifar100:{tmp_path}", classes=20)
    assert data.classes == 20
    assert data.train[3][0].shape == (3, 32, 32)
    assert values(open_data(f"cifar100:{tmp_path}").train)[1].tolist() == [*range(100)] * 2


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("test_batch.bin", lambda data: data[:-1], "is not a whole number of images of 3073"),
        ("test_batch.bin", lambda data: b"", "has 0 bytes"),
        (
            "test_batch.bin",
            lambda data: b"\x0a" + data[1:],
            "has the label 10, but CIFAR-10 has 10",
        ),
        ("data_batch_5.bin", None, "data_batch_5.bin cannot be read: No such file"),
        ("batches.meta.txt", lambda data: data[:20], "names 2 classes, but CIFAR-10 has 10"),
    ],
)
def test_a_damaged_binary_version_is_named(cifar10: Path, file: str, change, message: str) -> None:  # type: ignore[no-untyped-def]
    path = cifar10 / "cifar-10-batches-bin" / file
    if change is None:
        path.unlink()
    else:
        path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match=message):
        open_data(f"cifar10:{cifar10}")


def python_version(root: Path, entry: object, files: list[str]) -> None:
    folder = root / "cifar-10-batches-py"
    folder.mkdir()
    for name in files:
        (folder / name).write_bytes(pickle.dumps(entry, protocol=2))


FILES = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta"]


def test_a_pickle_that_is_not_the_published_one_is_never_unpickled(tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    python_version(tmp_path, Trap(trap), FILES)
    with pytest.raises(DataError, match=r"not the published one .*nothing was unpickled"):
        open_data(f"cifar10:{tmp_path}")
    assert not trap.exists()
    pickle.loads((tmp_path / "cifar-10-batches-py" / "test_batch").read_bytes())
    assert trap.exists(), "the trap works"


def test_the_python_version_gives_what_torchvision_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the sums of these files in place of the published ones."""
    names = torchvision_names("cifar10")
    entry = {
        "data": pixels(1, 6, 3072),
        "labels": [0, 3, 9, 1, 2, 5],
        "label_names": names,
    }
    python_version(tmp_path, entry, FILES)
    known = torchvision.datasets.CIFAR10
    for attribute in ("train_list", "test_list"):
        sums = [
            [name, hashlib.md5((tmp_path / known.base_folder / name).read_bytes()).hexdigest()]
            for name, _ in getattr(known, attribute)
        ]
        monkeypatch.setattr(known, attribute, sums)
    meta = hashlib.md5((tmp_path / known.base_folder / "batches.meta").read_bytes()).hexdigest()
    monkeypatch.setattr(known, "meta", {**known.meta, "md5": meta})
    for place in (tmp_path, tmp_path / known.base_folder):
        data = open_data(f"cifar10:{place}")
        theirs = known(str(tmp_path), train=True)
        images, labels = values(data.train)
        assert torch.equal(images.permute(0, 2, 3, 1), torch.from_numpy(theirs.data))
        assert labels.tolist() == theirs.targets
        assert data.class_names == tuple(names)
        assert len(data.test) == 6


def test_an_archive_that_is_still_packed_gets_a_hint(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"")
    with pytest.raises(DataError, match=r"unpack cifar-10-python.tar.gz there"):
        open_data(f"cifar10:{tmp_path}")
