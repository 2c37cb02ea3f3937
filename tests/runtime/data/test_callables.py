"""Data that a user's own code gives: Datasets and arrays, seeded draws, errors with their place."""

from __future__ import annotations

import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from danetc.runtime.data.augment import image_transform
from danetc.runtime.data.batches import Batches
from danetc.runtime.data.dataset import DataSet, Memory
from danetc.runtime.data.registry import open_data
from danetc.runtime.data.sources import look_at
from danetc.runtime.system.errors import DataError

CODE = """
import random
import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset, IterableDataset, Subset, TensorDataset


class Noise(Dataset):
    classes = ["a", "b", "c"]

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        draws = [torch.rand(()).item(), random.random(), np.random.rand()]
        return torch.tensor(draws).reshape(3, 1, 1) + index, index % 3


class Masks(Noise):
    def __init__(self, count, form):
        super().__init__(count)
        self.form = form

    def __getitem__(self, index):
        image = np.full((6, 8, 3), index, np.uint8)
        mask = image[..., 0] % 3
        if self.form is torch.tensor:
            image = image.transpose(2, 0, 1)
        return self.form(image), self.form(mask)


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


class Stream(IterableDataset):
    def __iter__(self):
        yield torch.zeros(1, 2, 2), 0


class Fails(Noise):
    def __getitem__(self, index):
        if index == 3:
            return {}["nothing"]
        return super().__getitem__(index)


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

def unlike():
    x, y = torch.zeros(4, 1, 2, 2), torch.tensor([0, 1, 0, 1])
    return (x, y), (torch.zeros(4, 1, 3, 3), y / 2)

one = lambda: Noise(10)
masks = lambda form=Image.fromarray: (Masks(9, form), Masks(4, form))
mask_tensors = lambda: masks(torch.tensor)
mask_arrays = lambda: masks(np.asarray)
wrong = lambda: (Wrong(9), Wrong(9))
fails = lambda: (Fails(9), Fails(9))
stream = lambda: (Stream(), Stream())


class Given(Noise):
    classes = None  # the same for each sample

    def __init__(self, sample, count=9):
        super().__init__(count)
        self.sample = sample

    def __getitem__(self, index):
        return self.sample

IMAGE = [[0.0, 1.0], [1.0, 0.0]]

lists = lambda: [Given((IMAGE, [1.0, 2.0])), Given((IMAGE, [3.0, 4.0]))]
rows = lambda: (Given(((1.0, 2.0, 3.0), 1)), Given(((3.0, 2.0, 1.0), 0)))
triples = lambda: (Given((1, 2, 3)), Noise(2))
objects = lambda: (Given((object(), 1)), Noise(2))
odd_labels = lambda: (Given((IMAGE, object())), Noise(2))
ragged = lambda: (Given(([[1], [1, 2]], 1)), Noise(2))
flat_maps = lambda: (Given((IMAGE, [[0.5, 1.0]] * 2)), Noise(2))
low_maps = lambda: (Given((IMAGE, [[-3, 1]] * 2)), Noise(2))
empty = lambda: (Given((IMAGE, 1), 0), Noise(2))
longer_numbers = lambda: (Given((IMAGE, [1.0, 2.0])), Given((IMAGE, [1.0])))
void_maps = lambda: (Given((IMAGE, [[255, 255]] * 2)), Given((IMAGE, [[255, 255]] * 2)))

def nothing():
    pass

three = lambda: (1, 2, 3)

def needs(root):
    return root

def breaks():
    return inner()

def inner():
    raise RuntimeError("no disk")

table = Noise(5), Noise(4)
"""


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own.py").write_text(CODE)
    (tmp_path / "two").write_text("a\nb\n")
    monkeypatch.chdir(tmp_path)


def opened(name: str) -> DataSet:
    return open_data(f"own.py:{name}")


@pytest.mark.parametrize(
    ("name", "train", "test"),
    [
        ("both", 9, 6), ("by_train", 9, 4), ("by_split", 9, 4), ("by_split,test=extra", 9, 5),
        ("rows", 9, 9), ("one,test=0.3", 7, 3), ("arrays", 4, 2), ("tagged", 9, 2), ("mapping", 9, 4),
    ],
)  # fmt: skip
def test_what_code_may_give(name: str, train: int, test: int) -> None:
    data = opened(name)
    assert (len(data.train), len(data.test), data.target) == (train, test, "classes")
    assert data.classes == {"arrays": 2, "rows": 2}.get(name, 3)
    assert (data.class_names == ("x", "y", "z")) == (name == "mapping")
    assert opened(name).fingerprint == data.fingerprint


def test_code_in_a_module_is_found_from_the_working_directory(tmp_path: Path) -> None:
    package = tmp_path / "kept_data_of_a_test"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "dots.py").write_text(CODE)
    look_at("kept_data_of_a_test.dots:both")
    data = open_data("kept_data_of_a_test.dots:both")
    assert data.text == "python:kept_data_of_a_test.dots:both"
    assert data.fingerprint == opened("both").fingerprint


def test_arrays_stay_arrays_and_floats_are_numbers() -> None:
    assert isinstance(opened("arrays").train, Memory)
    lists = opened("lists")
    assert (lists.target, lists.classes, lists.shape, lists.train[3][1].tolist()) == (
        "numbers",
        2,
        (1, 2, 2),
        [1, 2],
    )  # type: ignore[union-attr]


