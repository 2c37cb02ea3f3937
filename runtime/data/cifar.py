"""``cifar10:DIR`` and ``cifar100:DIR``: the published files, 32x32 in colour.

The binary version is plain bytes. The Python version is pickles, which run what they hold when they
are read: torchvision opens them, and does so only after every file has the MD5 of the published
one, so only those very files are ever unpickled. MD5 serves for this: a file that was not
published and has the sum of one that was cannot be made (a second preimage), only pairs can.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from danetc.runtime.data.source import DataSet, Memory, memory_fingerprint
from danetc.runtime.sources.published import PublishedFiles, cifar_place
from danetc.runtime.sources.request import DataRequest
from danetc.runtime.system.errors import DataError

PIXELS = 3 * 32 * 32


def open_source(request: DataRequest) -> DataSet:
    """CIFAR-10 or CIFAR-100 from its binary or, checked first, its Python version.

    Raises DataError where neither is whole.
    """
    place = cifar_place(request.name, request.argument)
    kind, folder = place.kind, place.folder
    if place.binary:
        train, test = (_binary(kind, folder, files) for files in (kind.train, kind.test))
        names = _names(kind, folder)
        version = "binary"
    else:
        train, test, names = _python(kind, folder)
        version = "python, its MD5 sums checked before it was read"
    return DataSet(
        name=request.name,
        text=request.text,
        class_names=names,
        train=train,
        test=test,
        shape=(3, 32, 32),
        fingerprint=memory_fingerprint(train, test),
        details={"version": version},
    )


def _binary(kind: PublishedFiles, folder: Path, files: tuple[str, ...]) -> Memory:
    record = kind.label_bytes + PIXELS
    parts = []
    for file in files:
        path = folder / file
        try:
            data = path.read_bytes()
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
        if not data or len(data) % record:
            raise DataError(
                f"{path} has {len(data)} bytes, which is no whole number of images of {record}; "
                "it is damaged: unpack it again"
            )
        rows = np.frombuffer(data, dtype=np.uint8).reshape(-1, record)
        label = int(rows[:, kind.label_bytes - 1].max())
        if label >= kind.classes:
            raise DataError(
                f"{path} has the label {label}, but {kind.title} has {kind.classes} classes"
            )
        parts.append(rows)
    rows = np.concatenate(parts)
    images = torch.from_numpy(rows[:, kind.label_bytes :].copy()).reshape(-1, 3, 32, 32)
    labels = torch.from_numpy(rows[:, kind.label_bytes - 1].astype(np.int64))
    return Memory(images, labels, f"{folder} ({', '.join(files)})")


def _names(kind: PublishedFiles, folder: Path) -> tuple[str, ...]:
    path = folder / kind.names
    try:
        lines = tuple(filter(None, map(str.strip, path.read_text(encoding="utf-8").splitlines())))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if len(lines) != kind.classes:
        raise DataError(f"{path} names {len(lines)} classes, but {kind.title} has {kind.classes}")
    return lines


def _python(kind: PublishedFiles, home: Path) -> tuple[Memory, Memory, tuple[str, ...]]:
    from torchvision.datasets import CIFAR10, CIFAR100

    reader = {"cifar10": CIFAR10, "cifar100": CIFAR100}[kind.name]
    try:
        splits = [reader(str(home), train=train, download=False) for train in (True, False)]
    except RuntimeError as error:  # torchvision's word for a missing file or a wrong sum
        raise DataError(
            f"a file of {home / kind.python_folder} is missing or is not the published one (by its "
            "MD5), so nothing was unpickled; unpack the archive again, or take the binary version"
        ) from error
    train, test = (
        Memory(
            torch.from_numpy(split.data).permute(0, 3, 1, 2).contiguous(),
            torch.tensor(split.targets, dtype=torch.int64),
            f"{home / kind.python_folder} ({part})",
        )
        for split, part in zip(splits, ("train", "test"), strict=True)
    )
    return train, test, tuple(splits[0].classes)
