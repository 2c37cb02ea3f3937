"""Small data sets on disk, each in the layout that its publisher uses."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Pixels = np.ndarray


def pixels(seed: int, *shape: int) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def write_idx(path: Path, values: Pixels) -> None:
    """A file of the MNIST format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    path.write_bytes(data + values.tobytes())


@pytest.fixture
def fashion(tmp_path: Path) -> Path:
    """30 + 10 images in torchvision's place."""
    raw = tmp_path / "FashionMNIST" / "raw"
    for prefix, count in (("train", 30), ("t10k", 10)):
        write_idx(raw / f"{prefix}-images-idx3-ubyte", pixels(count, count, 28, 28))
        write_idx(raw / f"{prefix}-labels-idx1-ubyte", np.arange(count, dtype=np.uint8) % 10)
    return tmp_path


MakeFolder = Callable[..., Path]


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    """A folder of images, ImageNet's layout; every size and mode that files come in."""

    def make(
        classes: tuple[str, ...] = ("cat", "dog", "owl"),
        count: int = 4,
        test: str = "val",
        size: tuple[int, int] | None = None,
    ) -> Path:
        root = tmp_path / "images"
        modes = ("RGB", "L", "P", "RGBA", "CMYK")
        kinds = (".JPEG", ".png", ".png", ".png", ".jpg")
        seed = 0
        for split in ("train", test):
            for name in classes:
                (root / split / name).mkdir(parents=True)
                for number in range(count):
                    seed += 1
                    mode, kind = modes[seed % 5], kinds[seed % 5]
                    width, height = size or (18 + seed % 5, 16 + seed % 3)
                    image = Image.fromarray(pixels(seed, height, width, 3)).convert(mode)
                    image.save(root / split / name / f"{number}{kind}")
        return root

    return make


MakeEvents = Callable[..., Path]


@pytest.fixture
def make_events(tmp_path: Path) -> MakeEvents:
    """Frames [T, 2, 6, 6] of two classes, 5 + 2 recordings each, in npz and npy files."""

    def make(steps: int = 4) -> Path:
        root = tmp_path / "events"
        for split, count in (("train", 5), ("test", 2)):
            for label, name in enumerate(("left", "right")):
                folder = root / split / name
                folder.mkdir(parents=True)
                for number in range(count):
                    frames = pixels(10 * number + label, steps, 2, 6, 6) % 9
                    if number % 2:
                        np.save(folder / f"{number}.npy", frames)
                    else:
                        np.savez(folder / f"{number}.npz", frames=frames.astype(np.float64))
        return root

    return make


class Trap:
    """Unpickling this writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.write_text, (self.path, "ran")


def saved(save: Callable[..., None], *arrays: object, **named: object) -> bytes:
    """The bytes of a file of numpy."""
    stream = io.BytesIO()
    save(stream, *arrays, **named)
    return stream.getvalue()
