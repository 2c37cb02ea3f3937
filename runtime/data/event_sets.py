"""``events:NAME:DIR``: recordings of event cameras, by SpikingJelly's data sets."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from danetc.dsl.diagnostics import did_you_mean
from danetc.runtime.data.events import frame_folders, open_events
from danetc.runtime.data.folders import existing
from danetc.runtime.data.source import DataSet, Policy
from danetc.runtime.errors import DataError


@dataclass(frozen=True, slots=True)
class _Set:
    """A class of spikingjelly.datasets, and what it calls its splits."""

    title: str
    kind: str
    split: str = "train"
    train: object = True
    test: object = False


SETS: Mapping[str, _Set] = MappingProxyType(
    {
        "dvs128gesture": _Set("DVS128 Gesture", "DVS128Gesture"),
        # It comes without a split; this is the usual one: of each class the first 100 are tested.
        "cifar10dvs": _Set("CIFAR10-DVS", "CIFAR10DVSTEBNSplit"),
        "nmnist": _Set("N-MNIST", "NMNIST"),
        "dvslip": _Set("DVS-Lip", "DVSLip"),
        "hardvs": _Set("HARDVS", "HARDVS", "train_test_val", "train", "test"),
        "esimagenet": _Set("ES-ImageNet", "ESImageNet"),
        "bullying10k": _Set("Bullying10k", "Bullying10kClassification"),
    }
)


def open_event_data(text: str, policy: Policy, frames: int | None) -> DataSet:
    """``NAME:DIR``, a data set of ``SETS`` in DIR, or else ``DIR`` with frames in files.

    A recording's events are counted in ``frames`` frames of equally many events [T, 2, H, W]; they
    are kept in DIR, in SpikingJelly's layout, and taken from there the next time. Raises
    DataError.
    """
    head, mark, directory = text.partition(":")
    if head in SETS and (mark or not Path(head).exists()):
        return _open_set(head, directory, policy, frames)
    if mark and "/" not in head and not Path(text).exists():
        hint = did_you_mean(head, SETS) or f"there is {', '.join(SETS)}"
        raise DataError(f"there is no set of event data `{head}`; {hint}")
    return open_events(text, policy)


def _open_set(name: str, directory: str, policy: Policy, frames: int | None) -> DataSet:
    row = SETS[name]
    what = f"{row.title}: its published files in DIR/download, or SpikingJelly's DIR/events_np"
    root = existing(directory, f"events:{name}", what).resolve()
    if frames is None:
        raise DataError(
            f"{row.title} holds recordings, and how many frames to make of one is not known; set "
            "steps in the recipe or the network"
        )
    kind = _class(row.kind)
    folders = []
    with _alone(root):
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
    return frame_folders("events", f"events:{name}:{directory}", folders[0], folders[1], policy)


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """While one process makes frames in ``root``, the others of a training wait."""
    try:
        lock = (root / ".frames.lock").open("w")
    except PermissionError:  # of a folder that is only read: its frames must be there already
        yield
        return
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # ends with the file
        yield


def _class(name: str) -> Any:
    try:
        import spikingjelly.datasets as library
    except (ImportError, OSError) as error:  # OSError: of a torchaudio for another torch
        raise DataError(
            f"event data sets by name need SpikingJelly, which cannot be imported ({error}); "
            "pip install 'danetc[spikingjelly]', with a torchaudio that fits torch"
        ) from error
    return getattr(library, name)


def _check_present(kind: Any, row: _Set, root: Path) -> None:
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
