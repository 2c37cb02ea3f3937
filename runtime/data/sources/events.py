"""``events:DIR``: recordings of event cameras in class folders, as frames or events."""

from __future__ import annotations

from typing import Any

from danetc.runtime.data.class_folders import ClassFolders, class_folders
from danetc.runtime.data.request import DataRequest, DataSource


def _look(request: DataRequest) -> ClassFolders:
    return class_folders(request, "recordings")


def _open(request: DataRequest, found: ClassFolders) -> Any:
    from danetc.runtime.data.files import class_files, class_folder_set
    from danetc.runtime.data.recordings import event_reader

    train = class_files(found.train, found)
    shape, read = event_reader(found.train, train[0], request)
    return class_folder_set(request, found, train, read, shape=shape, events=True)


SOURCE = DataSource(
    "events:DIR",
    "like `folder`, with frames [T, C, H, W] or events t, x, y, p in npz or npy files",
    _look,
    _open,
    ("train", "test", "classes", "size", "by"),
)
