"""``digits``: 1,797 real images of hand-written digits, which are part of the package."""

from __future__ import annotations

from importlib.resources import files

import numpy as np
import torch

from danetc.runtime.data.source import DataSet, Memory, memory_fingerprint
from danetc.runtime.sources.request import DataRequest

TRAINING = 1437
"""So many images are for training, the others for testing: 80 % and 20 %, each class in proportion."""


def open_source(request: DataRequest) -> DataSet:
    """1,797 real 8x8 images of 10 classes (the test set of the UCI ML hand-written digits).

    Grey values 0 .. 16 are scaled to 0 .. 1. The split is the same in every run, whatever its
    seed. Where the images come from stands in digits.txt beside them.
    """
    with files(__package__).joinpath("digits.npz").open("rb") as file, np.load(file) as found:
        images = torch.from_numpy(found["images"]).to(torch.float32).div(16).unsqueeze(1)
        labels = torch.from_numpy(found["labels"]).to(torch.int64)
    train = Memory(images[:TRAINING], labels[:TRAINING], "digits (train)")
    test = Memory(images[TRAINING:], labels[TRAINING:], "digits (test)")
    return DataSet(
        name="digits",
        text=request.text,
        class_names=tuple(str(number) for number in range(10)),
        train=train,
        test=test,
        shape=(1, 8, 8),
        fingerprint=memory_fingerprint(train, test),
    )