def test_an_attribute_spares_reading_all_and_is_not_believed_blindly() -> None:
    data = opened("tagged")
    assert data.train.labels.tolist() == [0, 1, 2] * 3
    assert data.test.labels.tolist() == [1, 2]
    assert data.train.reader.dataset.read < 30  # type: ignore[attr-defined, union-attr]
    assert opened("wrong").train.labels.tolist() == [2, 1, 0] * 3


@pytest.mark.parametrize("name", ["masks", "mask_tensors", "mask_arrays"])
def test_masks_are_classes_of_pixels(name: str) -> None:
    """Images of PIL, tensors and arrays of the size of the image."""
    data = opened(name)
    assert (data.target, data.shape, data.classes) == ("pixels", (3, 6, 8), 3)
    image, mask = data.train[4]
    assert image.shape == (3, 6, 8)
    assert isinstance(mask, torch.Tensor)
    assert mask.tolist() == [[1] * 8] * 6


def batches(data: DataSet, *, train: bool = True, world: int = 1, rank: int = 0) -> Batches:
    way = image_transform((), events=False)
    source = data.train if train else data.test
    return Batches(source, way, batch=2, seed=3, train=train, world=world, rank=rank)


def test_what_code_draws_is_a_function_of_seed_epoch_and_sample() -> None:
    """So that a resume, and any number of processes, see the same; and nobody's states change."""
    data = opened("both")
    states = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[union-attr]
    whole = {n: x for batch in batches(data).epoch(1) for n, x in _samples(batch)}
    later = {n: x for batch in batches(data).epoch(1, start=2) for n, x in _samples(batch)}
    shared = {
        n: x
        for rank in range(2)
        for batch in batches(data, world=2, rank=rank).epoch(1)
        for n, x in _samples(batch)
    }
    assert len(later) < len(whole)
    assert all(torch.equal(whole[n], x) for n, x in (*later.items(), *shared.items()))
    other = dict(pair for batch in batches(data).epoch(2) for pair in _samples(batch))
    common = min({*whole} & {*other})
    assert not torch.equal(whole[common], other[common])
    tests = [next(iter(batches(data, train=False).epoch(epoch))).images for epoch in (0, 4)]
    assert torch.equal(*tests)  # a test sample is the same after every epoch
    assert torch.equal(states[0], torch.get_rng_state())
    assert states[1] == random.getstate()
    assert states[2] == np.random.get_state()[1].tolist()  # type: ignore[union-attr]


def _samples(batch):  # type: ignore[no-untyped-def]
    return zip(batch.indices.tolist(), batch.images, strict=True)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("breaks", "in inner: RuntimeError: no disk (`raise RuntimeError(\"no disk\")`)"),
        ("fails", "sample 3 of own.py:fails (train) cannot be read: "),
        ("fails", "in __getitem__: KeyError: 'nothing'"),
        ("one", "gives no data to train or to test on; return (train, test)"),
        ("nothing", "`own.py:nothing` must return arrays (x, y), a Dataset"),
        ("validation", "gives `val`; hold out a share for validation: ,val=0.1"),
        ("three", "of these, or a mapping such as {\"train\": (x, y), \"test\": (u, v)}, not 3 values"),
        ("triples", "sample 0 of own.py:triples (train) is 3 values, not a pair of an image and its label"),
        ("objects", "is an object of type object; a sample is a pair"),
        ("odd_labels", "are of several shapes or types; give each sample one whole number"),
        ("ragged", "is an object of type list; a sample is a pair"),
        ("flat_maps", "is not a map [H, W] of the classes of its pixels"),
        ("low_maps", "has negative classes; classes count from 0, and 255 marks pixels without a class"),
        ("empty", "own.py:empty (train) has no samples"),
        ("longer_numbers", "has 2 numbers to train on and 1 to test on"),
        ("void_maps", "has no pixel with a class"),
        ("needs", "is called without arguments (or with `train` or `split`), but missing a required argument: 'root'"),
        ("stream", "is a Stream without `__len__` or `__getitem__`"),
        ("unlike", "to train on are [1, 2, 2] with classes and those to test on [1, 3, 3] with numbers"),
        ("bot", "own.py has no `bot`; did you mean `both`?"),
        ("both,classes=two", "`classes` names 2"),
    ],
)  # fmt: skip
def test_errors_of_code_say_where(name: str, told: str) -> None:
    with pytest.raises(DataError, match=re.escape(told)) as caught:
        opened(name)
    assert "\n" not in str(caught.value)


def test_code_that_does_not_run(tmp_path: Path) -> None:
    (tmp_path / "torn.py").write_text("def make(:\n")
    with pytest.raises(DataError, match=r"torn.py, line 1: SyntaxError"):
        open_data("torn.py:make")
    (tmp_path / "lacks.py").write_text("import no_such_library\n")
    with pytest.raises(DataError, match=r"lacks.py, line 1, in <module>: ModuleNotFoundError"):
        open_data("lacks.py:make")
    with pytest.raises(DataError, match="there is no module `no_such_module`"):
        open_data("python:no_such_module:make")


def test_other_code_is_another_fingerprint(tmp_path: Path) -> None:
    first = opened("both").fingerprint
    (tmp_path / "own.py").write_text(CODE + "\n# changed\n")
    assert opened("both").fingerprint != first
