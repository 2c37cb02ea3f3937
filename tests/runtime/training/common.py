"""Helpers of the training tests: a small network, a few digits, recipes as text."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor

import danetc
from danetc.dsl.diagnostics.diagnostic import Reporter
from danetc.dsl.loading import load_module
from danetc.dsl.recipe.resolve import resolve_recipe
from danetc.dsl.recipe.settings import Phase
from danetc.dsl.syntax.source import SourceFile
from danetc.runtime.data.dataset import DataSet, Memory
from danetc.runtime.data.registry import open_data
from danetc.runtime.training.distributed import World
from danetc.runtime.training.engine import PhaseRun, fit
from danetc.runtime.training.observer import Epoch, RunSettings, StepReport

STILL = """
use std
network small {
  input = image(1, 8, 8); steps = 2; neuron = LIF; surrogate = sigmoid(alpha = 4)
  stem   = conv(8) -> norm -> spike
  stages = stage(basic(8), 1) via sew
  head   = avgpool -> mean_over_time -> linear(10)
}
"""
"""A network that draws no random numbers, which processes do not share."""
RELU = STILL.replace("neuron = LIF", "neuron = ReLU")
BARE = STILL.replace("norm -> ", "").replace("via sew", "via bare") + (
    "connection bare { each = conv -> spike; projection = conv; out = branch + shortcut }"
)
"""Without norms the parts of a batch are independent, so only rounding differs."""
ADAM = "epochs = 3; batch = 50; optimizer = adamw(lr = 0.01)"
DEVICE = torch.device(os.environ.get("DANETC_TEST_DEVICE", "cpu"))
TIMES = ("seconds", "images_per_second", "shares")
"""The figures of an epoch that differ between runs."""


def phase(body: str) -> Phase:
    reporter = Reporter()
    module = load_module(SourceFile("test.danet", f"recipe test {{ {body} }}"), reporter)
    reporter.raise_if_errors()
    recipe = resolve_recipe(module.own["test"], {}, reporter, module)
    reporter.raise_if_errors()
    assert recipe is not None
    return recipe.phases[0]


def small() -> Any:
    return danetc.build(text=STILL, seed=1)


def digits(train: int = 200, test: int = 60) -> DataSet:
    data = open_data("digits")
    return replace(
        data,
        train=Memory(data.train.images[:train], data.train.labels[:train]),
        test=Memory(data.test.images[:test], data.test.labels[:test]),
    )


@pytest.fixture(scope="session")
def few() -> DataSet:
    """200 digits for training and 60 for testing."""
    return digits()


def told(observer: Any, name: str) -> list[Any]:
    """The arguments of a mock callback's calls under a name: reports of steps, epochs, notices."""
    return [call.args[0] for call in getattr(observer, f"on_{name}").call_args_list]


@dataclass(eq=False)
class Trained(PhaseRun):
    """A training run on DEVICE, with its reports and the weights that it saved."""

    observer: Any = field(default_factory=Mock)
    world: World = field(default_factory=lambda: World(DEVICE))
    saved: list[Mapping[str, Tensor]] = field(default_factory=list)

    @property
    def figures(self) -> list[dict[str, Any]]:
        """The figures of each epoch that are equal in all runs with the same settings."""
        return [{k: v for k, v in row.items() if k not in TIMES} for row in self.history]

    @property
    def reports(self) -> list[StepReport]:
        return told(self.observer, "step_end")

    @property
    def epochs(self) -> list[Epoch]:
        return told(self.observer, "epoch_end")


def run(model: Any, data: DataSet, chosen: Phase, seed: int = 3, **rest: Any) -> Trained:
    """Train a model. Fields of ``RunSettings`` in ``rest`` go there, all others go to ``PhaseRun``."""
    of_settings = {k: rest.pop(k) for k in list(rest) if k in RunSettings.__dataclass_fields__}
    resume = rest.pop("resume", None)
    trained = Trained(model, data, chosen, RunSettings(seed=seed, **of_settings), **rest)
    fit(trained, resume, lambda run: trained.saved.append(run.weights))
    return trained


def gradients(model: torch.nn.Module, loss: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    loss.backward(retain_graph=True)
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
