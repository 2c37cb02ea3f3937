"""`danetc compare`: resuming after a kill, statistics, tables and figures."""

import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from danetc.errors import UserError
from danetc.output.table import Cell, Table, latex, markdown, show, unique_labels
from danetc.runtime.system.files import read_record
from danetc.runtime.training.signals import StopRequest
from danetc.tasks.grid.comparison import Comparison
from danetc.tasks.grid.plot import FIGURES, across, data_name, draw
from danetc.tasks.grid.results import CellRow, GridResults, measure_of, read_results, table
from danetc.tasks.model_directory import GRID

from .conftest import SMALL, Run

SGD = """
recipe quick { epochs = 2; batch = 300; optimizer = sgd(lr = 0.1, momentum = 0.9, weight_decay = 1.0) }
"""
# SGD with a weight decay of 1 and a rate of 1000 makes weights a thousand times as large each step.


@pytest.mark.thorough
@pytest.mark.usefixtures("all_digits")
def test_a_killed_grid_goes_on_and_comes_to_the_same(danetc: Run, tmp_path: Path) -> None:
    (tmp_path / "a.danet").write_text(SMALL + SGD)
    grid = ("compare", "a.danet", "--data", "digits", "--seeds", "2", "--backend", "eager")
    setting = ("--set", "recipe.optimizer.weight_decay=0", "--set", "recipe.epochs=3")
    arguments = (*grid, *setting, "--grid", "steps=2", "-o", "out")
    first = tmp_path / "out" / "small,steps=2" / "seed-0"
    process = subprocess.Popen([sys.executable, "-m", "danetc", *arguments], cwd=tmp_path)
    end = time.monotonic() + 120
    while not (first / "training.json").is_file():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.02)
    process.kill()
    process.wait()
    cut = read_record(first / "training.json")["epochs"]

    result = danetc.passes(*arguments)
    by_hand = []
    for seed in (0, 1):
        assert f"small,steps=2 seed {seed}: done in" in result.err
        alone = ("train", "a.danet", "--data", "digits", "--seed", seed, "--backend", "eager")
        record = danetc.json(*alone, *setting, "--set", "steps=2", "-o", f"alone-{seed}", "-q")
        by_hand.append([epoch["test_accuracy"] for epoch in record["epochs"]])
    log = (first.parent / "log-seed-0.txt").read_text()
    assert len(cut) == 3 or "resuming from" in log  # it did not start over
    (cell,) = danetc.json("compare", "--only-report", "-o", "out")["cells"]
    assert [*cell["scores"].values()] == [curve[-1] for curve in by_hand]
    expected = np.stack([np.mean(by_hand, axis=0), np.std(by_hand, axis=0, ddof=1)])
    assert pytest.approx(expected) == np.array(cell["curves"]["test_accuracy"]).T
    assert cell["epochs_x_T"] == 6

    before = {path: path.stat().st_mtime_ns for path in first.rglob("*")}
    assert danetc.passes(*arguments).out == result.out
    assert before == {path: path.stat().st_mtime_ns for path in first.rglob("*")}
    # The record has a command that trains a run of the grid by hand.
    run = read_record(tmp_path / "out" / GRID)["cells"][0]["runs"][1]
    danetc.passes(*run["command"][1:])


