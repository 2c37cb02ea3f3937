"""Run directories: `danetc train` resumes a run, refuses it or moves it aside."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import danetc as package
from danetc.errors import UserError
from danetc.requests import TrainingRequest
from danetc.runtime.system.files import read_record, save_record
from danetc.runtime.training.checkpoints import Checkpoints, Position, Snapshot
from danetc.runtime.training.distributed import World
from danetc.runtime.training.signals import StopRequest
from danetc.tasks.training.directory import (
    RunDirectory,
    checkpoint_in,
    compare,
    opened,
    refuse_run,
    state_of,
)
from danetc.tasks.training.trials import Trial

from .conftest import FEW, SMALL, Run

NETWORK = SMALL.replace("linear(classes)", "dropout(0.2) -> linear(classes)")
RECIPE = """
recipe quick {
  epochs = 2; batch = 100
  optimizer = sgd(lr = 0.05, momentum = 0.9)
  augment = random_crop(8, padding = 1)
}
"""
QUIET = ("--data", FEW, "--backend", "eager", "--quiet")
UNLIKE = ("seconds", "images_per_second", "shares")


@pytest.fixture
def quick(tmp_path: Path) -> Path:
    path = tmp_path / "quick.danet"
    path.write_text(NETWORK + RECIPE)
    return path


def weights(directory: Path) -> bytes:
    return (directory / "weights.safetensors").read_bytes()


def figures(directory: Path) -> list[dict[str, Any]]:
    record = json.loads((directory / "training.json").read_text())
    return [{k: v for k, v in row.items() if k not in UNLIKE} for row in record["epochs"]]


@pytest.fixture
def run(danetc: Run, quick: Path, tmp_path: Path) -> Path:
    assert danetc("train", quick, *QUIET, "-o", "run", "--seed", "1").status == 0
    return tmp_path / "run"


def test_a_run_that_is_there_is_resumed(danetc: Run, quick: Path, run: Path) -> None:
    """It is complete; settings that change no number and damaged checkpoints change nothing."""
    before = weights(run)
    command = ("train", quick, *QUIET, "-o", "run", "--seed", "1")
    assert "the run is complete" in danetc(*command).err
    other = ("--set", "recipe.checkpoint_every=7", "--set", "recipe.workers=1")
    assert danetc(*command, *other, "--memory", "recompute").status == 0
    damaged = run / "checkpoints" / "last" / "model.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    shutil.rmtree(run / "checkpoints" / "best")
    result = danetc.passes(*command)
    assert "last/model.safetensors is damaged" in result.err
    assert "taking run/checkpoints/previous" in result.err
    assert weights(run) == before
    assert "holds a training run" in danetc("build", quick, "-o", "run").err


@pytest.mark.thorough
def test_other_settings_are_refused_or_overridden(danetc: Run, quick: Path, run: Path) -> None:
    command = ("train", quick, *QUIET, "-o", "run", "--seed", "1")
    for options, difference in (
        (("--set", "recipe.optimizer.lr=0.1"), "optimizer.lr: 0.05 there, 0.1 now"),
        (("--channels-last",), "channels_last: false there, true now"),
    ):
        result = danetc.fails(difference, *command, *options)
        assert all(advice in result.err for advice in ("-o DIR", "--override", "--fresh"))
    result = danetc(*command, "--override", "--set", "recipe.epochs=3")
    assert "overridden: recipe.phases.train.epochs: 2 there, 3 now" in result.err
    assert len(figures(run)) == 3
    record = json.loads((run / "run.json").read_text())
    assert record["changes"] == [["recipe.phases.train.epochs: 2 there, 3 now"]]
    assert record["settings"]["recipe"]["phases"]["train"]["epochs"] == 3
    adam = ("--set", "recipe.optimizer=adamw(lr = 0.01)", "--set", "recipe.epochs=4")
    assert "which starts without one" in danetc(*command, "--override", *adam).err


@pytest.mark.thorough
def test_weights_that_do_not_fit_on_the_disk(
    danetc: Run, quick: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A notice while the training goes on; an error where they are still missing at its end."""
    real, left = os.fsync, [0]

    def full(handle: int) -> None:
        name = os.path.basename(os.readlink(f"/proc/self/fd/{handle}"))
        if name.startswith(".weights.safetensors") and left[0] > 0:
            left[0] -= 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), name)
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    for failures, status in ((1, 0), (3, 1)):
        left[0] = failures
        result = danetc("train", quick, *QUIET, "-o", f"run-{failures}")
        assert result.status == status
        assert "the weights of train 1 were not written" in result.err
        assert "the disk is full" in result.err
        assert (tmp_path / f"run-{failures}" / "weights.safetensors").exists() == (status == 0)
    assert danetc("train", quick, *QUIET, "-o", "run-3").status == 0
    assert weights(tmp_path / "run-3") == weights(tmp_path / "run-1")


