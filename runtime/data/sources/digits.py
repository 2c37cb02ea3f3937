"""``digits``: 1,797 images of hand-written digits that are part of the package.

They are the test set of the UCI ML hand-written digits; ``digits.txt`` beside the file names the
authors and the licence.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Any

from danetc.runtime.data.request import DataRequest, DataSource
from danetc.runtime.system.errors import DataError

TRAINING = 1437
"""Number of training images: 80 % of each class."""


def _look(request: DataRequest) -> None:
    if request.place:
        raise DataError(f"`digits` takes no argument but ,val=SHARE, and got `{request.place}`")


def splits() -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Return images [N, 1, 8, 8], from 0 to 1, and labels [N], to train and to test on."""
    import numpy as np

    home = files("danetc.runtime.data")
    with home.joinpath("digits.npz").open("rb") as file, np.load(file) as found:
        images, labels = found["images"][:, None].astype(np.float32) / 16, found["labels"]
    return (images[:TRAINING], labels[:TRAINING]), (images[TRAINING:], labels[TRAINING:])


def _open(request: DataRequest, found: None) -> Any:
    from danetc.runtime.data.own import own_set

    train, test = splits()
    return own_set(request, {"train": train, "test": test}, request.name)


SOURCE = DataSource("digits", "1,797 handwritten digits of 8x8 pixels, built in", _look, _open)