@pytest.mark.thorough
def test_a_failing_cell_does_not_end_the_others_and_a_signal_saves_what_runs(
    danetc: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.danet").write_text(SMALL + SGD)
    good = "small,recipe.optimizer.lr=0.01"
    run = tmp_path / "out" / good / "seed-0"

    class Stop(StopRequest):
        """A signal arrives after the first epoch of the second cell."""

        @property
        def wanted(self) -> bool:
            if (run / "training.json").is_file():
                self.signal = signal.SIGTERM
            return self.signal is not None

    monkeypatch.setattr("danetc.tasks.grid.comparison.StopRequest", Stop)
    arguments = ("compare", "a.danet", "--data", "digits", "--seeds", "1", "--backend", "eager")
    grid = ("--grid", "recipe.optimizer.lr=1000,0.01", "--set", "recipe.epochs=1000")
    told = f"{good} seed 0: stopped, its state is saved"
    result = danetc.fails(told, *arguments, *grid, "-o", "out", status=128 + signal.SIGTERM)
    assert "the same command resumes" in result.err
    assert "0 of 1 runs, 1 failed" in danetc.passes("compare", "-o", "out", "--only-report").out
    failed, stopped = read_results(tmp_path / "out").rows
    assert failed.mean is None
    assert "finite" in failed.errors[0]
    assert (stopped.state, stopped.errors) == ("0 of 1 runs", {})
    assert (run / "checkpoints" / "last").exists()


# -- tables and figures from invented results ------------------------------------------------------


def row(connection: str, rule: str, depth: int, classes: int, *curves: list[float]) -> CellRow:
    found = {seed: tuple(curve) for seed, curve in enumerate(curves)}
    losses = {seed: tuple(depth / 20 - value for value in curve) for seed, curve in found.items()}
    name = f"{connection}_{rule}_r{depth}"
    values = {
        "network": name, "connection": connection, "rule": rule, "depth": depth,
        "wiring": connection if rule == "chain" else f"{connection} by {rule}",
        "classes": classes, "recipe": "r", "T": "4",
    }  # fmt: skip
    scores = {seed: curve[-1] for seed, curve in found.items()}
    shown = {"test_accuracy": found, "train_accuracy": found, "train_loss": losses}
    return CellRow(
        f"{name},classes={classes}", values, 1000 * depth, 300, (0, 1), scores, shown, {}
    )


def grid(*rows: CellRow) -> GridResults:
    return GridResults("digits", ("network", "classes"), "last", rows)


def comparison() -> GridResults:
    wirings = (("origin", "chain"), ("origin", "densely_additive"), ("sew", "chain"))
    rows = (
        row(*wiring, depth, classes, [0.1, 0.2 + depth / 1e3], [0.2, 0.4 + classes / 1e3])
        for classes, wiring, depth in product((5, 20), wirings, (20, 56))
    )
    return grid(*rows)


def test_differences_are_paired_by_seed() -> None:
    """The intervals are compared with those of a paired t-test in SciPy."""
    t_test = pytest.importorskip("scipy.stats").ttest_rel
    for count in (*range(2, 18), 40):
        dice = random.Random(count)
        scores = [[0.5 + dice.gauss(0, 0.02) for _ in range(count)] for _ in range(2)]
        rows = [row("sew", "chain", n, 5, *([x] for x in each)) for n, each in enumerate(scores)]
        (found,) = grid(*rows).paired()
        interval = t_test(scores[1], scores[0]).confidence_interval(0.95)
        expected = [*interval, (interval.low + interval.high) / 2]
        assert [found.low, found.high, found.mean] == pytest.approx(expected, rel=1e-3, abs=1e-5)
        assert (found.cell, found.minus, found.seeds) == (rows[1].name, rows[0].name, count)
    assert len(comparison().paired()) == 5  # the other rows with 5 classes
    assert grid(row("a", "b", 20, 5, [0.5], [0.25]), row("a", "b", 56, 5, [0.5])).paired() == []


def test_the_flat_table_says_what_varies() -> None:
    found = table(comparison())
    assert found.heads[:5] == ("network", "classes", "connection", "rule", "depth")
    assert found.heads[5:] == ("params", "epochs x T", "test top-1 %", "runs")
    mean, spread = np.mean([22, 40.5]), np.std([22, 40.5], ddof=1)
    last = ["20,000", "300", f"{mean:.2f} ± {spread:.2f}", "2"]
    assert [cell.text for cell in found.rows[0]][-4:] == last
    assert found.right == {1, 4, 5, 6, 7, 8}
    one = comparison().rows[0]
    alike = [replace(one, values={**one.values, "steps": n, "T": str(n)}) for n in (1, 4)]
    found = grid(alike[0], replace(alike[1], seeds=(0,), scores={0: 0.5}))
    heads = ("network", "steps", "params", "epochs x T", "test top-1 %", "runs")
    assert table(replace(found, axes=("network", "steps"))).heads == heads


def test_an_axis_can_be_spread_over_columns() -> None:
    found = table(comparison(), ["wiring"])
    assert found.heads[:4] == ("classes", "depth", "params", "epochs x T")
    assert found.heads[4:] == ("origin", "origin by densely_additive", "sew")
    assert [[cell.text for cell in line[:3]] for line in found.rows] == [
        ["5", "20", "20,000"], ["5", "56", "56,000"], ["20", "20", "20,000"], ["20", "56", "56,000"],
    ]  # fmt: skip
    found = table(comparison(), ["depth"])
    assert found.heads == ("classes", "wiring", "epochs x T", "depth 20", "depth 56")
    assert [cell.best for cell in found.rows[0]] == [False, False, False, False, True]
    rows = comparison().rows
    missing = table(grid(*rows[:6], *rows[7:]), ["depth"])
    assert [row[-2].text for row in missing.rows].count("-") == 1
    found = table(comparison(), ["classes", "connection", "rule"])
    assert found.heads[:4] == ("depth", "params", "epochs x T", "classes 5, origin, chain")
    assert len(found.heads) == 3 + 6
    found = table(comparison(), ["classes"])
    assert found.heads == ("wiring", "depth", "params", "epochs x T", "classes 5", "classes 20")
    # Accuracies of 5 and of 20 classes are not compared; those of depth 56 are equal and the best.
    best = [[cell.best for cell in line[-2:]] for line in found.rows]
    assert best == 3 * [[False, False], [True, True]]
    with pytest.raises(UserError, match="there is no `dept`"):
        table(comparison(), ["dept"])
    with pytest.raises(UserError, match="several cells would share a place"):
        table(grid(rows[0], rows[0]), ["wiring"])


def test_numbers_of_tables(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table(("a_b", "n"), ((Cell("x|y"), Cell("5.2e-14", True, 5.21e-14)),), frozenset({1}))
    assert r"\textbf{$5.2 \times 10^{-14}$} \\" in latex(table)
    assert markdown(table).splitlines()[2] == "| x\\|y | **5.2e-14** |"
    show(table, "csv")
    assert capsys.readouterr().out == "a_b,n\nx|y,5.21e-14\n"


def ticks(axes: Any) -> list[str]:
    return [each.get_text() for each in axes.get_xticklabels()]


def test_figures_from_python() -> None:
    pytest.importorskip("matplotlib")
    found = Comparison(**vars(comparison()), directory=Path("out"))
    labels = [each.get_xlabel() for each in found.figure().axes[:4]]
    assert labels == ["epoch", "epoch", "depth", "depth"]
    assert found.figure("training", "classes").axes[-1].get_xlabel() == "epoch"
    with pytest.raises(UserError, match="name is one of accuracy, training, not 'loss'"):
        found.figure("loss")
    with pytest.raises(UserError, match="there is no `dept`"):
        found.figure(x="dept")
    turned = replace(found, rows=found.rows[::-1])
    of_wirings = ticks(turned.figure(x="wiring").axes[2])  # in the order of the grid
    assert of_wirings == ["sew", "origin by densely_additive", "origin"]
    assert ticks(turned.figure(x="depth").axes[2]) == ["20", "56"]  # in the order of numbers
    for name, x in product(FIGURES, (None, "classes", "wiring")):
        assert across(found, x) == (x or "depth")
        assert any(axes.lines for axes in draw(found, name, x).axes)
        assert draw(grid(), name) is None


def test_cells_that_differ_in_no_number_stand_side_by_side() -> None:
    pytest.importorskip("matplotlib")
    rows = comparison().rows[:6:2]
    _, lower = draw(grid(*rows), "accuracy").axes
    drawn = [float(line.get_ydata()[0]) for line in lower.lines if line.get_marker() in [*"os^"]]
    assert drawn == pytest.approx([100 * (each.mean or 0) for each in rows])
    bars = [bar.lines[2][0].get_segments()[0][:, 1] for bar in lower.containers]
    spreads = [100 * (each.deviation or 0) for each in rows]
    assert [(high - low) / 2 for low, high in bars] == pytest.approx(spreads)
    assert ticks(lower) == ["origin", "origin by densely_additive", "sew"]


def test_measures() -> None:
    splits: dict[Any, str] = {"test": "scores", "val": "val_scores"}
    for score, name, text, best in (
        ({"rmse": 0.5}, "rmse", "0.1235 ± 0.012", 0.25),
        ({"miou": 0.5}, "pixel accuracy", "12.35 ± 1.23", 0.75),
        ({}, "accuracy", "12.35 ± 1.23", 0.75),
    ):
        for split, scores in splits.items():
            epoch = {f"{split}_accuracy": 0.5, scores: score}
            found = measure_of([epoch], split)
            assert (found.name, found.split, found.of(epoch)) == (name, split, 0.5)
            assert (found.text(0.12346, 0.0123), found.text(None)) == (text, "-")
            assert found.best([0.25, 0.75]) == max((0.25, 0.75), key=found.objective) == best


def test_the_default_x_axis() -> None:
    one = row("sew", "chain", 20, 5, [0.5])
    cases: list[tuple[dict[str, Any], str | None]] = [
        ({"depth": 56, "steps": 4, "classes": 20}, "depth"),
        ({"steps": 4, "classes": 20}, "steps"),
        ({"rule": "sum", "classes": 20}, "classes"),
        ({"rule": "sum"}, None),
        ({"steps": False}, None),
        ({"steps": "scheduled(1)"}, None),
    ]
    for varied, axis in cases:
        first, second = ({**one.values, "steps": 1, **each} for each in ({}, varied))
        found = grid(replace(one, values=first), replace(one, values=second))
        assert across(replace(found, axes=("network", "classes", *varied)), None) == axis


def test_training_has_a_panel_for_each_number_of_classes() -> None:
    """As in Fig. 11, the loss is above the accuracy, with one line for each network and depth."""
    pytest.importorskip("matplotlib")
    axes = draw(comparison(), "training").axes
    titles = ["digits, 5 classes", "digits, 20 classes", "", ""]
    assert [each.get_title() for each in axes] == titles
    lines = [[x.get_ydata() for x in each.lines if x.get_label()[0] != "_"] for each in axes]
    assert [len(panel) for panel in lines] == [6] * 4
    assert all(tick == int(tick) for each in axes for tick in each.get_xticks())  # epochs
    curves = comparison().rows[1].curves  # Origin of depth 56 with 5 classes
    for panel, name, scale in ((0, "train_loss", 1), (2, "train_accuracy", 100)):
        mean = np.mean(list(curves[name].values()), axis=0)
        assert lines[panel][1] == pytest.approx(scale * mean)


def test_a_figure_does_not_say_where_data_lies() -> None:
    names = {"folder:/data/city,test=0.2": "city", "folder:/imagenet/": "imagenet"}
    names |= {"digits": "digits", "folder:.": "folder"}
    assert {data: data_name(data) for data in names} == names


def test_labels() -> None:
    for names, places, labels in (
        ("ab", ["runs/x", "runs/y"], ["a", "b"]),
        ("aa", ["runs/x", "runs/y"], ["x", "y"]),
        ("aa", ["one/x.danet", "two/x.danet"], ["one/x", "two/x"]),
        ("aab", ["g/a/s0", "g/a/s1", "g/b/s0"], ["a/s0", "a/s1", "b/s0"]),
        ("aa", ["runs/a", "a.danet"], ["runs/a", "a"]),
        ("aa", ["runs/a", "runs"], ["runs/a", "runs"]),
    ):
        assert unique_labels([*names], places) == labels
