"""`danetc train --dry-run`: the plan is the training's own, and nothing is written."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

import danetc as package
from danetc.output.figures import show_size
from danetc.tasks.training.dry_run import print_plan, settings

from .conftest import FEW, QUICK, SMALL, Run

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
