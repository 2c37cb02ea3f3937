"""``tonic:NAME:DIR``: event data sets of tonic, from their published files in a folder."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import numpy as np

from danetc.dsl.diagnostics.diagnostic import instead
from danetc.runtime.data.arrays import Reading
from danetc.runtime.data.own import SampleForm
from danetc.runtime.data.own_sets import own_set
from danetc.runtime.data.recordings import cutting
from danetc.runtime.data.source import DataSet
from danetc.runtime.sources.options import Placed
from danetc.runtime.sources.recordings import tonic_place
from danetc.runtime.sources.request import DataRequest
from danetc.runtime.system.errors import DataError
from danetc.runtime.system.locks import alone


def open_source(request: DataRequest) -> DataSet:
    """A class of ``tonic.datasets`` over DIR/NAME. A recording's events are counted in
    ``request.frames`` frames of equally many events [T, 2, H, W] when it is read.

    A set without a split of its own needs a share to test on: ``,test=0.2``. Raises DataError.
    """
    asked, name, directory = tonic_place(request.argument)
    kind = _kind(name)
    with alone(Path(directory) / ".tonic.lock"):  # while one process unpacks a set, others wait
        return _set(request, asked, kind, directory)


def _set(request: DataRequest, asked: Placed, kind: Any, directory: str) -> DataSet:
    name = kind.__name__
    parameters = inspect.signature(kind.__init__).parameters
    share = asked.share
    if "train" in parameters:
        train: Any = _made(kind, directory, train=True)
        test: Any = None if share is not None else _made(kind, directory, train=False)
    elif "split" in parameters:
        train = _made(kind, directory, split=asked.get("train") or "train")
        other = asked.get("test") or "test"
        test = None if share is not None else _made(kind, directory, split=other)
    else:
        train, test = _made(kind, directory), None
        if share is None:
            raise DataError(
                f"{name} has no split of its own to test on; hold out a share: ,test=0.2"
            )
    return own_set(
        request,
        train,
        test,
        share,
        SampleForm(None, cutting(asked, request.frames, train)),
        Reading(None, None, _class_names(train)),
        name,
    )


def _class_names(dataset: Any) -> tuple[str, ...]:
    """Those that a set has; SHD's are bytes of its file."""
    found = getattr(dataset, "classes", ())
    if not isinstance(found, list | tuple | np.ndarray):
        return ()
    return tuple(each.decode() if isinstance(each, bytes) else str(each) for each in found)


def _kind(name: str) -> Any:
    """The class of that name, which downloads nothing."""
    try:
        import tonic
    except ImportError as error:
        raise DataError(
            f"`tonic` needs the library tonic, which cannot be imported ({error}); "
            "pip install 'danetc[tonic]'"
        ) from error
    known = [each for each in dir(tonic.datasets) if each[0].isupper()]
    if name not in known:
        hint = instead(name, known)
        raise DataError(f"tonic has no data set `{name}`; {hint}")
    kind = getattr(tonic.datasets, name)

    def download(self: Any) -> None:
        raise DataError(
            f"{name} is not in {self.location_on_system}; nothing is downloaded here: fetch "
            f"{getattr(self, 'url', 'its files')} and unpack it there"
        )

    return type(name, (kind,), {"download": download})


def _made(kind: Any, directory: str, **split: Any) -> Any:
    try:
        found = kind(save_to=directory, **split)
    except DataError:
        raise
    except Exception as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise DataError(f"{kind.__name__} in {directory} cannot be opened: {reason}") from error
    if not len(found):
        raise DataError(f"{kind.__name__} in {directory} has no recordings")
    return found
