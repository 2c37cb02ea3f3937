"""Grids: parsing of axes and specs, names of cells, and errors before any training."""

from __future__ import annotations

import json
import shlex
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import danetc as package
from danetc.errors import UserError
from danetc.requests import TrainingRequest
from danetc.runtime.data.registry import open_data
from danetc.runtime.system.files import save_record
from danetc.runtime.training.signals import StopRequest
from danetc.tasks.grid.cells import (
    GridCell,
    cell_name,
    combinations,
    find_networks,
    make_cell,
    parse_axis,
)
from danetc.tasks.grid.plan import CellChecker, GridRun, _run
from danetc.tasks.grid.run import Outcome, in_parallel, train_run
from danetc.tasks.model_directory import TRAINING
from danetc.tasks.networks import compile_spec

from .conftest import QUICK, SMALL, Result, Run

BASE = TrainingRequest("")
COMPARE = ("compare", "a.danet", "--data", "digits", "--backend", "eager", "-o", "out")


@pytest.fixture(autouse=True)
def _spec(tmp_path: Path) -> None:
    (tmp_path / "a.danet").write_text(SMALL + QUICK)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("steps=1, 4", (1, 4)),
        ("width=0.5,1.0", (0.5, 1.0)),
        ("rule=chain,window(k = 2)", ("chain", "window(k = 2)")),
        ("neuron=LIF(tau = 2.0, v_rest = 0.0),IF", ("LIF(tau = 2.0, v_rest = 0.0)", "IF")),
        ("recipe.ema=none,0.99", ("none", 0.99)),
        ("zero_init=true,false", (True, False)),
    ],
)
def test_commas_inside_brackets_do_not_separate_values(
    text: str, values: tuple[object, ...]
) -> None:
    axis = parse_axis(*text.split("=", 1))
    assert axis.name == text.partition("=")[0]
    assert axis.values == values


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps", "is not NAME=VALUE"),
        ("steps=", "is not NAME=VALUE"),
        ("steps=1,,2", "is not NAME=VALUE"),
        ("steps=1,2,1", "has the value 1 twice"),
        ("seed=1,2", "use --seeds N"),
        ("classes=1,5", "2 or more"),
        ("recipe=1,2", "names of recipes"),
    ],
)
def test_an_invalid_axis_is_a_usage_error(
    danetc: Run, small: Path, text: str, message: str
) -> None:
    result = danetc("compare", small, "--data", "digits", "--grid", text)
    assert result.status == 2
    assert message in " ".join(result.err.split())


def test_names_are_folders_and_tell_cells_apart() -> None:
    assert cell_name("net", {"classes": 5, "zero_init": True}) == "net,classes=5,zero_init=true"
    names = {cell_name("net", {"a": value}) for value in ("f(1, 2)", "f(1 ,2)", "f_1_2", "f/1/2")}
    assert len(names) == 4
    assert all("/" not in name and " " not in name for name in names)
    long = cell_name("net", {"a": "x" * 500})
    assert len(long) < 60


def test_specs_are_files_patterns_and_shipped_names(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / f"{name}.danet").write_text(SMALL.replace("small", name))
    (tmp_path / "two.danet").write_text(
        SMALL.replace("small", "c") + "network d = c { steps = 3 }\n"
    )
    found = find_networks([f"{tmp_path}/*.danet", "*_a_r20"], [])
    assert [each.name for each in found] == ["a", "b", "c", "d", "danet_a_r20"]
    assert [each.name for each in find_networks([f"{tmp_path}/two.danet"], ["d"])] == ["d"]


