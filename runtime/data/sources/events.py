"""``events:DIR`` (frames or events in files) and ``events:NAME:DIR`` (a data set of SpikingJelly)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from danetc.dsl.diagnostics.diagnostic import instead
from danetc.runtime.data.class_folders import ClassFolders, class_folders, common_classes
from danetc.runtime.data.request import DataRequest, DataSource, existing
from danetc.runtime.system.errors import DataError


@dataclass(frozen=True, slots=True)
class Published:
    """A class of spikingjelly.datasets, the parameter that names a split, and its values."""

    title: str
    kind: str
    split: str = "train"
    train: object = True
    test: object = False


SETS: Mapping[str, Published] = {
    "dvs128gesture": Published("DVS128 Gesture", "DVS128Gesture"),
    # It has no split of its own; the usual one tests the first 100 recordings of each class.
    "cifar10dvs": Published("CIFAR10-DVS", "CIFAR10DVSTEBNSplit"),
    "nmnist": Published("N-MNIST", "NMNIST"),
    "dvslip": Published("DVS-Lip", "DVSLip"),
    "hardvs": Published("HARDVS", "HARDVS", "train_test_val", "train", "test"),
    "esimagenet": Published("ES-ImageNet", "ESImageNet"),
    "bullying10k": Published("Bullying10k", "Bullying10kClassification"),
}
_PICKLED = "Bullying10kClassification"
"""The class that unpickles arrays. Only those of the published archives are read."""


def _look(request: DataRequest) -> ClassFolders | tuple[Published, Path]:
    """Return the class folders of DIR, or a published data set and its folder."""
    name, colon, directory = request.place.partition(":")
    if name in SETS and (colon or not Path(name).exists()):
        if request.options:
            raise DataError(
                f"`events:{name}` takes no options, but got {', '.join(request.options)}"
            )
        title = SETS[name].title
        holds = f"{title}: its published files in DIR/download, or SpikingJelly's DIR/events_np"
        return SETS[name], existing(directory, f"events:{name}:DIR", holds).resolve()
    if colon and "/" not in name and not Path(request.place).exists():
        raise DataError(f"there is no set of event data `{name}`; {instead(name, SETS)}")
    return class_folders(request, "recordings")


def _open(request: DataRequest, found: ClassFolders | tuple[Published, Path]) -> Any:
    from danetc.runtime.data.files import class_files, class_folder_set
    from danetc.runtime.data.recordings import event_reader

    if isinstance(found, tuple):
        found = _make_frames(*found, request.frames)
    train = class_files(found.train, found)
    shape, read = event_reader(found.train, train[0], request)
    return class_folder_set(request, found, train, read, shape=shape, events=True)


def _make_frames(published: Published, root: Path, frames: int | None) -> ClassFolders:
    """Count the events of each recording in frames [T, 2, H, W] of equally many events.

    SpikingJelly writes them below ``root`` and takes them from there the next time.
    """
    from danetc.runtime.system.locks import alone

    if frames is None:
        raise DataError(
            f"{published.title} holds recordings, and the number of frames to make of one is not "
            "known; set steps in the recipe or the network"
        )
    try:
        import spikingjelly.datasets as library
    except (ImportError, OSError) as error:  # OSError: a torchaudio for another torch
        raise DataError(
            f"event data sets by name need SpikingJelly, which cannot be imported ({error}); "
            "pip install 'danetc[spikingjelly]', with a torchaudio that fits torch"
        ) from error
    kind = getattr(library, published.kind)
    folders = []
    with alone(root / ".frames.lock"):  # other processes wait for the frames
        _check_downloads(kind, published, root)
        for split in (published.train, published.test):
            options: dict[str, Any] = {published.split: split, "frames_number": frames}
            try:
                made = kind(str(root), data_type="frame", split_by="number", **options)
            except (RuntimeError, NotImplementedError, ValueError, OSError) as error:
                raise DataError(f"{published.title} in {root} cannot be opened: {error}") from error
            folders.append(Path(made.root))
    train, test = folders
    return ClassFolders(train, test, "recordings", common_classes(train, test, "recordings"))


def _check_downloads(kind: Any, published: Published, root: Path) -> None:
    """Raise DataError for missing and damaged files, which SpikingJelly would fetch or remove."""
    from torchvision.datasets.utils import check_integrity

    if (root / "events_np").is_dir():
        return
    for file, url, md5 in kind.resource_url_md5():
        path = root / "download" / file
        if not path.is_file():
            raise DataError(
                f"{published.title} lacks {path}; nothing is downloaded here: fetch it from {url}"
            )
        if not check_integrity(str(path), md5):
            raise DataError(f"{path} is damaged (its MD5 is not {md5}); fetch it again from {url}")
    if published.kind == _PICKLED and (root / "extract").exists():
        raise DataError(
            f"{root / 'extract'} holds arrays of Python objects, which SpikingJelly would unpickle "
            f"unchecked; remove it, and {published.title} is unpacked anew from the archives, whose "
            "MD5 are the published ones"
        )


SOURCE = DataSource(
    "events:DIR",
    "like `folder`, with frames [T, C, H, W] or events t, x, y, p in npz or npy files; "
    "events:NAME:DIR is a data set of SpikingJelly",
    _look,
    _open,
    ("train", "test", "classes", "size", "by"),
)
