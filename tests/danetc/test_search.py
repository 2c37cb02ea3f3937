"""`danetc search`: trials as cells of `compare`, Pareto front, pruning and resuming."""

import json
import math
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

import danetc as package
from danetc.arguments import hints_of
from danetc.errors import UserError
from danetc.requests import SearchRequest
from danetc.runtime.system.files import read_record, save_record
from danetc.runtime.training.signals import StopRequest
from danetc.tasks.grid.cells import Axis
from danetc.tasks.grid.plan import GridRun
from danetc.tasks.grid.run import GridProgress
from danetc.tasks.model_directory import GRID, TRAINING
from danetc.tasks.searching.results import SearchResult, TrialRow, read_search, table
from danetc.tasks.searching.search import run_search
from danetc.tasks.searching.study import (
    PRUNERS,
    SAMPLERS,
    SearchRange,
    draw,
    open_study,
    parse_dimension,
)

from .conftest import FEW, SMALL, Run

optuna = pytest.importorskip("optuna", reason="Optuna is an extra")

SPEC = (
    SMALL.replace("classes = 10", "classes = 10, width = 4")
    .replace("conv(4)", "conv(width)")
    .replace("basic(4)", "basic(width)")
    + "recipe quick { epochs = 1; batch = 100; optimizer = sgd(lr = 0.1, momentum = 0.9) }\n"
)
DATA = f"{FEW},val=0.2"
SEARCH = ("search", "a.danet", "--data", DATA, "--backend", "eager", "-o", "out", "-q")


class Trainings:
    """An engine that trains nothing. The validation accuracy is a function of the run and the epoch,
    and the test accuracy of every run is 0.125.
    """

    jobs = 1

    def __init__(self, accuracy: Callable[[dict[str, Any], int], float]) -> None:
        self.accuracy, self.split = accuracy, "val"
        self.started: list[str] = []
        self.raising: int | None = None  # number of the run that is interrupted
        self.failing: int | None = None  # number of steps of the run that fails

    def train(self, run: GridRun, log: Path, look: Callable[[], bool]) -> int:
        self.started.append(run.cell.name)
        if len(self.started) == self.raising:
            raise KeyboardInterrupt
        if run.cell.axes.get("steps") == self.failing is not None:
            return 2
        run.path.mkdir(parents=True, exist_ok=True)
        epochs: list[dict[str, Any]] = []
        for number in range(1, run.total + 1):
            if look():
                return 128 + signal.SIGTERM
            value = self.accuracy(dict(run.cell.axes), number)
            tested: dict[str, Any] = {f"{self.split}_accuracy": value, "train_accuracy": 0.5}
            if self.split == "val":
                tested["test_accuracy"] = 0.125 if number == run.total else None
            epochs.append({"train_loss": 1.0, f"{self.split}_loss": 1.0, **tested})
            save_record({"epochs": epochs}, run.path / TRAINING)
        return 128 + signal.SIGTERM if look() else 0

    def close(self) -> None:
        pass


TWO: dict[str, Any] = {
    "grid": {"steps": "1..2"}, "backend": "eager", "sampler": "random", "sampler_seed": 1,
}  # fmt: skip
"""A search that draws T = 1, then T = 2."""


@pytest.fixture(autouse=True)
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "a.danet"
    path.write_text(SPEC)
    return path


