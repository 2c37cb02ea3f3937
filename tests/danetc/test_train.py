"""`danetc train`: recipes found, phases in turn, model directories that load."""

from __future__ import annotations

import csv
import io
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import danetc as package
from danetc.dsl.recipe.settings import SETTINGS, Phase, Recipe
from danetc.errors import UserError
from danetc.main import main
from danetc.output.figures import show_size
from danetc.requests import ConversionRequest, TrainingRequest
from danetc.runtime.data.registry import open_data
from danetc.runtime.system.devices import find_device
from danetc.runtime.training.distributed import World
from danetc.runtime.training.evaluation import Evaluation
from danetc.runtime.training.losses import over_time
from danetc.runtime.training.observer import PhasePlan
from danetc.tasks.converting import Converted
from danetc.tasks.evaluate import Evaluated, Figures
from danetc.tasks.training.directory import metrics_csv
from danetc.tasks.training.dry_run import print_plan, settings
from danetc.tasks.training.plan import _tell_of_precision, _tell_of_workers, make_plan
from danetc.tasks.training.progress import print_trials
from danetc.tasks.training.progress import result as training_result
from danetc.tasks.training.train import Training

from .conftest import FEW, QUICK, SMALL, Run

PHASES = """
recipe two {
  phase first { steps = 1; epochs = 1 }
  phase second { steps = 3; epochs = 2; start = first }
  batch = 300
  optimizer = sgd(lr = 0.05, momentum = 0.9)
}
"""


def test_trained_directories_load_as_trained(danetc: Run, quick: Path, tmp_path: Path) -> None:
    result = danetc("train", quick, "--data", "digits", "--seed", "1")
    assert (result.status, result.err) == (0, "")
    directory = tmp_path / "runs" / "small"
    record = json.loads((directory / "training.json").read_text())
    assert len(record["epochs"]) == 1
    assert record["seed"] == 1
    assert record["recipe"]["name"] == "quick"
    assert "train 1/1" in result.out
    assert f"test accuracy {record['test_accuracy']:.2%}; written to runs/small" in result.out
    model = package.load(directory).eval()
    data = open_data("digits")
    with torch.no_grad():
        right = over_time(model(data.test.images)).argmax(-1) == data.test.labels
    assert right.float().mean().item() == pytest.approx(record["test_accuracy"], abs=0.01)
    assert package.build(directory / "spec.danet") is not None


def test_json_goes_to_output_and_progress_to_the_other_stream(danetc: Run, quick: Path) -> None:
    result = danetc("train", quick, "--data", "digits", "--json")
    assert json.loads(result.out)["data"] == "digits"
    assert "train 1/1" in result.err
    again = danetc("train", quick, "--data", "digits", "--json", "--quiet", "-o", "other")
    assert again.err == ""


