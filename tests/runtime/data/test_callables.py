"""Data from a user's code: Datasets and arrays, seeded draws, errors with their location."""

import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Subset

from danetc.runtime.data.augment import image_transform
from danetc.runtime.data.batches import Batches
from danetc.runtime.data.dataset import DataSet, Memory
from danetc.runtime.data.registry import open_data
from danetc.runtime.data.sources import look_at
from danetc.runtime.data.sources.python import in_memory
from danetc.runtime.system.errors import DataError

from .conftest import refused

CODE = """
import random
import numpy as np
import torch
from torch.utils.data import Dataset, Subset, TensorDataset


class Noise(Dataset):
    classes = ["a", "b", "c"]

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        draws = [torch.rand(()).item(), random.random(), np.random.rand()]
        return torch.tensor(draws).reshape(3, 1, 1) + index, index % 3


class Tagged(Noise):
    def __init__(self, count):
        super().__init__(count)
        self.targets = [n % 3 for n in range(count)]
        self.read = 0

    def __getitem__(self, index):
        self.read += 1
        return super().__getitem__(index)


class Wrong(Tagged):
    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        return image, 2 - label


both = lambda: (Noise(9), Noise(6))
tagged = lambda: (Tagged(9), Subset(Tagged(9), [1, 5]))

def mapping():
    loader = torch.utils.data.DataLoader(Noise(9), batch_size=2, shuffle=True)
    return {"train": loader, "test": Noise(4), "class_names": ["x", "y", "z"]}

validation = lambda: {"train": Noise(9), "val": Noise(5), "test": Noise(4)}

def by_train(train=True):
    return Noise(9 if train else 4)

def by_split(split):
    return {"train": Noise(9), "test": Noise(4), "extra": Noise(5)}[split]

def arrays():
    x, y = torch.zeros(4, 1, 2, 2), torch.tensor([0, 1, 0, 1])
    return TensorDataset(x, y), (x[:2], y[:2])

one = lambda: Noise(10)
wrong = lambda: (Wrong(9), Wrong(9))

def nothing():
    pass

def needs(root):
    return root

def breaks():
    return inner()

def inner():
    raise RuntimeError("no disk")
"""


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own.py").write_text(CODE)
    (tmp_path / "two").write_text("a\nb\n")
    monkeypatch.chdir(tmp_path)


def opened(name: str) -> DataSet:
    return open_data(f"own.py:{name}")


def test_what_code_may_give() -> None:
    for name, train, test in (
        ("both", 9, 6), ("by_train", 9, 4), ("by_split", 9, 4), ("by_split,test=extra", 9, 5),
        ("one,test=0.3", 7, 3), ("arrays", 4, 2), ("tagged", 9, 2), ("mapping", 9, 4),
    ):  # fmt: skip
        data = opened(name)
        assert (len(data.train), len(data.test), data.target) == (train, test, "classes"), name
        assert data.classes == {"arrays": 2}.get(name, 3)
        assert isinstance(data.train, Memory) == (name == "arrays")
        assert (data.class_names == ("x", "y", "z")) == (name == "mapping")
        assert opened(name).fingerprint == data.fingerprint, name


def test_code_in_a_module_is_the_same_and_changed_code_is_not(tmp_path: Path) -> None:
    package = tmp_path / "kept_data_of_a_test"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "dots.py").write_text(CODE)
    look_at("kept_data_of_a_test.dots:both")
    data = open_data("kept_data_of_a_test.dots:both")
    assert data.text == "python:kept_data_of_a_test.dots:both"
    assert data.fingerprint == opened("both").fingerprint
    (tmp_path / "own.py").write_text(CODE + "\n# changed\n")
    assert opened("both").fingerprint != data.fingerprint


def test_an_attribute_spares_reading_all_and_is_not_believed_blindly() -> None:
    data = opened("tagged")
    assert data.train.labels.tolist() == [0, 1, 2] * 3
    assert data.test.labels.tolist() == [1, 2]
    assert data.train.reader.dataset.read < 30  # type: ignore[attr-defined, union-attr]
    assert opened("wrong").train.labels.tolist() == [2, 1, 0] * 3


@pytest.mark.parametrize("form", [Image.fromarray, torch.tensor, np.asarray])
def test_masks_are_classes_of_pixels(form: Any) -> None:
    pairs = []
    for number in range(9):
        image = np.full((6, 8, 3), number, np.uint8)
        colours = image.transpose(2, 0, 1) if form is torch.tensor else image
        pairs.append((form(colours), form(image[..., 0] % 3)))
    data = open_data(in_memory((Subset(pairs, range(9)), Subset(pairs, range(9)))))
    assert (data.target, data.shape, data.classes) == ("pixels", (3, 6, 8), 3)
    found, mask = data.train[4]
    assert found.shape == (3, 6, 8)
    assert isinstance(mask, torch.Tensor)
    assert mask.tolist() == [[1] * 8] * 6


def batches(data: DataSet, *, train: bool = True, **options: int) -> Batches:
    source = data.train if train else data.test
    return Batches(source, image_transform(()), batch=2, seed=3, train=train, **options)


def test_what_code_draws_is_a_function_of_seed_epoch_and_sample() -> None:
    data = opened("both")
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[union-attr]

    def samples(epoch: int, start: int = 0, **options: Any) -> dict[int, torch.Tensor]:
        found = batches(data, **options).epoch(epoch, start)
        return {
            n: x for each in found for n, x in zip(each.indices.tolist(), each.images, strict=True)
        }

    whole, later, other = samples(1), samples(1, start=2), samples(2)
    assert len(later) < len(whole)
    for some in (later, samples(1, world=2), samples(1, world=2, rank=1)):
        assert all(torch.equal(whole[n], x) for n, x in some.items())
    common = min({*whole} & {*other})
    assert not torch.equal(whole[common], other[common])
    tests = [next(iter(batches(data, train=False).epoch(epoch))).images for epoch in (0, 4)]
    assert torch.equal(*tests)  # a test sample is the same after every epoch
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == random.getstate()
    assert states[2] == np.random.get_state()[1].tolist()  # type: ignore[union-attr]


def test_errors_of_code_say_where(tmp_path: Path) -> None:
    for name, told in (
        ("breaks", 'in inner: RuntimeError: no disk (`raise RuntimeError("no disk")`)'),
        ("one", "gives no data to train or to test on; return (train, test)"),
        ("nothing", "`own.py:nothing` must return arrays (x, y), a Dataset"),
        ("validation", "gives `val`; hold out a share for validation: ,val=0.1"),
        (
            "needs",
            "is called without arguments (or with `train` or `split`), but missing a required argument: 'root'",
        ),
        ("bot", "own.py has no `bot`; did you mean `both`?"),
        ("both,classes=two", "`classes` names 2"),
    ):
        with pytest.raises(DataError, match=rf"^[^\n]*{re.escape(told)}[^\n]*\Z"):
            opened(name)
    (tmp_path / "torn.py").write_text("def make(:\n")
    refused("torn.py, line 1: SyntaxError", "torn.py:make")
    (tmp_path / "lacks.py").write_text("import no_such_library\n")
    refused("lacks.py, line 1, in <module>: ModuleNotFoundError", "lacks.py:make")
    refused("there is no module `no_such_module`", "python:no_such_module:make")