# -- what lies in a directory, without a training --------------------------------------------------


BEFORE = {"seed": 1, "spec": "a -> b", "recipe": {"lr": 0.5, "steps": [1, 2], "ema": None}}


@pytest.mark.parametrize(
    ("now", "differences"),
    [
        ({}, []),
        ({"spec": "a\n  -> b"}, []),
        ({"seed": 2}, ["seed: 1 there, 2 now"]),
        (
            {"recipe": {"lr": 0.25, "steps": (1, 2), "ema": 0.5}},
            ["recipe.lr: 0.5 there, 0.25 now", "recipe.ema: none there, 0.5 now"],
        ),
        ({"recipe": {"lr": 0.5, "ema": None}}, ["recipe.steps: [1, 2] there, none now"]),
        ({"last": True, "name": "x"}, ["last: none there, true now", "name: none there, x now"]),
        ({"spec": "a\n-> c"}, ["the network's text:\n    -a -> b\n    +a\n    +-> c"]),
        (
            {"spec": "\n".join("bcdefgh")},
            ["the network's text:" + "".join(f"\n    {each}" for each in (
                "-a -> b", "+b", "+c", "+d", "+e", "+f", "..."
            ))],
        ),
    ],
)  # fmt: skip
def test_settings_that_differ_are_listed(now: dict[str, Any], differences: list[str]) -> None:
    assert compare(BEFORE, {**BEFORE, **now}) == differences


def begun(path: Path) -> Path:
    """A directory with the record and a checkpoint of a run."""
    (path / "checkpoints" / "last").mkdir(parents=True)
    save_record({"format": 1, "settings": BEFORE}, path / "run.json")
    return path


