"""`danetc data` and `danetc.data`: what a data set is, and samples as a network sees them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
import torch
from PIL import Image

import danetc as package
from danetc.main import COMMANDS, program
from danetc.runtime.data.batches import Fetcher
from danetc.runtime.data.registry import open_data
from danetc.runtime.data.sources import SOURCES
from danetc.tasks.data_report import facts

from .conftest import SMALL, Run, in_fresh_process
from .datasets import SMALL_DATA, make_folder
from .test_as_trained import spec


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
    """By the operations of a training step, three times those of a forward pass."""
    done = danetc("data", "digits", "--recipe", "danet_c_small", "--json")
    loading = json.loads(done.out)["loading"]
    graph = json.loads(danetc("summary", "danet_c_small", "--json").out)
    operations = 2 * (graph["macs"] + graph["additions"])
    assert loading["gpu_images_per_second"] == pytest.approx(989e12 / 3 / operations)
    known = facts({**package.data("digits").record, "network": "n", "misfit": None,
                   "loading": {"images_per_second": 300.0, "gpu_images_per_second": 1001.0}})  # fmt: skip
    told = [value for name, value in known if name in ("loading", "")]
    assert "300 images/s by one worker, so 4 for 1,000 images/s of a GPU" in told
    assert "an H100 trains at most 1,001 images/s of n: 4 workers" in told


def test_images_are_loaded_for_half_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """By one worker; each takes 0.15 s."""
    now, reads = [0.0], list[list[int]]()
    real = Fetcher.__getitems__

    def slow(self: Fetcher, job: list[int]) -> Any:
        now[0] += 0.15 * len(job[1:])
        reads.append(job)
        return real(self, job)

    monkeypatch.setattr(Fetcher, "__getitems__", slow)
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    loading = package.data("digits").record["loading"]
    assert loading["images_per_second"] == pytest.approx(1 / 0.15)
    assert reads[::-1].index([0, 0]) == 4  # after one that loads the libraries


@pytest.mark.usefixtures("all_digits")
def test_what_is_printed(danetc: Run, tmp_path: Path) -> None:
    done = danetc.passes("data", "digits", "-o", "digits.png")
    assert "1,437 samples, C x H x W = 1 x 8 x 8, float32" in done.out
    assert re.search(r"^0  0 +142 +36$", done.out, re.MULTILINE)
    assert "\x1b" not in done.out  # colours and pictures are for terminals
    assert done.err == "wrote digits.png\n"
    with Image.open(tmp_path / "digits.png") as picture:
        assert picture.size == package.data("digits").picture().size
    assert danetc("data", "digits", "-o", "digits.jpg").status == 2
    assert danetc("data", "digist").err.count("did you mean `digits`?") == 1


def test_values_are_those_of_the_samples_that_can_be_read(danetc: Run, tmp_path: Path) -> None:
    """Of images of several sizes, against numpy."""
    text = make_folder(tmp_path / "data")
    train = open_data(text).train
    Path(train.where(5)).write_bytes(b"")
    Image.new("RGB", (9, 12)).save(train.where(7))  # black: zeros are counted
    samples = [train[index][0].numpy() for index in range(len(train)) if index != 5]
    values = np.concatenate([each.ravel() for each in samples]).astype(float)
    split = json.loads(danetc("data", text, "--json").out)["splits"]["train"]
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
    done = danetc("data", "synthetic:size=2,count=300,frames=2,classes=30")
    assert "of 256 samples" in done.out
    assert "300 samples, T x C x H x W = 2 x 3 x 2 x 2, uint8" in done.out
    assert "... and 6 more" in done.out
    many = package.data("synthetic:size=2,count=300,frames=2,classes=30")
    assert len({each.label for each in many.samples}) == 12


def test_the_picture_has_the_pixels_of_the_samples() -> None:
    """Each at a whole scale, of each class a row."""
    report = package.data("digits")
    assert len(report.samples) == 10 * 8
    pixels = np.asarray(report.picture())
    train = open_data("digits").train
    first = [int((train.labels == number).nonzero()[0]) for number in range(10)]
    for number, index in enumerate(first):
        image, _ = train[index]
        x, y = 16, 16 + number * (96 + 16)
        found = pixels[y + 6 : y + 96 : 12, x + 6 : x + 96 : 12]
        expected = (image[0].double() * 255).round()
        assert np.array_equal(found[..., 0], expected)


def test_samples_are_seen_after_the_augmentation(danetc: Run) -> None:
    """As the batches of a training hold them, drawn by their seeds; and whether they fit is said."""
    small = SMALL_DATA["synthetic"]
    text = small.make(Path())
    way = "random_crop(8, padding = 4) -> horizontal_flip"
    Path("tiny.danet").write_text(spec(small, f"augment = {way}"))
    plain, seen = package.data(text), package.data(text, recipe="tiny.danet")
    assert seen.record["misfit"] is None
    assert seen.record["augment"].startswith("random_crop(size = 8, padding = 4)")
    assert [each.label for each in plain.samples] == [each.label for each in seen.samples]
    pairs = list(zip(plain.samples, seen.samples, strict=True))
    assert sum(not torch.equal(a.image, b.image) for a, b in pairs) > len(pairs) // 2
    again = package.data(text, recipe="tiny.danet:test_recipe")
    assert all(
        torch.equal(a.image, b.image) for a, b in zip(seen.samples, again.samples, strict=True)
    )
    other = package.data(text, recipe="tiny.danet", seed=1)
    assert not all(
        torch.equal(a.image, b.image) for a, b in zip(seen.samples, other.samples, strict=True)
    )
    wrong = danetc.passes("data", "digits", "--recipe", "tiny.danet")
    assert "cannot learn them: digits has 10 classes, but the network has 3 outputs" in wrong.out
    assert danetc("data", "digits", "--recipe", "tiny.danet:no").err.count("no recipe `no`") == 1


def test_classes_of_pixels_numbers_and_features_have_pictures(tmp_path: Path) -> None:
    dice = np.random.default_rng(0)
    x = dice.random((9, 6, 6)) * 5 - 2
    for name, images, y in (
        ("pixels", x, (x > 0).astype(int)), ("numbers", x, x.mean((1, 2))),
        ("features", x.reshape(9, 36)[:, :7], np.arange(9) % 3),
    ):  # fmt: skip
        np.savez(tmp_path / name, x=images, y=y)
        report = package.data(f"{tmp_path / name}.npz,test=0.4")
        pixels = np.asarray(report.picture())
        assert pixels.std() > 20
        assert len(report.frame()) == {"pixels": 2, "numbers": 1, "features": 3}[name]
        if name == "pixels":
            counts = report.frame()["train"] + report.frame()["test"]
            assert counts.tolist() == [(x <= 0).sum(), (x > 0).sum()]
        assert repr(report).startswith(f"<DataReport: {name}.npz: {report.record['classes']} ")


# -- data are looked at first: before torch is imported, and before the spec, the run and the recipe


def with_data() -> list[str]:
    """The commands that take `--data`."""
    commands = {name: program.get_command(click.Context(program), name) for name in COMMANDS}
    return [
        name
        for name, command in commands.items()
        if command is not None and any("--data" in option.opts for option in command.params)
    ]


def test_every_command_looks_at_the_data_first(tmp_path: Path) -> None:
    names = with_data()
    assert set(names) >= {"train", "eval", "measure", "report", "compare"}
    cases = {
        "digits.npz": "there is no data set `digits.npz`; did you mean `digits`?",
        "digist": "there is no data set `digist`; did you mean `digits`?",
        "folder:missing": "there is no folder missing",
        "folder:~nobody-at-all/x": "`folder:~nobody-at-all/x`: Could not determine home directory",
        "": "there is no data set ``. Data sets are digits, fashion-mnist:DIR",
    }
    # None of these have the file or the run that they are about, which is of no interest yet.
    lines = [[name, "no-such-spec", "--data", text] for name in names for text in cases]
    lines += [["train", "x", "--dry-run", "--data", text] for text in cases]
    found, modules = in_fresh_process(lines, tmp_path)
    for (status, _, told), line in zip(found, lines, strict=True):
        assert status == 1, line
        assert told.startswith(f"danetc: {cases[line[-1]]}"), line
        assert told.count("\n") == 1, line
    assert not {"torch", "danetc.compiler", "lark"} & modules


def test_no_data_at_all_is_wrong_usage_and_lists_them(danetc: Run) -> None:
    for name in set(with_data()) - {"convert", "eval", "measure", "record", "report"}:
        told = "Missing option '--data'. Data sets are digits, fashion-mnist:DIR"
        danetc.fails(told, name, "no-such-spec", status=2)


def test_a_recipe_is_missed_after_the_data(danetc: Run, tmp_path: Path) -> None:
    data = make_folder(tmp_path / "data")
    Path("bare.danet").write_text(SMALL)
    done = danetc.fails(
        "has no recipe, and none called `folder` is in scope", "train", "bare.danet", "--data", data
    )
    lines = len(SMALL.rstrip().splitlines())
    assert f"at the end of the file, after line {lines}:\n\nrecipe first {{" in done.err
    shown = done.err[done.err.index("recipe first") :]
    Path("bare.danet").write_text(f"{SMALL.rstrip()}\n{shown}")
    assert danetc("check", "bare.danet").status == 0


@pytest.mark.thorough
def test_data_that_have_moved_since_the_training(danetc: Run, tmp_path: Path) -> None:
    make_folder(tmp_path / "data")
    folder = SMALL_DATA["folder"]
    Path("tiny.danet").write_text(spec(folder, f"augment = {folder.augment}; epochs = 1"))
    arguments = ("--backend", "eager", "-q", "-o", "run")
    assert danetc("train", "tiny.danet", "--data", "folder:data", *arguments).status == 0
    (tmp_path / "data").rename(tmp_path / "dta")
    found, modules = in_fresh_process([["eval", "run"]], tmp_path)
    assert not {"torch", "danetc.compiler", "lark"} & modules
    again = danetc("train", "--from", "run/run.json")
    for status, _, told in (*found, (again.status, again.out, again.err)):
        assert status == 1
        assert "there is no folder data; folder:DIR takes one" in told
        assert "--data" in told
    moved = danetc.passes("eval", "run", "--data", "folder:dta", "--json")
    assert json.loads(moved.out)["evaluated"][0]["unlike_training"] == []


def test_torchrun_prints_it_once_per_machine(danetc: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    said = []
    for rank in ("0", "1"):
        monkeypatch.setenv("LOCAL_RANK", rank)
        done = danetc("train", "x", "--data", "digist")
        assert done.status == 1
        said.append("did you mean `digits`?" in done.err)
    assert said == [True, False]
