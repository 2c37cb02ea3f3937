"""`danetc data` and `danetc.data`: facts of a data set, samples for a network, and data in memory."""

import copy
import re
import warnings
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

import danetc as package
from danetc.main import COMMANDS, program
from danetc.runtime.data.batches import Fetcher
from danetc.runtime.data.dataset import DataSet
from danetc.runtime.data.registry import open_data
from danetc.runtime.data.sources import SOURCES
from danetc.runtime.data.sources.published import splits
from danetc.runtime.data.sources.python import in_memory
from danetc.runtime.system.files import read_record
from danetc.tasks.data_report import facts
from tests.runtime.data.conftest import class_folders, pixels

from .conftest import QUICK, SMALL, Run, in_fresh_process
from .datasets import SMALL_DATA, make_folder
from .test_as_trained import spec, train


@pytest.mark.parametrize("name", sorted(SOURCES.keys() - {"tokens"}))
def test_every_source_is_described(danetc: Run, tmp_path: Path, name: str) -> None:
    small = SMALL_DATA[name]
    text = small.make(tmp_path / "data")
    record = danetc.json("data", text, "--steps", "3")
    data = open_data(text, frames=3)
    assert record["fingerprint"] == data.fingerprint
    assert record["splits"]["train"]["samples"] == len(data.train)
    counts = data.test.labels.bincount(minlength=data.classes).tolist()
    assert [row["test"] for row in record["labels"]] == counts
    assert [row["name"] for row in record["labels"]] == list(data.class_names)
    shape = record["splits"]["train"]["shapes"][0]["shape"]
    assert len(shape) == (4 if small.frames else 3)
    assert shape[-3] == small.channels
    assert record["loading"]["images_per_second"] > 0


def test_how_many_workers_a_gpu_needs(danetc: Run) -> None:
    """The number follows from the operations of a training step, three times those of a forward pass."""
    loading = danetc.json("data", "digits", "--recipe", "danet_c_small")["loading"]
    graph = danetc.json("summary", "danet_c_small")
    rate = 989e12 / 3 / 2 / (graph["macs"] + graph["additions"])
    assert loading["gpu_images_per_second"] == pytest.approx(rate)
    known = facts({**package.data("digits").record, "network": "n", "misfit": None,
                   "loading": {"images_per_second": 300.0, "gpu_images_per_second": 1001.0}})  # fmt: skip
    told = [value for name, value in known if name in ("loading", "")]
    assert "300 images/s by one worker, so 4 for 1,000 images/s of a GPU" in told
    assert "an H100 trains at most 1,001 images/s of n: 4 workers" in told


def test_images_are_loaded_for_half_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """One worker loads them, and each image takes 0.15 s."""
    reads = list[list[int]]()
    real = Fetcher.__getitems__

    def noted(self: Fetcher, job: list[int]) -> Any:
        reads.append(job)
        return real(self, job)

    monkeypatch.setattr(Fetcher, "__getitems__", noted)
    monkeypatch.setattr("time.perf_counter", lambda: 0.15 * sum(len(job) - 1 for job in reads))
    loading = package.data("digits").record["loading"]
    assert loading["images_per_second"] == pytest.approx(1 / 0.15)
    assert reads[::-1].index([0, 0]) == 4  # [0, 0] loads the libraries first


@pytest.mark.usefixtures("all_digits")
def test_what_is_printed_and_drawn(danetc: Run, tmp_path: Path) -> None:
    done = danetc.passes("data", "digits", "-o", "digits.png")
    assert "1,437 samples, C x H x W = 1 x 8 x 8, float32" in done.out
    assert re.search(r"^0  0 +142 +36$", done.out, re.MULTILINE)
    assert "\x1b" not in done.out  # colours and pictures are for terminals
    assert done.err == "wrote digits.png\n"
    assert danetc("data", "digits", "-o", "digits.jpg").status == 2
    assert danetc("data", "digist").err.count("did you mean `digits`?") == 1
    # The picture enlarges each pixel by a whole factor and has a row for each class.
    report, train = package.data("digits"), open_data("digits").train
    assert len(report.samples) == 10 * 8
    pixels = np.asarray(report.picture())
    with Image.open(tmp_path / "digits.png") as picture:
        assert picture.size == pixels.shape[1::-1]
    for number in range(10):
        image, _ = train[int((train.labels == number).nonzero()[0])]
        x, y = 16, 16 + number * (96 + 16)
        found = pixels[y + 6 : y + 96 : 12, x + 6 : x + 96 : 12]
        assert np.array_equal(found[..., 0], (image[0].double() * 255).round())


