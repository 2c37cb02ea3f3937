"""Callbacks that get the model and the optimizer: their effect on training, and their names in the record."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

import danetc
from danetc.runtime.model.weight_files import read_tensors
from danetc.runtime.system.files import read_record
from danetc.runtime.training import engine as running
from danetc.runtime.training.engine import fit
from danetc.runtime.training.observer import RunSettings
from tests.runtime.training.common import BARE, digits, phase

from .conftest import Run

FEW = "synthetic:size=8,channels=1,classes=10,count=100,test=20"
RECIPE = "recipe r { epochs = 3; batch = 25; optimizer = adamw(lr = 0.01) %s }"


@dataclass(eq=False)
class Thaw(danetc.Callback):
    """Train the stem after epoch ``first``. Stop at step ``stop``, or never if it is 0."""

    first: int
    stop: int = 0
    moved: list[int] = field(default_factory=list)
    known: list[int] = field(default_factory=list)

    def on_phase_start(self, plan: Any) -> None:
        self.state, self.stem = plan.optimizer.state, plan.model.get_submodule("stem")
        self.weight, self.before = self.stem.conv.weight, self.stem.conv.weight.detach().clone()
        self.on_epoch_end(plan)

    def on_step_end(self, report: Any) -> None:
        self.moved += [report.global_step] * (not torch.equal(self.weight, self.before))
        self.known += [report.global_step] * (self.weight in self.state)
        self.before = self.weight.detach().clone()
        if report.global_step == self.stop:
            raise danetc.StopTraining

    def on_epoch_end(self, epoch: Any) -> None:
        self.stem.requires_grad_(epoch.epoch >= self.first)


def trained(output: Path, *callbacks: danetc.Callback, more: str = "") -> Any:
    how: dict[str, Any] = {"data": FEW, "output": output, "backend": "eager"}
    return danetc.train(text=BARE + RECIPE % more, callbacks=callbacks, **how)


def same(folder: Path, *names: str) -> bool:
    one, two = (read_tensors(folder / name / "weights.safetensors") for name in names)
    return all(torch.equal(one[key], two[key]) for key in one)


def test_a_callback_freezes_as_the_recipe_does(tmp_path: Path) -> None:
    """The network has no norms, which a recipe puts into evaluation mode when it freezes them."""
    trained(tmp_path / "one", Thaw(first=9))
    trained(tmp_path / "two", more="; freeze = stem")
    assert same(tmp_path, "one", "two")


def test_it_thaws_at_an_epoch_also_if_it_is_resumed(tmp_path: Path) -> None:
    whole = Thaw(first=1)
    trained(tmp_path / "whole", whole)
    assert whole.moved == whole.known == list(range(5, 13))
    for stop in (6, 8, 0):
        done = trained(tmp_path / "parts", Thaw(1, stop))
        assert done.stopped == (stop > 0)
    assert same(tmp_path, "whole", "parts")


def test_the_record_names_them(danetc: Run, tmp_path: Path) -> None:
    told = "the list of callbacks is empty now and was Thaw"
    trained(tmp_path / "run", Thaw(first=2, stop=1))
    assert read_record(tmp_path / "run" / "run.json")["facts"]["callbacks"] == "Thaw"
    done = trained(tmp_path / "run")
    assert told in " ".join(done.notes)
    assert read_record(tmp_path / "run" / "run.json")["earlier"][0]["callbacks"] == "Thaw"
    trained(tmp_path / "other", Thaw(first=2))
    assert told in danetc.passes("train", "--from", "other", "-o", "again", "-q").err


@pytest.mark.parametrize("watched", [False, True])
def test_steps_are_reported_before_the_next(monkeypatch: pytest.MonkeyPatch, watched: bool) -> None:
    """The device queues steps, as a GPU does."""
    monkeypatch.setattr(running, "has_streams", lambda device: True)
    steps: list[tuple[int, int]] = []

    class Counts(danetc.Callback):
        def on_step_end(self, report: Any) -> None:
            steps.append((report.global_step, run.done))

    model = danetc.build(text=BARE, seed=1, backend="eager")
    chosen = phase("epochs = 1; batch = 50; optimizer = sgd(lr = 0.1)")
    run = running.PhaseRun(model, digits(), chosen, RunSettings(watched=watched), Counts())
    fit(run)
    assert [done - step for step, done in steps[:-1]] == [0 if watched else 1] * 3
