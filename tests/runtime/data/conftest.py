"""Small data sets on disk, each in the layout that its publisher uses."""

import io
import re
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from danetc.runtime.data.registry import open_data
from danetc.runtime.system.errors import DataError


def pixels(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def refused(told: str, data: Any, **options: Any) -> None:
    """Opening the data raises a DataError with this text."""
    with pytest.raises(DataError, match=re.escape(told)):
        open_data(data, **options)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_idx(path: Path, values: np.ndarray) -> None:
    """Write a file in the MNIST format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    path.write_bytes(data + values.tobytes())


Place = tuple[str, int, int, Path]


def class_folders(root: Path, splits: Mapping[str, int], names: Sequence[str]) -> Iterator[Place]:
    """Make class folders; yield split, label, number and path without suffix of each file."""
    for split, count in splits.items():
        for label, name in enumerate(names):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                yield split, label, number, root / split / name / str(number)


def image_folder(tmp_path: Path, count: int = 4, size: tuple[int, int] | None = None) -> Path:
    """Make a folder of images in ImageNet's layout, with several sizes, modes and formats."""
    root = tmp_path / "images"
    modes = ("RGB", "L", "P", "RGBA", "CMYK")
    kinds = (".JPEG", ".png", ".png", ".png", ".jpg")
    splits = {"train": count, "val": count}
    places = class_folders(root, splits, ("cat", "dog", "owl"))
    for seed, (*_, path) in enumerate(places, 1):
        width, height = size or (18 + seed % 5, 16 + seed % 3)
        image = Image.fromarray(pixels(seed, height, width, 3)).convert(modes[seed % 5])
        image.save(path.with_suffix(kinds[seed % 5]))
    return root


class Trap:
    """Unpickling this writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.write_text, (self.path, "ran")


def saved(save: Callable[..., None], *arrays: object, **named: object) -> bytes:
    """The bytes that ``save`` writes."""
    stream = io.BytesIO()
    save(stream, *arrays, **named)
    return stream.getvalue()
