"""Grids: axes, specs, names of cells, errors before any training, runs under way, and engines."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from threading import Barrier, Lock
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock, call

import psutil
import pytest

import danetc as package
from danetc.errors import UserError
from danetc.requests import GridRequest, TrainingRequest
from danetc.runtime.data.registry import open_data
from danetc.runtime.system.files import read_record, save_record
from danetc.runtime.training.signals import StopRequest
from danetc.tasks.grid import cells, process
from danetc.tasks.grid.engines import LocalProcesses, start_engine
from danetc.tasks.grid.plan import GridRun, _run
from danetc.tasks.grid.results import read_results, table
from danetc.tasks.grid.run import GridProgress, Outcome, in_parallel, train_run
from danetc.tasks.model_directory import GRID, TRAINING
from danetc.tasks.networks import compile_spec

from .conftest import QUICK, SMALL, Run

BASE = TrainingRequest("")
COMPARE = ("compare", "a.danet", "--data", "digits", "--backend", "eager", "-o", "out")


@pytest.fixture(autouse=True)
def _spec(tmp_path: Path) -> None:
    (tmp_path / "a.danet").write_text(SMALL + QUICK)


def test_commas_inside_brackets_do_not_separate_values() -> None:
    axes = {
        "1, 4": (1, 4),
        "0.5,1.0": (0.5, 1.0),
        "none,0.99": ("none", 0.99),
        "true,false": (True, False),
        "chain,window(k = 2)": ("chain", "window(k = 2)"),
        "LIF(tau = 2.0, v_rest = 0.0),IF": ("LIF(tau = 2.0, v_rest = 0.0)", "IF"),
    }
    for text, values in axes.items():
        assert cells.parse_axis("a.b", text) == cells.Axis("a.b", values)


def test_names_are_folders_and_tell_cells_apart() -> None:
    name = cells.cell_name
    assert name("net", {"classes": 5, "zero_init": True}) == "net,classes=5,zero_init=true"
    found = {name("net", {"a": value}) for value in ("f(1, 2)", "f(1 ,2)", "f_1_2", "f/1/2")}
    assert len(found) == 4
    assert all("/" not in each and " " not in each for each in found)
    assert len(name("net", {"a": "x" * 500})) < 60


def test_specs_are_files_patterns_and_shipped_names(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / f"{name}.danet").write_text(SMALL.replace("small", name))
    two = SMALL.replace("small", "c") + "network d = c { steps = 3 }\n"
    (tmp_path / "two.danet").write_text(two)
    found = cells.find_networks([f"{tmp_path}/*.danet", "*_a_r20"], [])
    assert [each.name for each in found] == ["a", "b", "c", "d", "danet_a_r20"]
    assert [each.name for each in cells.find_networks([f"{tmp_path}/two.danet"], ["d"])] == ["d"]


def test_each_cell_asks_for_its_combination(tmp_path: Path) -> None:
    networks = cells.find_networks(["origin_r20", "danet_c_r20"], [])
    values = {"classes": (5, 10), "depth": (20, 56), "steps": (1,), "recipe": ("digits",)}
    axes = [cells.Axis(*each) for each in values.items()]
    base = replace(BASE, set={"width": 4})
    asked = cells.combinations(networks, axes, base)
    found = [cells.make_cell(*each, base, tmp_path) for each in asked]
    assert len(found) == 8 == len({cell.name for cell in found})
    name = "danet_c_r20,classes=10,depth=56,steps=1,recipe=digits"
    assert found[-1].name == name
    stages = "resnet56(width = width) via origin by densely_additive"
    settings = {"width": 4, "stages": stages, "steps": 1, "classes": 10}  # the network's classes
    asks = TrainingRequest("danet_c_r20", network="danet_c_r20", classes=10, recipe="digits")
    assert found[-1].request == replace(asks, set=settings, output=str(tmp_path / name))


WRONG = {
    "nothing_*.danet": "no file and no shipped spec matches `nothing_*.danet`",
    "origin_r2": "did you mean",
    "a.danet ./a.danet": "both have a network `small`",
    "a.danet -n smal": "did you mean `small`?",
    "a.danet bad.danet": "every cell of bad.danet:\nerror[E",
    "recipes.danet": "every cell of recipes.danet:\nerror[E",
    "a.danet --grid clases=5,10": "did you mean `classes`?",
    "a.danet --grid rul=chain": "did you mean `rule`?",
    "a.danet --grid epochs=1,2": "did you mean `recipe.epochs`?",
    "a.danet --grid steps=1,2 --set steps=3": "both an axis and a fixed setting",
    "a.danet --grid classes=2,5 --classes 5": "drop one of them",
    "a.danet --grid rule=chain --grid stages=conv(4)": "part of the stages",
    "a.danet --grid depth=20,56": "contains no depth",
    "a.danet --grid rule=chain,densely_adtve": "cell small,rule=densely_adtve: error[E0210]",
    "a.danet --grid recipe.epoch=1": "did you mean `epochs`?",
    "a.danet --grid recipe=quick,quik": "cell small,recipe=quik: ",
    "a.danet --grid steps=0,1": "cell small,steps=0: error[",
    "a.danet large.danet": "cell large: the images of digits are",
    "a.danet --set classes=7": "set the network's classes to 10",
    "a.danet --data digitz": "did you mean `digits`?",
    "a.danet --grid classes=5,11": "cell small,classes=11: ",
    "a.danet -o mine": "is not the folder of a comparison",
    "--only-report -o nowhere": "does not exist, so there is nothing to report",
    "a.danet --torchrun": "without torchrun",
}


@pytest.mark.parametrize("line", WRONG)
def test_everything_is_checked_before_anything_is_trained(
    danetc: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    (tmp_path / "bad.danet").write_text(SMALL.replace("origin", "orign"))
    (tmp_path / "recipes.danet").write_text(QUICK)
    large = SMALL.replace("small", "large").replace("8, 8", "9, 9")
    (tmp_path / "large.danet").write_text(large + QUICK)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "work.txt").write_text("")
    before = sorted(tmp_path.rglob("*"))
    given = [] if "--data" in line or "--only-report" in line else ["--data", "digits"]
    if "--torchrun" in line:
        monkeypatch.setenv("WORLD_SIZE", "2")
    arguments = line.removesuffix(" --torchrun").split()
    danetc.fails(WRONG[line], "compare", *arguments, *given, "--backend", "eager")
    assert os.environ.get("WORLD_SIZE") == ("2" if "--torchrun" in line else None)
    assert sorted(tmp_path.rglob("*")) == before


def test_notes_and_data_once(danetc: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    opening = Mock(wraps=open_data)
    monkeypatch.setattr("danetc.tasks.grid.plan.open_data", opening)
    more = ("--grid", "recipe.batch=10,20", "--set", "recipe.precision=fp16", "--dry-run")
    assert danetc.passes(*COMPARE, *more).err.count("float16") == 1
    opening.assert_called_once()


# -- parts of a grid, with trainings that take no time ---------------------------------------------


def write_epochs(run: Path, *accuracies: float) -> None:
    run.mkdir(parents=True, exist_ok=True)
    curves = {"test_accuracy": 1, "train_accuracy": 0.5, "train_loss": -1}
    epochs = [{name: scale * each for name, scale in curves.items()} for each in accuracies]
    save_record({"epochs": epochs}, run / TRAINING)


def test_states_of_runs_that_exist(tmp_path: Path) -> None:
    cell: Any = None
    assert _run(cell, {}, 0, tmp_path / "none", {}).state == "new"
    for rate, epochs, state in ((1, 2, "begun"), (1, 3, "done"), (2, 3, "changed")):
        write_epochs(tmp_path / state, *[0.5] * epochs)
        save_record({"format": 1, "settings": {"lr": 1}}, tmp_path / state / "run.json")
        run = _run(cell, {"epochs": [1, 2]}, 0, tmp_path / state, {"lr": rate})
        assert (run.state, len(run.changes)) == (state, rate - 1)


@pytest.fixture
def states(monkeypatch: pytest.MonkeyPatch) -> dict[int, Any]:
    """States of the runs of a grid by seed. Changed runs have another learning rate."""
    found = dict[int, Any]()

    def run(cell: Any, facts: Any, seed: int, path: Path, settings: object) -> GridRun:
        state = found.get(seed, "new")
        return GridRun(cell, facts, seed, path, state, ("lr: 1, 2",) * (state == "changed"))

    monkeypatch.setattr("danetc.tasks.grid.plan._run", run)
    return found


SIX = (*COMPARE, "--seeds", "3", "--grid", "steps=1,4", "--set", "recipe.epochs=2")


def test_a_dry_run_shows_the_cells(danetc: Run) -> None:
    found = danetc.json(*SIX, "--dry-run")["cells"]
    assert [(each["network"], each["steps"]) for each in found] == [("small", 1), ("small", 4)]
    assert [each["epochs_x_T"] for each in found] == [2, 8]
    assert [(each["seeds"], each["state"]) for each in found] == [([0, 1, 2], "0 of 3 runs")] * 2
    row = f"small 4 {found[1]['parameters']:,} 8 - 0 0 of 3 runs".split()
    assert row in [line.split() for line in danetc(*SIX, "--dry-run").out.splitlines()]
    assert not Path("out").exists()  # nothing was written


def test_commands_are_those_of_the_runs_that_are_not_done(
    danetc: Run, tmp_path: Path, states: dict[int, Any]
) -> None:
    def command(steps: int, seed: int) -> list[str]:
        return [
            "danetc", "train", "--seed", str(seed), "--backend", "eager", "--data", "digits",
            "--network", "small", "--output", f"out/small,steps={steps}/seed-{seed}",
            "--set", "recipe.epochs=2", "--set", f"steps={steps}", "--", "a.danet",
        ]  # fmt: skip

    states[0] = "done"
    lines = [shlex.split(line) for line in danetc(*SIX, "--print-commands").out.splitlines()]
    assert lines == [command(steps, seed) for steps in (1, 4) for seed in (1, 2)]
    record = read_record(tmp_path / "out" / "grid.json")
    for steps, cell in zip((1, 4), record.pop("cells"), strict=True):
        summary = compile_spec("a.danet", settings={"steps": steps}).summary
        assert cell["facts"] == {
            "network": "small", "connection": "origin", "rule": "densely_additive", "depth": 6,
            "classes": 10, "steps": [steps], "epochs": [2], "recipe": "quick", "cost": 2 * steps,
            "parameters": summary.parameters, "operations": summary.macs + summary.additions,
            "fewest_neurons": summary.fewest_neurons,
        }  # fmt: skip
        assert (cell["spec"], cell["axes"]) == ("a.danet", {"network": "small", "steps": steps})
        assert [run["state"] for run in cell["runs"]] == ["done", "waiting", "waiting"]
        assert [run["command"] for run in cell["runs"]] == [command(steps, n) for n in range(3)]
    head = {"format": 1, "danetc": package.__version__, "data": "digits"}
    assert record == {**head, "axes": ["network", "steps"]}
    states |= dict.fromkeys(range(3), "changed")
    refused = danetc.fails("", *SIX, "--print-commands")
    assert refused.err.count("holds a run with other settings:\n  lr: 1, 2") == 6
    for option in ("--fresh", "--override"):
        assert danetc(*SIX, "--print-commands", option).out.count(option) == 6


@pytest.fixture
def outcomes(monkeypatch: pytest.MonkeyPatch) -> dict[int, Outcome]:
    """Runs of a grid end at once. Their accuracies are a tenth of their steps plus 0.1, 0.3 and 0.2.
    A test can set the outcome of a seed; the default is done."""
    found: dict[int, Outcome] = {}

    def train_run(run: GridRun, *rest: Any) -> Outcome:
        base = run.cell.request.set.get("steps", 2) / 10
        write_epochs(run.path, *(base + each for each in (0.1, 0.3, 0.2)))
        return found.get(run.seed, Outcome("done"))

    monkeypatch.setattr("danetc.tasks.grid.comparison.train_run", train_run)
    return found


ASKED: dict[str, Any] = {"seeds": 2, "set": {"recipe.epochs": 3}, "backend": "eager"}


def test_python(
    outcomes: dict[int, Outcome], states: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {**ASKED, "grid": {"steps": [1, 4]}, "output": tmp_path / "out"}
    done = package.compare(tmp_path / "a.danet", "digits", **asked)
    assert [row.cost for row in done.rows] == [3, 12]
    found = done.frame()[["steps", "mean", "best"]].values.tolist()
    assert found == [[1, pytest.approx(0.3), False], [4, pytest.approx(0.6), True]]
    told = "2 cells on digits; the best test top-1 %: small,steps=4 (60.00)"
    assert repr(done) == f"<Comparison: {tmp_path / 'out'}: {told}>"
    states |= {0: "done", 1: "done"}  # nothing is trained again
    asked |= {"accuracy": "best", "select_on": "test"}
    best = package.compare([tmp_path / "a.danet"], "digits", **asked)
    assert [row.mean for row in best.rows] == pytest.approx([0.4, 0.7])
    outcomes[1] = Outcome("failed", "the loss is not finite")
    states.clear()
    told = f"1 of 2 runs failed; logs are in {tmp_path / 'out'}\nsmall seed 1: the loss is not"
    with pytest.raises(UserError, match=f"^{told} finite$"):
        package.compare(tmp_path / "a.danet", **ASKED, output=tmp_path / "out")

    def interrupted(tasks: object, jobs: int, stop: StopRequest) -> None:
        stop.signal = signal.SIGTERM

    monkeypatch.setattr("danetc.tasks.grid.comparison.in_parallel", interrupted)
    with pytest.raises(UserError, match="the same call resumes the runs in"):
        package.compare(tmp_path / "a.danet", **ASKED, output=tmp_path / "other")


@pytest.mark.usefixtures("outcomes")
def test_results_are_read_from_their_folder(danetc: Run) -> None:
    phases = "phase one { steps = 1; epochs = 2 } phase two { steps = 4; epochs = 1; start = one }"
    Path("a.danet").write_text(f"{SMALL}recipe two {{ optimizer = adamw(lr = 0.01); {phases} }}")
    danetc.passes(*COMPARE, "--seeds", "1", "--grid", "rule=chain,densely_additive")
    folder = Path("out")
    (folder / "small,rule=densely_additive/seed-0" / TRAINING).unlink()
    curve = pytest.approx([0.3, 0.5, 0.4])
    for accuracy, value in (("last", 0.4), ("best", 0.5)):
        found = read_results(folder, accuracy, "test").as_dict()  # type: ignore[arg-type]
        assert (found["data"], found["axes"]) == ("digits", ["network", "rule"])
        assert (found["accuracy"], found["measure"]) == (accuracy, "accuracy")
        first, second = found["cells"]
        assert (first["name"], first["rule"], first["mean"]) == ("small,rule=chain", "chain", value)
        assert (first["wiring"], first["T"], first["epochs_x_T"]) == ("origin", "1, 4", 6)
        assert (first["scores"], first["seeds"], first["best"]) == ({0: value}, (0,), False)
        assert (first["deviation"], first["state"], first["errors"]) == (None, "done", {})
        assert [2 * mean for mean, _ in first["curves"]["train_accuracy"]] == curve
        assert {deviation for _, deviation in first["curves"]["train_loss"]} == {0.0}
        assert (second["mean"], second["state"]) == (None, "0 of 1 runs")
        assert second["wiring"] == "origin by densely_additive"
    shown = table(read_results(folder))
    heads = ("network", "rule", "params", "epochs x T", "test top-1 %", "state")
    assert (shown.heads, shown.right) == (heads, {2, 3, 4})
    record = read_record(folder / GRID)
    bare = {**record["cells"][0], "facts": {}}
    for error, wrong in (("TypeError", 1), ("KeyError", [bare])):
        save_record({**record, "cells": wrong}, folder / GRID)
        with pytest.raises(UserError, match=rf"is not as it was written \({error}"):
            read_results(folder)


@pytest.mark.parametrize(
    ("name", "work"),
    [("compare", "grid.comparison.train_grid"), ("search", "searching.search.run_search")],
)
def test_progress_is_shown_on_request_or_in_a_notebook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, work: str
) -> None:
    train = Mock(return_value=143)
    monkeypatch.setattr(f"danetc.tasks.{work}", train)
    for progress, shell in product((None, True, False), (None, Mock(spec=[]), Mock(kernel=1))):
        monkeypatch.setitem(sys.modules, "IPython", Mock(get_ipython=Mock(return_value=shell)))
        with pytest.raises(UserError, match="the same call resumes"):
            getattr(package, name)(tmp_path / "a.danet", backend="eager", progress=progress)
    shown = [not each.kwargs["quiet"] for each in train.call_args_list]
    assert shown == [False, False, True, True, True, True, False, False, False]


def states_in(folder: Path) -> list[str]:
    (cell,) = read_record(folder / "out" / GRID)["cells"]
    return [run["state"] for run in cell["runs"]]


@pytest.mark.usefixtures("outcomes")
def test_what_is_done_is_not_repeated(danetc: Run, states: dict[int, Any], tmp_path: Path) -> None:
    asked = (*COMPARE, "--seeds", "2", "--set", "recipe.epochs=3")
    assert "runs are done" not in danetc(*asked).err
    states |= {0: "done", 1: "begun"}
    assert "1 of 2 runs are done" in danetc.passes(*asked).err
    assert "runs are done" not in danetc(*asked, "-q").err
    assert states_in(tmp_path) == ["done", "done"]


def test_wrong_arguments_of_compare(small: Path) -> None:
    cases: dict[str, dict[str, Any]] = {
        "stepz": {"grid": {"stepz": [1]}},
        "trained with every seed": {"grid": {"seeds": [1]}},
        "jobs is a whole number": {"jobs": 0},
        "engine is one of local, ray": {"engine": "cloud"},
        "choose the engine ray": {"cpus": 2.0},
        "classes is a whole number, 2 or more": {"classes": 1},
        "subset_seed is a whole number": {"subset_seed": -1},
        "choose one of fresh and override": {"fresh": True, "override": True},
    }
    for message, wrong in cases.items():
        with pytest.raises(UserError, match=message):
            package.compare(small, **wrong)


# -- runs under way --------------------------------------------------------------------------------


def run_of(folder: Path) -> GridRun:
    cell = cells.GridCell("net", {}, replace(BASE, spec="net.danet"))
    return GridRun(cell, {"epochs": [2, 2]}, 0, folder / "net" / "seed-0", "new")


@dataclass
class Ending:
    """An engine whose runs print ``log``, write one epoch per look, and end with a status."""

    status: Callable[[GridRun], int | str]
    log: str = ""
    looks: int = 0
    jobs: int = 2
    active: int = 0
    most: int = 0

    def train(self, run: GridRun, log: Path, look: Callable[[], bool]) -> int | str:
        self.active += 1
        self.most = max(self.most, self.active)
        with log.open("a") as stream:
            stream.write(self.log)
        for number in range(1, self.looks + 1):
            write_epochs(run.path, *[0.5] * number)
            look()
            time.sleep(0.01)
        self.active -= 1
        return self.status(run)

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("log", "status", "error"),
    [
        ("danetc: note\nmore\ndanetc: no file\nhint", 1, "no file\nhint"),
        ("a\nb\nc\nd\n", 1, "b\nc\nd"),
        ("error[E0101]: bad\n --> a", 2, "error[E0101]: bad\n --> a"),
        ("", 3, "the process ended with status 3"),
        ("noise", -9, "the process was killed by SIGKILL, perhaps because memory ran out"),
        ("danetc: full", -11, "the process was killed by SIGSEGV; its last message: full"),
        ("danetc: full", "Ray gave the run up", "Ray gave the run up; its last message: full"),
    ],
)
def test_error_of_a_failed_run(tmp_path: Path, log: str, status: int | str, error: str) -> None:
    path = tmp_path / "net" / "log-seed-0.txt"
    path.parent.mkdir()
    path.write_text("danetc: of an earlier run\n")
    outcome = train_run(run_of(tmp_path), Ending(lambda run: status, log), lambda: False, Mock())
    assert (outcome.state, outcome.error) == ("failed", error)
    assert outcome.seconds >= 0


def test_a_stopped_run_waits(tmp_path: Path) -> None:
    for stopping, waiting in ((False, "failed"), (True, "waiting")):
        states = {0: "done", 143: waiting, -15: waiting, 1: "failed"}
        for status, state in states.items():
            engine, stop = Ending(Mock(return_value=status)), Mock(return_value=stopping)
            outcome = train_run(run_of(tmp_path), engine, stop, Mock())
            assert outcome.state == state, (status, stopping)


def test_new_epochs_are_seen(tmp_path: Path) -> None:
    """Earlier epochs and a damaged record are not reported."""
    run = run_of(tmp_path)
    write_epochs(run.path, 0.5)
    found: list[int] = []
    train_run(run, Ending(lambda run: 0, looks=3), lambda: False, found.append)
    assert found == [1, 2, 3]
    damage = Ending(lambda run: (run.path / TRAINING).write_text("{") - 1)
    train_run(run, damage, lambda: False, found.append)
    assert found == [1, 2, 3]


def test_runs_at_a_time(danetc: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Ending(lambda run: int(run.seed == 3), looks=2)
    monkeypatch.setattr("danetc.tasks.grid.comparison.start_engine", lambda request: engine)
    done = danetc.fails("1 of 5 runs failed", *COMPARE, "--seeds", "5", "--set", "recipe.epochs=2")
    assert engine.most == 2
    assert states_in(tmp_path) == ["done", "done", "done", "failed", "done"]
    lines = [line for line in done.err.splitlines() if line.startswith("[5/5]")]
    assert lines == ["[5/5] small seed 4", "[5/5] small seed 4: done in 0:00:00"]


def test_an_exception_stops_the_runs_under_way(tmp_path: Path) -> None:
    stop, ended = StopRequest(), []

    def wait() -> None:
        while not stop.wanted:
            time.sleep(0.01)
        ended.append(True)

    with pytest.raises(KeyboardInterrupt):
        in_parallel([wait, Mock(side_effect=KeyboardInterrupt)], 2, stop)
    assert ended == [True]


# -- engines: a Ray cluster gives the same results as this machine, even if a worker is lost -------


LONG = (*COMPARE[:-2], "--set", "steps=1", "--set", "recipe.epochs=20", "-q")


def worker(run: Path) -> psutil.Process | None:
    """Return the Ray worker that trains a run: the parent of the process whose request names the run."""
    for each in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            asked, parent = str(run) in " ".join(each.cmdline()), each.parent()
            if asked and parent and parent.name().startswith("ray::train"):
                return parent
    return None


@pytest.mark.thorough
@pytest.mark.skipif(sys.platform == "win32", reason="Ray finds no cluster in a path of Windows")
def test_a_lost_worker_costs_what_it_did_since_the_last_checkpoint(
    danetc: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers, one of them killed during training, give the same bits as this machine."""
    pytest.importorskip("ray", reason="Ray is an extra")
    killed: list[int] = []
    lock = Lock()
    plain = GridProgress.moved

    def moved(shown: GridProgress, run: GridRun, *rest: Any) -> None:
        plain(shown, run, *rest)
        with lock:
            if not killed and (found := worker(run.path)):
                killed.append(found.pid)
                found.send_signal(signal.SIGKILL)

    monkeypatch.setattr(GridProgress, "moved", moved)
    danetc.passes(*LONG, "--seeds", "2", "-o", "cluster", "--engine", "ray", "--jobs", "2")
    assert killed
    danetc.passes(*LONG, "--seeds", "2", "-o", "local")
    resumed = 0
    for seed in (0, 1):
        place = Path("small") / f"seed-{seed}" / "weights.safetensors"
        assert Path("cluster", place).read_bytes() == Path("local", place).read_bytes()
        resumed += "resuming from" in Path("cluster", "small", f"log-seed-{seed}.txt").read_text()
    assert resumed == 1


