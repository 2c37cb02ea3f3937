"""What a training watches for, and what it says of it."""

from __future__ import annotations

import math
import os
import re
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import danetc
from danetc.compiler import check_text, graph_of
from danetc.compiler.emit.fx import emit
from danetc.runtime.data import DataSet, Memory
from danetc.runtime.layers.neuron import Neuron
from danetc.runtime.system.errors import TrainingError
from danetc.runtime.training.checkpoints import LAST, Checkpoints, Position
from danetc.runtime.training.distributed import alone
from danetc.runtime.training.engine import fit
from danetc.runtime.training.guards import FiringProbe, first_not_finite, is_out_of_memory
from danetc.runtime.training.observer import StepReport
from danetc.runtime.training.settings import RunSettings
from tests.fuzzing.compare import compiling
from tests.runtime.training.common import ADAM, NETWORK, Watcher, phase, run, small

RELU = (NETWORK % "mean_over_time ->").replace("neuron = LIF", "neuron = ReLU")


def set_nan(model: nn.Module, name: str) -> None:
    with torch.no_grad():
        dict(model.named_parameters())[name].view(-1)[0] = math.nan


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("stem.conv.weight", "stem.conv"),
        ("stages.0.blocks.0.branch.conv2.weight", "stages.0.blocks.0.branch.conv2"),
        ("head.linear.bias", "head.linear"),
    ],
)
def test_the_layer_where_it_begins_is_named(few: DataSet, name: str, layer: str) -> None:
    model = danetc.build(text=RELU, seed=1)
    set_nan(model, name)
    with pytest.raises(TrainingError) as caught:
        run(model, few, phase(ADAM))
    message = str(caught.value)
    assert "phase `train`, epoch 1, step 1, at a learning rate of 0.01" in message
    assert re.search(
        rf"begins in layer `{layer}` \(\S+:\d+\), whose `{name}` is not finite", message
    )
    assert "lower optimizer.lr" in message


@pytest.mark.parametrize("backend", ["eager", "fused"])
@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("train = in -> conv(4) -> norm -> spike", ""),
        ("train = sqrt(0 * in - 1) -> norm", "`train.sqrt` (n.danet:7)"),
        ("train = 1e15 * in * in / (0 * in)", "`train.div` (n.danet:7)"),
        ("train = in -> conv(4) -> diverges", "`train.spike` (n.danet:7)"),
        ("train = (in + (train -> delay(1))) -> diverges", "`train.spike` (n.danet:7)"),
    ],
)
def test_an_operation_is_named_by_its_line(backend: str, line: str, place: str) -> None:
    text = (
        "use std\nneuron diverges { state u = 0.0\n  u = u + log(0 * x - 1); s = u }\n"
        "network n {\n  input = image(2, 6, 6); steps = 2; neuron = IF; surrogate = atan\n"
        f"\n  {line}\n  out = train -> conv(3) -> norm -> spike -> avgpool -> linear(3)\n}}\n"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = emit(graph_of(check_text(text, "n.danet")), backend=backend)
    with compiling(False):
        found = first_not_finite(model, torch.randn(4, 2, 6, 6), model)
        assert found == (
            f"layer {place}" if place else "the loss alone: every layer's output is finite"
        )
        assert model(torch.ones(4, 2, 6, 6)).shape == (2, 4, 3)


def test_an_image_that_is_not_finite_is_told_apart(few: DataSet) -> None:
    assert isinstance(few.train, Memory)
    images = few.train.images.float().clone()
    images[7] = math.inf
    data = replace(few, train=Memory(images, few.train.labels))
    with pytest.raises(TrainingError, match="begins in the input itself"):
        run(danetc.build(text=RELU, seed=1), data, phase(ADAM))


class SetNaN(Watcher):
    """Puts a NaN into a parameter after a step."""

    def __init__(self, model: nn.Module, name: str, step: int) -> None:
        super().__init__()
        self.model, self.name, self.step_ = model, name, step

    def on_step_end(self, report: StepReport) -> None:
        if report.global_step == self.step_:
            set_nan(self.model, self.name)


def error_after_nan(few: DataSet, name: str, checkpoints: Checkpoints, **settings: Any) -> str:
    """The error of a training with a NaN after its 6th step, the 2nd of its second epoch."""
    model = small()
    with pytest.raises(TrainingError) as caught:
        fit(
            model,
            few,
            phase(ADAM),
            RunSettings(**settings),
            observer=SetNaN(model, name, 6),
            world=alone(torch.device("cpu")),
            checkpoints=checkpoints,
        )
    return str(caught.value)


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path, lambda text: None, lambda path: None)


