"""Class folders: ``folder:DIR``, images in the layout of ImageNet, and ``events:DIR``, recordings of event cameras."""

from __future__ import annotations

from typing import Any

from danetc.runtime.data.class_folders import ClassFolders, class_folders
from danetc.runtime.data.request import DataRequest, DataSource


def _look(request: DataRequest) -> ClassFolders:
    return class_folders(request, "images" if request.name == "folder" else "recordings")


def _open(request: DataRequest, found: ClassFolders) -> Any:
    from danetc.runtime.data.files import class_files, class_folder_set
    from danetc.runtime.data.images import read_image
    from danetc.runtime.data.recordings import event_reader

    train = class_files(found.train, found)
    if found.content == "recordings":
        shape, read = event_reader(found.train, train[0], request)
        return class_folder_set(request, found, train, read, shape=shape, events=True)
    details = {"channels": 3, "test_folder": found.test.name}
    return class_folder_set(request, found, train, read_image, shape=None, details=details)


IMAGES = DataSource(
    "folder:DIR",
    "images in DIR/train/CLASS/ and DIR/val/CLASS/",
    _look,
    _open,
    ("train", "test", "classes"),
)
EVENTS = DataSource(
    "events:DIR",
    "like `folder`, with frames [T, C, H, W] or events t, x, y, p in npz or npy files",
    _look,
    _open,
    ("train", "test", "classes", "size", "by"),
)
