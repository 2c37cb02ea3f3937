"""Samples in files, which are read when they are used: those of class folders, and images in tar files."""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.datasets.folder import make_dataset

from danetc.runtime.data.arrays import finite, read_numpy
from danetc.runtime.data.dataset import DataSet, Samples, Source, facts_fingerprint, held_out
from danetc.runtime.data.images import read_image
from danetc.runtime.data.recordings import Cutting, cutting, is_recording
from danetc.runtime.data.request import EXTENSIONS, MOST_CLASSES, DataRequest, without_files
from danetc.runtime.kernels.cache import kernel_folder
from danetc.runtime.system.errors import DataError, UnreadableError
from danetc.runtime.system.files import replace_file
from danetc.runtime.system.locks import alone

_SIZED = 1000
"""Number of files whose sizes enter a fingerprint: the sizes of a million take minutes."""


def packed(texts: Iterable[str]) -> np.ndarray:
    """Return texts as one array of bytes. Of a list, whose references are counted, each worker gets a copy."""
    return np.array([os.fsencode(text) for text in texts])


@dataclass(frozen=True, eq=False)
class Files:
    """Reads the samples in the files ``names`` (packed) below ``root``, by ``load``."""

    root: Path
    names: np.ndarray
    load: Callable[[str], Tensor]

    def read(self, number: int) -> tuple[Tensor, None]:
        return self.load(self.where(number)), None

    def where(self, number: int) -> str:
        return str(self.root / os.fsdecode(self.names[number]))