def test_the_last_good_checkpoint_is_named(
    few: DataSet, checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the disk is so slow that it is still being written when the loss breaks."""
    flush = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (time.sleep(0.2), flush(handle))[1])
    message = error_after_nan(few, "head.linear.bias", checkpoints)
    assert "epoch 2, step 3" in message
    assert "layer `head.linear`" in message
    found = checkpoints.latest()
    assert found is not None
    assert found.position == Position(0, 1, 0)
    assert f"the last good checkpoint is {checkpoints.folder / LAST}" in message
    assert all(torch.isfinite(value).all() for value in found.tensors["model"].values())


def test_what_a_spike_hides_is_found_before_it_is_saved(
    few: DataSet, checkpoints: Checkpoints
) -> None:
    """The loss stays finite: a potential that is not a number never reaches the threshold."""
    message = error_after_nan(few, "stem.conv.weight", checkpoints)
    assert "`stem.conv.weight` is no longer finite after phase 1, epoch 3, step 0" in message
    found = checkpoints.latest()
    assert found is not None
    assert found.position == Position(0, 1, 0)


# -- dead layers -----------------------------------------------------------------------------------


def test_firing_rates_are_means_of_spikes() -> None:
    model = small().eval()
    probe = FiringProbe(model)
    spikes: dict[str, torch.Tensor] = {}
    for name, module in model.named_modules():
        if isinstance(module, Neuron):
            module.register_forward_hook(
                lambda module, inputs, output, name=name: spikes.__setitem__(name, output)
            )
    with probe.watching(), torch.no_grad():
        model(torch.rand(5, 1, 8, 8))
    rates = probe.rates()
    assert rates.keys() == spikes.keys()
    assert len(rates) == 3
    for name, value in spikes.items():
        assert rates[name] == pytest.approx(value.mean().item())


@pytest.mark.parametrize(
    ("body", "unit"),
    [
        ("state u = 0; v = u + x; s = round(min(max(4 * v, 0), 4)) / 4; u = v - s", 0.25),
        ("state u = 0; v = u + x; s = heaviside(v - 0.1) - heaviside(-v - 0.1); u = v - s", 1.0),
        ("state u = 0; u = 0.5 * u + x; s = u", None),
        ("s = max(x, 0)", None),
    ],
)
def test_a_firing_rate_counts_units_of_either_sign(body: str, unit: float | None) -> None:
    """Neither neurons that give real numbers nor activation functions have one."""
    model = emit(
        graph_of(
            check_text(
                f"""use std
                neuron own {{ {body} }}
                network n {{
                  input = image(1, 8, 8); steps = 2; neuron = own; surrogate = atan
                  out = in -> conv(4) -> norm -> spike -> avgpool -> linear(3)
                }}"""
            )
        )
    )
    given: list[torch.Tensor] = []
    (neuron,) = (module for module in model.modules() if isinstance(module, Neuron))
    neuron.register_forward_hook(lambda module, inputs, output: given.append(output))
    probe = FiringProbe(model)
    with probe.watching(), torch.no_grad():
        model(torch.randn(5, 1, 8, 8))
    expected = [] if unit is None else [given[0].abs().mean().item() / unit]
    assert list(probe.rates().values()) == pytest.approx(expected)
    assert unit is None or 0 < expected[0] < 4


@pytest.mark.parametrize(("bias", "rate"), [(-100.0, 0), (100.0, 1)])
def test_dead_layers_are_named(few: DataSet, bias: float, rate: int) -> None:
    model = small()
    norm = next(m for m in model.modules() if isinstance(m, nn.BatchNorm2d))
    with torch.no_grad():
        norm.weight.zero_()
        norm.bias.fill_(bias)
    done = run(model, few, phase("epochs = 1; batch = 50; optimizer = sgd(lr = 1e-9)"))
    (epoch,) = done.watcher.epochs
    assert epoch.firing["stem.spike"] == rate
    (warning,) = [text for text in epoch.warnings if f"rate of {rate}" in text]
    assert "stem.spike" in warning


def test_layers_that_fire_are_not_warned_of(few: DataSet) -> None:
    done = run(small(), few, phase("epochs = 4; batch = 50; optimizer = adamw(lr = 0.02)"))
    epoch = done.watcher.epochs[-1]
    alive = [name for name, rate in epoch.firing.items() if 0 < rate < 1]
    assert alive
    assert not any(name in warning for name in alive for warning in epoch.warnings)


# -- memory ----------------------------------------------------------------------------------------


def test_a_lack_of_memory_says_what_to_change(
    few: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small()

    def greedy(*args: Any) -> torch.Tensor:
        return torch.empty(2**50)

    monkeypatch.setattr(model.stem, "forward", greedy)
    with pytest.raises(TrainingError) as caught:
        run(model, few, phase(ADAM))
    message = str(caught.value)
    for advice in (
        "50 images at a time",
        "--set recipe.train.accumulate=2",
        "--memory recompute",
        "--set recipe.train.precision=bf16",
        "--set recipe.train.batch=25",
    ):
        assert advice in message
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_out_of_memory(RuntimeError("shapes differ"))
