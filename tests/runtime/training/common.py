"""What the tests of training share: a small network, few digits, recipes as text."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import danetc
from danetc.dsl.diagnostics.diagnostic import Reporter
from danetc.dsl.loading import load_module
from danetc.dsl.recipe.resolve import resolve_recipe
from danetc.dsl.recipe.settings import Phase, Recipe
from danetc.dsl.syntax.source import SourceFile
from danetc.runtime.data.dataset import DataSet, Memory
from danetc.runtime.data.registry import open_data
from danetc.runtime.training.distributed import World
from danetc.runtime.training.engine import PhaseRun, fit
from danetc.runtime.training.observer import Callback, Epoch, PhasePlan, RunSettings, StepReport

NETWORK = """
use std
network small {
  input = image(1, 8, 8); steps = 2; neuron = LIF; surrogate = sigmoid(alpha = 4)
  stem   = conv(8) -> norm -> spike
  stages = stage(basic(8), 1) via sew
  head   = avgpool -> %s linear(10)
}
"""
STILL = NETWORK % "mean_over_time ->"
"""Draws no random numbers, which processes do not share."""
RELU = STILL.replace("neuron = LIF", "neuron = ReLU")
BARE = STILL.replace("norm -> ", "").replace("via sew", "via bare") + (
    "connection bare { each = conv -> spike; projection = conv; out = branch + shortcut }"
)
"""Without a norm the parts of a batch do not see each other, so only rounding differs."""
ADAM = "epochs = 3; batch = 50; optimizer = adamw(lr = 0.01)"
DEVICE = torch.device(os.environ.get("DANETC_TEST_DEVICE", "cpu"))
TIMES = ("seconds", "images_per_second", "shares")
"""The figures of an epoch that are not the same in every run."""


def recipe(body: str, **overrides: Any) -> Recipe:
    reporter = Reporter()
    module = load_module(SourceFile("test.danet", f"recipe test {{ {body} }}"), reporter)
    reporter.raise_if_errors()
    found = resolve_recipe(module.own["test"], overrides, reporter, module)
    reporter.raise_if_errors()
    assert found is not None
    return found


def phase(body: str) -> Phase:
    return recipe(body).phases[0]


def small(time: str = "mean_over_time ->") -> Any:
    return danetc.build(text=NETWORK % time, seed=1)


def digits(train: int = 200, test: int = 60) -> DataSet:
    """Some of the digits."""
    data = open_data("digits")
    return replace(
        data,
        train=Memory(data.train.images[:train], data.train.labels[:train]),
        test=Memory(data.test.images[:test], data.test.labels[:test]),
    )


@pytest.fixture(scope="session")
def few() -> DataSet:
    """200 of the digits to train on, 60 to test."""
    return digits()


class Watcher(Callback):
    """Notes all that it is told."""

    def __init__(self) -> None:
        self.plans: list[PhasePlan] = []
        self.steps: list[StepReport] = []
        self.epochs: list[Epoch] = []
        self.notices: list[str] = []
        self.kinds: list[str] = []
        self.ended = 0

    def on_phase_start(self, plan: PhasePlan) -> None:
        self.plans.append(plan)

    def on_step_end(self, report: StepReport) -> None:
        self.steps.append(report)

    def on_epoch_end(self, epoch: Epoch) -> None:
        self.epochs.append(epoch)

    def on_notice(self, text: str) -> None:
        self.notices.append(text)

    def on_checkpoint(self, path: Path) -> None:
        self.kinds.append(path.name)

    def on_phase_end(self) -> None:
        self.ended += 1


@dataclass
class Trained:
    """What a training has left behind."""

    history: list[dict[str, Any]]
    model: torch.nn.Module
    weights: Mapping[str, Tensor]
    watcher: Watcher
    saved: list[Mapping[str, Tensor]] = field(default_factory=list)

    @property
    def figures(self) -> list[dict[str, Any]]:
        """Those of each epoch that every run of the same settings has."""
        return [{k: v for k, v in row.items() if k not in TIMES} for row in self.history]


def run(
    model: Any,
    data: DataSet,
    chosen: Phase,
    seed: int = 3,
    watcher: Watcher | None = None,
    **rest: Any,
) -> Trained:
    """Train on DEVICE. ``rest`` goes to ``RunSettings`` where it is one of them, else to ``PhaseRun``."""
    of_settings = {k: rest.pop(k) for k in list(rest) if k in RunSettings.__dataclass_fields__}
    watcher = watcher or Watcher()
    saved: list[Mapping[str, Tensor]] = []
    resume, settings = rest.pop("resume", None), RunSettings(seed=seed, **of_settings)
    phase_run = PhaseRun(model, data, chosen, settings, watcher, World(DEVICE), **rest)
    fit(phase_run, resume, lambda run: saved.append(run.weights))
    return Trained(phase_run.history, phase_run.kept, phase_run.weights, watcher, saved)
