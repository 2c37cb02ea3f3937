"""A small data set for every source in `danetc.runtime.data.SOURCES`, on disk if it has files."""

import io
import pickle
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import md5
from pathlib import Path

import numpy as np
from PIL import Image
from torchvision.datasets import CIFAR10, CIFAR100

from tests.runtime.data.conftest import class_folders, pixels, saved, write_idx


@dataclass(frozen=True)
class Small:
    """How to make the data set in a folder, and what a network needs for it.

    ``make`` returns the text of `--data`. ``evaluate`` brings its images, or larger ones, to ``size``.
    """

    make: Callable[[Path], str]
    channels: int
    size: int
    classes: int
    frames: int = 0
    augment: str = "none"
    evaluate: str = "none"
    options: tuple[str, ...] = ()

    @property
    def input(self) -> str:
        kind = "events" if self.frames else "image"
        return f"{kind}({self.channels}, {self.size}, {self.size})"


def _image(seed: int, label: int, height: int, width: int) -> np.ndarray:
    return pixels(label, 1, 1, 3) // 2 + pixels(seed, height, width, 3) // 2


def _sizes(split: str, seed: int) -> tuple[int, int]:
    """Training images have many sizes. Test images have one and need no `evaluate` step."""
    return (12, 12) if split == "val" else (12 + seed % 5, 13 + seed % 7)


def make_folder(root: Path) -> str:
    places = class_folders(root, {"train": 12, "val": 7}, ("cat", "dog", "owl"))
    for split, label, number, path in places:
        seed = 100 * label + number + 1000 * (split == "val")
        image = Image.fromarray(_image(seed, label, *_sizes(split, seed)))
        image.save(path.with_suffix(".png"))
    return f"folder:{root}"


def write_shard(path: Path, files: Mapping[str, bytes]) -> None:
    with tarfile.open(path, "w") as shard:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            shard.addfile(member, io.BytesIO(data))


def _webdataset(root: Path) -> str:
    root.mkdir()
    for split, count in (("train", 30), ("val", 20)):
        files = {}
        for number in range(count):
            label, seed = number % 3, number + 1000 * (split == "val")
            image = Image.fromarray(_image(seed, label, *_sizes(split, seed)))
            files[f"{number:04}.png"] = saved(lambda stream, each: each.save(stream, "PNG"), image)
            files[f"{number:04}.cls"] = str(label).encode()
        write_shard(root / f"{split}-00.tar", files)
    return f"webdataset:{root}"


def _fashion(root: Path) -> str:
    raw = root / "FashionMNIST" / "raw"
    for prefix, count in (("train", 40), ("t10k", 23)):
        write_idx(raw / f"{prefix}-images-idx3-ubyte", pixels(count, count, 28, 28))
        write_idx(raw / f"{prefix}-labels-idx1-ubyte", np.arange(count, dtype=np.uint8) % 10)
    return f"fashion-mnist:{root}"


def _cifar(root: Path, kind: type[CIFAR10], label: str, classes: int) -> str:
    """Write files of the Python version, and replace the published checksums with theirs."""
    folder = root / kind.base_folder
    folder.mkdir(parents=True)
    names = [f"class{number}" for number in range(classes)]

    def summed(listed: list[list[str]], first: int) -> list[list[str]]:
        for seed, (name, _) in enumerate(listed, first):
            labels = (np.arange(23) % classes).tolist()
            entry = {"data": pixels(seed, 23, 3072), label: labels, kind.meta["key"]: names}
            (folder / name).write_bytes(pickle.dumps(entry, protocol=2))
        return [[name, md5((folder / name).read_bytes()).hexdigest()] for name, _ in listed]

    kind.train_list, kind.test_list = summed(kind.train_list, 0), summed(kind.test_list, 9)
    ((_, digest),) = summed([[kind.meta["filename"], ""]], 0)
    kind.meta = {**kind.meta, "md5": digest}
    return f"cifar{classes}:{root}"


def _events(root: Path) -> str:
    places = class_folders(root, {"train": 8, "test": 5}, ("left", "right"))
    for split, label, number, path in places:
        frames = pixels(10 * number + label + 500 * (split == "test"), 3, 2, 8, 8) % (3 + label)
        if number % 2:
            np.save(path, frames)
        else:
            np.savez(path, frames=frames.astype(np.float64))
    return f"events:{root}"


def _tokens(root: Path) -> str:
    root.mkdir()
    for split, count in (("train", 20), ("test", 9)):
        lines = (f"{'even' if n % 2 == 0 else 'odd'}\tthe number {n}" for n in range(count))
        (root / f"{split}.tsv").write_text("\n".join(lines))
    return f"tokens:{root}"