@pytest.mark.skipif(sys.platform == "win32", reason="a script of bash")
def test_the_script_of_an_array_runs_each_command_as_it_is(danetc: Run, tmp_path: Path) -> None:
    """The script of the guide runs with a fake `srun` and `danetc`. Names have blanks and brackets."""
    text = (Path(__file__).parents[2] / "docs/guides/clusters.md").read_text(encoding="utf-8")
    (script,) = re.findall(r"```sh\n(#!/bin/bash\n#SBATCH --array.*?)```", text, re.DOTALL)
    (tmp_path / "array.sh").write_text(script)
    for name, body in (("srun", 'exec "$@"'), ("danetc", 'printf "%s\\n" "$@"')):
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    (tmp_path / "a net.danet").write_text(SMALL + QUICK)
    grid = ("--grid", "neuron=LIF(tau = 4.0),IF", "--seeds", "2", "-o", "it's here")
    listed = danetc("compare", "a net.danet", *LONG[2:], *grid, "--print-commands").out
    (tmp_path / "runs.txt").write_text(listed)
    cells = read_record(tmp_path / "it's here" / GRID)["cells"]
    wanted = [run["command"] for cell in cells for run in cell["runs"]]
    assert len(listed.splitlines()) == len(wanted) == 4
    for number, command in enumerate(wanted, 1):
        where = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_ARRAY_TASK_ID": str(number)}
        found = subprocess.check_output(["bash", "array.sh"], env=where, text=True)
        assert found.splitlines() == command[1:]
        assert command[-1] == "a net.danet"


