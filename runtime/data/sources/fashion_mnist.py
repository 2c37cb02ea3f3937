"""``fashion-mnist:DIR``: Zalando's 70,000 images of clothes, 28x28, from the published idx files.

Debian's package dataset-fashion-mnist has them in /usr/share/datasets/fashion-mnist.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Any

from danetc.runtime.data.request import DataRequest, DataSource, existing
from danetc.runtime.system.errors import DataError

CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
_FILES = (
    "train-images-idx3-ubyte", "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte",
)  # fmt: skip
_HOLDS = "train-images-idx3-ubyte and the three files beside it, packed (.gz) or not"


def _look(request: DataRequest) -> list[Path]:
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


def _open(request: DataRequest, found: list[Path]) -> Any:
    from danetc.runtime.data.own import own_set

    splits = {"train": _split(*found[:2]), "test": _split(*found[2:])}
    return own_set(request, {**splits, "class_names": CLASSES}, request.name)


def _split(images_file: Path, labels_file: Path) -> tuple[Any, Any]:
    images, labels = read_idx(images_file, 3), read_idx(labels_file, 1)
    if not 0 < len(images) == len(labels) or int(labels.max()) >= len(CLASSES):
        raise DataError(
            f"{images_file} has {len(images)} images, and {labels_file} has {len(labels)} labels: "
            "they are not those of Fashion-MNIST"
        )
    return images[:, None], labels


def read_idx(path: Path, dimensions: int) -> Any:
    """Return the bytes of an idx file as an array: a magic number, the sizes, the values.

    torchvision can only read files that are not compressed. Raises DataError if the file is not valid.
    """
    import numpy as np

    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    start = 4 + 4 * dimensions
    sizes = np.frombuffer(data[4:start].ljust(start - 4, b"\0"), dtype=">u4").astype(np.int64)
    if data[:4] != bytes((0, 0, 8, dimensions)) or len(data) - start != sizes.prod():
        raise DataError(
            f"{path} is not an idx file of bytes in {dimensions} dimensions, or it is damaged: fetch "
            "it again"
        )
    return np.frombuffer(data, dtype=np.uint8, offset=start).reshape(sizes).copy()


SOURCE = DataSource(
    "fashion-mnist:DIR",
    "70,000 images of clothes, 28x28, from the published idx files in DIR",
    _look,
    _open,
)