def test_values_are_those_of_the_samples_that_can_be_read(danetc: Run, tmp_path: Path) -> None:
    """Images have several sizes, and numpy gives the expected values."""
    text = make_folder(tmp_path / "data")
    train = open_data(text).train
    Path(train.where(5)).write_bytes(b"")
    Image.new("RGB", (9, 12)).save(train.where(7))  # a black image: zeros are counted
    samples = [train[index][0].numpy() for index in range(len(train)) if index != 5]
    values = np.concatenate([each.ravel() for each in samples]).astype(float)
    split = danetc.json("data", text)["splits"]["train"]
    assert (split["samples"], split["looked_at"], split["unreadable"]) == (36, 36, 1)
    found = {tuple(each["shape"]): each["samples"] for each in split["shapes"]}
    assert found == {s: sum(x.shape == s for x in samples) for s in {x.shape for x in samples}}
    assert (split["smallest"], split["largest"]) == (values.min(), values.max())
    assert split["mean"] == pytest.approx(values.mean())
    assert split["deviation"] == pytest.approx(values.std())
    done = danetc("data", text)
    assert "1 samples cannot be read" in done.out
    assert re.search(r"36 samples, C x H x W = 3 x \d+ x \d+ to 3 x \d+ x \d+, uint8", done.out)


def test_of_many_samples_some_are_looked_at(danetc: Run) -> None:
    text = "synthetic:size=2,count=300,frames=2,classes=30"
    done = danetc("data", text)
    assert "of 256 samples" in done.out
    assert "300 samples, T x C x H x W = 2 x 3 x 2 x 2, uint8" in done.out
    assert "... and 6 more" in done.out
    assert len({each.label for each in package.data(text).samples}) == 12


def test_samples_are_seen_after_the_augmentation(danetc: Run) -> None:
    """Samples are those in the batches of a training with this seed. Data that do not fit are reported."""
    small = SMALL_DATA["synthetic"]
    text = small.make(Path())
    way = "augment = random_crop(8, padding = 4) -> horizontal_flip"
    Path("tiny.danet").write_text(spec(small, way))
    own = {"recipe": "tiny.danet"}
    ways: list[Any] = [{}, own, {"recipe": "tiny.danet:test_recipe"}, {**own, "seed": 1}]
    plain, seen, *_ = reports = [package.data(text, **way) for way in ways]
    assert seen.record["misfit"] is None
    assert seen.record["augment"].startswith("random_crop(size = 8, padding = 4)")
    assert [each.label for each in plain.samples] == [each.label for each in seen.samples]
    bare, one, same, unlike = (torch.stack([x.image for x in each.samples]) for each in reports)
    assert (bare != one).flatten(1).any(1).double().mean() > 0.5
    assert torch.equal(one, same)
    assert not torch.equal(one, unlike)
    wrong = danetc.passes("data", "digits", "--recipe", "tiny.danet")
    assert "cannot learn them: digits has 10 classes, but the network has 3 outputs" in wrong.out
    assert danetc("data", "digits", "--recipe", "tiny.danet:no").err.count("no recipe `no`") == 1


def test_classes_of_pixels_numbers_and_features_have_pictures(tmp_path: Path) -> None:
    x = np.random.default_rng(0).random((9, 6, 6)) * 5 - 2
    for name, images, y, rows in (
        ("pixels", x, (x > 0).astype(int), 2),
        ("numbers", x, x.mean((1, 2)), 1),
        ("features", x.reshape(9, 36)[:, :7], np.arange(9) % 3, 3),
    ):
        np.savez(tmp_path / name, x=images, y=y)
        report = package.data(f"{tmp_path / name}.npz,test=0.4")
        assert np.asarray(report.picture()).std() > 20
        assert len(report.frame()) == rows
        if name == "pixels":
            counts = report.frame()["train"] + report.frame()["test"]
            assert counts.tolist() == [(x <= 0).sum(), (x > 0).sum()]
        assert repr(report).startswith(f"<DataReport: {name}.npz: {report.record['classes']} ")


