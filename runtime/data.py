"""Data sets by name. A new one is a function that gives ``ImageData`` and a row of ``DATASETS``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from danetc.dsl.diagnostics import did_you_mean
from danetc.runtime.model import Signature
from torch import Tensor


class DataError(ValueError):
    """There is no such data set, or it does not fit the network."""


@dataclass(frozen=True, eq=False)
class Split:
    """Images [N, C, H, W], float32 from 0 to 1, and their classes [N], int64."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class ImageData:
    """A data set of images in memory."""

    name: str
    classes: int
    train: Split
    test: Split

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one image: (C, H, W)."""
        return tuple(self.train.images.shape[1:])


def digits() -> ImageData:
    """scikit-learn's digits: 1,797 real 8x8 images of 10 classes, from inside its package.

    (The test set of the UCI ML hand-written digits.) Grey values 0 .. 16 are scaled to 0 .. 1. The
    split is the same in every run, whatever its seed: 80 % for training and 20 % for testing, each
    class in proportion.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    found = load_digits()
    images = torch.from_numpy(found.images).to(torch.float32).div(16).unsqueeze(1)
    labels = torch.from_numpy(found.target).to(torch.int64)
    train, test = train_test_split(
        torch.arange(len(labels)).numpy(), test_size=0.2, random_state=0, stratify=found.target
    )
    return ImageData(
        "digits", 10, Split(images[train], labels[train]), Split(images[test], labels[test])
    )


DATASETS: Mapping[str, Callable[[], ImageData]] = MappingProxyType({"digits": digits})


def load_data(name: str) -> ImageData:
    """The data set of this name. Raises DataError where there is none."""
    if name not in DATASETS:
        hint = did_you_mean(name, DATASETS) or f"there is {', '.join(DATASETS)}"
        raise DataError(f"there is no data set `{name}`; {hint}")
    return DATASETS[name]()


def check_fit(data: ImageData, image: tuple[int, ...], signature: Signature, classes: int) -> None:
    """Raise DataError unless a network of this signature and ``classes`` can learn ``data``.

    ``image`` is the size (C, H, W) of the data set's images after what the recipe does to them.
    """
    if signature.sequence:
        raise DataError(
            f"{data.name} holds single images, but the network takes sequences of frames; set the "
            f"network's input to image({', '.join(map(str, image))})"
        )
    if image != signature.input:
        raise DataError(
            f"the images of {data.name} are {_size(image)}, but the network takes "
            f"{_size(signature.input)}; set the network's input to "
            f"image({', '.join(map(str, image))})"
        )
    if classes != data.classes:
        raise DataError(
            f"{data.name} has {data.classes} classes, but the network has {classes} outputs; "
            f"set the network's classes to {data.classes}"
        )


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