def _few() -> Iterator[tuple[str, list[np.ndarray], list[int]]]:
    for split, count, seed in (("train", 24, 0), ("test", 13, 50)):
        labels = [number % 3 for number in range(count)]
        yield split, [_image(seed + n, label, 8, 8) for n, label in enumerate(labels)], labels


def _npz(root: Path) -> str:
    arrays = {}
    for split, images, labels in _few():
        arrays |= {f"x_{split}": np.stack(images), f"y_{split}": np.asarray(labels)}
    np.savez(root.with_suffix(".npz"), **arrays)
    return f"npz:{root.with_suffix('.npz')}"


CODE = """
import random

import numpy as np
import torch
from torch.utils.data import Dataset, Subset


class Dots(Dataset):
    classes, targets = ["dark", "light"], [n % 2 for n in range(47)]

    def __len__(self):
        return 47

    def __getitem__(self, index):
        noise = torch.rand(1, 8, 8) * random.random() * np.random.rand()
        image = torch.rand(1, 8, 8, generator=torch.Generator().manual_seed(index))
        return (image + self.targets[index] + noise) / 3, self.targets[index]


def make():
    return Subset(Dots(), range(30)), Subset(Dots(), range(30, 47))
"""


def _python(root: Path) -> str:
    root.with_suffix(".py").write_text(CODE)
    return f"python:{root.with_suffix('.py')}:make"


def _huggingface(root: Path) -> str:
    from datasets import ClassLabel, Dataset, DatasetDict, Features
    from datasets import Image as Picture
    from datasets.utils.logging import disable_progress_bar

    disable_progress_bar()
    kinds = Features({"image": Picture(), "label": ClassLabel(names=["cat", "dog", "owl"])})
    tables = {}
    for split, images, labels in _few():
        columns = {"image": [*map(Image.fromarray, images)], "label": labels}
        tables[split] = Dataset.from_dict(columns, features=kinds)
    DatasetDict(tables).save_to_disk(str(root))
    return f"huggingface:{root}"


def _tonic(root: Path) -> str:
    """Write recordings as tonic stores POKER-DVS: one npy file each, with rows of t, x, y, p."""
    splits = {"pips_train": 12, "pips_test": 5}
    places = class_folders(root / "POKERDVS", splits, ("cl", "he", "di", "sp"))
    for split, label, number, path in places:
        rows = pixels(100 * label + number + 50 * (split == "pips_test"), 90, 4).astype(np.int64)
        rows %= [256, 20 + 5 * label, 20 + 5 * label, 2]
        np.save(path, rows)
    for split in splits:
        (root / "POKERDVS" / f"{split}.tar.gz").write_text("unpacked already")
    return f"tonic:POKERDVS:{root}"


CROP = "random_resized_crop(12, smallest = 0.5)"
SMALL_DATA: Mapping[str, Small] = {
    "digits": Small(
        lambda root: "digits", 1, 8, 2, evaluate="resize(10) -> center_crop(8)",
        options=("--classes", "2"),
    ),
    "fashion-mnist": Small(_fashion, 1, 28, 10, evaluate="normalize(fashion_mnist)"),
    "cifar10": Small(lambda root: _cifar(root, CIFAR10, "labels", 10), 3, 32, 10, evaluate="normalize(cifar10)"),
    "cifar100": Small(lambda root: _cifar(root, CIFAR100, "fine_labels", 100), 3, 32, 100, evaluate="normalize(cifar100)"),
    "folder": Small(
        make_folder, 3, 12, 3, augment=CROP, evaluate="resize(16) -> center_crop(12)"
    ),
    "webdataset": Small(
        _webdataset, 3, 12, 3, augment=CROP,
        evaluate="resize(14) -> center_crop(12) -> normalize(imagenet)",
    ),
    "events": Small(_events, 2, 8, 2, frames=3, evaluate="resize(10) -> center_crop(8)"),
    "npz": Small(_npz, 3, 8, 3, augment="horizontal_flip", evaluate="resize(9) -> center_crop(8)"),
    "python": Small(_python, 1, 8, 2, evaluate="resize(9) -> center_crop(8)"),
    "huggingface": Small(
        _huggingface, 3, 8, 3, augment="horizontal_flip", evaluate="resize(9) -> center_crop(8)"
    ),
    "tonic": Small(_tonic, 2, 35, 4, frames=3, evaluate="resize(37) -> center_crop(35)"),
    "tokens": Small(_tokens, 1, 1, 2, frames=3),
    "synthetic": Small(
        lambda root: "synthetic:size=8,channels=1,classes=3,count=40,test=21", 1, 8, 3,
        evaluate="resize(9) -> center_crop(8)",
    ),
}  # fmt: skip
"""The keys are the names of the sources."""