Pretend = Callable[[Callable[[dict[str, Any], int], float]], Trainings]


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Pretend:
    def install(accuracy: Callable[[dict[str, Any], int], float]) -> Trainings:
        engine = Trainings(accuracy)
        monkeypatch.setattr("danetc.tasks.searching.search.start_engine", lambda request: engine)
        return engine

    return install


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rule=chain,densely_additive", Axis("rule", ("chain", "densely_additive"))),
        ("steps=1,4", Axis("steps", (1, 4))),
        ("width=8..64", SearchRange("width", 8, 64)),
        ("width=8..64:8", SearchRange("width", 8, 64, 8)),
        ("a.lr=1e-4..1e-1:log", SearchRange("a.lr", 1e-4, 1e-1, None, True)),
        ("tau = 0.5..2 ", SearchRange("tau", 0.5, 2)),
    ],
)
def test_dimensions_of_a_search(text: str, expected: Axis | SearchRange) -> None:
    assert parse_dimension(*map(str.strip, text.split("="))) == expected


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("width=8..8", "is empty"),
        ("width=8..64:9", "does not reach 64"),
        ("width=8..64:-8", "needs a step above 0"),
        ("lr=0..1:log", "is logarithmic"),
        ("width=8..64,128", "has a range and values"),
        ("classes=2..4", "not a range"),
        ("seed=0..4", "--seeds"),
        ("width", "NAME=VALUE"),
        ("lr=0..1e999", "not a finite number"),
    ],
)
def test_invalid_ranges_are_refused(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        parse_dimension(*text.partition("=")[::2])


def test_numbers_of_a_range() -> None:
    assert SearchRange("w", 0.0, 0.1234567).rounded(0.1234567) == 0.1234567  # not above the range
    assert SearchRange("w", 0.0, 1.0).rounded(math.pi / 10) == 0.314159
    written = [str(SearchRange("w", 8, 64, *more)) for more in ((), (8,), (None, True))]
    assert written == ["8..64", "8..64:8", "8..64:log"]


@pytest.mark.thorough
def test_trials_are_cells_of_compare(danetc: Run, tmp_path: Path) -> None:
    """Three trials of one epoch run, two at a time. The same command then trains nothing more."""
    asked = (*SEARCH, "--grid", "recipe.optimizer.lr=1e-3..0.1:log", "--grid", "steps=1,2")
    done = danetc.passes(*asked, "--trials", "3", "--jobs", "2", "--json")
    found = json.loads(done.out)
    assert [trial["state"] for trial in found["trials"]] == ["complete"] * 3
    assert len({trial["cell"] for trial in found["trials"]}) == 3
    assert (tmp_path / "out" / "front.svg").is_file()
    assert danetc("report", "out", "-o", "page.html").status == 0
    title = "Trials of the search: accuracy against operations"
    assert (tmp_path / "page.html").read_text().count(title) == 2  # also as text
    report = ("compare", "-o", "out", "--only-report", "--json", "--accuracy", "best")
    told = json.loads(danetc(*report).out)
    cells = {cell["name"]: cell for cell in told["cells"]}
    assert {trial["cell"] for trial in found["trials"]} == set(cells)
    for trial in found["trials"]:
        cell = cells[trial["cell"]]
        assert cell["mean"] == trial["score"]
        assert cell["state"] == "done"
        for name, value in trial["values"].items():
            assert cell[name] == value
    assert max(found["trials"], key=lambda trial: trial["score"])["best"]
    assert danetc(*asked, "--trials", "3", "--json").out == done.out
    assert danetc("search", "-o", "out", "--only-report").out.count("\n") > 3


@pytest.mark.thorough
def test_front_by_brute_force(danetc: Run, pretend: Pretend) -> None:
    """Every combination is drawn; wider networks are not always better."""
    engine = pretend(lambda axes, epoch: (axes["width"] * 7 % 11 + axes["steps"]) / 20)
    grid = ("--grid", "width=1..6", "--grid", "steps=1,2", "--sampler", "random")
    trials = danetc.json(*SEARCH, *grid, "--front", "--trials", "100")["trials"]
    assert len(engine.started) == len(set(engine.started)) == 12

    def beaten(trial: dict[str, Any]) -> bool:
        return any(
            (other["score"], -other["operations"]) != (trial["score"], -trial["operations"])
            and other["score"] >= trial["score"]
            and other["operations"] <= trial["operations"]
            for other in trials
        )

    front = {trial["cell"] for trial in trials if not beaten(trial)}
    assert 1 < len(front) < 12
    assert {trial["cell"] for trial in trials if trial["best"]} == front
    shown = danetc("search", "-o", "out", "--only-report", "--format", "csv").out.splitlines()
    assert len(shown) == 1 + len(front)
    operations = [int(line.split(",")[3].replace(",", "")) for line in shown[1:] if '"' not in line]
    assert operations == sorted(operations)


def rows(*points: tuple[float, int]) -> list[TrialRow]:
    return [
        TrialRow(n, f"cell {n}", {"network": "a"}, "complete", accuracy, cost, 1, 0, None)
        for n, (accuracy, cost) in enumerate(points)
    ]


@pytest.mark.parametrize(("front", "best"), [(True, {1, 2, 5, 6}), (False, {5})])
def test_the_best_are_beaten_by_no_other(tmp_path: Path, front: bool, best: set[int]) -> None:
    """Equal trials are all on the front, but each cell appears once."""
    study = open_study(tmp_path, ["maximize", "minimize"][: 1 + front])
    space = {"a": [1], "network": ["n"]}
    record = {"front": front, "space": space, "data": "d", "select_on": "test", "predict": None}
    study.set_user_attr("danetc", record)
    study.ask()  # its process was killed before it drew values
    points = ((0.5, 10), (0.5, 10), (0.5, 11), (0.4, 10), (0.9, 90), (0.3, 5), (0.9, 90))
    for number, values in enumerate(points):
        trial = study.ask()
        cell = f"cell {number}" if number < 6 else "cell 4"
        trial.set_user_attr("danetc", {"cell": cell, "axes": {}, "score": values[0]})
        study.tell(trial, values[: 1 + front])
    found = read_search(tmp_path)
    assert {row.number for row in found.trials if row.best} == best
    assert (len(found.trials), found.axes) == (7, ("network", "a"))


def test_a_table_has_the_best_trials_first_and_why_others_ended() -> None:
    good, poor, *rest = rows((0.5, 10), (0.0, 2000), (0, 0), (0, 0), (0, 0))
    ended = [
        replace(rest[0], state="pruned", score=None, operations=None, reason="after epoch 1"),
        replace(rest[1], state="pruned", score=None, reason="error[E0210]: no rule\n --> a"),
        replace(rest[2], state="failed", score=None, parameters=None, reason=None, values={}),
    ]
    trials = (*ended, poor, replace(good, best=True))
    found = SearchResult(Path("out"), "digits", ("network", "width"), False, trials)
    wide = replace(
        found, trials=tuple(replace(x, values={**x.values, "width": x.number}) for x in trials)
    )
    assert table(wide).heads == (
        "trial", "network", "width", "operations", "params", "test top-1 %", "state",
    )  # fmt: skip
    assert [[cell.text for cell in row] for row in table(wide).rows] == [
        ["0", "a", "0", "10", "1", "50.00", "complete"],
        ["1", "a", "1", "2,000", "1", "0.00", "complete"],
        ["2", "a", "2", "-", "1", "-", "pruned: after epoch 1"],
        ["3", "a", "3", "0", "1", "-", "pruned: error[E0210]: no rule"],
        ["4", "-", "4", "0", "-", "-", "failed"],
    ]
    assert [row[5].best for row in table(wide).rows] == [True] + [False] * 4
    assert table(wide).right == {0, 3, 4, 5}
    only = replace(found, trials=(good,))
    assert table(only).heads[:5] == ("trial", "width", "operations", "params", "test top-1 %")
    assert table(only).rows[0][1].text == "-"
    front = replace(found, front=True, trials=(poor, replace(good, best=True)))
    assert [(row[0].text, row[-2].best) for row in table(front).rows] == [("0", False)]


def test_a_search_in_a_line_a_table_and_a_figure() -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("pandas")
    trials = [
        replace(each, best=each.number < 4)
        for each in rows(*[(0.5, 10 - n) for n in range(5)], (0.0, 5))
    ]
    found = SearchResult(Path("out"), "digits", ("network",), False, tuple(trials))
    listed = ", ".join(f"cell {n} (50.00)" for n in (3, 2, 1, 0))
    told = f"6 trials on digits; the best test top-1 %: {listed}"
    assert repr(found) == f"<SearchResult: out: {told}>"
    assert repr(replace(found, trials=tuple(trials[4:]))).endswith(": 2 trials on digits>")
    assert list(found.frame()["operations"]) == [10, 9, 8, 7, 6, 5]
    assert list(found.frame()["network"]) == ["a"] * 6
    free = replace(found, front=True, trials=(replace(trials[0], operations=0), *trials[1:]))
    for each, scale, best in (
        (found, "log", ("best", "None", [7, 8, 9, 10])),
        (free, "linear", ("front", "-", [0, 7, 8, 9])),
    ):
        (axes,) = each.figure().axes
        assert (axes.get_xscale(), axes.get_ylabel()) == (scale, "test top-1 %")
        others, line = axes.get_lines()
        assert (list(others.get_xdata()), list(others.get_ydata())) == ([6, 5], [50, 0])
        assert (line.get_label(), line.get_linestyle(), list(line.get_xdata())) == best
    assert replace(found, trials=()).figure() is None


def test_values_are_drawn_from_the_whole_space() -> None:
    values: dict[str, set[Any]] = {
        "rule=chain,sum": {"chain", "sum"}, "w=1..4": {1, 2, 3, 4}, "s=8..24:8": {8, 16, 24},
        "log=1..3:log": {1, 2, 3}, "lr=0..0.5:0.25": {0.0, 0.25, 0.5},
    }  # fmt: skip
    space = [parse_dimension(*text.split("=")) for text in values]
    study = optuna.create_study(sampler=SAMPLERS["random"](0))
    drawn = [draw(study.ask(), space) for _ in range(60)]
    assert [{each[of.name] for each in drawn} for of in space] == [*values.values()]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samplers_draw_by_their_seed(sampler: str) -> None:
    def drawn(seed: int) -> list[Any]:
        study = optuna.create_study(sampler=SAMPLERS[sampler](seed))
        for _ in range(6):
            trial = study.ask()
            trial.suggest_categorical("a", [1, 2]), trial.suggest_int("b", 1, 3)
            study.tell(trial, 0.0)
        return [trial.params for trial in study.trials]

    assert drawn(3) == drawn(3) != drawn(4)


def test_a_pruner_sees_every_epoch_and_ends_a_trial(
    danetc: Run, pretend: Pretend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pruner with the threshold 0.35 ends the trial with 0.3 after its second epoch and not the other."""
    moved: list[int] = []
    monkeypatch.setattr(GridProgress, "moved", lambda self, run, epochs: moved.append(epochs))
    strict = optuna.pruners.ThresholdPruner(lower=0.35, n_warmup_steps=2)
    monkeypatch.setitem(PRUNERS, "median", lambda: strict)  # type: ignore[arg-type]
    pretend(lambda axes, epoch: 0.3 if axes["steps"] == 1 else 0.3 + epoch / 10)
    asked = (*SEARCH, "--grid", "steps=1,2", "--set", "recipe.epochs=4")
    asked += ("--sampler", "random", "--sampler-seed", "0")  # this draws 2, then 1
    poor, good = sorted(
        danetc.json(*asked, "--pruner", "median", "--trials", "2")["trials"],
        key=lambda each: each["values"]["steps"],
    )
    assert (poor["state"], poor["reason"]) == ("pruned", "after epoch 2")
    assert (poor["epochs"], poor["score"], poor["best"]) == (2, None, False)
    assert (good["state"], good["epochs"], good["best"]) == ("complete", 4, True)
    assert good["score"] == pytest.approx(0.7)
    assert moved == [1, 2, 3, 4, 1, 2]
    record = read_record(Path("out", GRID))
    outcomes = {cell["name"]: cell["runs"][0] for cell in record["cells"]}
    assert outcomes[poor["cell"]]["error"] == "pruned after epoch 2"
    assert outcomes[good["cell"]]["state"] == "done"


def test_a_stopped_search(danetc: Run, pretend: Pretend) -> None:
    engine = pretend(lambda axes, epoch: axes["recipe.optimizer.lr"])
    engine.raising = 3
    asked = (*SEARCH, "--grid", "recipe.optimizer.lr=0.01..0.1", "--sampler", "random")
    assert danetc(*asked, "--trials", "5").status == 130
    left = json.loads(danetc("search", "-o", "out", "--only-report", "--json").out)["trials"]
    assert [trial["state"] for trial in left] == ["complete", "complete", "running"]
    done = json.loads(danetc(*asked, "--trials", "5", "--json").out)["trials"]
    assert [trial["state"] for trial in done] == ["complete"] * 5
    assert [trial["cell"] for trial in done[:3]] == [trial["cell"] for trial in left]
    assert engine.started[2:] == [trial["cell"] for trial in done[2:3]] + [
        trial["cell"] for trial in done[2:]
    ]
    assert len({trial["cell"] for trial in done}) == 5  # no cell was drawn twice
    cells = danetc.json("compare", "-o", "out", "--only-report")["cells"]
    assert {cell["name"] for cell in cells} == {trial["cell"] for trial in done}


def test_networks_are_an_axis_and_a_cell_is_trained_once(danetc: Run, pretend: Pretend) -> None:
    """Twelve trials of four cells run, two at a time."""
    other = SPEC[SPEC.index("network small") : SPEC.index("recipe quick")]
    Path("a.danet").write_text(SPEC + other.replace("network small", "network other"))
    engine = pretend(lambda axes, epoch: 0.5 + 0.1 * (axes["network"] == "other"))
    engine.jobs = 2
    asked = (*SEARCH, "--grid", "steps=1,2", "--sampler", "random", "--trials", "12")
    trials = danetc.json(*asked, "--set", "recipe.epochs=2")["trials"]
    assert [trial["state"] for trial in trials] == ["complete"] * 12
    assert {trial["values"]["network"] for trial in trials} == {"small", "other"}
    assert len(engine.started) == len({trial["cell"] for trial in trials}) <= 4
    assert {trial["values"]["network"] for trial in trials if trial["best"]} == {"other"}
    told = danetc("compare", "-o", "out", "--only-report", "--json")
    assert {cell["name"] for cell in json.loads(told.out)["cells"]} == {*engine.started}


def test_choices_are_those_of_the_tables() -> None:
    hints = hints_of(SearchRequest)
    assert get_args(hints["sampler"]) == tuple(SAMPLERS)
    assert get_args(hints["pruner"]) == tuple(PRUNERS)


def test_the_best_epochs_and_failures(spec: Path, tmp_path: Path, pretend: Pretend) -> None:
    """A search without results is an error."""
    pretend(lambda axes, epoch: 1 / (epoch + 1)).failing = 2
    asked = {**TWO, "trials": 2, "accuracy": "best", "set": {"recipe.epochs": 3}}
    found = package.search(spec, DATA, **asked, output=tmp_path / "best")
    (good, bad) = sorted(found.trials, key=lambda row: row.state)
    assert (good.score, bad.state, bad.reason) == (0.5, "failed", "the process ended with status 2")
    wrong: Any = {"grid": {"neuron": ["Wrong"]}, "backend": "eager", "trials": 1}
    with pytest.raises(UserError, match="none of 1 trials is complete; the first: small,neuron=W"):
        package.search(spec, DATA, **wrong, output=tmp_path / "b")


def test_a_signal_before_the_first_trial(
    spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same call resumes the search."""

    def enter(self: StopRequest) -> StopRequest:
        self.signal = signal.SIGTERM
        return self

    monkeypatch.setattr(StopRequest, "__enter__", enter)
    with pytest.raises(UserError, match="stopped; the same call resumes the search in"):
        package.search(spec, DATA, **TWO, output=tmp_path / "c")
    request = SearchRequest([spec], DATA, **TWO, output=tmp_path / "c")
    assert run_search(request, quiet=True) == 128 + signal.SIGTERM
    assert read_search(tmp_path / "c").trials == ()


def test_a_search_on_test_images_says_so(spec: Path, tmp_path: Path, pretend: Pretend) -> None:
    engine = pretend(lambda axes, epoch: 0.5)
    engine.split = "test"
    asked = {**TWO, "select_on": "test", "output": tmp_path / "out"}
    found = package.search([spec], FEW, **asked, trials=1)
    assert found.as_dict()["split"] == "test"
    assert "test top-1 %" in table(found).heads
    assert json.loads((tmp_path / "out" / GRID).read_text())["select_on"] == "test"
    assert open_study(tmp_path / "out").user_attrs["danetc"]["select_on"] == "test"
    assert package.search(spec, FEW, **asked, trials=2).as_dict()["split"] == "test"
    assert engine.started == ["small,steps=1"]  # drawn twice but trained once


def test_predicted_paths_rank_networks_without_training(danetc: Run, pretend: Pretend) -> None:
    """The stem has one neuron. On a path of Origin, each of three stages adds two neurons (in its first
    and last block). On a path of SEW, each stage with a stride adds one. PA-A adds none."""
    fewest = {"origin": 1 + 3 * 2, "sew": 1 + 2 * 1, "pa_a": 1}
    engine = pretend(lambda axes, epoch: 0.5)
    options = "--predict paths --sampler random --trials 12 -o out"
    grid = "--grid connection=origin,sew,pa_a --grid steps=1,4"
    asked = ["search", "danet_c_small", *options.split(), *grid.split()]
    trials = json.loads(danetc(*asked, "--data", "digits", "--format", "json").out)["trials"]
    found = {row["values"]["connection"]: row["score"] for row in trials}
    assert found == fewest
    assert {row["values"]["connection"] for row in trials if row["best"]} == {"pa_a"}
    made = table(read_search(Path("out")))
    assert made.heads[-2] == "fewest neurons on a path"
    keys = [(int(row[-2].text), int(row[3].text.replace(",", ""))) for row in made.rows]
    assert keys == sorted(keys)
    assert not engine.started
    assert not [each for each in Path("out").iterdir() if each.is_dir()]
    danetc.fails("holds another search, which differs in data", *asked, "--data", "digits,val=0.1")


def test_wrong_calls_say_so(spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = {"recipe.optimizer.lr": "0.01..0.1"}
    with pytest.raises(UserError, match="nothing to search"):
        package.search(spec, DATA, grid={}, output=tmp_path / "c")
    save_record({"cells": []}, tmp_path / GRID)
    (tmp_path / "search.db").write_text("no database, but a text " * 100)
    with pytest.raises(UserError, match="cannot be read"):
        package.search(spec, DATA, grid=grid, output=tmp_path)
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match=r"danetc\[search\]"):
        package.search(spec, DATA, grid=grid, output=tmp_path / "e")
    assert not (tmp_path / "e").exists()


def test_a_search_that_is_damaged_or_no_file_is_an_error(danetc: Run) -> None:
    folder = Path("s")
    folder.mkdir()
    study = optuna.create_study(study_name="danetc", storage=f"sqlite:///{folder / 'search.db'}")
    study.set_user_attr("danetc", [1])
    danetc.fails("search.db is damaged: invalid record", "search", "--only-report", "-o", "s")
    (folder / "search.db").unlink()
    (folder / "search.db").mkdir()
    with pytest.raises(UserError, match=r"search\.db is not a file"):
        open_study(folder, ["maximize"])
