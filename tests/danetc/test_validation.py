"""Validation images: trainings, grids and their readers name the split of each metric."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest

import danetc as package
from danetc.errors import UserError
from danetc.runtime.system.files import read_record, save_record
from danetc.runtime.training.observer import Epoch
from danetc.tasks.grid.plot import draw
from danetc.tasks.grid.results import read_results, table
from danetc.tasks.model_directory import GRID
from danetc.tasks.training.train import Training

from .conftest import FEW, Run
from .runs import recorded
from .test_tensorboard import begun, curve

DATA = f"{FEW},val=0.2"
QUICK = "recipe quick { epochs = 2; batch = 120; optimizer = adamw(lr = 0.01) }\n"
CELL = ("--grid", "steps=1,2", "--backend", "eager")


@pytest.mark.thorough
@pytest.mark.usefixtures("quick")
def test_a_training_from_its_plan_to_its_report(danetc: Run) -> None:
    asked = ("train", "quick.danet", "--data", DATA, "--backend", "eager", "-o", "run")
    plan = danetc.passes(*asked, "--dry-run").out
    assert f"{DATA}: 240 images to train on, 60 to test, 60 to validate" in plan
    first, second = (line for line in danetc.passes(*asked).out.splitlines() if " lr " in line)
    assert ("  val loss " in first, "  test loss " in first) == (True, False)
    assert ("  val loss " in second, "  test loss " in second) == (True, True)
    record = read_record(Path("run/training.json"))
    before, last = record["epochs"]
    names = ("test_loss", "test_accuracy", "test_top5")
    assert [before[name] for name in names] == [None] * 3
    assert record["test_accuracy"] == last["test_accuracy"] is not None
    facts = read_record(Path("run/run.json"))["facts"]["data"]
    assert [facts[name] for name in ("train", "val", "test")] == [240, 60, 60]
    assert facts["validation"] == {"share": 0.2, "of": "each class"}
    with Path("run/metrics.csv").open() as stream:
        one, two = csv.DictReader(stream)
    assert (one["test_accuracy"], float(one["val_accuracy"])) == ("", before["val_accuracy"])
    assert float(two["test_accuracy"]) == last["test_accuracy"]
    for split in ("val", "test"):
        (found,) = danetc.json("eval", "run", "--split", split)["evaluated"]
        (at,) = found["results"]
        assert (at["top1"], at["loss"]) == (last[f"{split}_accuracy"], last[f"{split}_loss"])
    told = "the validation images (was: the test images)"
    assert told in danetc("eval", "run", "--split", "val").out
    asked_of = ("--data", DATA, "--split", "val", "--only", "firing-rate", "--batches", "1")
    assert danetc.json("measure", "run", *asked_of)["data"]["split"] == "val"
    assert "best val top-1" in (danetc.passes("report", "run") and Path("report.html").read_text())
    figure = Training(Path("run"), record, ()).figure()
    lines = [[line.get_label() for line in axes.get_lines()] for axes in figure.axes]
    assert lines == [["train", "val", "test"]] * 2
    told = "has no validation samples; ,val=0.1 holds some out"
    danetc.fails(told, "eval", "run", "--split", "val", "--data", FEW)


def test_data_say_the_sizes_of_three_splits(danetc: Run) -> None:
    lines = danetc.passes("data", DATA).out.splitlines()
    head = next(n for n, line in enumerate(lines) if "class  " in line)
    assert lines[head].split() == ["class", "train", "test", "val"]
    assert lines[head + 2].split() == ["0", "class0", "24", "6", "6"]
    assert repr(package.data(DATA)).endswith("samples: 240 train, 60 test, 60 val>")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("search", "the best trial would be selected on the test images of"),
        ("search --pruner median", "hold out validation images, as in --data digits,val=0.1, or"),
        ("compare --accuracy best", "the best epoch would be selected on the test images of"),
    ],
)
def test_nothing_is_selected_on_test_images(
    danetc: Run, quick: Path, words: str, said: str
) -> None:
    """The user can ask for it, except with validation images."""
    command, *rest = words.split()
    if command == "search":
        pytest.importorskip("optuna")
    asked = (command, quick, *rest, *CELL, "-o", "out", "--data")
    danetc.fails(said, *asked, FEW)
    danetc.fails("is selected on validation images of", *asked, DATA, "--select-on", "test")
    assert not Path("out").exists()
    if command == "compare":
        of_test = danetc.passes(*asked, FEW, "--select-on", "test", "--dry-run").out
        assert "best test top-1 %" in of_test
        assert "best val top-1 %" in danetc.passes(*asked, DATA, "--dry-run").out


def test_results_of_a_grid_name_their_split(tmp_path: Path) -> None:
    training = recorded(tmp_path) / "training.json"
    epochs = read_record(training)["epochs"]
    for epoch, value in zip(epochs, (0.25, 0.75, 0.5), strict=True):
        epoch |= {"val_loss": 1.0, "val_accuracy": value, "val_scores": {}, "test_accuracy": None}
    epochs[-1]["test_accuracy"] = 0.125
    save_record({"epochs": epochs}, training)
    save_record({**read_record(tmp_path / GRID), "data": "digits,val=0.1"}, tmp_path / GRID)
    last, best = read_results(tmp_path, "last"), read_results(tmp_path, "best")
    for found, score, split, head in (
        (last, 0.125, "test", "test top-1 %"), (best, 0.75, "val", "best val top-1 %"),
    ):  # fmt: skip
        assert (found.rows[0].mean, found.as_dict()["split"]) == (score, split)
        assert head in table(found).heads
        assert table(found, ["stages"]).heads[-1] == f"a, 4, {head}"
        assert found.rows[0].curve("val_accuracy") == [(0.25, 0.0), (0.75, 0.0), (0.5, 0.0)]
    with pytest.raises(UserError, match="is selected on validation images"):
        read_results(tmp_path, "best", "test")
    pytest.importorskip("matplotlib")
    upper, lower = draw(last, "accuracy").axes
    assert upper.get_ylabel() == "val top-1 %"
    assert lower.get_ylabel() == "test top-1 %\nafter the last epoch"


def test_curves_of_tensorboard_are_of_their_split(tmp_path: Path) -> None:
    board = begun(tmp_path, print)
    epoch = Epoch("train", 1, 0.1, 2.0, 0.5, None, None, 3.0, val_loss=1.5, val_accuracy=0.25,
                  val_top5=0.75, val_scores={"miou": 0.5}, firing={"stem": 0.125})  # fmt: skip
    board.on_epoch_end(epoch)
    board.on_epoch_end(replace(epoch, epoch=2, test_loss=1.0))
    board.on_phase_end()
    for name, value in (("loss", 1.5), ("top1", 0.25), ("top5", 0.75), ("miou", 0.5)):
        assert curve(tmp_path, f"epoch/val_{name}") == [(4, value), (8, value)]
    assert curve(tmp_path, "epoch/test_loss") == [(8, 1.0)]
    assert curve(tmp_path, "val_firing_rate/stem") == [(4, 0.125), (8, 0.125)]
