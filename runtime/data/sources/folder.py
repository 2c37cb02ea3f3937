"""``folder:DIR``: images in a folder for each class, in the layout of ImageNet."""

from __future__ import annotations

from typing import Any

from danetc.runtime.data.class_folders import ClassFolders, class_folders
from danetc.runtime.data.request import DataRequest, DataSource


def _look(request: DataRequest) -> ClassFolders:
    return class_folders(request, "images")


def _open(request: DataRequest, found: ClassFolders) -> Any:
    from danetc.runtime.data.files import class_files, class_folder_set
    from danetc.runtime.data.images import read_image

    details = {"channels": 3, "test_folder": found.test.name}
    train = class_files(found.train, found)
    return class_folder_set(request, found, train, read_image, shape=None, details=details)


SOURCE = DataSource(
    "folder:DIR",
    "images in DIR/train/CLASS/ and DIR/val/CLASS/",
    _look,
    _open,
    ("train", "test", "classes"),
)
