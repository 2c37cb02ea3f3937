"""Images in tar files, with an index of where each of them is.

Shards are read in random order, not as a stream: their headers are read once, when the data set is
opened, so that every process can read every image. Only images and ``.cls`` are read: nothing is
unpickled and no shell command (``pipe:``) is run.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from danetc.runtime.data.class_folders import EXTENSIONS
from danetc.runtime.data.dataset import DataSet, Samples, facts_fingerprint
from danetc.runtime.data.files import packed, unpacked
from danetc.runtime.data.images import decode_image
from danetc.runtime.data.request import DataRequest, Policy
from danetc.runtime.system.errors import DataError, UnreadableError

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
        where = self.where(number)
        try:
            with open(unpacked(self.shards[shard]), "rb") as file:
                file.seek(offset)
                data = file.read(length)
        except OSError as error:
            raise UnreadableError(f"{where} cannot be read: {error.strerror or error}") from error
        return decode_image(data, where), None

    def where(self, number: int) -> str:
        shard = self.shards[int(self.places[number, 0])]
        return f"{unpacked(self.names[number])} in {unpacked(shard)}"


def shard_set(
    request: DataRequest, train_shards: Sequence[Path], test_shards: Sequence[Path]
) -> DataSet:
    """Return the samples of shards. A sample is an image and ``.cls`` with its class, a whole number
    from 0.
    """
    train, train_facts = _index(train_shards, request.policy)
    test, test_facts = _index(test_shards, request.policy)
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
        fingerprint=facts_fingerprint([*train_facts, "test", *test_facts]),
        details={
            "channels": 3,
            "train_shards": len(train_shards),
            "test_shards": len(test_shards),
        },
    )


def _index(shards: Sequence[Path], policy: Policy) -> tuple[Samples, list[object]]:
    """Return the images of shards, and the facts of them for the fingerprint."""
    names: list[str] = []
    labels: list[int] = []
    places: list[tuple[int, int, int]] = []
    facts: list[object] = []
    for number, path in enumerate(shards):
        seen = []
        for image, label in _samples(path):
            names.append(image.name)
            labels.append(label)
            places.append((number, image.offset_data, image.size))
            seen.append((image.name, label, image.size))
        if not seen:
            raise DataError(f"the shard {path} holds no samples")
        facts += [path.name, seen]
    reader = Shards(packed(names), torch.tensor(places), packed(map(str, shards)))
    return Samples(reader, torch.tensor(labels), torch.arange(len(labels)), policy), facts


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
        compressed = path.suffix in (".gz", ".tgz", ".zst", ".bz2", ".xz")
        hint = "unpack it to a plain tar file" if compressed else "it is damaged, or not a tar file"
        raise DataError(f"the shard {path} cannot be read ({error}); {hint}") from error
    except OSError as error:
        raise DataError(f"the shard {path} cannot be read: {error.strerror or error}") from error
    for key, sample in samples.items():
        for part in ("label (.cls)", "image"):
            if part not in sample:
                raise DataError(f"the sample {key} in {path} has no {part}")
        yield sample["image"], sample["label (.cls)"]
