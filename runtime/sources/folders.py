"""Folders of data, looked at from outside: whether they are there, their splits, their classes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from danetc.dsl.diagnostics.diagnostic import closest, did_you_mean
from danetc.runtime.system.errors import DataError

IMAGES, RECORDINGS = "images", "recordings"
EXTENSIONS = {
    IMAGES: (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"),
    RECORDINGS: (".npz", ".npy"),
}
"""Endings of files. Those of images are torchvision's."""
TEST_NAMES = ("val", "test", "validation", "valid")
_MANY = 10_000
"""Entries of a folder among which a misspelt one is looked for."""


def existing(directory: str, kind: str, what: str) -> Path:
    """The folder of ``kind:directory``. Raises DataError where it is missing or empty."""
    if not directory:
        raise DataError(f"`{kind}` needs a folder: {kind}:DIR, where DIR holds {what}")
    path = Path(directory).expanduser()
    if not path.exists():
        hint = near(path) or f"{kind}:DIR takes one that holds {what}"
        raise DataError(f"there is no folder {path}; {hint}")
    if not path.is_dir():
        raise DataError(f"{path} is no folder; {kind}:DIR takes one that holds {what}")
    if not any(path.iterdir()):
        raise DataError(f"the folder {path} is empty; {kind}:DIR takes one that holds {what}")
    return path


def near(path: Path) -> str | None:
    """``did you mean ...`` for a path that is not there: by what stands where it goes wrong."""
    missing = path.absolute()
    while not missing.parent.exists() and missing != missing.parent:
        missing = missing.parent
    try:
        with os.scandir(missing.parent) as entries:
            names = [each.name for each in islice(entries, _MANY)]
    except OSError:
        return None
    close = closest(missing.name, names)
    if close is None:
        return None
    there = missing.with_name(close)
    whole = there / path.absolute().relative_to(missing)
    found = whole if whole.exists() else there
    return f"did you mean `{found if path.is_absolute() else os.path.relpath(found)}`?"


def splits(root: Path, kind: str, what: str) -> tuple[Path, Path]:
    """``root/train`` and the first of ``root/val``, ``root/test``. Raises DataError."""
    train = root / "train"
    if not train.is_dir():
        hint = f"{kind}:DIR takes DIR/train/CLASS/ and DIR/val/CLASS/ with {what}"
        if root.name in ("train", *TEST_NAMES) and (root.parent / "train").is_dir():
            hint = f"did you mean `{kind}:{root.parent}`?"
        raise DataError(f"{root} has no folder `train`; {hint}")
    for name in TEST_NAMES:
        if (root / name).is_dir():
            return train, root / name
    raise DataError(
        f"{root} has `train` but no folder `val` or `test`; every epoch is tested on one: split "
        f"some {what} off into {root}/val/CLASS/"
    )


@dataclass(frozen=True, slots=True)
class ClassFolders:
    """Two folders with the same class folders, in the order of their names in ``train``."""

    train: Path
    test: Path
    classes: tuple[str, ...]


def class_folders(directory: str, kind: str, what: str) -> ClassFolders:
    """Those of ``kind:directory``, where ``what`` lie. Raises DataError where they are not so."""
    holds = f"train/CLASS/ and val/CLASS/ with {what}"
    train, test = splits(existing(directory, kind, holds), kind, what)
    found = ClassFolders(train, test, class_table(train, test, what))
    for split in (train, test):
        if not _holds(split / found.classes[0], EXTENSIONS[what]):
            raise without_files(split / found.classes[0], what)
    return found


def without_files(folder: Path, what: str) -> DataError:
    """What to raise where a class has no files."""
    return DataError(
        f"{folder} holds no {what} ({', '.join(EXTENSIONS[what])}); "
        "fill it, or take the class away from train and val"
    )


def _holds(folder: Path, extensions: tuple[str, ...]) -> bool:
    """Whether a folder, or one below it, holds a file with one of these endings."""
    return any(
        name.lower().endswith(extensions)
        for _, _, names in os.walk(folder, followlinks=True)
        for name in names
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
