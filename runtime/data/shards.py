"""Images in tar files, with an index of where each of them is.

Shards are read in random order, not as a stream: their headers are read once, by the first process
that opens the data set, which saves the index for all others and for later. Only images and ``.cls``
are read: nothing is unpickled and no shell command (``pipe:``) is run.
"""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from danetc.runtime.data.arrays import read_numpy
from danetc.runtime.data.dataset import DataSet, Samples, facts_fingerprint
from danetc.runtime.data.files import packed
from danetc.runtime.data.images import read_image
from danetc.runtime.data.request import DataRequest
from danetc.runtime.data.sources.folders import EXTENSIONS
from danetc.runtime.kernels.cache import kernel_folder
from danetc.runtime.system.errors import DataError
from danetc.runtime.system.files import replace_file
from danetc.runtime.system.locks import alone

_LABELS = ("cls", "cls.txt")
_MAX_CLASSES = 1_000_000


@dataclass(frozen=True, eq=False)
class Shards:
    """Reads images [3, H, W], uint8. ``places`` [N, 3] has the shard, offset and length of each image,
    in bytes.
    """

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
    """Return the samples of shards. A sample is an image and ``.cls`` with its class, a whole number
    from 0.
    """
    shards = (*train_shards, *test_shards)
    index = _index(train_shards, test_shards)
    labels, places = (torch.from_numpy(index[name]) for name in ("labels", "places"))
    reader = Shards(index["names"], places, packed(map(str, shards)))
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


Index = Mapping[str, Any]
"""Arrays of the samples of all shards: ``names`` [N], ``labels`` [N] and ``places`` [N, 3] as in
``Shards``, and the ``fingerprint`` of the data set."""


def _index(train: Sequence[Path], test: Sequence[Path]) -> Index:
    """Return the index of shards. It is saved beside the first one, or in the folder of kernels if
    nothing can be written there, under a name that depends on their names, sizes and times.
    """
    shards = (*train, *test)
    folder = shards[0].parent
    facts: list[object] = [len(train)]
    for path in shards:
        try:
            found = path.stat()
        except OSError as error:
            raise DataError(f"the shard {path} cannot be read: {error.strerror}") from error
        facts.append((path.parent.name, path.name, found.st_size, found.st_mtime_ns))
    folder = folder if os.access(folder, os.W_OK) else kernel_folder()
    file = folder / f".danetc-index-{facts_fingerprint(facts)}.npz"
    index = _saved(file, len(shards))
    if index is None:
        with alone(folder / ".danetc-index.lock"):  # wait for a process that saves it
            index = _saved(file, len(shards))
            if index is None:
                index, content = _made(train, test), BytesIO()
                np.savez(content, **index)
                with suppress(OSError):  # a full disk, for example: the next process makes it again
                    replace_file(file, content.getvalue())
    return index


def _saved(file: Path, shards: int) -> Index | None:
    """Return a saved index, or None if there is none or it is damaged."""
    try:
        index = read_numpy(str(file), lambda names: ("names", "labels", "places", "fingerprint"))
    except DataError:
        return None
    if not isinstance(index, dict):
        return None
    count = index["names"].size
    form = [(each.dtype.kind, each.shape) for each in index.values()]
    if form != [("S", (count,)), ("i", (count,)), ("i", (count, 3)), ("U", ())]:
        return None
    index |= {name: index[name].astype(np.int64) for name in ("labels", "places")}
    labels, places = index["labels"], index["places"]
    complete = np.array_equal(np.unique(places[:, 0]), np.arange(shards))
    valid = complete and min(labels.min(), places.min()) >= 0 and labels.max() < _MAX_CLASSES
    return index if valid else None


def _made(train: Sequence[Path], test: Sequence[Path]) -> Index:
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
                if ending.lower() in _LABELS:
                    content = shard.extractfile(member)
                    text = content.read(32).decode("ascii", "replace").strip() if content else ""
                    if not text.isdecimal() or int(text) >= _MAX_CLASSES:
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
