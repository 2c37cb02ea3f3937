"""``folder:DIR``: images in a folder for each class, as ImageNet's are kept."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from danetc.dsl.files import open_regular
from danetc.runtime.data.class_files import class_files, class_folder_set
from danetc.runtime.data.files import FilesBelow
from danetc.runtime.data.images import decode_image
from danetc.runtime.data.source import DataSet
from danetc.runtime.sources.folders import IMAGES as WHAT
from danetc.runtime.sources.folders import class_folders
from danetc.runtime.sources.request import DataRequest
from danetc.runtime.system.errors import UnreadableError


@dataclass(frozen=True, eq=False)
class ImageFiles(FilesBelow):
    """Images [3, H, W] of any size, uint8, read from below ``root``."""

    def read(self, index: int) -> Tensor:
        where = self.where(index)
        try:
            with open_regular(where) as stream:
                data = stream.read()
        except OSError as error:
            raise UnreadableError(f"{where} cannot be read: {error.strerror or error}") from error
        return decode_image(data, where)


def open_source(request: DataRequest) -> DataSet:
    """DIR/train/CLASS/* and DIR/val/CLASS/* (or test), with files as torchvision knows them.

    Classes are numbered in the order of their names in train. Raises DataError where the folders
    are not so.
    """
    found = class_folders(request.argument, request.name, WHAT)
    train = class_files(found.train, found.classes, WHAT)
    return class_folder_set(
        request, found, train, WHAT,
        lambda names, labels, root: ImageFiles(names, labels, request.policy, root),
        name="folder", shape=None, details={"channels": 3, "test_folder": found.test.name},
    )  # fmt: skip