@pytest.mark.thorough
def test_too_many_workers(danetc: Run, quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("train", quick, "--data", "digits", "-q", "--set", "recipe.workers=2")
    monkeypatch.setattr("danetc.tasks.training.plan.usable_cores", lambda: 2)
    assert danetc(*arguments, "-o", "a").err == ""
    monkeypatch.setattr("danetc.tasks.training.plan.usable_cores", lambda: 1)
    told = danetc(*arguments, "-o", "b").err
    assert told.startswith("note: the recipe has 2 workers read data, and this process may use 1 ")
    assert "--set recipe.workers=1" in told


@pytest.mark.parametrize(
    ("spec", "arguments", "message"),
    [
        (SMALL + QUICK, ["--data", "digit"], "did you mean `digits`?"),
        (SMALL + QUICK, ["--data", "digits", "--recipe", "quik"], "did you mean `quick`?"),
        (SMALL + QUICK + PHASES, ["--data", "digits"], "choose with --recipe"),
        (SMALL + PHASES, ["--data", "digits", "--set", "steps=2"], "--set recipe.first.steps="),
        (SMALL + QUICK, ["--data", "digits", "--set", "recipe.epoch=2"], "did you mean `epochs`?"),
        (SMALL + QUICK, ["--data", "digits", "--set", "recipe.epochs=0"], "--set"),
        (SMALL + QUICK, ["--data", "digits", "--set", "classes=7"], "set the network's classes"),
        (SMALL.replace("1, 8, 8", "3, 9, 9") + QUICK, ["--data", "digits"], "image(1, 8, 8)"),
        (SMALL + QUICK, ["--data", "digits", "--init", "missing"], "missing"),
        (SMALL + QUICK, ["--data", "digits", "-o", "full"], "full"),
        (SMALL + PHASES, ["--data", "digits", "--set", "recipe.second.start=third"], "third"),
        (
            (SMALL + QUICK.replace("adamw(lr = 0.01", "sgd(lr = 1000")).replace("norm -> ", ""),
            ["--data", "digits", "--set", "neuron=ReLU", "--set", "recipe.epochs=9"],
            "no longer finite",
        ),
    ],
)
def test_what_cannot_be_trained_is_a_clear_error(
    danetc: Run, tmp_path: Path, spec: str, arguments: list[str], message: str
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "work").write_text("")
    (tmp_path / "a.danet").write_text(spec)
    danetc.fails(message, "train", "a.danet", *arguments)
    if "finite" not in message:
        danetc.fails(message, "train", "a.danet", "--dry-run", *arguments)


def test_a_file_without_a_recipe_takes_the_one_named_as_the_data(danetc: Run, small: Path) -> None:
    result = danetc("train", small, "--data", "digits", "--set", "recipe.epochs=1", "--json")
    assert json.loads(result.out)["recipe"]["name"] == "digits"


def test_a_file_of_recipes_is_given_by_its_name(danetc: Run, small: Path, tmp_path: Path) -> None:
    """A repetition takes the recipe from the record, without the file."""
    recipes = tmp_path / "recipes.danet"
    recipes.write_text(QUICK + PHASES)
    by = ("train", small, "--data", "digits", "--recipe")
    assert danetc.passes(*by, "recipes.danet:quick", "-o", "a", "-q").err == ""
    assert json.loads((tmp_path / "a" / "training.json").read_text())["recipe"]["name"] == "quick"
    danetc.fails("--recipe recipes.danet:NAME", *by, "recipes.danet")
    danetc.fails("it sees quick, two", *by, "recipes.danet:no")
    danetc.passes("data", "digits", "--recipe", "recipes.danet:two")
    recipes.unlink()
    danetc.fails("there is no file", *by, "recipes.danet")
    danetc.passes("train", "--from", "a", "-o", "b", "-q")
    (tmp_path / "one.danet").write_text(QUICK.replace("quick", "own"))
    danetc.passes("train", "a", "--data", "digits", "--recipe", "one.danet", "-o", "tuned", "-q")
    assert json.loads((tmp_path / "tuned" / "training.json").read_text())["recipe"]["name"] == "own"
    a, b = ((tmp_path / name / "weights.safetensors").read_bytes() for name in "ab")
    assert a == b


def test_a_recipe_that_shadows_one_of_std_is_noted(danetc: Run, tmp_path: Path) -> None:
    (tmp_path / "own.danet").write_text(SMALL + QUICK.replace("quick", "digits"))
    result = danetc("train", "own.danet", "--data", "digits", "-o", "a", "-q")
    assert result.err == "note: recipe `digits` is that of own.danet; it shadows the one of std\n"
    assert danetc("train", "--from", "a", "-o", "b", "-q").err == ""


def test_min_accuracy_decides_the_exit_status(danetc: Run, quick: Path) -> None:
    danetc.fails("is below 100.00%", "train", quick, "--data", "digits", "--min-accuracy", "1.0")
    assert danetc("train", quick, "--data", "digits", "--min-accuracy", "0").status == 0


@pytest.mark.parametrize(("steps", "frames"), [("", 2), ("steps = 3; ", 3)])
def test_what_a_plan_asks_and_tells(
    small: Path, monkeypatch: pytest.MonkeyPatch, steps: str, frames: int
) -> None:
    monkeypatch.setattr("danetc.tasks.training.plan.usable_cores", lambda: 4)
    small.write_text(
        f"{SMALL}recipe digits {{ {steps}epochs = 1; batch = 300; workers = 5; precision = fp16; "
        "optimizer = adamw(lr = 10.0) }"
    )
    request = TrainingRequest(
        small, "digits", classes=4, set={"classes": 4}, subset_seed=2, on_unreadable="skip",
        backend="eager", memory=10**9, output=small.parent / "out",
    )  # fmt: skip
    notes: list[str] = []
    asked: list[tuple[str, dict[str, Any]]] = []

    def opening(text: str, **options: Any) -> Any:
        asked.append((text, options))
        return replace(open_data(text, **options), notices=("of the data",))

    with pytest.warns(package.SpecWarning, match="a learning rate of 10 for `adamw`"):
        plan = make_plan(request, World(torch.device("cpu")), notes.append, opening)
    options = {"classes": 4, "subset_seed": 2, "on_unreadable": "skip", "tokens": None}
    assert asked == [("digits", {**options, "frames": frames, "channels": 1})]
    told = (
        "recipe `digits` is that of", "a CPU computes float16", "the recipe has 5 workers",
        "memory of phase train: none: ", "of the data",
    )  # fmt: skip
    assert len(notes) == len(told)
    assert all(note.startswith(start) for note, start in zip(notes, told, strict=True)), notes
    assert (plan.data.classes, plan.seeds, plan.backend) == (4, (0,), "eager")


@pytest.mark.parametrize(
    ("workers", "processes", "told"),
    [(4, None, ""), (5, None, "read data, and"), (2, "2", ""), (3, "2", "read data for each of 2")],
)
def test_more_workers_than_cores_are_told(
    monkeypatch: pytest.MonkeyPatch, workers: int, processes: str | None, told: str
) -> None:
    monkeypatch.setattr("danetc.tasks.training.plan.usable_cores", lambda: 4)
    if processes is not None:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
    notes: list[str] = []
    _tell_of_workers(workers, notes.append)
    assert len(notes) == bool(told)
    assert all(told in note and f"workers={4 // int(processes or 1)} " in note for note in notes)


@pytest.mark.parametrize(
    ("device", "told"),
    [
        ("cpu", {"fp16": "a CPU computes float16", "tf32": "cpu has no TF32"}),
        ("cuda", {"float32": "precision = float32 multiplies without TF32"}),
    ],
)
def test_surprising_precisions_are_told(
    monkeypatch: pytest.MonkeyPatch, device: str, told: dict[str, str]
) -> None:
    has_tf32 = lambda device: device.type == "cuda"  # noqa: E731
    monkeypatch.setattr("danetc.tasks.training.plan.has_tf32", has_tf32)
    for precision in ("float32", "tf32", "fp16", "bf16"):
        notes: list[str] = []
        _tell_of_precision([precision], torch.device(device), notes.append)
        assert [note.startswith(told.get(precision, "none")) for note in notes] == [True] * (
            precision in told
        )


# -- results in words, tables and figures ----------------------------------------------------------


def test_values_with_commas_stay_in_their_column() -> None:
    epoch: dict[str, Any] = {"phase": 'a,"b"', "epoch": 1, "shares": {"data": 0.5}}
    (row,) = csv.DictReader(io.StringIO(metrics_csv([epoch])))
    assert (row["phase"], row["share_data"], row["test_loss"]) == ('a,"b"', "0.5", "")
    assert not any(name.startswith("val") for name in row)
    epoch |= {"scores": {"rmse": 1}, "val_loss": 2, "val_scores": {"miou": 3}}
    (row,) = csv.DictReader(io.StringIO(metrics_csv([epoch])))
    names = ("row", "test_rmse", "val_loss", "val_miou", "val_rmse")
    assert [row[name] for name in names] == ["1", "1", "2", "3", ""]


ROW: dict[str, Any] = {
    "phase": "one", "train_loss": 2.0, "train_accuracy": 0.25, "test_loss": 1.5,
    "test_accuracy": 0.5, "scores": {},
}  # fmt: skip
VALIDATED: dict[str, Any] = {"val_loss": 1.0, "val_accuracy": 0.75, "val_scores": {}}
PIXELS, NUMBERS = {"miou": 0.412}, {"rmse": 0.125}


@pytest.mark.parametrize(
    ("record", "told"),
    [
        ({"test_accuracy": 0.5, "epochs": [ROW]}, "test accuracy 50.00%"),
        (
            {"test_accuracy": 0.5, "epochs": [{**ROW, "scores": PIXELS}]},
            "test accuracy 50.00%, mIoU 41.20%",
        ),
        (
            {"test_accuracy": None, "epochs": [{**ROW, "test_accuracy": None, "scores": NUMBERS}]},
            "test loss 1.5000, RMSE 0.125",
        ),
        (
            {"test_accuracy": 0.5, "epochs": [{**ROW, **VALIDATED}]},
            "test accuracy 50.00%; val accuracy 75.00%",
        ),
        (
            {"test_accuracy": None, "epochs": [{**ROW, **VALIDATED, "test_loss": None}]},
            "val accuracy 75.00%",
        ),
        ({"test_accuracy": None, "trials": [{}, {}]}, "2 trials"),
        (
            {"test_accuracy": 0.5, "deviation": 0.0125, "trials": [{}, {}]},
            "test accuracy 50.00% ± 1.25% over 2 trials",
        ),
        (
            {"test_accuracy": 0.5, "deviation": None, "trials": [{}]},
            "test accuracy 50.00% over 1 trials",
        ),
    ],
)
def test_a_training_in_a_line(record: dict[str, Any], told: str) -> None:
    assert training_result(record) == told
    done = f"{len(record['epochs'])} epochs, " if "epochs" in record else ""
    assert repr(Training(Path("r"), record, ())) == f"<Training: r: {done}{told}>"


def test_results_have_tables_and_figures() -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("pandas")
    epochs = [{**ROW, "epoch": n, "test_accuracy": n / 4, "test_loss": 1 / n} for n in (1, 2, 3)]
    whole = Training(Path("r"), {"test_accuracy": 0.75, "epochs": epochs}, (), stopped=True)
    assert repr(whole).endswith("75.00%, stopped>")
    assert list(whole.frame()["test_loss"]) == [1, 1 / 2, 1 / 3]
    loss, accuracy = whole.figure().axes
    assert [list(line.get_ydata()) for line in loss.lines] == [[2.0] * 3, [1, 1 / 2, 1 / 3]]
    assert [list(line.get_ydata()) for line in accuracy.lines] == [[25.0] * 3, [25, 50, 75]]
    assert "<td>0.500000</td>" in str(whole._repr_html_())
    numbers = [{**each, "test_accuracy": None, "train_accuracy": None} for each in epochs]
    of_numbers = Training(Path("r"), {"test_accuracy": None, "epochs": numbers}, ())
    assert len(of_numbers.figure().axes) == 1
    early = Training(Path("r"), {"test_accuracy": None, "epochs": []}, ())
    assert repr(early) == "<Training: r: 0 epochs, no test yet>"
    trials = [{"seed": seed, "test_accuracy": seed / 10, "directory": "d"} for seed in (5, 6)]
    several = Training(Path("r"), {"test_accuracy": 0.55, "deviation": 0.1, "trials": trials}, ())
    assert list(several.frame()["seed"]) == [5, 6]
    with pytest.raises(UserError, match="holds trials, whose curves are in"):
        several.figure()


def test_a_table_of_trials(capsys: pytest.CaptureFixture[str]) -> None:
    trials = [{"seed": seed, "test_accuracy": seed / 10, "directory": "d"} for seed in (5, 6)]
    record: dict[str, Any] = {"test_accuracy": 0.55, "deviation": 0.0707, "trials": trials}
    print_trials(record)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line for line in lines if "%" in "".join(line)] == [
        ["5", "50.00%", "d"], ["6", "60.00%", "d"], ["mean", "55.00%"], ["deviation", "7.07%"],
    ]  # fmt: skip
    print_trials({**record, "deviation": None, "trials": trials[:1]})
    assert "deviation" not in capsys.readouterr().out


