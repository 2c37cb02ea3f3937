"""What sources that read a folder share: a folder that is there, its classes, its files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from danetc.dsl.diagnostics import did_you_mean
from danetc.runtime.data.source import Strings, facts_fingerprint
from danetc.runtime.errors import DataError

TEST_NAMES = ("val", "test", "validation", "valid")
_SIZED = 1000  # files whose sizes go into the fingerprint: asking for a million takes minutes


def existing(directory: str, kind: str, what: str) -> Path:
    """The folder of ``kind:directory``. Raises DataError where it is missing or empty."""
    if not directory:
        raise DataError(f"`{kind}` needs a folder: {kind}:DIR, where DIR holds {what}")
    path = Path(directory).expanduser()
    if not path.exists():
        raise DataError(f"there is no folder {path}; {kind}:DIR takes one that holds {what}")
    if not path.is_dir():
        raise DataError(f"{path} is no folder; {kind}:DIR takes one that holds {what}")
    if not any(path.iterdir()):
        raise DataError(f"the folder {path} is empty; {kind}:DIR takes one that holds {what}")
    return path


def splits(root: Path, kind: str, what: str) -> tuple[Path, Path]:
    """``root/train`` and the first of ``root/val``, ``root/test``. Raises DataError."""
    train = root / "train"
    if not train.is_dir():
        raise DataError(
            f"{root} has no folder `train`; {kind}:DIR takes DIR/train/CLASS/ and DIR/val/CLASS/ "
            f"with {what}"
        )
    for name in TEST_NAMES:
        if (root / name).is_dir():
            return train, root / name
    raise DataError(
        f"{root} has `train` but no folder `val` or `test`; every epoch is tested on one: split "
        f"some {what} off into {root}/val/CLASS/"
    )


def class_table(train: Path, test: Path, what: str) -> tuple[str, ...]:
    """The classes, by the folders of ``train``. Raises DataError where those of ``test`` differ."""
    names = _class_folders(train, what)
    others = _class_folders(test, what)
    unknown = [name for name in others if name not in names]
    if unknown:
        hint = did_you_mean(unknown[0], names) or "both must have the same class folders"
        raise DataError(
            f"{test / unknown[0]} is a class that {train} does not have "
            f"({len(unknown)} of {len(others)} classes are unknown); {hint}"
        )
    missing = [name for name in names if name not in others]
    if missing:
        shown = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise DataError(
            f"{test} lacks {len(missing)} of the {len(names)} classes of {train}: {shown}; "
            "both must have the same class folders"
        )
    return names


def _class_folders(split: Path, what: str) -> tuple[str, ...]:
    with os.scandir(split) as entries:
        found = sorted(each.name for each in entries if each.is_dir() and each.name[0] != ".")
    if not found:
        files = sum(1 for each in split.iterdir() if each.is_file())
        holds = f"holds {files} files but no class folders" if files else "is empty"
        raise DataError(f"{split} {holds}; put the {what} of each class into {split}/CLASS/")
    return tuple(found)


def class_files(
    split: Path, classes: Sequence[str], extensions: tuple[str, ...], what: str
) -> tuple[Strings, Tensor]:
    """All files of these kinds as paths below ``split``, and their classes, in a fixed order.

    Raises DataError where a class has none.
    """
    from torchvision.datasets.folder import make_dataset

    table = {name: number for number, name in enumerate(classes)}
    found = make_dataset(str(split), table, extensions=extensions, allow_empty=True)
    labels = torch.tensor([label for _, label in found], dtype=torch.int64)
    counts = labels.bincount(minlength=len(classes))
    if not counts.all():
        empty = split / classes[int(counts.argmin())]
        raise DataError(
            f"{empty} holds no {what} ({', '.join(extensions)}); "
            "fill it, or take the class away from train and val"
        )
    below = f"{split}{os.sep}"
    return Strings(path.removeprefix(below) for path, _ in found), labels


def files_fingerprint(classes: Sequence[str], *parts: tuple[Path, Strings, Tensor]) -> str:
    """Of all names and labels, and of the sizes of files evenly spread over them."""
    facts: list[object] = [tuple(classes)]
    for root, names, labels in parts:
        facts += [names.digest(), labels.bincount().tolist()]
        try:
            facts += [
                (root / names[index]).stat().st_size
                for index in range(0, len(names), max(1, len(names) // _SIZED))
            ]
        except OSError as error:
            raise DataError(f"{error.filename} cannot be read: {error.strerror}") from error
    return facts_fingerprint(facts)
