"""Data in memory: arrays, Datasets and DataLoaders for `danetc.train` and `danetc.evaluate`."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    TensorDataset,
    WeightedRandomSampler,
)

import danetc as package
from danetc.runtime.data.dataset import DataSet
from danetc.runtime.data.registry import open_data
from danetc.runtime.data.sources.published import splits
from danetc.runtime.data.sources.python import in_memory

from .conftest import QUICK, SMALL, Run

TEXT = SMALL + QUICK
TRAIN, TEST = ((x[:300], y[:300]) for x, y in splits())
QUIET: dict[str, Any] = {"backend": "eager"}


class Digits(Dataset[Any]):
    classes = tuple("abcdefghij")

    def __init__(self, x: Any = TRAIN[0], y: Any = TRAIN[1], broken: int = -1) -> None:
        self.x, self.targets, self.broken = torch.from_numpy(x), y, broken

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> Any:
        if index == self.broken:
            raise RuntimeError("this digit is lost")
        return self.x[index], int(self.targets[index])


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        yield TRAIN[0][0], 1


def weights(run: Any) -> Mapping[str, torch.Tensor]:
    return load_file(run.directory / "weights.safetensors")


def test_a_training_equals_that_on_the_same_images_in_files(tmp_path: Path) -> None:
    """Bit for bit: on arrays and Datasets, on an npz file, and on a folder of images."""
    dice, data = np.random.default_rng(0), {}
    for split, each in (("train", 9), ("test", 4)):
        x = dice.integers(0, 256, (2 * each, 3, 8, 8), dtype=np.uint8)
        for n, image in enumerate(x):
            place = tmp_path / split / "ab"[n // each] / f"{n:02}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image.transpose(1, 2, 0)).save(place)
        data[split] = x, np.arange(2 * each) // each
    (x, y), (u, v) = data.values()
    np.savez(tmp_path / "same.npz", x_train=x, y_train=y, x_test=u, y_test=v)
    loader = DataLoader(TensorDataset(*map(torch.from_numpy, (x, y))), batch_size=3, shuffle=True)
    text = SMALL.replace("classes = 10", "classes = 2").replace("image(1", "image(3")
    text += QUICK.replace("300", "5; augment = random_crop(8, padding = 1) -> horizontal_flip")
    given = {
        "npz": tmp_path / "same.npz",
        "folder": f"folder:{tmp_path}",
        "arrays": ((x, y), (u, v)),
        "lists": ([torch.from_numpy(x), y.tolist()], (u, v)),
        "dataset": {"train": Digits(x, y), "test": Digits(u, v), "class_names": ["a", "b"]},
        "loader": (loader, TensorDataset(*map(torch.from_numpy, (u, v)))),
    }
    runs = {
        name: package.train(text=text, data=each, output=tmp_path / f"run-{name}", **QUIET)
        for name, each in given.items()
    }
    expected = weights(runs["npz"])
    for run in runs.values():
        found = weights(run)
        assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert {run.record["epochs"][-1]["test_loss"] for run in runs.values()} == {
        runs["npz"].record["epochs"][-1]["test_loss"]
    }
    recorded = {
        name: json.loads((run.directory / "run.json").read_text()) for name, run in runs.items()
    }
    digests = {name: each["settings"]["data"]["fingerprint"] for name, each in recorded.items()}
    assert digests["npz"] == digests["arrays"] == digests["lists"] == digests["loader"]
    assert recorded["dataset"]["facts"]["data"]["class_names"] == ["a", "b"]


def test_a_run_asks_for_its_data_again(danetc: Run, tmp_path: Path) -> None:
    run = package.train(text=TEXT, data=(TRAIN, TEST), output="run", **QUIET)
    before = run.directory.joinpath("training.json").read_bytes()
    again = package.train(text=TEXT, data=(TRAIN, TEST), output="run", **QUIET)
    assert again.directory.joinpath("training.json").read_bytes() == before
    changed = (TRAIN[0] + (np.arange(300) == 299)[:, None, None, None] / 1000, TRAIN[1])
    with pytest.raises(package.UserError, match=r"digest of the data: .{32} there"):
        package.train(text=TEXT, data=(changed, TEST), output="run", **QUIET)
    with pytest.raises(package.UserError, match="which has to pass the same again"):
        package.evaluate("run")
    message = "the data were in the memory of a Python program"
    for line in (["train", "--from", "run"], ["eval", "run"]):
        danetc.fails(message, *line)
    names = ("x_train", "y_train", "x_test", "y_test")
    np.savez("same.npz", **dict(zip(names, (*TRAIN, *TEST), strict=True)))
    danetc.passes("train", "--from", "run", "--data", "same.npz", "-o", "repeated")
    repeated = load_file("repeated/weights.safetensors")
    assert all(torch.equal(repeated[name], value) for name, value in weights(run).items())
    np.savez("other.npz", **dict(zip(names, (*changed, *TEST), strict=True)))
    danetc.fails("digest of the data", "train", "--from", "run", "--data", "other.npz", "-o", "x")


def opened(data: Any, test: float | None = 0.2) -> DataSet:
    return open_data(in_memory(data, test))


@pytest.mark.parametrize(
    ("data", "sizes", "text"),
    [
        (TRAIN, (239, 61, None), "memory,test=0.2"),
        (Digits(), (239, 61, None), "memory,test=0.2"),
        ({"train": TRAIN, "val": 0.1, "test": 0.4}, (161, 121, 18), "memory,val=0.1,test=0.4"),
        ({"train": TRAIN, "val": TEST, "test": TEST}, (300, 300, 300), "memory"),
        ({"train": Digits(), "val": Digits(*TEST), "test": TEST}, (300, 300, 300), "memory"),
        ((Subset(Digits(), range(100)), Subset(Digits(), range(100, 150))), (100, 50, None), "memory"),
    ],
)  # fmt: skip
def test_splits(data: Any, sizes: tuple[int | None, ...], text: str) -> None:
    found = opened(data)
    val = None if found.val is None else len(found.val)
    assert (len(found.train), len(found.test), val, found.text) == (*sizes, text)
    assert opened(data).fingerprint == found.fingerprint
    named = isinstance(data, Digits) or (isinstance(data, tuple) and isinstance(data[0], Subset))
    named = named or (isinstance(data, dict) and isinstance(data["train"], Digits))
    assert found.class_names == tuple("abcdefghij" if named else "0123456789")
    held_out = "20% of the samples are held out" in "".join(found.notices)
    assert held_out == (not isinstance(data, dict) and text != "memory")


def test_a_validation_split_is_part_of_the_digest() -> None:
    some, other = (
        {"train": TRAIN, "val": (x, TEST[1]), "test": TEST} for x in (TEST[0], TEST[0] / 2)
    )
    assert opened(some).fingerprint != opened(other).fingerprint


def test_models_and_directories_are_evaluated(danetc: Run) -> None:
    """As in the tests of the training; a model does not change, nor does the random state."""
    run = package.train(text=TEXT, data=(TRAIN, TEST), output="run", **QUIET)
    expected = run.record["epochs"][-1]["test_loss"]
    model = package.load(run.directory, backend="eager").train()
    model.stem.norm.eval()
    modes = [module.training for module in model.modules()]
    before, random = {k: v.clone() for k, v in model.state_dict().items()}, torch.get_rng_state()
    for data in (TEST, TensorDataset(*map(torch.from_numpy, TEST)), (TRAIN, TEST)):
        for subject in (model, run.directory):
            found = package.evaluate(subject, data)
            assert (found.results[0].loss, found.results[0].images) == (expected, 300)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    few = package.evaluate(model, (TEST[0][:7], TEST[1][:7] % 3), per_class=True)
    assert [each["class"] for each in few.per_class()] == list("0123456789")
    assert few.results[0].images == 7
    assert package.evaluate(model, TEST, steps=[1, 2]).results[1].loss == expected
    built = package.build(text=SMALL)
    assert "no recipe says how images are prepared" in package.evaluate(built, TEST).notes[0]
    folded = package.evaluate(package.fold(built.eval()), TEST)
    assert folded.results[0].loss == pytest.approx(package.evaluate(built, TEST).results[0].loss)


def test_sequences_of_frames(danetc: Run) -> None:
    text = TEXT.replace("image(1, 8, 8)", "events(1, 8, 8)").replace("classes = 10", "classes = 2")
    x = np.random.default_rng(0).poisson(1.0, (20, 2, 1, 8, 8))
    y = np.arange(20) % 2
    run = package.train(text=text, data=((x, y), (x, y)), output="run", **QUIET)
    model = package.load(run.directory, backend="eager").eval()
    with torch.inference_mode():
        outputs = model(torch.from_numpy(x).float().transpose(0, 1))
    loss = torch.nn.functional.cross_entropy(outputs.double(), torch.from_numpy(y))
    assert run.record["epochs"][-1]["test_loss"] == pytest.approx(float(loss), rel=1e-5)
    with pytest.raises(package.UserError, match="so swap the first two dimensions"):
        package.evaluate(run.directory, (x.swapaxes(0, 1), y))


DRAWING = WeightedRandomSampler([1.0] * 300, 300)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (None, "`data` is a name such as"),
        (5, "`data` is a name such as 'digits', arrays (x, y), a Dataset"),
        (Digits, "`data` is a name such as"),
        ((*TRAIN, TEST), "not 3 values"),
        (TRAIN[0], "sample 0 of the data is ndarray, not a pair"),
        ((TRAIN, None), "`data` is a name such as"),
        ({"train": TRAIN, "valid": TEST}, "no split 'valid'; there is train, val, test, class_names"),
        ({"test": TEST}, "no samples to train on"),
        ({"train": TRAIN, "test": 3}, "the option `test` of `memory` is 3; a share is between 0 and 1"),
        ((TRAIN[0], TRAIN[1][:9]), "the data has 300 images and 9 labels; each image has one"),
        ((TRAIN[0], [1, [2]]), "the labels of the data are not an array"),
        ((TRAIN[0][:, 0, 0], TRAIN[1]), "are 8 x 1 x 1, but the network takes 1 x 8 x 8"),
        ((TRAIN[0], TRAIN[1].astype(int) - 1), "has labels from -1 to 8; classes count from 0"),
        ((TRAIN[0], TRAIN[1] + 1), "has 11 classes, but the network has 10 outputs"),
        ((np.full_like(TRAIN[0], np.nan), TRAIN[1]), "has values that are not finite"),
        ((TRAIN[0][:0], TRAIN[1][:0]), "has the shape [0, 1, 8, 8]"),
        (Digits(TRAIN[0][:0]), "the data has no samples"),
        (TensorDataset(torch.zeros(3, 1, 8, 8)), "sample 0 of the data is 1 values, not a pair"),
        (ConcatDataset([TensorDataset(*[torch.zeros(3, 1, 8, 8)] * 3)]), "is 3 values, not a pair"),
        (Stream(), "is a Stream without `__len__`"),
        (DataLoader(Stream()), "is a Stream without `__len__`"),
        (DataLoader(Digits(), sampler=DRAWING), "a DataLoader with its own sampler or collate_fn"),
        (DataLoader(Digits(), collate_fn=list), "a DataLoader with its own sampler or collate_fn"),
        (Digits(broken=0), "in __getitem__: RuntimeError: this digit is lost (`raise RuntimeError("),
        (Digits(broken=5), "test_memory_data.py, line 50, in __getitem__: RuntimeError: this digit"),
    ],
)  # fmt: skip
def test_what_cannot_be_learned_from(
    data: Any, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(package.UserError) as caught:
            package.train(text=TEXT, data=data, output="run", **QUIET)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda model: package.evaluate(model), "records no training data; name a data set"),
        (lambda model: package.evaluate(model, TEST, steps=[1]), "danetc.build(..., set={'steps': 1})"),
        (lambda model: package.evaluate(model, TEST, device="cpu"), "are for a directory"),
        (lambda model: package.evaluate(torch.nn.ReLU(), TEST), "`model` is a model of danetc, or its"),
        (lambda model: package.evaluate(model, (TEST[0], TEST[1] + 5)), "15 classes, but the network has 10"),
        (lambda model: package.compare("small", data=TEST), "every training is a process of its own"),
    ],
)  # fmt: skip
def test_what_cannot_be_evaluated(call: Any, told: str) -> None:
    with pytest.raises(package.UserError) as caught:
        call(package.build(text=SMALL))
    assert told in str(caught.value)


def test_read_only_and_unusual_arrays_are_taken_without_a_warning() -> None:
    x = (TRAIN[0] * 16).astype(np.uint8)
    x.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = opened((x[::2], TRAIN[1][::2]))
        narrow = opened((torch.from_numpy(TRAIN[0]).bfloat16().requires_grad_(), TRAIN[1]))
    assert found.train.images.is_contiguous()  # type: ignore[union-attr]
    assert narrow.train.images.dtype == torch.float32  # type: ignore[union-attr]


def test_reports_of_data_in_memory() -> None:
    report = package.data((TRAIN, TEST))
    assert report.record["splits"]["test"]["samples"] == 300
