"""Published images in arrays: ``digits``, ``fashion-mnist:DIR``, ``cifar10:DIR`` and ``cifar100:DIR``."""

from __future__ import annotations

import gzip
from importlib.resources import files
from pathlib import Path
from typing import Any

from danetc.runtime.data.request import DataRequest, DataSource, existing, reported
from danetc.runtime.system.errors import DataError

# -- digits: the test set of the UCI ML hand-written digits ----------------------------------------

TRAINING = 1437
"""Number of training images: 80 % of each class."""


def _look_at_digits(request: DataRequest) -> None:
    if request.place:
        raise DataError(f"`digits` takes no argument but ,val=SHARE, and got `{request.place}`")


def splits() -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Return images [N, 1, 8, 8], from 0 to 1, and labels [N], to train and to test on."""
    import numpy as np

    home = files("danetc.runtime.data")
    with home.joinpath("digits.npz").open("rb") as file, np.load(file) as found:
        images, labels = found["images"][:, None].astype(np.float32) / 16, found["labels"]
    return (images[:TRAINING], labels[:TRAINING]), (images[TRAINING:], labels[TRAINING:])


def _open_digits(request: DataRequest, found: None) -> Any:
    from danetc.runtime.data.own import own_set

    return own_set(request, dict(zip(("train", "test"), splits(), strict=True)), request.name)


DIGITS = DataSource(
    "digits", "1,797 handwritten digits of 8x8 pixels, built in", _look_at_digits, _open_digits
)

# -- Fashion-MNIST, which Debian's dataset-fashion-mnist has in /usr/share/datasets/fashion-mnist ----

_KINDS = ("images-idx3", "labels-idx1")
_FILES = [f"{split}-{kind}-ubyte" for split in ("train", "t10k") for kind in _KINDS]
_HOLDS = "train-images-idx3-ubyte and the three files beside it, packed (.gz) or not"


def _look_at_fashion(request: DataRequest) -> list[Path]:
    """Return the four files in DIR, DIR/raw or DIR/FashionMNIST/raw (torchvision's place)."""
    root = existing(request.place, "fashion-mnist:DIR", _HOLDS)
    folders = (root / "FashionMNIST" / "raw", root / "raw", root)
    found = []
    for name in _FILES:
        places = (folder / each for folder in folders for each in (name, f"{name}.gz"))
        file = next((place for place in places if place.is_file()), None)
        if file is None:
            raise DataError(
                f"{root} does not hold {name} (or {name}.gz); fashion-mnist:DIR takes {_HOLDS}"
            )
        found.append(file)
    return found


def _open_fashion(request: DataRequest, found: list[Path]) -> Any:
    from torchvision.datasets import FashionMNIST

    from danetc.runtime.data.own import own_set

    train, train_labels, test, test_labels = map(read_idx, found, (3, 1, 3, 1))
    pairs = {"train": (train[:, None], train_labels), "test": (test[:, None], test_labels)}
    return own_set(request, {**pairs, "class_names": FashionMNIST.classes}, request.name)


def read_idx(path: Path, dimensions: int) -> Any:
    """Return the bytes of an idx file (a magic number, the sizes, the values), which may be compressed,
    unlike those that torchvision reads, as an array. Raises DataError if it is not valid."""
    import numpy as np

    with reported(f"{path} cannot be read"):
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    start = 4 + 4 * dimensions
    sizes = np.frombuffer(data[4:start].ljust(start - 4, b"\0"), dtype=">u4").astype(np.int64)
    if data[:4] != bytes((0, 0, 8, dimensions)) or len(data) - start != sizes.prod():
        raise DataError(
            f"{path} is not an idx file of bytes in {dimensions} dimensions, or it is damaged: fetch "
            "it again"
        )
    return np.frombuffer(data, dtype=np.uint8, offset=start).reshape(sizes).copy()


FASHION_MNIST = DataSource(
    "fashion-mnist:DIR",
    "70,000 images of clothes, 28x28, from the published idx files in DIR",
    _look_at_fashion,
    _open_fashion,
)

# -- CIFAR: 32x32 in colour, the Python version ----------------------------------------------------

_TEST_FILES = {
    "cifar10": Path("cifar-10-batches-py", "test_batch"),
    "cifar100": Path("cifar-100-python", "test"),
}


def _look_at_cifar(request: DataRequest) -> Path:
    """Return the folder that holds that of the published files."""
    file = _TEST_FILES[request.name]
    root = existing(request.place, f"{request.name}:DIR", f"{file.parent}/ as published")
    home = root.parent if root.name == file.parent.name else root
    if not (home / file).is_file():
        raise DataError(f"{root} does not hold {file}; unpack the published archive there")
    return home


def _open_cifar(request: DataRequest, home: Path) -> Any:
    """Read the files, which are pickles and could run code, by torchvision, after it has checked that each has
    the MD5 of the published one. (Nobody can make a file with a given MD5, only pairs with the same one.)"""
    import numpy as np
    from torchvision import datasets

    from danetc.runtime.data.own import own_set

    kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[request.name]
    try:
        found = [kind(str(home), train=train, download=False) for train in (True, False)]
    except RuntimeError as error:  # if a file is missing or its checksum is wrong
        raise DataError(
            f"a file of {home / _TEST_FILES[request.name].parent} is missing or is not the published "
            "one (by its MD5), so nothing was unpickled; unpack the archive again"
        ) from error
    train, test = ((each.data, np.array(each.targets)) for each in found)
    pairs = {"train": train, "test": test, "class_names": found[0].classes}
    return own_set(request, pairs, request.name)


CIFAR10, CIFAR100 = (
    DataSource(
        f"{name}:DIR",
        f"60,000 images of {name.removeprefix('cifar')} classes, 32x32 in colour, from the published "
        "files in DIR",
        _look_at_cifar,
        _open_cifar,
    )
    for name in _TEST_FILES
)
