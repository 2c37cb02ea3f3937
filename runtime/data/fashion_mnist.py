"""``fashion-mnist:DIR``: Zalando's 70,000 images of clothes, 28x28, from the published files."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from danetc.runtime.data.source import DataSet, Memory, memory_fingerprint
from danetc.runtime.sources.published import fashion_mnist_files
from danetc.runtime.sources.request import DataRequest
from danetc.runtime.system.errors import DataError

CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip


def open_source(request: DataRequest) -> DataSet:
    """The four files of the set in DIR, DIR/raw or DIR/FashionMNIST/raw (torchvision's place).

    Debian's package dataset-fashion-mnist has them in /usr/share/datasets/fashion-mnist.
    Raises DataError where they are missing, cut short or of another shape.
    """
    files = fashion_mnist_files(request.argument)
    train, test = (_split(files, prefix) for prefix in ("train", "t10k"))
    return DataSet(
        name="fashion-mnist",
        text=request.text,
        class_names=CLASSES,
        train=train,
        test=test,
        shape=tuple(train.images.shape[1:]),
        fingerprint=memory_fingerprint(train, test),
    )


def _split(files: Mapping[str, Path], prefix: str) -> Memory:
    images_file = files[f"{prefix}-images-idx3-ubyte"]
    labels_file = files[f"{prefix}-labels-idx1-ubyte"]
    images, labels = read_idx(images_file, 3), read_idx(labels_file, 1).to(torch.int64)
    if len(images) != len(labels):
        raise DataError(
            f"{images_file} has {len(images)} images, but {labels_file} has {len(labels)} labels"
        )
    if not len(images):
        raise DataError(f"{images_file} holds no images")
    if int(labels.max()) >= len(CLASSES):
        raise DataError(
            f"{labels_file} has the label {int(labels.max())}, but there are {len(CLASSES)} "
            "classes; it is not Fashion-MNIST's"
        )
    return Memory(images.unsqueeze(1), labels, str(images_file))


def read_idx(path: Path, dimensions: int) -> Tensor:
    """The bytes of an idx file as uint8 [...]: a magic number, the sizes, the values.

    torchvision reads the unpacked form only. Raises DataError for a file that is anything else.
    """
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    start = 4 + 4 * dimensions
    if len(data) < start or data[:4] != bytes((0, 0, 8, dimensions)):
        raise DataError(f"{path} is no idx file of bytes in {dimensions} dimensions")
    sizes = np.frombuffer(data, dtype=">u4", count=dimensions, offset=4).astype(np.int64)
    if len(data) - start != sizes.prod():
        raise DataError(
            f"{path} should hold {sizes.prod()} values and holds {len(data) - start}; "
            "it is damaged: fetch it again"
        )
    values = np.frombuffer(data, dtype=np.uint8, offset=start).reshape(sizes)
    return torch.from_numpy(values.copy())
