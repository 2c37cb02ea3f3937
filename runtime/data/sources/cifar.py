"""``cifar10:DIR`` and ``cifar100:DIR``: the published Python version, 32x32 in colour.

Its files are pickles, which run code when they are read. torchvision opens them, and only after it has
checked that every file has the MD5 of the published one. MD5 is sufficient here: nobody can make
another file with the sum of a given one (a second preimage), only pairs of files with the same sum.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from danetc.runtime.data.request import DataRequest, DataSource, existing
from danetc.runtime.system.errors import DataError

_FILES = {
    "cifar10": Path("cifar-10-batches-py", "test_batch"),
    "cifar100": Path("cifar-100-python", "test"),
}


def _look(request: DataRequest) -> Path:
    """Return the folder that holds that of the published files."""
    file = _FILES[request.name]
    root = existing(request.place, f"{request.name}:DIR", f"{file.parent}/ as published")
    home = root.parent if root.name == file.parent.name else root
    if not (home / file).is_file():
        raise DataError(f"{root} does not hold {file}; unpack the published archive there")
    return home


def _open(request: DataRequest, home: Path) -> Any:
    import numpy as np
    from torchvision import datasets

    from danetc.runtime.data.own import own_set

    kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[request.name]
    try:
        found = [kind(str(home), train=train, download=False) for train in (True, False)]
    except RuntimeError as error:  # if a file is missing or its checksum is wrong
        raise DataError(
            f"a file of {home / _FILES[request.name].parent} is missing or is not the published one (by "
            "its MD5), so nothing was unpickled; unpack the archive again"
        ) from error
    arrays = ((each.data, np.array(each.targets)) for each in found)
    splits = dict(zip(("train", "test"), arrays, strict=True))
    return own_set(request, {**splits, "class_names": found[0].classes}, request.name)


CIFAR10, CIFAR100 = (
    DataSource(
        f"{name}:DIR",
        f"60,000 images of {name.removeprefix('cifar')} classes, 32x32 in colour, from the published "
        "files in DIR",
        _look,
        _open,
    )
    for name in _FILES
)
