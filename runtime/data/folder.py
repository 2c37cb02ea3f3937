"""``folder:DIR``: images in a folder for each class, as ImageNet's are kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from torchvision.datasets.folder import IMG_EXTENSIONS

from danetc.dsl.files import open_regular
from danetc.runtime.data.folders import (
    class_files,
    class_table,
    existing,
    files_fingerprint,
    splits,
)
from danetc.runtime.data.images import decode_image
from danetc.runtime.data.source import DataSet, Files, Policy
from danetc.runtime.errors import UnreadableError

WHAT = "images"


@dataclass(frozen=True, eq=False)
class ImageFiles(Files):
    """Images [3, H, W] of any size, uint8, read from below ``root``."""

    root: Path

    def where(self, index: int) -> str:
        return str(self.root / self.names[index])

    def read(self, index: int) -> Tensor:
        where = self.where(index)
        try:
            with open_regular(where) as stream:
                data = stream.read()
        except OSError as error:
            raise UnreadableError(f"{where} cannot be read: {error.strerror or error}") from error
        return decode_image(data, where)


def open_folder(text: str, policy: Policy) -> DataSet:
    """DIR/train/CLASS/* and DIR/val/CLASS/* (or test), with files as torchvision knows them.

    Classes are numbered in the order of their names in train. Raises DataError where the folders
    are not so.
    """
    root = existing(text, "folder", "train/CLASS/ and val/CLASS/ with images")
    train_root, test_root = splits(root, "folder", WHAT)
    classes = class_table(train_root, test_root, WHAT)
    train = class_files(train_root, classes, IMG_EXTENSIONS, WHAT)
    test = class_files(test_root, classes, IMG_EXTENSIONS, WHAT)
    return DataSet(
        name="folder",
        text=f"folder:{text}",
        class_names=classes,
        train=ImageFiles(*train, policy, train_root),
        test=ImageFiles(*test, policy, test_root),
        shape=None,
        fingerprint=files_fingerprint(classes, (train_root, *train), (test_root, *test)),
        details={"channels": 3, "test_folder": test_root.name},
    )
