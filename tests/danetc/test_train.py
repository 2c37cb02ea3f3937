"""`danetc train`: finding recipes, phases in order, and loading trained directories."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import danetc as package
from danetc.errors import UserError
from danetc.output.figures import show_size
from danetc.requests import ConversionRequest, TrainingRequest
from danetc.runtime.data.registry import open_data
from danetc.runtime.system.devices import find_device
from danetc.runtime.system.files import read_record
from danetc.runtime.training.distributed import World
from danetc.runtime.training.evaluation import Evaluation
from danetc.runtime.training.losses import over_time
from danetc.runtime.training.observer import PhasePlan
from danetc.tasks.converting import Converted
from danetc.tasks.evaluate import Evaluated, Figures
from danetc.tasks.training.directory import metrics_csv
from danetc.tasks.training.plan import make_plan
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


def test_trained_directories_load_as_trained(danetc: Run, quick: Path) -> None:
    result = danetc("train", quick, "--data", "digits", "--seed", "1")
    assert (result.status, result.err) == (0, "")
    directory = Path("runs/small")
    record = read_record(directory / "training.json")
    found = (len(record["epochs"]), record["seed"], record["recipe"]["name"])
    assert found == (1, 1, "quick")
    assert "train 1/1" in result.out
    assert f"test accuracy {record['test_accuracy']:.2%}; written to runs/small" in result.out
    model = package.load(directory).eval()
    data = open_data("digits")
    with torch.no_grad():
        right = over_time(model(data.test.images)).argmax(-1) == data.test.labels
    assert right.float().mean().item() == pytest.approx(record["test_accuracy"], abs=0.01)
    assert package.build(directory / "spec.danet") is not None


def test_json_goes_to_output_and_progress_to_the_other_stream(danetc: Run, quick: Path) -> None:
    asked = ("train", quick, "--data", "digits", "--json")
    result = danetc(*asked)
    assert json.loads(result.out)["data"] == "digits"
    assert "train 1/1" in result.err
    assert danetc(*asked, "--quiet", "-o", "other").err == ""


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
    danetc: Run, small: Path, spec: str, arguments: list[str], message: str
) -> None:
    Path("full").mkdir()
    Path("full/work").write_text("")
    small.write_text(spec)
    danetc.fails(message, "train", small, *arguments)
    if "finite" not in message:
        danetc.fails(message, "train", small, "--dry-run", *arguments)


def test_a_file_without_a_recipe_takes_the_one_named_as_the_data(danetc: Run, small: Path) -> None:
    record = danetc.json("train", small, "--data", "digits", "--set", "recipe.epochs=1")
    assert record["recipe"]["name"] == "digits"


def test_a_file_of_recipes_is_given_by_its_name(danetc: Run, small: Path) -> None:
    """A repetition takes the recipe from the record, without the file."""
    Path("recipes.danet").write_text(QUICK + PHASES)
    by = ("train", small, "--data", "digits", "--recipe")
    assert danetc.passes(*by, "recipes.danet:quick", "-o", "a", "-q").err == ""
    assert read_record(Path("a/training.json"))["recipe"]["name"] == "quick"
    danetc.fails("--recipe recipes.danet:NAME", *by, "recipes.danet")
    danetc.fails("it sees quick, two", *by, "recipes.danet:no")
    danetc.passes("data", "digits", "--recipe", "recipes.danet:two")
    Path("recipes.danet").unlink()
    danetc.fails("there is no file", *by, "recipes.danet")
    danetc.passes("train", "--from", "a", "-o", "b", "-q")
    Path("one.danet").write_text(QUICK.replace("quick", "own"))
    danetc.passes("train", "a", "--data", "digits", "--recipe", "one.danet", "-o", "tuned", "-q")
    assert read_record(Path("tuned/training.json"))["recipe"]["name"] == "own"
    a, b = (Path(name, "weights.safetensors").read_bytes() for name in "ab")
    assert a == b


def test_a_recipe_that_shadows_one_of_std_is_noted(danetc: Run) -> None:
    Path("own.danet").write_text(SMALL + QUICK.replace("quick", "digits"))
    result = danetc("train", "own.danet", "--data", "digits", "-o", "a", "-q")
    assert result.err == "note: recipe `digits` is that of own.danet; it shadows the one of std\n"
    assert danetc("train", "--from", "a", "-o", "b", "-q").err == ""


def test_min_accuracy_decides_the_exit_status(danetc: Run, quick: Path) -> None:
    danetc.fails("is below 100.00%", "train", quick, "--data", "digits", "--min-accuracy", "1.0")
    assert danetc("train", quick, "--data", "digits", "--min-accuracy", "0").status == 0


@pytest.mark.parametrize(
    ("steps", "frames", "workers"),
    [
        ("", 2, "data, and this process may use 4 cores; --set recipe.workers=4 may"),
        ("steps = 3; ", 3, "data for each of 2 processes, and this process may use 4 cores;"),
    ],
)
def test_what_a_plan_asks_and_tells(
    small: Path, monkeypatch: pytest.MonkeyPatch, steps: str, frames: int, workers: str
) -> None:
    monkeypatch.setattr("danetc.tasks.training.plan.usable_cores", lambda: 4)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(frames - 1))
    small.write_text(
        f"{SMALL}recipe digits {{ {steps}epochs = 1; batch = 300; workers = 5; precision = fp16; "
        "optimizer = adamw(lr = 10.0) }"
    )
    request = TrainingRequest(
        small, "digits", classes=4, set={"classes": 4}, subset_seed=2, backend="eager",
        memory=10**9, output=small.parent / "out",
    )  # fmt: skip
    notes: list[str] = []

    def opening(text: str, **options: Any) -> Any:
        assert (options["frames"], options["subset_seed"]) == (frames, 2)
        return replace(open_data(text, **options), notices=("of the data",))

    with pytest.warns(package.SpecWarning, match="a learning rate of 10 for `adamw`"):
        plan = make_plan(request, World(torch.device("cpu")), notes.append, opening)
    told = (
        "recipe `digits` is that of", "a CPU computes float16",
        f"the recipe has 5 workers read {workers}", "memory of phase train: none: ", "of the data",
    )  # fmt: skip
    assert len(notes) == len(told)
    assert all(note.startswith(start) for note, start in zip(notes, told, strict=True)), notes
    assert (plan.data.classes, plan.seeds, plan.backend) == (4, (0,), "eager")


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
    ("last", "told"),
    [
        ({}, "test accuracy 50.00%"),
        ({"scores": PIXELS}, "test accuracy 50.00%, mIoU 41.20%"),
        ({"test_accuracy": None, "scores": NUMBERS}, "test loss 1.5000, RMSE 0.125"),
        (VALIDATED, "test accuracy 50.00%; val accuracy 75.00%"),
        ({**VALIDATED, "test_accuracy": None, "test_loss": None}, "val accuracy 75.00%"),
        ({"test_accuracy": None, "trials": [{}, {}]}, "2 trials"),
        ({"deviation": 0.0125, "trials": [{}, {}]}, "test accuracy 50.00% ± 1.25% over 2 trials"),
        ({"deviation": None, "trials": [{}]}, "test accuracy 50.00% over 1 trials"),
    ],
)
def test_a_training_in_a_line(last: dict[str, Any], told: str) -> None:
    record = {**ROW, **last}
    record |= {} if "trials" in last else {"epochs": [{**ROW, **last}]}
    assert training_result(record) == told
    done = "1 epochs, " if "epochs" in record else ""
    assert repr(Training(Path("r"), record, ())) == f"<Training: r: {done}{told}>"


def test_results_have_tables_and_figures(capsys: pytest.CaptureFixture[str]) -> None:
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
    trials = [{"seed": seed, "test_accuracy": seed / 10, "directory": "d"} for seed in (5, 6)]
    record: dict[str, Any] = {"test_accuracy": 0.55, "deviation": 0.0707, "trials": trials}
    several = Training(Path("r"), record, ())
    assert list(several.frame()["seed"]) == [5, 6]
    with pytest.raises(UserError, match="holds trials, whose curves are in"):
        several.figure()
    print_trials(record)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line for line in lines if "%" in "".join(line)] == [
        ["5", "50.00%", "d"], ["6", "60.00%", "d"], ["mean", "55.00%"], ["deviation", "7.07%"],
    ]  # fmt: skip
    print_trials({**record, "deviation": None, "trials": trials[:1]})
    assert "deviation" not in capsys.readouterr().out


FOUND = tuple(Figures(t, 10, 0.5 / t, 0.25 * t, 1.0, 0, 1.0) for t in (1, 2))


def test_a_conversion_prints_the_ann_and_each_t(
    danetc: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann = Figures(1, 1234, 0.125, 0.75, 1.0, 0, 1.0)
    request = ConversionRequest(Path("ann"))
    found = Converted(Path("out"), "ann", request, "net", "digits", ann, FOUND, {})
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
    how: dict[str, Any] = {
        "directory": Path("r"), "data": "digits", "split": "test", "network": "net",
        "checkpoint": None, "conditions": Evaluation(steps=2), "unlike_training": None,
    }  # fmt: skip
    found = Evaluated(**how, results=FOUND, over_time=FOUND[:1])
    assert repr(found) == "<Evaluated: net on digits (test): T = 1: 25.00%, T = 2: 50.00%>"
    (axes,) = found.figure().axes
    assert {line.get_label(): list(line.get_ydata()) for line in axes.lines} == {
        "a run at T": [25, 50],
        "mean of the first T steps": [25],
    }
    numbers = Figures(2, 10, 0.5, None, None, 0, 1.0, NUMBERS)
    of_numbers = Evaluated(**how, results=(), over_time=(numbers,))
    assert repr(of_numbers).endswith(": T = 2: RMSE 0.125>")
    assert list(of_numbers.frame()["steps"]) == [2]


# -- train --dry-run: it shows the training's own plan and writes nothing --------------------------


SLOW_START = """
recipe two {
  phase first { steps = 1; epochs = 3; warmup = 1; schedule = step(2, factor = 0.1) }
  phase second { steps = 3; epochs = 2; start = first; accumulate = 2 }
  batch = 100
  optimizer = sgd(lr = 0.05, momentum = 0.9)
}
"""


def test_the_times_of_a_plan(danetc: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first two steps take 9 s each and do not count. Testing a batch takes a third of a step."""
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
    asked += ("--set", "recipe.second.optimizer.lr=0.25", "--dry-run")
    plan = danetc.json(*asked)
    memory = [phase.pop("memory") for phase in plan["phases"]]
    assert plan["phases"] == [
        {"name": name, "time_steps": t, "steps": 40 * epochs, "seconds_per_step": 2.0,
         "seconds": pytest.approx(2 * (40 + 0.2) * epochs)}
        for name, t, epochs in (("first", 1, 3), ("second", 3, 2))
    ]  # fmt: skip
    assert steps == [12, 12]
    shown = danetc.passes(*asked).out
    assert "the whole training takes about 0:13:24 for 2 trials\n" in shown
    lines = [line.split() for line in shown.splitlines()]
    for phase, each in zip(plan["phases"], memory, strict=True):
        size = show_size(each["peak"]).split()
        row = [phase["name"], str(phase["time_steps"]), str(phase["steps"]), *size, "2"]
        assert row in [line[:-1] for line in lines]
    assert {"first.epochs 3 a.danet:14:28", "workers 0 default"} <= {*map(" ".join, lines)}
    assert " ".join(shown.split()).count("a.danet:17:3, lr from --set") == 1
    assert plan["seconds"] == pytest.approx(2 * 2 * 40.2 * 5)
    assert all(each["peak"] > each["saved"] + each["weights"] for each in memory)
    assert memory[0]["weights"] == memory[1]["weights"]
    assert [each["batch"] for each in memory] == [100, 100]
    assert plan["recipe"]["origins"]["second.optimizer.lr"] == "--set"
    model = package.build(tmp_path / "a.danet")
    assert plan["parameters"] == sum(p.numel() for p in model.parameters())
    names = ("network", "backend", "processes", "device", "directory", "states", "seeds")
    assert [plan[name] for name in names] == [
        "small", "eager", 1, find_device().type, "out", ["new", "new"], [0, 1],
    ]  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["a.danet"]  # nothing was written


