"""`danetc train`: recipes found, phases in turn, model directories that load."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
import torch

import danetc as package
from danetc.dsl.diagnostics.diagnostic import Reporter
from danetc.dsl.loading import load_module
from danetc.dsl.recipe.resolve import resolve_recipe
from danetc.dsl.recipe.settings import Phase
from danetc.dsl.syntax.source import SourceFile
from danetc.runtime.data.registry import open_data
from danetc.runtime.training.losses import over_time
from danetc.runtime.training.observer import Epoch, PhasePlan, StepReport
from danetc.tasks.training.progress import TrainingProgress

from .conftest import QUICK, SMALL, Run

PHASES = """
recipe two {
  phase first { steps = 1; epochs = 1 }
  phase second { steps = 3; epochs = 2; start = first }
  batch = 300
  optimizer = sgd(lr = 0.05, momentum = 0.9)
}
"""


def phase(text: str) -> Phase:
    reporter = Reporter()
    module = load_module(SourceFile("recipe.danet", text), reporter)
    (declaration,) = module.own.values()
    recipe = resolve_recipe(declaration, {}, reporter, module)
    reporter.raise_if_errors()
    return recipe.phases[0]


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


def test_the_same_seed_gives_the_same_weights(danetc: Run, quick: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 4), ("b", 4), ("c", 5)):
        danetc("train", quick, "--data", "digits", "--seed", seed, "-o", name)
    a, b, c = ((tmp_path / name / "weights.safetensors").read_bytes() for name in "abc")
    assert a == b != c


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
    result = danetc(
        "train", small, "--data", "digits", "--recipe", "recipes.danet:quick", "-o", "a", "-q"
    )
    assert (result.status, result.err) == (0, "")
    assert json.loads((tmp_path / "a" / "training.json").read_text())["recipe"]["name"] == "quick"
    danetc.fails(
        "--recipe recipes.danet:NAME",
        "train",
        small,
        "--recipe",
        "recipes.danet",
        "--data",
        "digits",
    )
    danetc.fails(
        "it sees quick, two", "train", small, "--recipe", "recipes.danet:no", "--data", "digits"
    )
    assert (
        "after horizontal_flip"
        not in danetc.passes("data", "digits", "--recipe", "recipes.danet:two").out
    )
    recipes.unlink()
    danetc.fails(
        "there is no file", "train", small, "--recipe", "recipes.danet", "--data", "digits"
    )
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


def test_the_progress_on_a_terminal_is_a_bar() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    recipe = "recipe full { epochs = 2; optimizer = sgd(lr = 0.1) }"
    plan = PhasePlan(phase(recipe), 3)
    report = StepReport("full", 1, 1, 3, 1, 0.5, 0.2, 0.6, 100.0, 0.1, {})
    stream = Terminal()
    with TrainingProgress(stream) as progress:
        progress.on_phase_start(plan)
        progress.on_step_end(report)
        progress.on_epoch_end(Epoch("full", 1, 0.1, 0.5, 0.25, 0.6, 0.2, 1.5))
    text = stream.getvalue()
    assert "full 1/2" in text
    assert "trial" not in text
    assert "━" in text
    assert "top-1 25.00%" in text.replace("  ", " ")
    assert "100 images/s" in text
    quiet = Terminal()
    with TrainingProgress(quiet, quiet=True) as progress:
        progress.on_phase_start(plan)
        progress.on_step_end(report)
    assert quiet.getvalue() == ""