def test_a_directory_is_opened_for_its_own_settings(tmp_path: Path) -> None:
    path = begun(tmp_path / "run")
    (path / ".weights.tmp").touch()  # of a process that was killed
    told: list[str] = []
    how = TrainingRequest("small.danet")
    with opened(path, BEFORE, how, told.append) as (directory, differences):
        assert directory.known == read_record(path / "run.json")
        assert differences == []
        assert not (path / ".weights.tmp").exists()
        other = subprocess.run(  # another process may not
            [sys.executable, "-c", "import sys, filelock; filelock.FileLock(sys.argv[1], 0).acquire()",
             str(path / ".lock")], capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert "Timeout" in other.stderr
    changed = {**BEFORE, "seed": 2}
    with pytest.raises(UserError) as error, opened(path, changed, how, told.append):
        pass
    assert "other settings:\n  seed: 1 there, 2 now\nchoose another directory" in str(error.value)
    with opened(path, changed, replace(how, override=True), told.append) as (
        directory,
        differences,
    ):
        assert directory.known is not None
        assert differences == ["seed: 1 there, 2 now"]
    for number in (1, 2):
        with opened(path, changed, replace(how, fresh=True), told.append) as (
            directory,
            differences,
        ):
            assert (directory.known, differences) == (None, [])
        moved = path.with_name(f"run.before-{number}")
        assert read_record(moved / "run.json")["settings"] == BEFORE
        assert told[number - 1] == f"the run in {path} is now in {moved}"
        assert list(path.glob("[!.]*")) == []
        begun(path)
    (path / "checkpoints" / "last").rmdir()  # nothing was trained: nothing to lose
    with opened(path, changed, how, told.append) as (directory, differences):
        assert (directory.known, differences) == (None, [])


def test_what_a_training_would_find(tmp_path: Path) -> None:
    assert state_of(tmp_path / "new", BEFORE) == "new"
    path = begun(tmp_path / "run")
    assert state_of(path, BEFORE) == "holds a run with these settings, which is resumed"
    assert state_of(path, {**BEFORE, "seed": 2, "spec": "b"}) == (
        "holds a run with other settings (seed: 1 there, 2 now; the network's text:\n    -a -> b"
        "\n    +b), so --override or --fresh is needed"
    )
    with pytest.raises(UserError, match="holds a single run; choose"):
        refuse_run(path)
    refuse_run(tmp_path / "new")
    (tmp_path / "trials").mkdir()
    (tmp_path / "trials" / "trials.json").touch()
    with pytest.raises(UserError, match=r"holds trials; choose one of .*/seed-\.\.\."):
        state_of(tmp_path / "trials", BEFORE)
    for record, message in (
        ({"format": 1}, "does not contain the settings of the run"),
        ({"settings": BEFORE}, "does not contain the settings of the run"),
        ({"format": 2, "settings": BEFORE}, "by a newer danetc, in format 2"),
    ):
        save_record(record, path / "run.json")
        with pytest.raises(UserError, match=message):
            state_of(path, BEFORE)


@pytest.mark.parametrize(
    ("now", "earlier"),
    [
        ({"torch": "1.0", "command": "b"}, []),
        ({"torch": "2.0", "command": "b"}, [{"torch": "1.0", "command": "a", "began": "then"}]),
    ],
)
def test_facts_of_before_are_kept_where_they_matter(
    tmp_path: Path, now: dict[str, str], earlier: list[dict[str, str]]
) -> None:
    facts = {"torch": "1.0", "command": "a", "began": "then"}
    known = {"facts": facts, "changes": [["seed: 1 there, 2 now"]], "earlier": [{"torch": "0.9"}]}
    RunDirectory(tmp_path, known).write_run(BEFORE, now, ["lr: 1 there, 2 now"])
    record = read_record(tmp_path / "run.json")
    assert record["changes"] == [["seed: 1 there, 2 now"], ["lr: 1 there, 2 now"]]
    assert (record["facts"], record["settings"]) == (now, BEFORE)
    found = [{key: value for key, value in each.items() if value} for each in record["earlier"]]
    assert found == [{"torch": "0.9"}, *earlier]
    RunDirectory(tmp_path, known).write_run(BEFORE, now, [])
    assert read_record(tmp_path / "run.json")["changes"] == known["changes"]


def test_checkpoints_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no checkpoint `best`; there are no checkpoints"):
        checkpoint_in(tmp_path, "best")
    for name in ("last", "best", ".new"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    with pytest.raises(UserError, match="has no checkpoint `first`; there are best, last"):
        checkpoint_in(tmp_path, "first")
    with pytest.raises(UserError, match="last"):
        checkpoint_in(tmp_path, "last")  # which is empty


def test_a_phase_starts_from_the_end_of_another(tmp_path: Path) -> None:
    """Its checkpoint has the moving average if there is one."""
    plan: Any = SimpleNamespace(places=lambda: [(0, tmp_path)])
    trial = Trial(plan, World(), StopRequest())
    own, average = ({"a": torch.tensor([number])} for number in (1.0, 2.0))
    for tensors, expected in (({"model": own}, own), ({"model": own, "ema": average}, average)):
        checkpoints = Checkpoints(tmp_path, print, print)
        checkpoints.write_later(Snapshot(Position(), tensors, {}), "phase-first")
        assert checkpoints.wait()
        assert trial._end_of("first", checkpoints) == expected


def test_notices_of_a_training_are_notes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without progress nothing is printed; with it, notes are shown, too."""

    def run(request: Any, *, observer: Any, note: Any, stop: Any) -> Any:
        note("a note")
        observer.on_notice("a notice")
        return tmp_path, {"epochs": [], "test_accuracy": None}

    monkeypatch.setattr("danetc.tasks.training.train.run", run)
    assert package.train("small.danet").notes == ("a note", "a notice")
    assert package.train("small.danet", progress=True).notes == ("a note",)
