"""``memory``: arrays, Datasets and DataLoaders that a Python program passes as ``data``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from numbers import Real
from typing import Any

from danetc.dsl.diagnostics.diagnostic import instead
from danetc.runtime.data.request import DataRequest, DataSource
from danetc.runtime.system.errors import DataError

NAME = "memory"
_TAKES = (
    "a name such as 'digits', arrays (x, y), a Dataset, a DataLoader, a pair (train, test) of these, or a "
    'mapping such as {"train": (x, y), "val": 0.1, "test": 0.2}'
)
GONE = (
    "the data were in the memory of a Python program, which has to pass the same again; arrays can also be "
    "saved with numpy.savez, for --data FILE.npz"
)
_KEYS = ("train", "val", "test", "class_names")


class InMemory(str):
    """Data that a Python program passes.

    As a text it is what a run records, ``memory`` and the shares that are held out: ``memory,test=0.2``.
    ``splits`` has the arrays (images, labels) or the Dataset of each split by its name.
    """

    splits: Mapping[str, Any]
    class_names: tuple[str, ...]
    notices: tuple[str, ...]


def in_memory(data: Any, test: float | None = None) -> str:
    """Return ``data`` as a text: names and paths as they are, arrays and Datasets as ``InMemory``.

    A share ``test`` is held out if there are no test samples; without it, both splits have all samples.
    Raises DataError if ``data`` is something else.
    """
    if isinstance(data, str | os.PathLike):
        return os.fspath(data)
    from danetc.runtime.data.own import are_arrays  # late: imports torch

    given: dict[str, Any] = {"train": data}
    if isinstance(data, Mapping):
        given = dict(data)
    elif isinstance(data, tuple | list) and len(data) == 2 and not are_arrays(data):
        given = dict(zip(("train", "test"), data, strict=True))
    if unknown := [key for key in given if key not in _KEYS]:
        raise DataError(f"`data` has no split {unknown[0]!r}; {instead(str(unknown[0]), _KEYS)}")
    names = tuple(map(str, given.pop("class_names", ())))
    shares: dict[str, Any] = {
        key: each for key, each in given.items() if key != "train" and isinstance(each, Real)
    }
    splits = {key: _dataset(each) for key, each in given.items() if key not in shares}
    for each in splits.values():
        several = isinstance(each, tuple) and not are_arrays(each)
        if several or not hasattr(each, "__getitem__") or isinstance(each, str | bytes | type):
            what = f"{len(each)} values" if several else type(each).__name__
            raise DataError(f"`data` is {_TAKES}, not {what}")
    if "train" not in splits and (test is not None or "test" not in splits):
        raise DataError(f"`data` has no samples to train on; it is {_TAKES}")
    notices: tuple[str, ...] = ()
    if test is not None and "test" not in given:
        shares["test"] = test
        notices = (
            f"{test:.0%} of the samples are held out to test on; data={{'train': ..., 'test': ...}} sets "
            "another share, or other samples",
        )
    found = InMemory(",".join([NAME, *(f"{key}={share}" for key, share in shares.items())]))
    found.splits, found.class_names, found.notices = splits, names, notices
    return found


def _dataset(given: Any) -> Any:
    """Return the Dataset of a DataLoader, and anything else as it is.

    Raises DataError for a loader that selects samples or changes them.
    """
    from torch.utils import data

    if not isinstance(given, data.DataLoader):
        return given
    plain = data.SequentialSampler, data.RandomSampler, data.DistributedSampler
    own = not isinstance(given.sampler, plain)
    own |= type(given.batch_sampler) not in (data.BatchSampler, type(None))
    own |= given.collate_fn not in (data.default_collate, data.default_convert)
    if isinstance(given.dataset, data.IterableDataset) or not own:
        return given.dataset
    raise DataError(
        "`data` is a DataLoader with its own sampler or collate_fn, which the batches of a recipe do not use; "
        "give a Dataset or a torch.utils.data.Subset"
    )


def _open(request: DataRequest, data: InMemory) -> Any:
    """Return the data set. Errors of the user's code are DataErrors that name its line."""
    from danetc.runtime.data.dataset import PROBES, Memory
    from danetc.runtime.data.own import blamed, class_names_of, own_set

    with blamed("`data`"):
        splits = data.splits
        train = splits["train" if "train" in splits else "test"]
        test = None if request.share is not None else splits.get("test", train)
        names = data.class_names or class_names_of(train)
        found = own_set(request, train, test, "the data", val=splits.get("val"), classes=names)
    arrays = all(isinstance(each, Memory) for each in found.splits.values())
    hashed = "all samples" if arrays else f"{PROBES} samples of each split"
    details = {**found.details, "digest_of": f"all labels and {hashed}"}
    return replace(found, details=details, notices=(*data.notices, *found.notices))


SOURCE = DataSource(
    NAME, "data that a Python program passes", lambda request: None, _open, ("test",)
)
