"""Folders: ``folder:DIR``, images in the layout of ImageNet, ``events:DIR``, recordings of event cameras in the
same layout, and ``webdataset:DIR``, images in tar files as the library webdataset writes them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from danetc.dsl.diagnostics.diagnostic import did_you_mean
from danetc.runtime.data.request import (
    TEST_NAMES,
    TRAIN_NAMES,
    ClassFolders,
    DataRequest,
    DataSource,
    existing,
)
from danetc.runtime.system.errors import DataError


def _look_at_folders(request: DataRequest) -> ClassFolders:
    """Return the splits and classes of ``NAME:DIR``, which the options may name."""
    content = "images" if request.name == "folder" else "recordings"
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
    folders = ClassFolders(train, test, content, classes)
    for split, names in found.items():
        if missing := [name for name in classes if name not in names]:
            hint = did_you_mean(missing[0], names) or "both splits must have the same classes"
            raise DataError(
                f"{split} has no class folder `{missing[0]}` ({len(missing)} of {len(classes)} are "
                f"missing); {hint}"
            )
        files = (file for *_, own in os.walk(split / classes[0], followlinks=True) for file in own)
        if not any(name.lower().endswith(folders.endings) for name in files):
            raise folders.without_files(split, 0)
    return folders


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

    return class_folder_set(request, found)


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
    train: list[Path] = []
    test: list[Path] = []
    for path in shards:
        for text in (path.name, path.parent.name):
            words = {*re.split("[^a-z]+", text.lower())}
            is_train, is_test = (bool(words & {*names}) for names in (TRAIN_NAMES, TEST_NAMES))
            if is_train != is_test:
                (train if is_train else test).append(path)
                break
        else:
            raise DataError(
                f"the name of {path} does not say whether it is for training or testing; name "
                "shards train-... and val-..., or put them into folders of such names"
            )
    for side, name in ((train, "training (train-*.tar)"), (test, "testing (val-*.tar)")):
        if not side:
            raise DataError(f"none of the {len(shards)} shards is for {name}")
    return train, test


def _open_shards(request: DataRequest, found: tuple[list[Path], list[Path]]) -> Any:
    from danetc.runtime.data.files import shard_set

    return shard_set(request, *found)


WEBDATASET = DataSource(
    "webdataset:DIR", "images in tar files of WebDataset in DIR", _look_at_shards, _open_shards
)
