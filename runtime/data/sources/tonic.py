"""``tonic:NAME:DIR``: an event data set of tonic, from its published files in a folder.

The events of a recording are counted in T frames [T, 2, H, W] when the recording is read. A data set
without its own split needs a share to test on: ``,test=0.2``.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from danetc.dsl.diagnostics.diagnostic import instead
from danetc.runtime.data.request import DataRequest, DataSource, existing
from danetc.runtime.system.errors import DataError


def _look(request: DataRequest) -> tuple[str, Path]:
    """Return the name and the folder."""
    name, _, directory = request.place.partition(":")
    if not name.isidentifier():
        raise DataError(
            f"`tonic` needs a set and a folder: tonic:NMNIST:DIR, not `{request.place}`"
        )
    holds = f"{name}/ with the published files of {name}, as tonic's save_to has it"
    return name, existing(directory, f"tonic:{name}:DIR", holds)


def _open(request: DataRequest, found: tuple[str, Path]) -> Any:
    from danetc.runtime.data.own import own_set, returned
    from danetc.runtime.system.locks import alone

    name, directory = found
    kind = partial(_kind(name), save_to=str(directory))
    try:
        with alone(directory / ".tonic.lock"):  # other processes wait for the unpacked files
            return own_set(request, returned(kind, request), name)
    except DataError:
        raise
    except Exception as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise DataError(f"{name} in {directory} cannot be opened: {reason}") from error


def _kind(name: str) -> Any:
    """Return the class of that name, changed to download nothing."""
    try:
        import tonic
    except ImportError as error:
        raise DataError(
            f"`tonic` needs the library tonic, which cannot be imported ({error}); "
            "pip install 'danetc[tonic]'"
        ) from error
    known = [each for each in dir(tonic.datasets) if each[0].isupper()]
    if name not in known:
        raise DataError(f"tonic has no data set `{name}`; {instead(name, known)}")

    def download(self: Any) -> None:
        raise DataError(
            f"{name} is not in {self.location_on_system}; nothing is downloaded here: fetch "
            f"{getattr(self, 'url', 'its files')} and unpack it there"
        )

    return type(name, (getattr(tonic.datasets, name),), {"download": download})


SOURCE = DataSource(
    "tonic:NAME:DIR",
    "event data set of tonic, from the published files in DIR; needs danetc[tonic]",
    _look,
    _open,
    ("train", "test", "size", "by"),
)
