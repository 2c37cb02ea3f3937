"""``webdataset:DIR``: images and labels in tar files, as the library webdataset writes them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from danetc.runtime.data.request import TEST_NAMES, TRAIN_NAMES, DataRequest, DataSource, existing
from danetc.runtime.system.errors import DataError


def _look(request: DataRequest) -> tuple[list[Path], list[Path]]:
    """Return the shards to train and to test on, by the names of their files or else folders."""
    folder = existing(request.place, "webdataset:DIR", "shards (*.tar) with images and labels")
    found = sorted((*folder.glob("*.tar"), *folder.glob("*/*.tar")))
    shards = [path for path in found if path.is_file()]
    if not shards:
        raise DataError(f"{folder} holds no shards (*.tar)")
    train: list[Path] = []
    test: list[Path] = []
    for path in shards:
        for text in (path.name, path.parent.name):
            words = {*re.split("[^a-z]+", text.lower())}
            is_train, is_test = (bool(words & {*names}) for names in (TRAIN_NAMES, TEST_NAMES))
            if is_train != is_test:
                (train if is_train else test).append(path)
                break
        else:
            raise DataError(
                f"the name of {path} does not say whether it is for training or testing; name "
                "shards train-... and val-..., or put them into folders of such names"
            )
    for side, name in ((train, "training (train-*.tar)"), (test, "testing (val-*.tar)")):
        if not side:
            raise DataError(f"none of the {len(shards)} shards is for {name}")
    return train, test


def _open(request: DataRequest, found: tuple[list[Path], list[Path]]) -> Any:
    from danetc.runtime.data.shards import shard_set

    return shard_set(request, *found)


SOURCE = DataSource("webdataset:DIR", "images in tar files of WebDataset in DIR", _look, _open)
