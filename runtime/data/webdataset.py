"""``webdataset:SHARDS``: images and labels in local tar files, as the webdataset library writes them.

Shards are read at random, not as a stream: where each image lies is found out once, when the set is
opened, so that any process can read any image and the order is that of every other source. That
needs local files, and of a stream's formats only images and ``.cls`` are read: nothing is unpickled
and no shell command (``pipe:``) is run.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from danetc.runtime.data.files import Files, Strings
from danetc.runtime.data.images import decode_image
from danetc.runtime.data.source import DataSet, facts_fingerprint
from danetc.runtime.sources.folders import EXTENSIONS, IMAGES
from danetc.runtime.sources.request import DataRequest, Policy
from danetc.runtime.sources.shards import shards
from danetc.runtime.system.errors import DataError, UnreadableError

_LABELS = ("cls", "cls.txt")
_MAX_CLASSES = 1_000_000


@dataclass(frozen=True, eq=False)
class ShardImages(Files):
    """Images [3, H, W] of any size, uint8, from stretches of tar files."""

    shards: Strings
    shard: Tensor  # [N], of each image
    offset: Tensor  # [N], in bytes
    length: Tensor  # [N], in bytes

    def where(self, index: int) -> str:
        return f"{self.names[index]} in {self.shards[int(self.shard[index])]}"

    def read(self, index: int) -> Tensor:
        where = self.where(index)
        try:
            with open(self.shards[int(self.shard[index])], "rb") as file:
                file.seek(int(self.offset[index]))
                data = file.read(int(self.length[index]))
        except OSError as error:
            raise UnreadableError(f"{where} cannot be read: {error.strerror or error}") from error
        return decode_image(data, where)


def open_source(request: DataRequest) -> DataSet:
    """Shards by a folder, or by paths with braces, joined by ``::``.

    A shard's file name, or else its folder's, says whether it is of the train set or of the test
    set (val, test). A sample is an image and ``.cls`` with its class, a whole number from 0.
    Raises DataError.
    """
    train_shards, test_shards = shards(request.argument)
    policy = request.policy
    train, train_facts = _index(train_shards, policy)
    test, test_facts = _index(test_shards, policy)
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
        name="webdataset",
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


def _index(shards: list[Path], policy: Policy) -> tuple[ShardImages, list[object]]:
    """Where each image lies, and what of it goes into the fingerprint."""
    rows: list[tuple[str, int, int, int, int]] = []
    facts: list[object] = []
    for number, path in enumerate(shards):
        before = len(rows)
        for name, label, offset, length in _samples(path):
            rows.append((name, label, number, offset, length))
        if len(rows) == before:
            raise DataError(f"the shard {path} holds no samples")
        facts += [path.name, [(row[0], row[1], row[4]) for row in rows[before:]]]
    names, labels, *places = zip(*rows, strict=True)
    numbers = [torch.tensor(column, dtype=torch.int64) for column in (labels, *places)]
    return ShardImages(
        Strings(names), numbers[0], policy, Strings(map(str, shards)), *numbers[1:]
    ), facts


def _samples(path: Path) -> Iterator[tuple[str, int, int, int]]:
    """Name, label, offset and length of each image of a shard, in its order.

    A sample's files follow each other and share their names up to the first dot. Raises DataError.
    """
    key: str | None = None
    label: int | None = None
    image: tarfile.TarInfo | None = None

    def done() -> tuple[str, int, int, int]:
        if label is None or image is None:
            lacks = "no label (.cls)" if label is None else "no image"
            raise DataError(f"the sample {key} in {path} has {lacks}")
        return image.name, label, image.offset_data, image.size

    try:
        with tarfile.open(path, "r:") as shard:
            for member in shard:
                if not member.isfile():
                    continue
                own, extension = _split(member.name)
                if own != key:
                    if key is not None:
                        yield done()
                    key, label, image = own, None, None
                if extension.lower() in _LABELS:
                    label = _label(shard, member, path)
                elif (
                    f".{extension.lower().rpartition('.')[2]}" in EXTENSIONS[IMAGES]
                    and image is None
                ):
                    image = member
                shard.members = []  # type: ignore[attr-defined]  # it would keep every header
        if key is not None:
            yield done()
    except tarfile.TarError as error:
        packed = path.suffix in (".gz", ".tgz", ".zst", ".bz2", ".xz")
        hint = "unpack it to a plain tar file" if packed else "it is damaged, or no tar file"
        raise DataError(f"the shard {path} cannot be read ({error}); {hint}") from error
    except OSError as error:
        raise DataError(f"the shard {path} cannot be read: {error.strerror or error}") from error


def _split(name: str) -> tuple[str, str]:
    """A member's name as its sample's key and its extension: all after the first dot."""
    folder, slash, file = name.rpartition("/")
    stem, _, extension = file.partition(".")
    return f"{folder}{slash}{stem}", extension


def _label(shard: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> int:
    file = shard.extractfile(member)
    assert file is not None, "a regular file"
    text = file.read(32).decode("ascii", "replace").strip()
    if not text.isdecimal() or int(text) >= _MAX_CLASSES:
        raise DataError(
            f"the label {member.name} in {path} is `{text}`; it must be a class's number, from 0"
        )
    return int(text)
