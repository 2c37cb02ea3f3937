"""`danetc compare`: resuming after a kill, statistics, tables and figures."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from danetc.errors import UserError
from danetc.output.table import Cell, Table, latex, markdown, show, unique_labels
from danetc.runtime.system.files import read_record, save_record
from danetc.runtime.training.signals import StopRequest
from danetc.tasks.grid.comparison import Comparison
from danetc.tasks.grid.plot import FIGURES, across, data_name, draw
from danetc.tasks.grid.results import (
    TRAINED,
    CellRow,
    GridResults,
    measure_of,
    read_results,
    table,
    wiring,
)
from danetc.tasks.model_directory import GRID

from .conftest import SMALL, Run

SGD = """
recipe quick { epochs = 2; batch = 300; optimizer = sgd(lr = 0.1, momentum = 0.9, weight_decay = 1.0) }
"""
# SGD with a weight decay of 1 and a rate of 1000 makes weights a thousand times as large each step.


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 120
    while not path.is_file():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.thorough
@pytest.mark.usefixtures("all_digits")
def test_a_killed_grid_goes_on_and_comes_to_the_same(danetc: Run, tmp_path: Path) -> None:
    (tmp_path / "a.danet").write_text(SMALL + SGD)
    grid = ("compare", "a.danet", "--data", "digits", "--seeds", "2", "--backend", "eager")
    setting = ("--set", "recipe.optimizer.weight_decay=0", "--set", "recipe.epochs=3")
    arguments = (*grid, *setting, "--grid", "steps=2", "-o", "out")
    first = tmp_path / "out" / "small,steps=2" / "seed-0"
    process = subprocess.Popen([sys.executable, "-m", "danetc", *map(str, arguments)], cwd=tmp_path)
    wait_for(first / "training.json", process)
    process.send_signal(signal.SIGKILL)
    process.wait()
    cut = json.loads((first / "training.json").read_text())["epochs"]

    result = danetc.passes(*arguments)
    assert "small,steps=2 seed 0: done in" in result.err
    assert "small,steps=2 seed 1: done in" in result.err
    log = (first.parent / "log-seed-0.txt").read_text()
    assert len(cut) == 3 or "resuming from" in log  # it was not begun anew

    by_hand = []
    for seed in (0, 1):
        alone = ("train", "a.danet", "--data", "digits", "--seed", seed, "--backend", "eager")
        assert danetc(*alone, *setting, "--set", "steps=2", "-o", f"alone-{seed}", "-q").status == 0
        record = json.loads((tmp_path / f"alone-{seed}" / "training.json").read_text())
        by_hand.append([epoch["test_accuracy"] for epoch in record["epochs"]])
    told = danetc("compare", "--only-report", "-o", "out", "--json")
    (cell,) = json.loads(told.out)["cells"]
    assert [cell["scores"][str(seed)] for seed in (0, 1)] == [curve[-1] for curve in by_hand]
    assert (
        pytest.approx(np.stack([np.mean(by_hand, axis=0), np.std(by_hand, axis=0, ddof=1)]))
        == np.array(cell["curves"]["test_accuracy"]).T
    )
    assert cell["epochs_x_T"] == 6

    # What is done is not done again.
    before = {path: path.stat().st_mtime_ns for path in first.rglob("*")}
    assert danetc.passes(*arguments).out == result.out
    assert before == {path: path.stat().st_mtime_ns for path in first.rglob("*")}
    # A run by hand is the grid's: the command that stands in its record.
    run = json.loads((tmp_path / "out" / GRID).read_text())["cells"][0]["runs"][1]
    assert danetc(*run["command"][1:]).status == 0


@pytest.mark.thorough
def test_a_failing_cell_does_not_end_the_others_and_a_signal_saves_what_runs(
    danetc: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.danet").write_text(SMALL + SGD)
    good = "small,recipe.optimizer.lr=0.01"

    class Stop(StopRequest):
        """A signal comes when the second cell has had its first epoch."""

        @property
        def wanted(self) -> bool:
            if (tmp_path / "out" / good / "seed-0" / "training.json").is_file():
                self.signal = signal.SIGTERM
            return self.signal is not None

    monkeypatch.setattr("danetc.tasks.grid.comparison.StopRequest", Stop)
    arguments = ("compare", "a.danet", "--data", "digits", "--seeds", "1", "--backend", "eager")
    grid = ("--grid", "recipe.optimizer.lr=1000,0.01", "--set", "recipe.epochs=1000")
    result = danetc(*arguments, *grid, "-o", "out")
    assert result.status == 128 + signal.SIGTERM
    assert f"{good} seed 0: stopped, its state is saved" in result.err
    assert "the same command resumes" in result.err
    told = danetc.passes("compare", "-o", "out", "--only-report")
    assert "0 of 1 runs, 1 failed" in told.out
    failed, stopped = read_results(tmp_path / "out").rows
    assert failed.mean is None
    assert "finite" in failed.errors[0]
    assert (stopped.state, stopped.errors) == ("0 of 1 runs", {})
    assert (tmp_path / "out" / good / "seed-0" / "checkpoints" / "last").exists()


# -- tables and figures, of made-up figures --------------------------------------------------------


def row(connection: str, rule: str, depth: int, classes: int, *curves: list[float]) -> CellRow:
    found = {seed: tuple(curve) for seed, curve in enumerate(curves)}
    losses = {seed: tuple(depth / 20 - value for value in curve) for seed, curve in found.items()}
    name = f"{connection}_{rule}_r{depth}"
    return CellRow(
        name=f"{name},classes={classes}",
        values={
            "network": name, "connection": connection, "rule": rule, "depth": depth,
            "wiring": wiring(connection, rule), "classes": classes, "recipe": "r", "T": "4",
        },
        parameters=1000 * depth,
        cost=300,
        seeds=(0, 1),
        scores={seed: curve[-1] for seed, curve in found.items()},
        curves={"test_accuracy": found, "train_accuracy": found, "train_loss": losses},
        errors={},
    )  # fmt: skip


def comparison() -> GridResults:
    rows = [
        row(connection, rule, depth, classes, [0.1, 0.2 + depth / 1e3], [0.2, 0.4 + classes / 1e3])
        for classes in (5, 20)
        for connection, rule in (
            ("origin", "chain"),
            ("origin", "densely_additive"),
            ("sew", "chain"),
        )
        for depth in (20, 56)
    ]
    return GridResults("digits", ("network", "classes"), "last", tuple(rows))


def test_differences_are_paired_by_seed() -> None:
    """Against the interval of a paired t-test in SciPy."""
    t_test = pytest.importorskip("scipy.stats").ttest_rel
    for count in (*range(2, 18), 40):
        dice = random.Random(count)
        scores = [[0.5 + dice.gauss(0, 0.02) for _ in range(count)] for _ in range(2)]
        rows = [
            row("sew", "chain", depth, 5, *([x] for x in each)) for depth, each in enumerate(scores)
        ]
        (found,) = GridResults("digits", ("network",), "last", tuple(rows)).paired()
        interval = t_test(scores[1], scores[0]).confidence_interval(0.95)
        expected = [*interval, (interval.low + interval.high) / 2]
        assert [found.low, found.high, found.mean] == pytest.approx(expected, rel=1e-3, abs=1e-5)
        assert (found.cell, found.minus, found.seeds) == (rows[1].name, rows[0].name, count)
    assert len(comparison().paired()) == 5  # those with as many classes as the first
    rows = [row("sew", "chain", 20, 5, [0.5], [0.25]), row("sew", "chain", 56, 5, [0.5])]
    assert GridResults("digits", ("network",), "last", tuple(rows)).paired() == []


def test_the_flat_table_says_what_varies() -> None:
    found = table(comparison())
    assert found.heads[:5] == ("network", "classes", "connection", "rule", "depth")
    assert found.heads[5:] == ("params", "epochs x T", "test top-1 %", "runs")
    texts = [cell.text for cell in found.rows[0]]
    mean, spread = np.mean([22, 40.5]), np.std([22, 40.5], ddof=1)
    assert texts[-4:] == ["20,000", "300", f"{mean:.2f} ± {spread:.2f}", "2"]
    assert found.right == {1, 4, 5, 6, 7, 8}
    one = comparison().rows[0]
    alike = [replace(one, values={**one.values, "steps": n, "T": str(n)}) for n in (1, 4)]
    rows = (alike[0], replace(alike[1], seeds=(0,), scores={0: 0.5}))
    found = table(GridResults("digits", ("network", "steps"), "last", rows))
    assert found.heads == ("network", "steps", "params", "epochs x T", "test top-1 %", "runs")


def test_an_axis_can_be_spread_over_columns() -> None:
    found = table(comparison(), ["wiring"])
    assert found.heads == (
        "classes", "depth", "params", "epochs x T",
        "origin", "origin by densely_additive", "sew",
    )  # fmt: skip
    assert [[cell.text for cell in line[:3]] for line in found.rows] == [
        ["5", "20", "20,000"], ["5", "56", "56,000"], ["20", "20", "20,000"], ["20", "56", "56,000"],
    ]  # fmt: skip
    found = table(comparison(), ["depth"])
    assert found.heads == ("classes", "wiring", "epochs x T", "depth 20", "depth 56")
    assert [cell.best for cell in found.rows[0]] == [False, False, False, False, True]
    rows = [row for number, row in enumerate(comparison().rows) if number != 6]
    missing = table(replace(comparison(), rows=tuple(rows)), ["depth"])
    assert [row[-2].text for row in missing.rows].count("-") == 1


def test_classes_beside_wirings_are_columns_as_in_table_3() -> None:
    found = table(comparison(), ["classes", "connection", "rule"])
    assert found.heads[:4] == ("depth", "params", "epochs x T", "classes 5, origin, chain")
    assert len(found.heads) == 3 + 6
    found = table(comparison(), ["classes"])
    assert found.heads == ("wiring", "depth", "params", "epochs x T", "classes 5", "classes 20")
    # Accuracies of 5 and of 20 classes are not compared; those of depth 56 are equal and the best.
    assert [[cell.best for cell in line[-2:]] for line in found.rows] == 3 * [
        [False, False],
        [True, True],
    ]


def test_numbers_of_tables(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table(("a_b", "n"), ((Cell("x|y"), Cell("5.2e-14", True, 5.21e-14)),), frozenset({1}))
    assert r"\textbf{$5.2 \times 10^{-14}$} \\" in latex(table)
    assert markdown(table).splitlines()[2] == "| x\\|y | **5.2e-14** |"
    show(table, "csv")
    assert capsys.readouterr().out == "a_b,n\nx|y,5.21e-14\n"


def test_unknown_axes_are_refused() -> None:
    with pytest.raises(UserError, match="there is no `dept`"):
        table(comparison(), ["dept"])
    twice = GridResults("digits", (), "last", comparison().rows[:1] * 2)
    with pytest.raises(UserError, match="several cells would share a place"):
        table(twice, ["wiring"])


def test_figures_from_python() -> None:
    pytest.importorskip("matplotlib")
    found = Comparison(**vars(comparison()), directory=Path("out"))
    upper, lower = found.figure().axes[:2], found.figure().axes[2:4]
    assert [each.get_xlabel() for each in (*upper, *lower)] == ["epoch", "epoch", "depth", "depth"]
    assert found.figure("training", "classes").axes[-1].get_xlabel() == "epoch"
    with pytest.raises(UserError, match="name is one of accuracy, training, not 'loss'"):
        found.figure("loss")
    with pytest.raises(UserError, match="there is no `dept`"):
        found.figure(x="dept")
    turned = replace(found, rows=found.rows[::-1]).figure(x="wiring")  # in the order of the grid
    ticks = [each.get_text() for each in turned.axes[2].get_xticklabels()]
    assert ticks == ["sew", "origin by densely_additive", "origin"]
    numbers = replace(found, rows=found.rows[::-1]).figure(x="depth")  # in the order of numbers
    assert [each.get_text() for each in numbers.axes[2].get_xticklabels()] == ["20", "56"]


def test_cells_that_differ_in_no_number_stand_side_by_side() -> None:
    pytest.importorskip("matplotlib")
    rows = [each for each in comparison().rows if each.values["depth"] == 20][:3]
    found = GridResults("digits", ("network",), "last", tuple(rows))
    _, lower = draw(found, "accuracy").axes
    drawn = [float(line.get_ydata()[0]) for line in lower.lines if line.get_marker() in [*"os^"]]
    assert drawn == pytest.approx([100 * (each.mean or 0) for each in rows])
    bars = [bar.lines[2][0].get_segments()[0][:, 1] for bar in lower.containers]
    spreads = [100 * (each.deviation or 0) for each in rows]
    assert [(high - low) / 2 for low, high in bars] == pytest.approx(spreads)
    ticks = [each.get_text() for each in lower.get_xticklabels()]
    assert ticks == ["origin", "origin by densely_additive", "sew"]


@pytest.mark.parametrize(("split", "scores"), [("test", "scores"), ("val", "val_scores")])
@pytest.mark.parametrize(
    ("score", "name", "text", "best"),
    [
        ({"rmse": 0.5}, "rmse", "0.1235 ± 0.012", 0.25),
        ({"miou": 0.5}, "pixel accuracy", "12.35 ± 1.23", 0.75),
        ({}, "accuracy", "12.35 ± 1.23", 0.75),
    ],
)
def test_measures(
    split: Any, scores: str, score: dict[str, float], name: str, text: str, best: float
) -> None:
    epoch = {f"{split}_accuracy": 0.5, scores: score}
    found = measure_of([epoch], split)
    assert (found.name, found.split, found.of(epoch)) == (name, split, 0.5)
    assert (found.text(0.12346, 0.0123), found.text(None)) == (text, "-")
    assert found.best([0.25, 0.75]) == max((0.25, 0.75), key=found.objective) == best


def recorded(folder: Path) -> Path:
    """Write the record of two cells, of which the first is trained; return its run."""
    names = ("network", "connection", "rule", "classes", "parameters", "recipe")
    facts = {"depth": 20, "steps": [1, 4], "epochs": [2, 1], "cost": 6}
    record: dict[str, Any] = {
        "format": 1, "data": "digits", "axes": ["network", "stages"],
        "cells": [
            {
                "name": f"net,stages={seed}",
                "axes": {"network": "net", "stages": f"a, {seed}"},
                "facts": {**dict.fromkeys(names, "x"), "parameters": 7, "classes": 2, **facts},
                "runs": [{"seed": seed, "directory": f"cell/seed-{seed}", "state": "waiting"}],
            }
            for seed in (3, 4)
        ],
    }  # fmt: skip
    save_record(record, folder / GRID)
    run = folder / "cell" / "seed-3"
    run.mkdir(parents=True)
    epochs = [dict.fromkeys(("test_accuracy", *TRAINED), value) for value in (0.25, 0.5, 0.375)]
    save_record({"epochs": epochs}, run / "training.json")
    return run


def test_results_are_read_from_their_folder(tmp_path: Path) -> None:
    recorded(tmp_path)
    for accuracy, value in (("last", 0.375), ("best", 0.5)):
        found = read_results(tmp_path, accuracy, "test").as_dict()  # type: ignore[arg-type]
        assert {key: found[key] for key in ("data", "axes", "accuracy", "measure")} == {
            "data": "digits", "axes": ["network", "stages"], "accuracy": accuracy,
            "measure": "accuracy",
        }  # fmt: skip
        first, second = found["cells"]
        assert (first["name"], first["stages"], first["mean"]) == ("net,stages=3", "a, 3", value)
        assert (first["wiring"], first["T"], first["epochs_x_T"]) == ("x by x", "1, 4", 6)
        assert (first["scores"], first["seeds"], first["best"]) == ({3: value}, (3,), False)
        assert (first["deviation"], first["state"], first["errors"]) == (None, "done", {})
        assert first["curves"]["train_loss"] == [(0.25, 0.0), (0.5, 0.0), (0.375, 0.0)]
        assert (second["mean"], second["state"]) == (None, "0 of 1 runs")
    found = table(read_results(tmp_path))
    assert found.heads == (
        "network", "stages", "params", "epochs x T", "test top-1 %", "state",
    )  # fmt: skip
    assert found.right == {2, 3, 4}
    record = read_record(tmp_path / GRID)
    for wrong, message in (
        ({"cells": 1}, "is not as it was written (TypeError"),
        ({"cells": [{**record["cells"][0], "facts": {}}]}, "is not as it was written (KeyError"),
    ):
        save_record({**record, **wrong}, tmp_path / GRID)
        with pytest.raises(UserError, match=re.escape(message)):
            read_results(tmp_path)


@pytest.mark.parametrize("x", [None, "classes", "wiring"])
@pytest.mark.parametrize("name", FIGURES)
def test_figures_over_any_axis(name: str, x: str | None) -> None:
    pytest.importorskip("matplotlib")
    found = comparison()
    assert across(found, x) == (x or "depth")
    assert any(axes.lines for axes in draw(found, name, x).axes)
    assert draw(GridResults("digits", ("network",), "last", ()), name) is None


@pytest.mark.parametrize(
    ("varied", "axis"),
    [
        ({"depth": (20, 56), "steps": (1, 4), "classes": (5, 20)}, "depth"),
        ({"steps": (1, 4), "classes": (5, 20)}, "steps"),
        ({"rule": ("chain", "sum"), "classes": (5, 20)}, "classes"),
        ({"rule": ("chain", "sum")}, None),
        ({"steps": (True, False)}, None),
        ({"steps": (1, "scheduled(1)")}, None),
    ],
)
def test_the_default_x_axis(varied: dict[str, tuple[Any, ...]], axis: str | None) -> None:
    one = row("sew", "chain", 20, 5, [0.5])
    rows = [
        replace(one, values={**one.values, **dict(zip(varied, values, strict=True))})
        for values in zip(*varied.values(), strict=True)
    ]
    found = GridResults("d", ("network", "classes", *varied), "last", tuple(rows))
    assert across(found, None) == axis


def test_training_has_a_panel_for_each_number_of_classes() -> None:
    """As in Fig. 11: loss above accuracy, a line for each network and depth."""
    pytest.importorskip("matplotlib")
    found = comparison()
    axes = draw(found, "training").axes
    titles = ["digits, 5 classes", "digits, 20 classes", "", ""]
    assert [each.get_title() for each in axes] == titles
    drawn = [[x for x in each.lines if x.get_label()[0] != "_"] for each in axes]
    lines = [[line.get_ydata() for line in panel] for panel in drawn]
    assert [len(panel) for panel in lines] == [6] * 4
    assert all(tick == int(tick) for each in axes for tick in each.get_xticks())  # epochs
    row = found.rows[1]  # Origin of depth 56 with 5 classes
    assert (row.values["depth"], row.values["classes"]) == (56, 5)
    losses = np.mean(list(row.curves["train_loss"].values()), axis=0)
    shares = np.mean(list(row.curves["train_accuracy"].values()), axis=0)
    assert lines[0][1] == pytest.approx(losses)
    assert lines[2][1] == pytest.approx(100 * shares)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ("folder:/data/city,test=0.2", "city"),
        ("digits", "digits"),
        ("folder:/data/imagenet/", "imagenet"),
        ("folder:.", "folder"),
    ],
)
def test_a_figure_does_not_say_where_data_lies(data: str, name: str) -> None:
    assert data_name(data) == name


def test_torchrun_is_refused(danetc: Run, small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    danetc.fails("without torchrun", "compare", small, "--data", "digits")
    assert os.environ["WORLD_SIZE"] == "2"


@pytest.mark.parametrize(
    ("names", "places", "labels"),
    [
        (["a", "b"], ["runs/x", "runs/y"], ["a", "b"]),
        (["a", "a"], ["runs/x", "runs/y"], ["x", "y"]),
        (["a", "a"], ["one/x.danet", "two/x.danet"], ["one/x", "two/x"]),
        (["a", "a", "b"], ["g/a/s0", "g/a/s1", "g/b/s0"], ["a/s0", "a/s1", "b/s0"]),
        (["a", "a"], ["runs/a", "a.danet"], ["runs/a", "a"]),
        (["a", "a"], ["runs/a", "runs"], ["runs/a", "runs"]),
    ],
)
def test_labels(names: list[str], places: list[str], labels: list[str]) -> None:
    assert unique_labels(names, places) == labels