def test_a_conversion_prints_the_ann_and_each_t(
    danetc: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = [Figures(steps, 10, 0.5 / steps, 0.25 * steps, 1.0, 0, 1.0) for steps in (1, 2)]
    found = Converted(
        Path("out"), "ann", ConversionRequest(Path("ann")), "net", "digits",
        Figures(1, 1234, 0.125, 0.75, 1.0, 0, 1.0), tuple(at), {},
    )  # fmt: skip
    monkeypatch.setattr("danetc.tasks.converting.convert", lambda *_, **__: found)
    first, *rows, last = danetc.passes("convert", "ann").out.splitlines()
    assert first == "net: 1,234 images of digits (test)"
    assert [row.split() for row in rows if "%" in row] == [
        ["ANN", "1", "75.00%", "100.00%", "0.1250"],
        ["SNN", "1", "25.00%", "100.00%", "0.5000"],
        ["SNN", "2", "50.00%", "100.00%", "0.2500"],
    ]  # fmt: skip
    assert last == "written to out"


def test_evaluations_have_tables_and_figures() -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("pandas")
    at = [Figures(steps, 10, 0.5 / steps, 0.25 * steps, 1.0, 0, 1.0) for steps in (1, 2)]
    how: dict[str, Any] = {
        "directory": Path("r"), "data": "digits", "split": "test", "network": "net",
        "checkpoint": None, "conditions": Evaluation(steps=2), "unlike_training": None,
    }  # fmt: skip
    found = Evaluated(**how, results=tuple(at), over_time=(at[0],))
    assert repr(found) == "<Evaluated: net on digits (test): T = 1: 25.00%, T = 2: 50.00%>"
    assert list(found.frame()["top1"]) == [0.25, 0.5]
    (axes,) = found.figure().axes
    assert {line.get_label(): list(line.get_ydata()) for line in axes.lines} == {
        "a run at T": [25, 50],
        "mean of the first T steps": [25],
    }
    assert axes.get_ylabel() == "top-1 accuracy [%]"
    assert found.as_dict()["unlike_training"] == []
    numbers = Figures(2, 10, 0.5, None, None, 0, 1.0, NUMBERS)
    of_numbers = Evaluated(**how, results=(), over_time=(numbers,))
    assert repr(of_numbers).endswith(": T = 2: RMSE 0.125>")
    (axes,) = of_numbers.figure().axes
    assert (axes.get_ylabel(), list(axes.lines[0].get_ydata())) == ("loss", [0.5])
    assert list(of_numbers.frame()["steps"]) == [2]


def test_the_training_reads_every_setting(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Read by name, outside of what parses and records settings, which goes through all of them."""
    read: set[str] = set()

    def noted(self: Any, name: str) -> Any:
        reader = sys._getframe(1).f_globals["__name__"]
        if reader.startswith("danetc.") and not reader.startswith("danetc.dsl."):
            read.add(name)
        return object.__getattribute__(self, name)

    for part in (Phase, Recipe):
        monkeypatch.setattr(part, "__getattribute__", noted)
    (tmp_path / "quick.danet").write_text(SMALL + QUICK)
    arguments = ["--data", "digits", "--backend", "eager", "-o", str(tmp_path / "run")]
    assert main(["train", str(tmp_path / "quick.danet"), *arguments]) == 0
    capsys.readouterr()
    assert SETTINGS.keys() <= read


# -- train --dry-run: the plan is the training's own, and nothing is written -----------------------


SLOW_START = """
recipe two {
  phase first { steps = 1; epochs = 3; warmup = 1; schedule = step(2, factor = 0.1) }
  phase second { steps = 3; epochs = 2; start = first; accumulate = 2 }
  batch = 100
  optimizer = sgd(lr = 0.05, momentum = 0.9)
}
"""


@pytest.mark.thorough
@pytest.mark.usefixtures("all_digits")
def test_the_plan_of_two_phases(danetc: Run, tmp_path: Path) -> None:
    (tmp_path / "a.danet").write_text(SMALL + SLOW_START)
    result = danetc(
        "train", "a.danet", "--data", "digits", "--dry-run", "--json",
        "--set", "recipe.second.optimizer.lr=0.25",
    )  # fmt: skip
    assert result.status == 0
    record = json.loads(result.out)
    assert [path.name for path in tmp_path.iterdir()] == ["a.danet"]  # nothing was written
    model = package.build(tmp_path / "a.danet")
    assert record["parameters"] == sum(p.numel() for p in model.parameters())
    first, second = record["phases"]
    assert (first["time_steps"], second["time_steps"]) == (1, 3)
    assert (first["steps"], second["steps"]) == (45, 30)  # of 1,437 images
    origins = record["recipe"]["origins"]
    assert origins["second.optimizer.lr"] == "--set"
    assert origins["second.accumulate"].startswith("a.danet:")
    assert origins["first.accumulate"] == "default"
    memory = [phase["memory"] for phase in (first, second)]
    assert memory[0]["weights"] == memory[1]["weights"]
    for each in memory:
        assert each["peak"] > each["saved"] + each["weights"]
    for phase in record["phases"]:
        assert phase["seconds"] > phase["steps"] * phase["seconds_per_step"] > 0
    assert record["seconds"] == pytest.approx(first["seconds"] + second["seconds"])


def test_the_times_of_a_plan(danetc: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first two steps take 9 s each and do not count; a test of an image takes a third of a step."""
    now, steps = [0.0], list[int]()

    def fit(run: Any) -> None:
        run.observer.on_phase_start(PhasePlan(run.phase, 40))
        steps.append(0)
        while not run.stop.wanted:
            now[0] += 9.0 if steps[-1] < 2 else 2.0
            run.observer.on_step_end(None)
            steps[-1] += 1

    monkeypatch.setattr("danetc.tasks.training.dry_run.fit", fit)
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    (tmp_path / "a.danet").write_text(SMALL + SLOW_START)
    asked = ("train", "a.danet", "--data", FEW, "--backend", "eager", "--seeds", "2", "-o", "out")
    plan = danetc.json(*asked, "--dry-run")
    memory = [phase.pop("memory") for phase in plan["phases"]]
    assert plan["phases"] == [
        {"name": name, "time_steps": t, "steps": 40 * epochs, "seconds_per_step": 2.0,
         "seconds": pytest.approx(2 * (40 + 0.2) * epochs)}
        for name, t, epochs in (("first", 1, 3), ("second", 3, 2))
    ]  # fmt: skip
    assert steps == [12, 12]
    assert plan["seconds"] == pytest.approx(2 * 2 * 40.2 * 5)
    assert all(each["peak"] > each["saved"] + each["weights"] for each in memory)
    assert [each["batch"] for each in memory] == [100, 100]
    model = package.build(tmp_path / "a.danet")
    assert plan["parameters"] == sum(p.numel() for p in model.parameters())
    names = ("network", "backend", "processes", "device", "directory", "states", "seeds")
    assert [plan[name] for name in names] == [
        "small", "eager", 1, find_device().type, "out", ["new", "new"], [0, 1],
    ]  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["a.danet"]  # nothing was written


def test_plan_that_does_not_fit(
    danetc: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("danetc.runtime.system.machine.free_memory", lambda: 1000)
    (tmp_path / "a.danet").write_text(SMALL + QUICK)
    result = danetc.passes("train", "a.danet", "--data", "digits", "--dry-run")
    assert "phase train: a step needs " in result.out
    assert "the whole training takes" not in result.out


@pytest.mark.parametrize("more", [["--dry-run"], []])
def test_workers_need_shared_memory(
    danetc: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: list[str]
) -> None:
    monkeypatch.setattr("danetc.runtime.data.batches.SHARED_MEMORY", tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=100))
    augment = ["--set", "recipe.augment=horizontal_flip", "--set", "recipe.workers=1"]
    (tmp_path / "a.danet").write_text(SMALL + QUICK)
    command = ["train", "a.danet", "--data", FEW, "--backend", "eager", *augment, *more]
    done = danetc.fails("with workers = 1, 1 x 0.0 MiB are read ahead", *command)
    assert "--shm-size=1g or --ipc=host" in done.err
    assert "--workers" in done.err


def test_a_loss_that_reads_values_has_no_known_memory(danetc: Run, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "def own(output, labels):\n"
        "    return output.mean() if output.sum().item() > 0 else output.square().mean()\n"
    )
    loss = 'recipe own { epochs = 1; batch = 16; optimizer = sgd(lr = 0.1); loss = python("own.py:own") }'
    (tmp_path / "a.danet").write_text(SMALL + loss)
    plan = danetc.json("train", "a.danet", "--data", FEW, "--dry-run", "--seeds", "3")
    assert plan["seconds"] == pytest.approx(3 * plan["phases"][0]["seconds"])
    memory = plan["phases"][0]["memory"]
    assert memory["peak"] is None
    assert "reads values of tensors" in memory["not_known"]
    result = danetc.fails(
        "reads values of tensors", "train", "a.danet", "--data", FEW, "--memory", "1GB"
    )
    assert "name a policy: none, recompute" in result.err


def test_times_are_printed_for_phases_that_have_any(
    capsys: pytest.CaptureFixture[str],
) -> None:
    timed = {
        "name": "one", "time_steps": 2, "steps": 1234, "seconds_per_step": 0.5, "seconds": 90.0,
        "memory": {"peak": 2_000_000},
    }  # fmt: skip
    missed = {**timed, "name": "two", "seconds_per_step": None, "seconds": None, "not_timed": "no"}
    for key in ("steps", "memory"):
        missed[key] = {"peak": None, "not_known": "why"} if key == "memory" else None
    record = {
        "network": "net", "parameters": 1000, "processes": 2, "device": "cpu", "backend": "eager",
        "data": {"text": "digits", "train": 5, "test": 4}, "directory": "run", "states": ["new"],
        "recipe": {"phases": [{"name": "one"}], "origins": {}},
    }  # fmt: skip
    print_plan({**record, "phases": [timed, timed], "seconds": 180.0, "seeds": [0, 1]})
    shown = capsys.readouterr().out
    lines = [line.split() for line in shown.splitlines()]
    assert ["one", "2", "1,234", *show_size(2_000_000).split(), "0.5", "0:01:30"] in lines
    assert "the whole training takes about 0:03:00 for 2 trials" in shown
    print_plan({**record, "phases": [timed, missed], "seconds": None, "seeds": [0]})
    shown = capsys.readouterr().out
    assert ["two", "2", "?", "?", "?", "?"] in [line.split() for line in shown.splitlines()]
    assert "phase two: why\nphase two: no\n" in shown
    assert "the whole training" not in shown


def test_settings_that_phases_share_are_listed_once() -> None:
    phases = [{"name": name, "epochs": epochs, "batch": 8} for name, epochs in (("a", 1), ("b", 2))]
    origins = {
        "workers": "default", "a.epochs": "default", "b.epochs": "net.danet:3", "a.batch": "default",
        "b.batch": "default", "a.batch.x": "--set", "b.batch.x": "--set",
    }  # fmt: skip
    recipe = {"name": "r", "seed": 5, "workers": 2, "phases": phases, "origins": origins}
    assert list(settings(recipe)) == [
        ("a.epochs", "1", "default"),
        ("b.epochs", "2", "net.danet:3"),
        ("batch", "8", "default, x from --set"),
        ("workers", "2", "default"),
    ]