# -- data are checked first: before torch is imported and before spec, run and recipe are read -----


def test_every_command_looks_at_the_data_first(danetc: Run, tmp_path: Path) -> None:
    commands = (program.get_command(click.Context(program), name) for name in COMMANDS)
    taking = (each for each in commands if each and any("--data" in x.opts for x in each.params))
    names = {str(each.name) for each in taking}
    assert names >= {"train", "eval", "measure", "report", "compare"}
    cases = {
        "digits.npz": "there is no data set `digits.npz`; did you mean `digits`?",
        "digist": "there is no data set `digist`; did you mean `digits`?",
        "folder:missing": "there is no folder missing",
        "folder:~nobody-at-all/x": "`folder:~nobody-at-all/x`: Could not determine home directory",
        "": "there is no data set ``. Data sets are digits, fashion-mnist:DIR",
    }
    # The named specs and runs do not exist, but data are checked first.
    lines = [[name, "no-such-spec", "--data", text] for name in names for text in cases]
    lines += [["train", "x", "--dry-run", "--data", text] for text in cases]
    found, modules = in_fresh_process(lines, tmp_path)
    for (status, _, told), line in zip(found, lines, strict=True):
        assert status == 1, line
        assert told.startswith(f"danetc: {cases[line[-1]]}"), line
        assert told.count("\n") == 1, line
    assert not {"torch", "danetc.compiler", "lark"} & modules
    for name in names - {"convert", "eval", "measure", "record", "report"}:
        told = "Missing option '--data'. Data sets are digits, fashion-mnist:DIR"
        danetc.fails(told, name, "no-such-spec", status=2)


def test_a_recipe_is_missed_after_the_data(danetc: Run, tmp_path: Path) -> None:
    data = make_folder(tmp_path / "data")
    Path("bare.danet").write_text(SMALL)
    told = "has no recipe, and none called `folder` is in scope"
    done = danetc.fails(told, "train", "bare.danet", "--data", data)
    lines = len(SMALL.rstrip().splitlines())
    assert f"at the end of the file, after line {lines}:\n\nrecipe first {{" in done.err
    shown = done.err[done.err.index("recipe first") :]
    Path("bare.danet").write_text(f"{SMALL.rstrip()}\n{shown}")
    assert danetc("check", "bare.danet").status == 0


@pytest.mark.thorough
def test_data_that_have_moved_since_the_training(danetc: Run, tmp_path: Path) -> None:
    make_folder(tmp_path / "data")
    folder = SMALL_DATA["folder"]
    train(danetc, spec(folder, f"augment = {folder.augment}; epochs = 1"), "folder:data")
    (tmp_path / "data").rename(tmp_path / "dta")
    found, modules = in_fresh_process([["eval", "run"]], tmp_path)
    assert not {"torch", "danetc.compiler", "lark"} & modules
    again = danetc("train", "--from", "run/run.json")
    for status, _, told in (*found, again):
        assert status == 1
        assert "there is no folder data; folder:DIR takes one" in told
        assert "--data" in told
    (moved,) = danetc.json("eval", "run", "--data", "folder:dta")["evaluated"]
    assert moved["unlike_training"] == []


