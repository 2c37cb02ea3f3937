"""``digits``: scikit-learn's hand-written digits, from inside its package."""

from __future__ import annotations

import torch

from danetc.runtime.data.source import DataSet, Memory, memory_fingerprint
from danetc.runtime.sources.request import Request


def open_source(request: Request) -> DataSet:
    """1,797 real 8x8 images of 10 classes (the test set of the UCI ML hand-written digits).

    Grey values 0 .. 16 are scaled to 0 .. 1. The split is the same in every run, whatever its
    seed: 80 % for training and 20 % for testing, each class in proportion.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    found = load_digits()
    images = torch.from_numpy(found.images).to(torch.float32).div(16).unsqueeze(1)
    labels = torch.from_numpy(found.target).to(torch.int64)
    rows, test_rows = train_test_split(
        torch.arange(len(labels)).numpy(), test_size=0.2, random_state=0, stratify=found.target
    )
    train = Memory(images[rows], labels[rows], "digits (train)")
    test = Memory(images[test_rows], labels[test_rows], "digits (test)")
    return DataSet(
        name="digits",
        text=request.text,
        class_names=tuple(str(number) for number in range(10)),
        train=train,
        test=test,
        shape=(1, 8, 8),
        fingerprint=memory_fingerprint(train, test),
    )
