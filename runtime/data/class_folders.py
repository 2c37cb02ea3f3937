"""Folders with a subfolder for each class: their splits and classes. Never imports torch."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from danetc.dsl.diagnostics.diagnostic import did_you_mean
from danetc.runtime.data.request import TEST_NAMES, DataRequest, existing
from danetc.runtime.system.errors import DataError

Content = Literal["images", "recordings"]
EXTENSIONS: dict[Content, tuple[str, ...]] = {
    "images": (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"),
    "recordings": (".npz", ".npy"),
}
"""Endings of files; those of images are torchvision's."""


@dataclass(frozen=True, slots=True)
class ClassFolders:
    """Two folders with the same class folders; the same folder twice if a share is held out."""

    train: Path
    test: Path
    content: Content
    classes: tuple[str, ...]


def class_folders(request: DataRequest, content: Content) -> ClassFolders:
    """Return the splits and classes of ``NAME:DIR``. Raises DataError for any other layout."""
    form = f"{request.name}:DIR"
    root = existing(request.place, form, f"train/CLASS/ and val/CLASS/ with {content}")
    train, test = _splits(root, form, content, request)
    found = ClassFolders(
        train, test, content, common_classes(train, test, content, request.classes)
    )
    for folder in (train / found.classes[0], test / found.classes[0]):
        walk = os.walk(folder, followlinks=True)
        files = (name.lower() for _, _, names in walk for name in names)
        if not any(name.endswith(EXTENSIONS[content]) for name in files):
            raise without_files(folder, content)
    return found


def without_files(folder: Path, content: Content) -> DataError:
    """Return the error for a class without files."""
    return DataError(
        f"{folder} holds no {content} ({', '.join(EXTENSIONS[content])}); "
        "fill it, or remove the class from train and val"
    )


def _splits(root: Path, form: str, content: Content, request: DataRequest) -> tuple[Path, Path]:
    """Return the folders that ``train`` and ``test`` name, by default ``train`` and ``val`` or
    ``test``; one folder twice if a share of it is held out.
    """
    train = root / (request.get("train") or "train")
    if request.share is not None and request.get("train") is None and not train.is_dir():
        train = root  # it has no splits
    if not train.is_dir():
        hint = f"{form} takes DIR/train/CLASS/ and DIR/val/CLASS/ with {content}"
        if root.name in ("train", *TEST_NAMES) and (root.parent / "train").is_dir():
            hint = f"did you mean `{request.name}:{root.parent}`?"
        elif (others := _other_folders(root, train.name)) is not None:
            hint = f"{others}: name two, as in {form},train=NAME,test=NAME"
        raise DataError(f"{root} has no folder `{train.name}`; {hint}")
    if request.share is not None:
        return train, train
    named = request.get("test")
    for name in TEST_NAMES if named is None else (named,):
        if (root / name).is_dir():
            return train, root / name
    if named is not None:
        hint = _other_folders(root, named) or f"{form} takes DIR/{named}/CLASS/ with {content}"
        raise DataError(f"{root} has no folder `{named}`; {hint}")
    raise DataError(
        f"{root} has `{train.name}` but no folder `val` or `test`; every epoch is tested on one: "
        f"move some {content} into {root}/val/CLASS/, name another folder (,test=NAME), or hold out "
        "a share (,test=0.2)"
    )


def _other_folders(root: Path, name: str) -> str | None:
    """Return a hint that names the folders in ``root`` in place of a missing one."""
    there = sorted(each.name for each in root.iterdir() if each.is_dir())
    if not there:
        return None
    listed = ", ".join(there[:8]) + (", ..." if len(there) > 8 else "")
    return did_you_mean(name, there) or f"there is {listed}"


def common_classes(
    train: Path, test: Path, content: Content, listed: tuple[str, ...] = ()
) -> tuple[str, ...]:
    """Return the class folders of ``train`` in the order of their names, or those that are listed.

    Raises DataError if a class is missing from either split, or ``test`` has further ones.
    """
    there = {folder: _class_names(folder, content) for folder in (train, test)}
    for folder, names in there.items():
        for name in listed:
            if name not in names:
                hint = did_you_mean(name, names) or "leave it out of the list"
                raise DataError(f"{folder} has no class folder `{name}`; {hint}")
    if listed:
        return listed
    names, others = there[train], there[test]
    if unknown := [name for name in others if name not in names]:
        hint = did_you_mean(unknown[0], names) or "both must have the same class folders"
        raise DataError(
            f"{test / unknown[0]} is a class that {train} does not have "
            f"({len(unknown)} of {len(others)} classes are unknown); {hint}"
        )
    if missing := [name for name in names if name not in others]:
        shown = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
        raise DataError(
            f"{test} lacks {len(missing)} of the {len(names)} classes of {train}: {shown}; "
            "both must have the same class folders"
        )
    return names


def _class_names(split: Path, content: Content) -> tuple[str, ...]:
    with os.scandir(split) as entries:
        found = sorted(each.name for each in entries if each.is_dir() and each.name[0] != ".")
    if not found:
        files = sum(each.is_file() for each in split.iterdir())
        holds = f"holds {files} files but no class folders" if files else "is empty"
        raise DataError(f"{split} {holds}; put the {content} of each class into {split}/CLASS/")
    return tuple(found)
