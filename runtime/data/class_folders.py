"""Folders with a subfolder for each class: their splits and classes. Never imports torch."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from danetc.dsl.diagnostics.diagnostic import did_you_mean
from danetc.runtime.data.request import TEST_NAMES, TRAIN_NAMES, DataRequest, existing
from danetc.runtime.system.errors import DataError

Content = Literal["images", "recordings"]
EXTENSIONS: dict[Content, tuple[str, ...]] = {
    "images": (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp"),
    "recordings": (".npz", ".npy"),
}
"""Endings of files; those of images are torchvision's."""


@dataclass(frozen=True, slots=True)
class ClassFolders:
    """Folders of the two splits, which have the same class folders. Both are the same folder if a
    fraction of the samples is held out."""

    train: Path
    test: Path
    content: Content
    classes: tuple[str, ...]


def class_folders(request: DataRequest, content: Content) -> ClassFolders:
    """Return the splits and classes of ``NAME:DIR``, which the options may name."""
    holds = f"train/CLASS/ and val/CLASS/ with {content}"
    root = existing(request.place, f"{request.name}:DIR", holds)
    there = sorted(each.name for each in root.iterdir() if each.is_dir())
    train = test = root
    if request.share is None or request.options.get("train") or "train" in there:
        train = test = root / request.chosen("train", TRAIN_NAMES, there, "folder", str(root))
    if request.share is None:
        test = root / request.chosen("test", TEST_NAMES, there, "folder", str(root))
    found = {split: _class_names(split, content) for split in (test, train)}
    classes = request.classes or tuple(sorted({*found[train], *found[test]}))
    for split, names in found.items():
        if missing := [name for name in classes if name not in names]:
            hint = did_you_mean(missing[0], names) or "both splits must have the same classes"
            raise DataError(
                f"{split} has no class folder `{missing[0]}` ({len(missing)} of {len(classes)} are "
                f"missing); {hint}"
            )
        files = (file for *_, own in os.walk(split / classes[0], followlinks=True) for file in own)
        if not any(name.lower().endswith(EXTENSIONS[content]) for name in files):
            raise without_files(split / classes[0], content)
    return ClassFolders(train, test, content, classes)


def without_files(folder: Path, content: Content) -> DataError:
    """Return the error for a class without files."""
    return DataError(
        f"{folder} holds no {content} ({', '.join(EXTENSIONS[content])}); "
        "fill it, or remove the class from train and val"
    )


def _class_names(split: Path, content: Content) -> tuple[str, ...]:
    with os.scandir(split) as entries:
        found = sorted(each.name for each in entries if each.is_dir() and each.name[0] != ".")
    if not found:
        files = sum(each.is_file() for each in split.iterdir())
        holds = f"holds {files} files but no class folders" if files else "is empty"
        raise DataError(f"{split} {holds}; put the {content} of each class into {split}/CLASS/")
    return tuple(found)
