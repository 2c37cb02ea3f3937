"""``memory``: arrays, Datasets and DataLoaders that a Python program passes as ``data``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from numbers import Real
from typing import Any

from danetc.runtime.data.request import DataRequest, DataSource
from danetc.runtime.system.errors import DataError

NAME = "memory"
GONE = (
    "the data were in the memory of a Python program, which has to pass the same again; arrays can also be "
    "saved with numpy.savez, for --data FILE.npz"
)


class InMemory(str):
    """Data that a Python program passes.

    As a text it is what a run records, ``memory`` and the shares that are held out: ``memory,test=0.2``.
    ``splits`` has the arrays (images, labels) or the Dataset of each split by its name, and may have
    ``class_names``.
    """

    splits: Mapping[str, Any]
    notices: tuple[str, ...]


def in_memory(data: Any, test: float | None = None) -> str:
    """Return ``data`` as a text: names and paths as they are, arrays and Datasets as ``InMemory``.

    A share ``test`` is held out if there are no test samples; without it, both splits have all samples.
    Raises DataError if ``data`` is something else.
    """
    if isinstance(data, str | os.PathLike):
        return os.fspath(data)
    from danetc.runtime.data.own import splits_of  # late: imports torch

    splits = splits_of(data, "`data` is a name such as 'digits',")
    if "train" not in splits and (test is not None or "test" not in splits):
        raise DataError("`data` has no samples to train on")
    notices: tuple[str, ...] = ()
    if test is not None and "test" not in splits:
        splits["test"] = test
        notices = (
            f"{test:.0%} of the samples are held out to test on; data={{'train': ..., 'test': ...}} sets "
            "another share, or other samples",
        )
    splits.setdefault("train", splits.get("test"))
    shares = {key: each for key, each in splits.items() if isinstance(each, Real)}
    found = InMemory(",".join([NAME, *(f"{key}={share}" for key, share in shares.items())]))
    found.splits = {key: each for key, each in splits.items() if key not in shares}
    found.notices = notices
    return found


def _open(request: DataRequest, data: InMemory) -> Any:
    """Return the data set. Errors of the user's code are DataErrors that name its line."""
    from danetc.runtime.data.own import blamed, own_set

    with blamed("`data`"):
        found = own_set(request, data.splits, "the data")
    return replace(found, notices=(*data.notices, *found.notices))


SOURCE = DataSource(
    NAME, "data that a Python program passes", lambda request: None, _open, ("test",)
)
