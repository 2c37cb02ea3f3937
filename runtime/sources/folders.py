"""Folders of data, looked at from outside: whether they are there, their splits, their classes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from danetc.dsl.diagnostics.diagnostic import did_you_mean
from danetc.runtime.sources.options import Placed, class_list, placed
from danetc.runtime.sources.places import existing
from danetc.runtime.system.errors import DataError

IMAGES, RECORDINGS = "images", "recordings"
EXTENSIONS = {
    IMAGES: (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"),
    RECORDINGS: (".npz", ".npy"),
}
"""Endings of files. Those of images are torchvision's."""
KNOWN = ("train", "test", "classes")
"""Options of a folder."""
TEST_NAMES = ("val", "test", "validation", "valid")


def splits(root: Path, kind: str, what: str, asked: Placed) -> tuple[Path, Path]:
    """``root/train`` and the first of ``root/val``, ``root/test``, or the folders that the options
    ``train`` and ``test`` name; twice the same where ``test`` is a share. Raises DataError.
    """
    train = root / (asked.get("train") or "train")
    if asked.share is not None and asked.get("train") is None and not train.is_dir():
        train = root  # of a folder without splits
    if not train.is_dir():
        hint = f"{kind}:DIR takes DIR/train/CLASS/ and DIR/val/CLASS/ with {what}"
        if root.name in ("train", *TEST_NAMES) and (root.parent / "train").is_dir():
            hint = f"did you mean `{kind}:{root.parent}`?"
        elif (others := _others(root, train.name)) is not None:
            hint = f"{others}: name two, as in {kind}:DIR,train=NAME,test=NAME"
        raise DataError(f"{root} has no folder `{train.name}`; {hint}")
    if asked.share is not None:
        return train, train
    named = asked.get("test")
    for name in (named,) if named is not None else TEST_NAMES:
        if (root / name).is_dir():
            return train, root / name
    if named is not None:
        hint = _others(root, named) or f"{kind}:DIR takes DIR/{named}/CLASS/ with {what}"
        raise DataError(f"{root} has no folder `{named}`; {hint}")
    raise DataError(
        f"{root} has `{train.name}` but no folder `val` or `test`; every epoch is tested on one: "
        f"split some {what} off into {root}/val/CLASS/, name another folder (,test=NAME), or hold out "
        "a share (,test=0.2)"
    )


def _others(root: Path, name: str) -> str | None:
    """What a folder that is not there may mean among those that are."""
    there = sorted(each.name for each in root.iterdir() if each.is_dir())
    if not there:
        return None
    listed = ", ".join(there[:8]) + (", ..." if len(there) > 8 else "")
    return did_you_mean(name, there) or f"there is {listed}"


@dataclass(frozen=True, slots=True)
class ClassFolders:
    """Two folders with the same class folders, in the order of their names in ``train`` or of a list.

    Where a ``share`` is held out to test on, both are one.
    """

    train: Path
    test: Path
    classes: tuple[str, ...]
    asked: Placed = Placed("", {})

    @property
    def share(self) -> float | None:
        return self.asked.share


def class_folders(text: str, kind: str, what: str) -> ClassFolders:
    """Those of ``kind:DIR``, with options behind, where ``what`` lie. Raises DataError where they are
    not so.
    """
    asked = placed(text, kind, (*KNOWN, "size", "by") if what == RECORDINGS else KNOWN)
    holds = f"train/CLASS/ and val/CLASS/ with {what}"
    train, test = splits(existing(asked.place, kind, holds), kind, what, asked)
    listed = class_list(asked.get("classes"))
    found = ClassFolders(train, test, class_table(train, test, what, listed), asked)
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


def class_table(train: Path, test: Path, what: str, listed: Sequence[str] = ()) -> tuple[str, ...]:
    """The classes, by the folders of ``train``, or those of a list, which may leave some out. Raises
    DataError where those of ``test`` differ.
    """
    names = _class_folders(train, what)
    others = _class_folders(test, what)
    if listed:
        for folder, there in ((train, names), (test, others)):
            for name in listed:
                if name not in there:
                    hint = did_you_mean(name, there) or "leave it out of the list"
                    raise DataError(f"{folder} has no class folder `{name}`; {hint}")
        return tuple(listed)
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
