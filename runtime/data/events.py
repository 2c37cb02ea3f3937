"""``events:DIR`` (frames in files) and ``events:NAME:DIR`` (a data set of SpikingJelly's)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from danetc.runtime.data.frames import frame_folders, open_frames
from danetc.runtime.data.source import DataSet
from danetc.runtime.sources.folders import RECORDINGS, ClassFolders, class_table
from danetc.runtime.sources.recordings import SETS, Set, named_set, set_folder
from danetc.runtime.sources.request import DataRequest
from danetc.runtime.system.errors import DataError
from danetc.runtime.system.locks import alone

_PICKLED = "Bullying10kClassification"
"""The set whose archives hold pickled arrays; only those of the published archives are read."""


def open_source(request: DataRequest) -> DataSet:
    """``NAME:DIR``, a data set of ``SETS`` in DIR, or else ``DIR`` with frames in files.

    A recording's events are counted in ``request.frames`` frames of equally many events
    [T, 2, H, W]; they are kept in DIR, in SpikingJelly's layout, and taken from there the next time.
    Raises DataError.
    """
    named = named_set(request.argument)
    return open_frames(request) if named is None else _open_set(request, *named)


def _open_set(request: DataRequest, name: str, directory: str) -> DataSet:
    row, frames = SETS[name], request.frames
    root = set_folder(name, directory)
    if frames is None:
        raise DataError(
            f"{row.title} holds recordings, and how many frames to make of one is not known; set "
            "steps in the recipe or the network"
        )
    kind = _class(row.kind)
    folders = []
    with alone(root / ".frames.lock"):  # while one process makes frames, others wait
        _check_present(kind, row, root)
        for split in (row.train, row.test):
            given: dict[str, Any] = {row.split: split}
            try:
                found = kind(
                    str(root), data_type="frame", frames_number=frames, split_by="number", **given
                )
            except (RuntimeError, NotImplementedError, ValueError, OSError) as error:
                raise DataError(f"{row.title} in {root} cannot be opened: {error}") from error
            folders.append(Path(found.root))
    train, test = folders
    return frame_folders(request, ClassFolders(train, test, class_table(train, test, RECORDINGS)))


def _class(name: str) -> Any:
    try:
        import spikingjelly.datasets as library
    except (ImportError, OSError) as error:  # OSError: of a torchaudio for another torch
        raise DataError(
            f"event data sets by name need SpikingJelly, which cannot be imported ({error}); "
            "pip install 'danetc[spikingjelly]', with a torchaudio that fits torch"
        ) from error
    return getattr(library, name)


def _check_present(kind: Any, row: Set, root: Path) -> None:
    """Raise DataError unless everything is there. (SpikingJelly would fetch what is missing, and
    remove first what is damaged.)
    """
    from torchvision.datasets.utils import check_integrity

    if (root / "events_np").is_dir():
        return
    for file, url, md5 in kind.resource_url_md5():
        path = root / "download" / file
        if not path.is_file():
            raise DataError(
                f"{row.title} lacks {path}; nothing is downloaded here: fetch it from {url}"
            )
        if not check_integrity(str(path), md5):
            raise DataError(f"{path} is damaged (its MD5 is not {md5}); fetch it again from {url}")
    if row.kind == _PICKLED and (root / "extract").exists():
        raise DataError(
            f"{root / 'extract'} holds arrays of Python objects, which SpikingJelly would unpickle "
            f"unchecked; remove it, and {row.title} is unpacked anew from the archives, whose MD5 "
            "are the published ones"
        )