def test_each_cell_asks_for_its_combination(tmp_path: Path) -> None:
    networks = find_networks(["origin_r20", "danet_c_r20"], [])
    axes = [
        parse_axis(*text.split("="))
        for text in ("classes=5,10", "depth=20,56", "steps=1", "recipe=digits")
    ]
    base = replace(BASE, set={"width": 4})
    cells = [make_cell(*each, base, tmp_path) for each in combinations(networks, axes, base)]
    assert len(cells) == 8 == len({cell.name for cell in cells})
    last = cells[-1]
    assert last.name == "danet_c_r20,classes=10,depth=56,steps=1,recipe=digits"
    request = last.request
    assert request.output == str(tmp_path / last.name)
    assert (request.spec, request.network) == ("danet_c_r20", "danet_c_r20")
    assert (request.classes, request.recipe) == (10, "digits")
    assert request.set == {
        "width": 4,
        "stages": "resnet56(width = width) via origin by densely_additive",
        "steps": 1,
        "classes": 10,  # told to the network too
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing_*.danet"], "no file and no shipped spec matches `nothing_*.danet`"),
        (["origin_r2"], "did you mean"),
        (["small.danet", "./small.danet"], "both have a network `small`"),
        (["small.danet", "-n", "smal"], "did you mean `small`?"),
        (["small.danet", "bad.danet"], "every cell of bad.danet:\nerror[E"),
        (["recipes.danet"], "every cell of recipes.danet:\nerror[E"),
        (["small.danet", "--grid", "clases=5,10"], "did you mean `classes`?"),
        (["small.danet", "--grid", "rul=chain"], "did you mean `rule`?"),
        (["small.danet", "--grid", "epochs=1,2"], "did you mean `recipe.epochs`?"),
        (
            ["small.danet", "--grid", "steps=1,2", "--set", "steps=3"],
            "both an axis and a fixed setting",
        ),
        (["small.danet", "--grid", "classes=2,5", "--classes", "5"], "drop one of them"),
        (["small.danet", "--grid", "rule=chain", "--grid", "stages=conv(4)"], "part of the stages"),
        (["small.danet", "--grid", "depth=20,56"], "contains no depth"),
        (
            ["small.danet", "--grid", "rule=chain,densely_additve"],
            "cell small,rule=densely_additve: error[E0210]",
        ),
        (["small.danet", "--grid", "recipe.epoch=1"], "did you mean `epochs`?"),
        (["small.danet", "--grid", "recipe=quick,quik"], "cell small,recipe=quik: "),
        (["small.danet", "--grid", "steps=0,1"], "cell small,steps=0: error["),
        (["small.danet", "large.danet"], "cell large: the images of digits are"),
        (["small.danet", "--set", "classes=7"], "set the network's classes to 10"),
        (["small.danet", "--data", "digitz"], "did you mean `digits`?"),
        (["small.danet", "--grid", "classes=5,11"], "cell small,classes=11: "),
        (["small.danet", "-o", "mine"], "is not the folder of a comparison"),
        (["--only-report", "-o", "nowhere"], "does not exist, so there is nothing to report"),
    ],
)
def test_everything_is_checked_before_anything_is_trained(
    danetc: Run, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "small.danet").write_text(SMALL + QUICK)
    (tmp_path / "bad.danet").write_text(SMALL.replace("origin", "orign"))
    (tmp_path / "recipes.danet").write_text(QUICK)
    large = SMALL.replace("small", "large").replace("8, 8", "9, 9")
    (tmp_path / "large.danet").write_text(large + QUICK)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "work.txt").write_text("")
    before = sorted(tmp_path.rglob("*"))
    given = [] if "--data" in arguments or "--only-report" in arguments else ["--data", "digits"]
    danetc.fails(message, "compare", *arguments, *given, "--backend", "eager")
    assert sorted(tmp_path.rglob("*")) == before


