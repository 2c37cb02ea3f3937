"""Samples in the files of class folders, which are read when they are used."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.datasets.folder import make_dataset

from danetc.runtime.data.arrays import held_out
from danetc.runtime.data.dataset import DataSet, Samples, Source, facts_fingerprint
from danetc.runtime.data.images import read_image
from danetc.runtime.data.recordings import event_reader
from danetc.runtime.data.request import DataRequest
from danetc.runtime.data.sources.folders import EXTENSIONS, ClassFolders, without_files
from danetc.runtime.system.errors import DataError

_SIZED = 1000
"""Number of files whose sizes enter a fingerprint: the sizes of a million take minutes."""


def packed(texts: Iterable[str]) -> np.ndarray:
    """Return texts as one array of bytes.

    A list of a million paths is a million objects, and every worker that touches their reference
    counts gets a copy of its own; the array stays shared.
    """
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


def class_folder_set(request: DataRequest, found: ClassFolders) -> DataSet:
    """Return a data set of class folders. Raises DataError if a class has no files."""
    parts = [(split, *_class_files(split, found)) for split in (found.train, found.test)]
    shape, load = None, read_image
    if found.content == "recordings":
        shape, load = event_reader(*parts[0][:2], request)
    sides: Sequence[Source] = [
        Samples(Files(root, names, load), labels, torch.arange(len(labels)), request.policy)
        for root, names, labels in parts
    ]
    fingerprint: list[object] = [found.classes]
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
        class_names=found.classes,
        train=sides[0],
        test=sides[1],
        shape=shape,
        fingerprint=facts_fingerprint(fingerprint),
        events=shape is not None,
        details={"test_folder": found.test.name},
    )


def _class_files(split: Path, found: ClassFolders) -> tuple[np.ndarray, Tensor]:
    """Return the paths of all files below the class folders, and their classes, in a fixed order."""
    table = {name: number for number, name in enumerate(found.classes)}
    files = make_dataset(str(split), table, extensions=EXTENSIONS[found.content], allow_empty=True)
    labels = torch.tensor([label for _, label in files], dtype=torch.int64)
    counts = labels.bincount(minlength=len(found.classes))
    if not counts.all():
        raise without_files(split / found.classes[int(counts.argmin())], found.content)
    below = f"{split}{os.sep}"
    return packed(path.removeprefix(below).replace(os.sep, "/") for path, _ in files), labels