def test_end_of_input_stops_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process stops if ``look`` returns True, or if an exception ends the wait."""
    program = "import os, sys; print(os.environ.get('OMP_NUM_THREADS'), flush=True)\n"
    program += "sys.exit(len(sys.stdin.read()) + 143)"
    started: list[subprocess.Popen[bytes]] = []

    def start(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        assert command[:4] == [sys.executable, "-P", "-m", "danetc.tasks.grid.process"]
        assert options["start_new_session"]
        started.append(subprocess.Popen([sys.executable, "-c", program], **options))
        return started[-1]

    monkeypatch.setattr(process, "subprocess", SimpleNamespace(Popen=start, PIPE=subprocess.PIPE))
    monkeypatch.setattr(process, "POLL", 0.01)
    log = tmp_path / "log"
    assert process.train("", str(log), lambda: True, threads=3) == 143
    assert log.read_text().split() == ["3"]
    with pytest.raises(KeyboardInterrupt):
        process.train("", str(log), Mock(side_effect=KeyboardInterrupt))
    assert started[1].returncode == 143


def test_processes_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("danetc.tasks.grid.engines.usable_cores", lambda: 9)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert [LocalProcesses(jobs).threads for jobs in (1, 2, 4, 99)] == [None, 4, 2, 1]
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert LocalProcesses(2).threads is None


@pytest.mark.parametrize(
    ("jobs", "device", "expected"),
    [
        (1, None, {"cuda:0": 1}),
        (3, None, {"cuda:0": 1, "cuda:1": 1, "cuda:2": 1}),
        (7, "cuda", {"cuda:0": 3, "cuda:1": 2, "cuda:2": 2}),
        (2, "cuda:2", {"cuda:2": 2}),
        (2, "cpu", {"cpu": 2}),
    ],
)
def test_processes_share_the_accelerators(
    jobs: int, device: str | None, expected: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """``expected`` maps each device to the number of runs that it trains at a time."""
    names = ["cuda:0", "cuda:1", "cuda:2"]
    monkeypatch.setattr("danetc.tasks.grid.engines.accelerators", lambda: names)
    together, seen = Barrier(jobs), []

    def train(request: str, *rest: object, **more: object) -> int:
        seen.append(json.loads(request)["device"])
        together.wait(10)
        return 0

    monkeypatch.setattr(process, "train", train)
    engine = start_engine(GridRequest("a", output="grid", jobs=jobs, device=device))
    run: Any = SimpleNamespace(request=TrainingRequest("a"))
    for _ in range(2):  # the devices are free again
        with ThreadPoolExecutor(jobs) as pool:
            list(pool.map(lambda _: engine.train(run, Path("log"), lambda: False), range(jobs)))
        assert Counter(seen) == expected
        seen.clear()


def test_a_request_is_the_same_as_json_and_as_a_command(tmp_path: Path) -> None:
    request = TrainingRequest(
        spec="a b.danet", data="digits", set={"steps": 2, "neuron": "LIF(tau = 4.0)", "on": True},
        output=tmp_path / "x", seed=3, memory=10**9, channels_last=True, deterministic=False,
        override=True,
    )  # fmt: skip
    assert TrainingRequest.from_json(request.to_json()) == request
    assert request.command() == [
        "danetc", "train", "--seed", "3", "--memory", "1000000000", "--channels-last", "--data", "digits", "--output", str(tmp_path / "x"),
        "--override", "--set", "steps=2", "--set", "neuron=LIF(tau = 4.0)", "--set",
        "on=true", "--fastest", "--", "a b.danet",
    ]  # fmt: skip


def of_ray(**values: Any) -> GridRequest:
    return GridRequest("a", output="grid", engine="ray", **values)


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Mock:
    stub = Mock()
    stub.cluster_resources.return_value = {"CPU": 4.0, "GPU": 2.0}
    monkeypatch.setitem(sys.modules, "ray", stub)
    return stub


def test_a_cluster_that_is_absent_or_full(ray: Mock, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = [{}, {"gpus": 0.0}, {"gpus": 0.5, "cpus": 2}, {"jobs": 9}, {"device": "cpu"}]
    engines: list[Any] = [start_engine(of_ray(**each)) for each in asked]
    assert [each.jobs for each in engines] == [2, 4, 2, 9, 4]
    assert [each.device for each in engines] == [None, "cpu", None, None, "cpu"]
    ray.shutdown.assert_not_called()
    with pytest.raises(UserError, match="a run asks for 8 and 1"):
        start_engine(of_ray(cpus=8))
    ray.shutdown.assert_called_once()
    ray.init.side_effect = ConnectionError("nobody there\nmore")
    with pytest.raises(UserError, match=r"no cluster of Ray at a:1: nobody there$"):
        start_engine(of_ray(address="a:1"))
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"danetc\[ray\]"):
        start_engine(of_ray())


@pytest.mark.parametrize(
    ("end", "looks", "status"),
    [
        ([3], [False], 3),
        (InterruptedError, [False, True, True], 143),
        (LookupError("a\nno node"), [False], "Ray gave up the run: no node"),
    ],
)
def test_a_run_is_a_task_of_ray(
    tmp_path: Path, ray: Mock, end: Any, looks: list[bool], status: int | str
) -> None:
    """A run that should stop is cancelled once. Ray repeats a run if its worker is lost."""
    look = Mock(side_effect=looks)
    ray.wait.side_effect = lambda tasks, timeout: ([1] * (look.call_count == len(looks)), tasks)
    ray.get.side_effect = end
    ray.exceptions = SimpleNamespace(TaskCancelledError=InterruptedError, RayError=LookupError)
    run: Any = SimpleNamespace(request=TrainingRequest("a.danet", output=tmp_path))
    assert start_engine(of_ray()).train(run, tmp_path / "log", look) == status
    ray.remote.assert_called_once_with(num_cpus=1.0, num_gpus=1.0, max_retries=-1)
    ray.remote().assert_called_once_with(process.train)
    task = ray.remote()().remote
    (text, log), more = task.call_args
    assert TrainingRequest.from_json(text) == run.request
    assert (log, more) == (str(tmp_path / "log"), {"folder": os.getcwd()})
    assert ray.cancel.call_args_list == [call(task())] * any(looks)