def test_notes_and_data_once(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each note is given once, and each data set is opened once."""
    small.write_text(SMALL + QUICK)
    opened: list[str] = []

    def opening(text: str, **options: Any) -> Any:
        opened.append(text)
        return open_data(text, **options)

    monkeypatch.setattr("danetc.tasks.grid.plan.open_data", opening)
    base = replace(BASE, set={"recipe.precision": "fp16"}, backend="eager")
    networks = find_networks([str(small)], [])
    notes: list[str] = []
    checker = CellChecker(notes.append)
    for each in combinations(networks, [parse_axis("recipe.batch", "10,20")], base):
        assert [run.state for run in checker.runs(make_cell(*each, base, tmp_path))] == ["new"]
    assert len(opened) == 1
    assert len([note for note in notes if "float16" in note]) == 1


# -- the parts of it, with trainings that take no time ---------------------------------------------


def write_epochs(run: Path, *accuracies: float) -> None:
    """The record of a training with these test accuracies."""
    run.mkdir(parents=True, exist_ok=True)
    epochs = [
        {"test_accuracy": each, "train_accuracy": each / 2, "train_loss": 1 - each}
        for each in accuracies
    ]
    save_record({"epochs": epochs}, run / "training.json")


def test_states_of_runs_that_exist(tmp_path: Path) -> None:
    cell: Any = None
    assert _run(cell, {}, 0, tmp_path / "none", {}).state == "new"
    for number, (rate, epochs, state) in enumerate(
        ((1, 2, "begun"), (1, 3, "done"), (2, 3, "changed"))
    ):
        place = tmp_path / str(number)
        write_epochs(place, *[0.5] * epochs)
        save_record({"format": 1, "settings": {"lr": 1}, "facts": {}}, place / "run.json")
        run = _run(cell, {"epochs": [1, 2]}, 0, place, {"lr": rate})
        assert (run.state, len(run.changes)) == (state, rate - 1)


def made_of(state: Callable[[Path], tuple[Any, Sequence[str]]]) -> Any:
    """In place of ``plan._run``: runs in a pretended state, with pretended changes."""

    def run(cell: Any, facts: Any, seed: int, path: Path, settings: object) -> GridRun:
        found, changes = state(path)
        return GridRun(cell, facts, seed, path, found, tuple(changes))

    return run


@pytest.fixture
def planned(danetc: Run, tmp_path: Path) -> Callable[..., Result]:
    """`compare` of three seeds with 1 and 4 steps."""
    more = ("--seeds", "3", "--grid", "steps=1,4", "--set", "recipe.epochs=2")
    return lambda *last: danetc(*COMPARE, *more, *last)


def test_a_dry_run_shows_the_cells(planned: Callable[..., Result]) -> None:
    one, four = json.loads(planned("--dry-run", "--json").out)["cells"]
    assert (one["epochs_x_T"], four["epochs_x_T"]) == (2, 8)
    assert (one["seeds"], one["state"]) == ([0, 1, 2], "0 of 3 runs")
    assert (one["network"], one["steps"]) == ("small", 1)
    model = package.build("a.danet", set={"steps": 4})
    assert four["parameters"] == sum(p.numel() for p in model.parameters())
    assert four["depth"] == 6  # a stem, two blocks of two convolutions, and a linear layer
    lines = [line.split() for line in planned("--dry-run").out.splitlines()]
    parameters = f"{four['parameters']:,}"
    assert ["small", "4", parameters, "8", "-", "0", "0", "of", "3", "runs"] in lines
    assert not Path("out").exists()  # nothing was written


def test_commands_are_those_of_the_runs_that_are_not_done(
    planned: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def state(path: Path) -> Any:
        return ("done" if path.name == "seed-0" else "new", [])

    monkeypatch.setattr("danetc.tasks.grid.plan._run", made_of(state))

    def command(steps: int, seed: int) -> list[str]:
        return [
            "danetc", "train", "--seed", str(seed), "--backend", "eager", "--data", "digits",
            "--network", "small", "--output", f"out/small,steps={steps}/seed-{seed}",
            "--set", "recipe.epochs=2", "--set", f"steps={steps}", "--", "a.danet",
        ]  # fmt: skip

    lines = [shlex.split(line) for line in planned("--print-commands").out.splitlines()]
    assert lines == [command(steps, seed) for steps in (1, 4) for seed in (1, 2)]
    record = json.loads((tmp_path / "out" / "grid.json").read_text("utf-8"))
    usual = {"error": None, "seconds": 0.0}
    for steps, cell in zip((1, 4), record.pop("cells"), strict=True):
        name, summary = (
            f"small,steps={steps}",
            compile_spec("a.danet", settings={"steps": steps}).summary,
        )
        assert cell == {
            "name": name, "spec": "a.danet", "axes": {"network": "small", "steps": steps},
            "facts": {
                "network": "small", "connection": "origin", "rule": "densely_additive", "depth": 6,
                "classes": 10, "steps": [steps], "epochs": [2], "recipe": "quick",
                "parameters": summary.parameters, "operations": summary.macs + summary.additions,
                "fewest_neurons": summary.fewest_neurons,
                "cost": 2 * steps,
            },
            "runs": [
                {
                    "seed": seed, "directory": f"{name}/seed-{seed}", "command": command(steps, seed),
                    "state": state, **usual,
                }
                for seed, state in enumerate(("done", "waiting", "waiting"))
            ],
        }  # fmt: skip
    head = {"format": 1, "danetc": package.__version__, "data": "digits"}
    assert record == {**head, "axes": ["network", "steps"], "sha256": record["sha256"]}
    monkeypatch.setattr(
        "danetc.tasks.grid.plan._run", made_of(lambda path: ("changed", ["lr: 1, 2"]))
    )
    refused = planned("--print-commands")
    assert refused.status == 1
    assert refused.err.count("holds a run with other settings:\n  lr: 1, 2") == 6
    anew = planned("--print-commands", "--fresh")
    assert anew.out.count("--fresh") == 6
    assert planned("--print-commands", "--override").out.count("--override") == 6


@pytest.fixture
def outcomes(monkeypatch: pytest.MonkeyPatch) -> dict[int, Outcome]:
    """Runs of a grid end at once, with accuracies of 0.1, 0.3 and 0.2 above a tenth of their steps.
    What becomes of a seed can be set; by default it is done."""
    found: dict[int, Outcome] = {}

    def train_run(run: GridRun, *rest: Any) -> Outcome:
        base = run.cell.request.set.get("steps", 2) / 10
        write_epochs(run.path, *(base + each for each in (0.1, 0.3, 0.2)))
        return found.get(run.seed, Outcome("done"))

    monkeypatch.setattr("danetc.tasks.grid.comparison.train_run", train_run)
    return found


ASKED: dict[str, Any] = {"seeds": 2, "set": {"recipe.epochs": 3}, "backend": "eager"}


def test_python(
    outcomes: dict[int, Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {**ASKED, "grid": {"steps": [1, 4]}, "output": tmp_path / "out"}
    done = package.compare(tmp_path / "a.danet", "digits", **asked)
    assert done.directory == tmp_path / "out"
    assert [row.values["steps"] for row in done.rows] == [1, 4]
    assert [row.mean for row in done.rows] == pytest.approx([0.3, 0.6])
    assert [row.cost for row in done.rows] == [3, 12]
    frame = done.frame()
    assert list(frame["steps"]) == [1, 4]
    assert list(frame["mean"]) == pytest.approx([0.3, 0.6])
    assert list(frame["best"]) == [False, True]
    told = "2 cells on digits; the best test top-1 %: small,steps=4 (60.00)"
    assert repr(done) == f"<Comparison: {tmp_path / 'out'}: {told}>"
    monkeypatch.setattr("danetc.tasks.grid.plan._run", made_of(lambda path: ("done", [])))
    best = package.compare(
        [tmp_path / "a.danet"], "digits", **asked, accuracy="best", select_on="test"
    )  # nothing is trained again
    assert [row.mean for row in best.rows] == pytest.approx([0.4, 0.7])


def test_runs_that_fail_or_are_stopped_are_named(
    outcomes: dict[int, Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes[1] = Outcome("failed", "the loss is not finite")
    with pytest.raises(UserError) as error:
        package.compare(tmp_path / "a.danet", **ASKED, output=tmp_path / "out")
    assert str(error.value) == (
        f"1 of 2 runs failed; logs are in {tmp_path / 'out'}\nsmall seed 1: the loss is not finite"
    )

    def interrupted(tasks: object, jobs: int, stop: StopRequest) -> None:
        stop.signal = signal.SIGTERM

    monkeypatch.setattr("danetc.tasks.grid.comparison.in_parallel", interrupted)
    with pytest.raises(UserError, match="the same call resumes the runs in"):
        package.compare(tmp_path / "a.danet", **ASKED, output=tmp_path / "other")


@pytest.mark.parametrize(
    ("name", "work"),
    [("compare", "grid.comparison.train_grid"), ("search", "searching.search.run_search")],
)
def test_progress_is_shown_on_request_or_in_a_notebook(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, work: str
) -> None:
    shown: list[bool] = []

    def stopped(*given: object, quiet: bool) -> int:
        shown.append(not quiet)
        return 143

    monkeypatch.setattr(f"danetc.tasks.{work}", stopped)
    for progress, shell in product(
        (None, True, False), (None, object(), SimpleNamespace(kernel=1))
    ):
        monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda s=shell: s))
        with pytest.raises(UserError, match="the same call resumes"):
            getattr(package, name)(tmp_path / "a.danet", backend="eager", progress=progress)
    assert shown == [False, False, True, True, True, True, False, False, False]


def test_what_is_done_is_said_and_not_trained_again(
    danetc: Run, outcomes: dict[int, Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = (*COMPARE, "--seeds", "2", "--set", "recipe.epochs=3")
    assert "runs are done" not in danetc(*asked).err

    def state(path: Path) -> Any:
        return ("done" if path.name == "seed-0" else "begun", [])

    monkeypatch.setattr("danetc.tasks.grid.plan._run", made_of(state))
    again = danetc.passes(*asked)
    assert "1 of 2 runs are done" in again.err
    assert "runs are done" not in danetc(*asked, "-q").err
    record = json.loads((tmp_path / "out" / "grid.json").read_text("utf-8"))
    assert [run["state"] for run in record["cells"][0]["runs"]] == ["done", "done"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"grid": {"stepz": [1]}}, "stepz"),
        ({"grid": {"seeds": [1]}}, "trained with every seed"),
        ({"jobs": 0}, "jobs is a whole number"),
        ({"engine": "cloud"}, "engine is one of local, ray"),
        ({"cpus": 2.0}, "choose the engine ray"),
        ({"classes": 1}, "classes is a whole number, 2 or more"),
        ({"subset_seed": -1}, "subset_seed is a whole number"),
        ({"fresh": True, "override": True}, "choose one of fresh and override"),
    ],
)
def test_wrong_arguments_of_compare(small: Path, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        package.compare(small, **wrong)


# -- runs under way --------------------------------------------------------------------------------


def run_of(folder: Path, seed: int = 0, state: Any = "new") -> GridRun:
    facts = {"epochs": [2, 2]}
    cell = GridCell("net", {}, replace(BASE, spec="net.danet"))
    return GridRun(cell, facts, seed, folder / "net" / f"seed-{seed}", state)


class Ending:
    """An engine whose runs print something, write an epoch a look, and end with a status."""

    jobs = 2

    def __init__(
        self, status: Callable[[GridRun], int | str], log: str = "", looks: int = 0
    ) -> None:
        self.status, self.log, self.looks = status, log, looks
        self.active = self.most = 0

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
    engine = Ending(lambda run: status, log)
    outcome = train_run(run_of(tmp_path), engine, lambda: False, lambda epochs: None)
    assert (outcome.state, outcome.error) == ("failed", error)
    assert outcome.seconds >= 0


@pytest.mark.parametrize("stopping", [False, True])
@pytest.mark.parametrize(
    ("status", "state"), [(0, "done"), (143, "waiting"), (-15, "waiting"), (1, "failed")]
)
def test_a_stopped_run_waits(tmp_path: Path, status: int, state: str, stopping: bool) -> None:
    engine = Ending(lambda run: status)
    outcome = train_run(run_of(tmp_path), engine, lambda: stopping, lambda epochs: None)
    assert outcome.state == ("failed" if state == "waiting" and not stopping else state)


def test_new_epochs_are_seen(tmp_path: Path) -> None:
    """Epochs of before are not, and a damaged record is not either."""
    run = run_of(tmp_path)
    write_epochs(run.path, 0.5)
    found: list[int] = []
    train_run(run, Ending(lambda run: 0, looks=3), lambda: False, found.append)
    assert found == [1, 2, 3]
    found.clear()

    def damage(run: GridRun) -> int:
        (run.path / TRAINING).write_text("{")
        return 0

    train_run(run, Ending(damage), lambda: False, found.append)
    assert found == []


def test_runs_at_a_time(danetc: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fourth of five fails, and does not stop the fifth."""
    engine = Ending(lambda run: int(run.seed == 3), looks=2)
    monkeypatch.setattr("danetc.tasks.grid.comparison.start_engine", lambda request: engine)
    done = danetc.fails("1 of 5 runs failed", *COMPARE, "--seeds", "5", "--set", "recipe.epochs=2")
    assert engine.most == 2
    record = json.loads((tmp_path / "out" / "grid.json").read_text("utf-8"))
    states = [run["state"] for run in record["cells"][0]["runs"]]
    assert states == ["done", "done", "done", "failed", "done"]
    lines = [line for line in done.err.splitlines() if line.startswith("[5/5]")]
    assert lines == ["[5/5] small seed 4", "[5/5] small seed 4: done in 0:00:00"]


def test_an_exception_stops_the_runs_under_way(tmp_path: Path) -> None:
    stop, ended = StopRequest(), []

    def wait() -> None:
        while not stop.wanted:
            time.sleep(0.01)
        ended.append(True)

    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        in_parallel([wait, interrupted], 2, stop)
    assert ended == [True]