def class_folder_set(
    request: DataRequest, content: str, splits: Mapping[str, Path], classes: tuple[str, ...]
) -> DataSet:
    """Return a data set of class folders with images or recordings."""
    folders = (splits["train"], splits.get("test", splits["train"]))
    parts = [(split, *_class_files(split, content, classes)) for split in folders]
    events = content == "recordings"
    shape, load = event_reader(*parts[0][:2], request) if events else (None, read_image)
    sides: Sequence[Source] = [
        Samples(Files(root, names, load), labels, torch.arange(len(labels)), request.policy)
        for root, names, labels in parts
    ]
    fingerprint: list[object] = [classes]
    if request.share is not None:
        sides = held_out(sides[0], request.share)
        fingerprint.append(request.share)
    for root, names, labels in parts:
        ends = np.cumsum([0, *map(len, names)])
        digest = hashlib.blake2b(ends.tobytes() + b"".join(names), digest_size=16)
        fingerprint += [digest.hexdigest(), labels.bincount().tolist()]
        some = names[:: max(1, len(names) // _SIZED)]
        try:
            fingerprint += [(root / os.fsdecode(name)).stat().st_size for name in some]
        except OSError as error:
            raise DataError(f"{error.filename} cannot be read: {error.strerror}") from error
    return DataSet(
        name=request.name,
        text=request.text,
        class_names=classes,
        train=sides[0],
        test=sides[1],
        shape=shape,
        fingerprint=facts_fingerprint(fingerprint),
        events=events,
        details={"test_folder": folders[1].name},
    )


def _class_files(split: Path, content: str, classes: tuple[str, ...]) -> tuple[np.ndarray, Tensor]:
    """Return the paths of all files below the class folders, and their classes, in a fixed order."""
    table = {name: number for number, name in enumerate(classes)}
    files = make_dataset(str(split), table, extensions=EXTENSIONS[content], allow_empty=True)
    labels = torch.tensor([label for _, label in files], dtype=torch.int64)
    counts = labels.bincount(minlength=len(classes))
    if not counts.all():
        raise without_files(split / classes[int(counts.argmin())], content)
    below = f"{split}{os.sep}"
    return packed(path.removeprefix(below).replace(os.sep, "/") for path, _ in files), labels


def event_reader(
    root: Path, names: np.ndarray, request: DataRequest
) -> tuple[tuple[int, ...], Callable[[str], Tensor]]:
    """Return the function that reads the frames in npz and npy files, or cuts their events into frames, and
    the shape of all, which is that of the first file (that can be read, if others are skipped)."""
    cut = cutting(request)
    for name in names:
        try:
            shape = tuple(_frames(cut, None, str(root / os.fsdecode(name))).shape)
            return shape, partial(_frames, cut, shape)
        except UnreadableError:
            if request.policy == "stop":
                raise
    raise DataError(f"none of the {len(names)} recordings in {root} can be read")


def _frames(cut: Cutting, shape: tuple[int, ...] | None, path: str) -> Tensor:
    """Return the frames [T, C, H, W] of a file, or those of its events."""

    def wanted(names: Sequence[str]) -> Sequence[str]:
        if {*"txyp"} <= {*names}:
            return "txyp"
        if "frames" not in names and len(names) != 1:
            raise UnreadableError(
                f"{path} holds no array `frames` (but {', '.join(names) or 'nothing'}), and "
                "not just one array"
            )
        return ["frames" if "frames" in names else names[0]]  # as SpikingJelly names them

    loaded: Any = read_numpy(path, wanted)
    if isinstance(loaded, dict) and len(loaded) == 1:
        loaded = loaded.popitem()[1]
    if is_recording(loaded):
        frames = cut.cut(loaded, path)
    elif loaded.ndim != 4 or not loaded.size or loaded.dtype.kind not in "buif":
        raise UnreadableError(
            f"{path} has an array of {list(loaded.shape)} of {loaded.dtype}, where frames "
            "[T, C, H, W] are needed"
        )
    else:
        frames = finite(loaded, path)
    if shape is not None and tuple(frames.shape) != shape:
        raise DataError(
            f"{path} has frames [T, C, H, W] of {list(frames.shape)}, but those of the first "
            f"recording are {list(shape)}; all must have the same T and size"
        )
    return frames


# Shards are read in random order, not as a stream: their headers are read once, by the first process
# that opens the data set, which saves the index for all others and for later. Only images and ``.cls``
# are read: nothing is unpickled and no shell command (``pipe:``) is run.


@dataclass(frozen=True, eq=False)
class Shards:
    """Reads images [3, H, W], uint8. ``places`` [N, 3] has the shard, offset and length in bytes of each."""

    names: np.ndarray
    places: Tensor
    shards: np.ndarray

    def read(self, number: int) -> tuple[Tensor, None]:
        shard, offset, length = self.places[number].tolist()
        path = os.fsdecode(self.shards[shard])
        return read_image(path, self.where(number), offset, length), None

    def where(self, number: int) -> str:
        shard = self.shards[int(self.places[number, 0])]
        return f"{os.fsdecode(self.names[number])} in {os.fsdecode(shard)}"


def shard_set(
    request: DataRequest, train_shards: Sequence[Path], test_shards: Sequence[Path]
) -> DataSet:
    """Return the samples of shards: images, and ``.cls`` files with their classes, numbered from 0."""
    index = _index(train_shards, test_shards)
    labels, places = (torch.from_numpy(index[name]) for name in ("labels", "places"))
    reader = Shards(index["names"], places, packed(map(str, (*train_shards, *test_shards))))
    train, test = (
        Samples(reader, labels[side], side.nonzero().flatten(), request.policy)
        for side in (places[:, 0] < len(train_shards), places[:, 0] >= len(train_shards))
    )
    classes = int(train.labels.max()) + 1
    counts = train.labels.bincount(minlength=classes)
    if not counts.all():
        raise DataError(
            f"the shards for training have labels up to {classes - 1}, but none of class "
            f"{int(counts.argmin())}; classes must be numbered from 0 without a gap"
        )
    if int(test.labels.max()) >= classes:
        raise DataError(
            f"the shards for testing have the class {int(test.labels.max())}, but those for "
            f"training have {classes} classes (0 to {classes - 1})"
        )
    return DataSet(
        name=request.name,
        text=request.text,
        class_names=tuple(map(str, range(classes))),
        train=train,
        test=test,
        shape=None,
        fingerprint=str(index["fingerprint"]),
    )


def _index(train: Sequence[Path], test: Sequence[Path]) -> Mapping[str, Any]:
    """Return the index of shards: the arrays ``names`` [N], ``labels`` [N] and ``places`` [N, 3] as in
    ``Shards``, and the ``fingerprint`` of the data set. It is saved beside the first shard, or in the folder
    of kernels if nothing can be written there, under a name made of the names, sizes and times of all.
    """
    facts: list[object] = [len(train)]
    for path in (*train, *test):
        found = path.stat()
        facts.append((path.parent.name, path.name, found.st_size, found.st_mtime_ns))
    folder = train[0].parent if os.access(train[0].parent, os.W_OK) else kernel_folder()
    file = folder / f".danetc-index-{facts_fingerprint(facts)}.npz"
    with alone(folder / ".danetc-index.lock"):  # wait for a process that saves it
        index = _saved(file, len(train) + len(test))
        if index is None:
            index, content = _made(train, test), BytesIO()
            np.savez(content, **index)
            with suppress(OSError):  # a full disk, for example: the next process makes it again
                replace_file(file, content.getvalue())
    return index


def _saved(file: Path, shards: int) -> dict[str, Any] | None:
    """Return a saved index, or None if there is none or it is damaged."""
    try:
        index: Any = read_numpy(
            str(file), lambda names: ("names", "labels", "places", "fingerprint")
        )
        count = index["names"].size
    except (DataError, IndexError):  # IndexError: it is one array
        return None
    form = [(each.dtype.kind, each.shape) for each in index.values()]
    if form != [("S", (count,)), ("i", (count,)), ("i", (count, 3)), ("U", ())]:
        return None
    labels, places = (index[name].astype(np.int64) for name in ("labels", "places"))
    complete = np.array_equal(np.unique(places[:, 0]), np.arange(shards))
    valid = complete and min(labels.min(), places.min()) >= 0 and labels.max() < MOST_CLASSES
    return {**index, "labels": labels, "places": places} if valid else None


def _made(train: Sequence[Path], test: Sequence[Path]) -> dict[str, Any]:
    """Read the headers of all shards."""
    rows: list[tuple[str, int, int, int, int]] = []
    facts: list[object] = []
    for number, path in enumerate((*train, *test)):
        samples = list(_samples(path))
        if not samples:
            raise DataError(f"the shard {path} holds no samples")
        rows += [(x.name, label, number, x.offset_data, x.size) for x, label in samples]
        facts += ["test"] * (number == len(train))
        facts += [path.name, [(image.name, label, image.size) for image, label in samples]]
    names, *numbers = zip(*rows, strict=True)
    labels, *places = np.array(numbers, np.int64)
    return {
        "names": packed(names),
        "labels": labels,
        "places": np.stack(places, 1),
        "fingerprint": np.array(facts_fingerprint(facts)),
    }


def _samples(path: Path) -> Iterator[tuple[tarfile.TarInfo, int]]:
    """Yield the image and the label of each sample, whose files have one name up to the first dot."""
    samples: dict[str, dict[str, Any]] = {}
    try:
        with tarfile.open(path, "r:") as shard:
            for member in filter(tarfile.TarInfo.isfile, shard):
                folder, slash, file = member.name.rpartition("/")
                stem, _, ending = file.partition(".")
                sample = samples.setdefault(f"{folder}{slash}{stem}", {})
                if ending.lower() in ("cls", "cls.txt"):
                    content = shard.extractfile(member)
                    text = content.read(32).decode("ascii", "replace").strip() if content else ""
                    if not text.isdecimal() or int(text) >= MOST_CLASSES:
                        raise DataError(
                            f"the label {member.name} in {path} is `{text}`; it must be a class "
                            "number, from 0"
                        )
                    sample["label (.cls)"] = int(text)
                elif f".{ending.lower()}".endswith(EXTENSIONS["images"]):
                    sample.setdefault("image", member)
    except tarfile.TarError as error:
        hint = "it is damaged, or not a plain tar file"
        raise DataError(f"the shard {path} cannot be read ({error}); {hint}") from error
    except OSError as error:
        raise DataError(f"the shard {path} cannot be read: {error.strerror or error}") from error
    for key, sample in samples.items():
        for part in ("label (.cls)", "image"):
            if part not in sample:
                raise DataError(f"the sample {key} in {path} has no {part}")
        yield sample["image"], sample["label (.cls)"]
