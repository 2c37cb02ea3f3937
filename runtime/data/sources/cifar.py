"""``cifar10:DIR`` and ``cifar100:DIR``: the published files, 32x32 in colour.

The binary version is plain bytes. The Python version consists of pickles, which run code when they
are read. torchvision opens them, and only after it has checked that every file has the MD5 of the
published one. MD5 is sufficient here: nobody can make another file with the sum of a given one (a
second preimage), only pairs of files with the same sum.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from danetc.runtime.data.request import DataRequest, DataSource, existing
from danetc.runtime.system.errors import DataError

_PIXELS = 3 * 32 * 32


@dataclass(frozen=True, slots=True)
class _Cifar:
    """Published files. A record of the binary version is label bytes, the last of which is the
    label, and pixels.
    """

    title: str
    classes: int
    binary: str
    pickled: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    names: str
    label_bytes: int


_SETS = {
    "cifar10": _Cifar(
        "CIFAR-10", 10, "cifar-10-batches-bin", "cifar-10-batches-py",
        tuple(f"data_batch_{number}.bin" for number in range(1, 6)), ("test_batch.bin",),
        "batches.meta.txt", 1,
    ),
    "cifar100": _Cifar(
        "CIFAR-100", 100, "cifar-100-binary", "cifar-100-python",
        ("train.bin",), ("test.bin",), "fine_label_names.txt", 2,
    ),
}  # fmt: skip


def _look(request: DataRequest) -> tuple[Path, bool]:
    """Return the folder of the binary version and True, or that around the Python one and False."""
    files = _SETS[request.name]
    holds = f"{files.binary}/ or {files.pickled}/ ({files.title} as published)"
    root = existing(request.argument, f"{request.name}:DIR", holds)
    for folder in (root / files.binary, root):
        if (folder / files.train[0]).is_file():
            return folder, True
    home = root.parent if root.name == files.pickled else root
    if not (home / files.pickled).is_dir():
        packed = sorted(path.name for path in root.glob("cifar-*.tar.gz"))
        hint = f"unpack {packed[0]} there" if packed else "it takes the unpacked archive"
        raise DataError(f"{root} does not hold {holds}; {hint}")
    return home, False


def _open(request: DataRequest, found: tuple[Path, bool]) -> Any:
    from danetc.runtime.data.dataset import memory_set

    files, (folder, binary) = _SETS[request.name], found
    if binary:
        names, version = _class_names(files, folder), "binary"
        train, test = (_read_binary(files, folder, each) for each in (files.train, files.test))
    else:
        train, test, names = _read_pickled(request.name, files, folder)
        version = "python, its MD5 sums checked before it was read"
    return memory_set(request, names, train, test, details={"version": version})


def _read_binary(files: _Cifar, folder: Path, parts: tuple[str, ...]) -> tuple[Any, Any]:
    import numpy as np

    record = files.label_bytes + _PIXELS
    rows = []
    for path in (folder / part for part in parts):
        try:
            data = path.read_bytes()
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
        if not data or len(data) % record:
            raise DataError(
                f"{path} has {len(data)} bytes, which is not a whole number of images of {record}; "
                "it is damaged: unpack it again"
            )
        rows.append(np.frombuffer(data, dtype=np.uint8).reshape(-1, record))
        label = int(rows[-1][:, files.label_bytes - 1].max())
        if label >= files.classes:
            raise DataError(
                f"{path} has the label {label}, but {files.title} has {files.classes} classes"
            )
    whole = np.concatenate(rows)
    images = whole[:, files.label_bytes :].reshape(-1, 3, 32, 32)
    return images, whole[:, files.label_bytes - 1]


def _class_names(files: _Cifar, folder: Path) -> tuple[str, ...]:
    path = folder / files.names
    try:
        lines = tuple(filter(None, map(str.strip, path.read_text(encoding="utf-8").splitlines())))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    if len(lines) != files.classes:
        raise DataError(f"{path} names {len(lines)} classes, but {files.title} has {files.classes}")
    return lines


def _read_pickled(name: str, files: _Cifar, home: Path) -> tuple[Any, Any, tuple[str, ...]]:
    from torchvision import datasets

    kind = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[name]
    try:
        splits = [kind(str(home), train=train, download=False) for train in (True, False)]
    except RuntimeError as error:  # a missing file or a wrong sum
        raise DataError(
            f"a file of {home / files.pickled} is missing or is not the published one (by its "
            "MD5), so nothing was unpickled; unpack the archive again, or take the binary version"
        ) from error
    train, test = ((each.data.transpose(0, 3, 1, 2), each.targets) for each in splits)
    return train, test, tuple(splits[0].classes)


CIFAR10, CIFAR100 = (
    DataSource(
        f"{name}:DIR",
        f"60,000 images of {files.classes} classes, 32x32 in colour, from the published files in DIR",
        _look,
        _open,
    )
    for name, files in _SETS.items()
)
