"""``cifar10:DIR`` and ``cifar100:DIR``: the published files, 32x32 in colour.

The binary version is plain bytes. The Python version is pickles, which run what they hold when they
are read: torchvision opens them, and does so only after every file has the MD5 of the published
one, so only those very files are ever unpickled. MD5 serves for this: a file that was not
published and has the sum of one that was cannot be made (a second preimage), only pairs can.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from danetc.runtime.data.folders import existing
from danetc.runtime.data.source import DataSet, Memory, memory_fingerprint
from danetc.runtime.errors import DataError

PIXELS = 3 * 32 * 32


@dataclass(frozen=True, slots=True)
class _Kind:
    """The files of a set. In a binary record some label bytes (the last counts) precede pixels."""

    name: str
    title: str
    classes: int
    binary_folder: str
    python_folder: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    names: str
    label_bytes: int


KINDS = {
    kind.name: kind
    for kind in (
        _Kind(
            "cifar10", "CIFAR-10", 10, "cifar-10-batches-bin", "cifar-10-batches-py",
            tuple(f"data_batch_{number}.bin" for number in range(1, 6)), ("test_batch.bin",),
            "batches.meta.txt", 1,
        ),
        _Kind(
            "cifar100", "CIFAR-100", 100, "cifar-100-binary", "cifar-100-python",
            ("train.bin",), ("test.bin",), "fine_label_names.txt", 2,
        ),
    )
}  # fmt: skip


def open_cifar(name: str, text: str) -> DataSet:
    """CIFAR-10 or CIFAR-100 from its binary or, checked first, its Python version.

    Raises DataError where neither is whole.
    """
    kind = KINDS[name]
    what = f"{kind.binary_folder}/ or {kind.python_folder}/ ({kind.title} as published)"
    root = existing(text, name, what)
    for folder in (root / kind.binary_folder, root):
        if (folder / kind.train[0]).is_file():
            train = _binary(kind, folder, kind.train)
            test = _binary(kind, folder, kind.test)
            names = _names(kind, folder)
            version = "binary"
            break
    else:
        home = root.parent if root.name == kind.python_folder else root
        if not (home / kind.python_folder).is_dir():
            packed = sorted(path.name for path in root.glob("cifar-*.tar.gz"))
            hint = f"unpack {packed[0]} there" if packed else "it takes the unpacked archive"
            raise DataError(f"{root} does not hold {what}; {hint}")
        train, test, names = _python(kind, home)
        version = "python, its MD5 sums checked before it was read"
    return DataSet(
        name=name,
        text=f"{name}:{text}",
        class_names=names,
        train=train,
        test=test,
        shape=(3, 32, 32),
        fingerprint=memory_fingerprint(train, test),
        details={"version": version},
    )


def _binary(kind: _Kind, folder: Path, files: tuple[str, ...]) -> Memory:
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


def _names(kind: _Kind, folder: Path) -> tuple[str, ...]:
    path = folder / kind.names
    try:
        lines = tuple(filter(None, map(str.strip, path.read_text(encoding="utf-8").splitlines())))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if len(lines) != kind.classes:
        raise DataError(f"{path} names {len(lines)} classes, but {kind.title} has {kind.classes}")
    return lines


def _python(kind: _Kind, home: Path) -> tuple[Memory, Memory, tuple[str, ...]]:
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