def test_torchrun_prints_it_once_per_machine(danetc: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for rank, told in (("0", "did you mean `digits`?"), ("1", "")):
        monkeypatch.setenv("LOCAL_RANK", rank)
        said = danetc.fails(told, "train", "x", "--data", "digist").err
        assert ("digits" in said) == (rank == "0")


# -- arrays, Datasets and DataLoaders for `danetc.train` and `danetc.evaluate` --------------------------


TEXT = SMALL + QUICK
TRAIN, TEST = ((x[:300], y[:300]) for x, y in splits())
QUIET: dict[str, Any] = {"backend": "eager"}
IMAGE = [[0.0, 1.0], [1.0, 0.0]]


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


class Given(Dataset[Any]):
    """The same sample nine times."""

    def __init__(self, *sample: Any) -> None:
        self.sample = sample

    def __len__(self) -> int:
        return 9

    def __getitem__(self, index: int) -> Any:
        return self.sample


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        yield TRAIN[0][0], 1


def test_a_training_equals_that_on_the_same_images_in_files(tmp_path: Path) -> None:
    """Arrays, Datasets, DataLoaders, an npz file and a folder of images give the same bits."""
    x, y = pixels(0, 18, 3, 8, 8), np.arange(18) // 9
    u, v = pixels(1, 8, 3, 8, 8), np.arange(8) // 4
    places = class_folders(tmp_path, {"train": 9, "test": 4}, "ab")
    for (*_, path), image in zip(places, [*x, *u], strict=True):
        Image.fromarray(image.transpose(1, 2, 0)).save(f"{path}.png")
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
    weights, losses, recorded = {}, set(), {}
    for name, each in given.items():
        run = package.train(text=text, data=each, output=tmp_path / f"run-{name}", **QUIET)
        weights[name] = load_file(run.directory / "weights.safetensors")
        losses.add(run.record["epochs"][-1]["test_loss"])
        recorded[name] = read_record(run.directory / "run.json")
        torch.testing.assert_close(weights[name], weights["npz"], rtol=0, atol=0)
    assert len(losses) == 1
    same = [recorded[name]["settings"]["data"] for name in ("npz", "arrays", "lists", "loader")]
    assert len({each["fingerprint"] for each in same}) == 1
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
    named = dict(zip(("x_train", "y_train", "x_test", "y_test"), (*TRAIN, *TEST), strict=True))
    np.savez("same.npz", **named)
    danetc.passes("train", "--from", "run", "--data", "same.npz", "-o", "repeated")
    first, repeated = (load_file(f"{each}/weights.safetensors") for each in ("run", "repeated"))
    torch.testing.assert_close(repeated, first, rtol=0, atol=0)
    np.savez("other.npz", **{**named, "x_train": changed[0]})
    danetc.fails("digest of the data", "train", "--from", "run", "--data", "other.npz", "-o", "x")


def opened(data: Any, test: float | None = 0.2) -> DataSet:
    return open_data(in_memory(data, test))


@pytest.mark.parametrize(
    ("data", "sizes", "text", "names"),
    [
        (TRAIN, (239, 61, None), "memory,test=0.2", "0123456789"),
        (Digits(), (239, 61, None), "memory,test=0.2", "abcdefghij"),
        ({"train": TRAIN, "val": 0.1, "test": 0.4}, (161, 121, 18), "memory,val=0.1,test=0.4", "0123456789"),
        ({"train": TRAIN, "val": TEST, "test": TEST}, (300, 300, 300), "memory", "0123456789"),
        ({"train": Digits(), "val": Digits(*TEST), "test": TEST}, (300, 300, 300), "memory", "abcdefghij"),
        ((Subset(Digits(), range(99)), Subset(Digits(), range(9))), (99, 9, None), "memory", "abcdefghij"),
    ],
)  # fmt: skip
def test_splits(data: Any, sizes: tuple[int | None, ...], text: str, names: str) -> None:
    found = opened(data)
    val = None if found.val is None else len(found.val)
    assert (len(found.train), len(found.test), val, found.text) == (*sizes, text)
    assert opened(data).fingerprint == found.fingerprint
    assert found.class_names == tuple(names)
    held_out = "20% of the samples are held out" in "".join(found.notices)
    assert held_out == (text == "memory,test=0.2")


def test_lists_and_tuples_are_arrays() -> None:
    lists, rows = opened(Given(IMAGE, [1.0, 2.0])), opened(Given((1.0, 2.0, 3.0), 1))
    assert (lists.target, lists.classes, lists.shape) == ("numbers", 2, (1, 2, 2))
    label: Any = lists.train[3][1]
    assert label.tolist() == [1, 2]
    assert (rows.target, rows.classes, len(rows.train), len(rows.test)) == ("classes", 2, 7, 2)


def test_a_validation_split_is_part_of_the_digest() -> None:
    splits = (TEST, (TEST[0] / 2, TEST[1]))
    one, other = (opened({"train": TRAIN, "val": val, "test": TEST}) for val in splits)
    assert one.fingerprint != other.fingerprint


def test_models_and_directories_are_evaluated(danetc: Run) -> None:
    """The loss is that of the training's tests. The model and the random state do not change."""
    run = package.train(text=TEXT, data=(TRAIN, TEST), output="run", **QUIET)
    report = package.data((TRAIN, TEST)).record
    assert report["splits"]["test"]["samples"] == 300
    expected = run.record["epochs"][-1]["test_loss"]
    model = package.load(run.directory, backend="eager").train()
    model.stem.norm.eval()
    modes = [module.training for module in model.modules()]
    before, random = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    for data in (TEST, TensorDataset(*map(torch.from_numpy, TEST)), (TRAIN, TEST)):
        for subject in (model, run.directory):
            found = package.evaluate(subject, data)
            assert (found.results[0].loss, found.results[0].images) == (expected, 300)
    assert [module.training for module in model.modules()] == modes
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
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


DRAWING = torch.utils.data.WeightedRandomSampler([1.0] * 300, 300)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (None, "`data` is a name such as"),
        (5, "`data` is a name such as 'digits', arrays (x, y), a Dataset"),
        (Digits, "`data` is a name such as"),
        ((*TRAIN, TEST), "of these, or a mapping such as {\"train\": (x, y), \"test\": (u, v)}, not 3 values"),
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
        (Given(1, 2, 3), "sample 0 of the data is 3 values, not a pair of an image and its label"),
        (Given(object(), 1), "is an object of type object; a sample is a pair"),
        (Given([[1], [1, 2]], 1), "is an object of type list; a sample is a pair"),
        (Given(IMAGE, object()), "are of several shapes or types; give each sample one whole number"),
        (Given(IMAGE, [[0.5, 1.0]] * 2), "is not a map [H, W] of the classes of its pixels"),
        (Given(IMAGE, [[-3, 1]] * 2),
         "has negative classes; classes count from 0, and 255 marks pixels without a class"),
        (Given(IMAGE, [[255, 255]] * 2), "has no pixel with a class"),
        ((Given(IMAGE, [1.0, 2.0]), Given(IMAGE, [1.0])), "has 2 numbers to train on and 1 to test on"),
        ((TRAIN, (TEST[0][:, :, :3, :3], TEST[1] / 2)),
         "to train on are [1, 8, 8] with classes and those to test on [1, 3, 3] with numbers"),
        (Stream(), "is a Stream without `__len__` or `__getitem__`"),
        (DataLoader(Stream()), "is a Stream without `__len__`"),
        (DataLoader(Digits(), sampler=DRAWING), "a DataLoader with its own sampler or collate_fn"),
        (DataLoader(Digits(), collate_fn=list), "a DataLoader with its own sampler or collate_fn"),
        ((Digits(broken=0), TEST), "sample 0 of the data (train) cannot be read: "),
        (Digits(broken=0), "in __getitem__: RuntimeError: this digit is lost (`raise RuntimeError("),
        (Digits(broken=5), "test_data.py, line 254, in __getitem__: RuntimeError: this digit"),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("danetc")
def test_what_cannot_be_learned_from(data: Any, told: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(package.UserError, match=rf"^[^\n]*{re.escape(told)}[^\n]*\Z"):
            package.train(text=TEXT, data=data, output="run", **QUIET)


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
    with pytest.raises(package.UserError, match=re.escape(told)):
        call(package.build(text=SMALL))


def test_read_only_and_unusual_arrays_are_taken_without_a_warning() -> None:
    x = (TRAIN[0] * 16).astype(np.uint8)
    x.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = opened((x[::2], TRAIN[1][::2]))
        narrow = opened((torch.from_numpy(TRAIN[0]).bfloat16().requires_grad_(), TRAIN[1]))
    assert found.train.images.is_contiguous()  # type: ignore[union-attr]
    assert narrow.train.images.dtype == torch.float32  # type: ignore[union-attr]