def test_plan_that_does_not_fit(danetc: Run, quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("danetc.runtime.system.machine.free_memory", lambda: 1000)
    shown = danetc.passes("train", quick, "--data", "digits", "--dry-run").out
    assert "phase train: a step needs " in shown
    assert ["train", "2", "?"] in [line.split()[:3] for line in shown.splitlines()]
    assert "the whole training takes" not in shown


def test_workers_need_shared_memory(
    danetc: Run, quick: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("danetc.runtime.data.batches.SHARED_MEMORY", tmp_path)
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=100))
    augment = ("--set", "recipe.augment=horizontal_flip", "--set", "recipe.workers=1")
    command = ("train", quick, "--data", FEW, "--backend", "eager", *augment)
    for more in (("--dry-run",), ()):
        done = danetc.fails("with workers = 1, 1 x 0.0 MiB are read ahead", *command, *more)
        assert "--shm-size=1g or --ipc=host" in done.err
        assert "--workers" in done.err


def test_a_loss_that_reads_values_has_no_known_memory(danetc: Run, small: Path) -> None:
    Path("own.py").write_text(
        "def own(output, labels):\n"
        "    return output.mean() if output.sum().item() > 0 else output.square().mean()\n"
    )
    loss = 'recipe own { epochs = 1; batch = 16; optimizer = sgd(lr = 0.1); loss = python("own.py:own") }'
    small.write_text(SMALL + loss)
    asked, told = ("train", small, "--data", FEW), "reads values of tensors"
    plan = danetc.json(*asked, "--dry-run", "--seeds", "3")
    assert plan["seconds"] == pytest.approx(3 * plan["phases"][0]["seconds"])
    memory = plan["phases"][0]["memory"]
    assert (memory["peak"], told in memory["not_known"]) == (None, True)
    shown = danetc.passes(*asked, "--dry-run").out
    assert f"phase train: {memory['not_known']}\n" in shown
    assert "name a policy: none, recompute" in danetc.fails(told, *asked, "--memory", "1GB").err
