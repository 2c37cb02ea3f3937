"""Where the files of published sets lie: Fashion-MNIST and CIFAR."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from danetc.runtime.sources.places import existing
from danetc.runtime.system.errors import DataError

FILES = (
    "train-images-idx3-ubyte", "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte",
)  # fmt: skip
WHAT = "train-images-idx3-ubyte and the three files beside it, packed (.gz) or not"


def fashion_mnist_files(text: str) -> dict[str, Path]:
    """The four files of Fashion-MNIST in a folder, by their names. Raises DataError."""
    root = existing(text, "fashion-mnist", WHAT)
    return {name: _find(root, name) for name in FILES}


def _find(root: Path, name: str) -> Path:
    for folder in (root / "FashionMNIST" / "raw", root / "raw", root):
        for candidate in (folder / name, folder / f"{name}.gz"):
            if candidate.is_file():
                return candidate
    raise DataError(f"{root} does not hold {name} (or {name}.gz); fashion-mnist:DIR takes {WHAT}")


@dataclass(frozen=True, slots=True)
class PublishedFiles:
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
        PublishedFiles(
            "cifar10", "CIFAR-10", 10, "cifar-10-batches-bin", "cifar-10-batches-py",
            tuple(f"data_batch_{number}.bin" for number in range(1, 6)), ("test_batch.bin",),
            "batches.meta.txt", 1,
        ),
        PublishedFiles(
            "cifar100", "CIFAR-100", 100, "cifar-100-binary", "cifar-100-python",
            ("train.bin",), ("test.bin",), "fine_label_names.txt", 2,
        ),
    )
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class CifarPlace:
    """Where the files of a CIFAR set lie: in the binary version, or in the Python one."""

    kind: PublishedFiles
    folder: Path
    binary: bool


def cifar_place(name: str, text: str) -> CifarPlace:
    """Where a CIFAR set is in a folder. Raises DataError."""
    kind = KINDS[name]
    what = f"{kind.binary_folder}/ or {kind.python_folder}/ ({kind.title} as published)"
    root = existing(text, name, what)
    for folder in (root / kind.binary_folder, root):
        if (folder / kind.train[0]).is_file():
            return CifarPlace(kind, folder, True)
    home = root.parent if root.name == kind.python_folder else root
    if not (home / kind.python_folder).is_dir():
        packed = sorted(path.name for path in root.glob("cifar-*.tar.gz"))
        hint = f"unpack {packed[0]} there" if packed else "it takes the unpacked archive"
        raise DataError(f"{root} does not hold {what}; {hint}")
    return CifarPlace(kind, home, False)
