"""Folders: ``folder:DIR``, images in the layout of ImageNet, ``events:DIR``, recordings of event cameras in the
same layout, and ``webdataset:DIR``, images in tar files as the library webdataset writes them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from danetc.dsl.diagnostics.diagnostic import did_you_mean
from danetc.runtime.data.request import (
    EXTENSIONS,
    SPLIT_NAMES,
    DataRequest,
    DataSource,
    existing,
    without_files,
)
from danetc.runtime.system.errors import DataError

ClassFolders = tuple[str, dict[str, Path], tuple[str, ...]]
"""The content of the files, the folder of each split (one if a share is held out), and the classes."""


def _look_at_folders(request: DataRequest) -> ClassFolders:
    """Return the splits and classes of ``NAME:DIR``, which the options may name."""
    content = "images" if request.name == "folder" else "recordings"
    holds = f"train/CLASS/ and val/CLASS/ with {content}"
    root = existing(request.place, f"{request.name}:DIR", holds)
    there = {each.name: each for each in sorted(root.iterdir()) if each.is_dir()}
    splits = {"train": root}
    if request.share is None or request.options.get("train") or "train" in there:
        splits = request.splits(there, "folder", str(root))
    found = {split: _class_names(split, content) for split in reversed(splits.values())}
    classes = request.classes or tuple(sorted({name for names in found.values() for name in names}))
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
    return content, splits, classes


def _class_names(split: Path, content: str) -> tuple[str, ...]:
    with os.scandir(split) as entries:
        found = sorted(each.name for each in entries if each.is_dir() and each.name[0] != ".")
    if not found:
        files = sum(each.is_file() for each in split.iterdir())
        holds = f"holds {files} files but no class folders" if files else "is empty"
        raise DataError(f"{split} {holds}; put the {content} of each class into {split}/CLASS/")
    return tuple(found)


def _open_folders(request: DataRequest, found: ClassFolders) -> Any:
    from danetc.runtime.data.files import class_folder_set

    return class_folder_set(request, *found)


IMAGES = DataSource(
    "folder:DIR",
    "images in DIR/train/CLASS/ and DIR/val/CLASS/",
    _look_at_folders,
    _open_folders,
    ("train", "test", "classes"),
)
EVENTS = DataSource(
    "events:DIR",
    "like `folder`, with frames [T, C, H, W] or events t, x, y, p in npz or npy files",
    _look_at_folders,
    _open_folders,
    ("train", "test", "classes", "size", "by"),
)


def _look_at_shards(request: DataRequest) -> tuple[list[Path], list[Path]]:
    """Return the shards to train and to test on, by the names of their files or else folders."""
    folder = existing(request.place, "webdataset:DIR", "shards (*.tar) with images and labels")
    found = sorted((*folder.glob("*.tar"), *folder.glob("*/*.tar")))
    shards = [path for path in found if path.is_file()]
    if not shards:
        raise DataError(f"{folder} holds no shards (*.tar)")
    sides: dict[str, list[Path]] = {split: [] for split in SPLIT_NAMES}
    for path in shards:
        for text in (path.name, path.parent.name):
            words = {*re.split("[^a-z]+", text.lower())}
            named = [split for split, names in SPLIT_NAMES.items() if words & {*names}]
            if len(named) == 1:
                sides[named[0]].append(path)
                break
        else:
            raise DataError(
                f"the name of {path} does not say whether it is for training or testing; name "
                "shards train-... and val-..., or put them into folders of such names"
            )
    for split, name in (("train", "training (train-*.tar)"), ("test", "testing (val-*.tar)")):
        if not sides[split]:
            raise DataError(f"none of the {len(shards)} shards is for {name}")
    return sides["train"], sides["test"]


def _open_shards(request: DataRequest, found: tuple[list[Path], list[Path]]) -> Any:
    from danetc.runtime.data.files import shard_set

    return shard_set(request, *found)


WEBDATASET = DataSource(
    "webdataset:DIR", "images in tar files of WebDataset in DIR", _look_at_shards, _open_shards
)
