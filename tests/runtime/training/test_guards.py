"""What a training watches for, and what it says of it."""

from __future__ import annotations

import math
import os
import time
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import danetc
from danetc.compiler import check_text, graph_of
from danetc.compiler.emit.fx import emit
from danetc.runtime.data.dataset import DataSet
from danetc.runtime.layers.neuron import Neuron
from danetc.runtime.system.errors import TrainingError
from danetc.runtime.training.checkpoints import LAST, Checkpoints, Position
from danetc.runtime.training.guards import first_not_finite, is_out_of_memory, watching_firing
from danetc.runtime.training.observer import StepReport
from tests.fuzzing.compare import compiling
from tests.runtime.training.common import ADAM, NETWORK, RELU, Watcher, phase, run, small


def set_nan(model: nn.Module, name: str) -> None:
    with torch.no_grad():
        dict(model.named_parameters())[name].view(-1)[0] = math.nan


@pytest.mark.parametrize(
    "name", ["stem.conv.weight", "stages.0.blocks.0.branch.conv2.weight", "head.linear.bias"]
)
def test_the_layer_where_it_begins_is_named(few: DataSet, name: str) -> None:
    model, layer = danetc.build(text=RELU, seed=1), name.rpartition(".")[0]
    set_nan(model, name)
    where = rf"phase `train`, epoch 1, step 1, .* rate of 0.01; it begins in layer `{layer}` \(\S+:\d+\)"
    with pytest.raises(
        TrainingError, match=f"{where}, whose `{name}` is not finite; lower optimizer"
    ):
        run(model, few, phase(ADAM))


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
        found = first_not_finite(model, torch.randn(4, 2, 6, 6), nullcontext)
        assert found == (
            f"layer {place}" if place else "only the loss: every layer's output is finite"
        )
        assert not any("forward" in vars(module) for module in model.modules())
        assert model(torch.ones(4, 2, 6, 6)).shape == (2, 4, 3)


class SetNaN(Watcher):
    """Puts a NaN into a parameter after the 6th step, the 2nd of the second epoch."""

    def __init__(self, model: nn.Module, name: str) -> None:
        super().__init__()
        self.model, self.name = model, name

    def on_step_end(self, report: StepReport) -> None:
        if report.global_step == 6:
            set_nan(self.model, self.name)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        # A GPU computes the next step already when the watcher hears of one.
        ("head.linear.bias", "epoch 2, step [34].*layer `head.linear`"),
        # The loss stays finite: a potential that is not a number never reaches the threshold.
        (
            "stem.conv.weight",
            "`stem.conv.weight` is no longer finite after phase 1, epoch 3, step 0",
        ),
    ],
)
def test_the_last_good_checkpoint_is_named(
    few: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, says: str
) -> None:
    """Also where the disk is so slow that it is still being written when the loss breaks."""
    flush, model = os.fsync, small()
    monkeypatch.setattr(os, "fsync", lambda handle: (time.sleep(0.05), flush(handle))[1])
    checkpoints = Checkpoints(tmp_path, print, print)
    last = f".*the last good checkpoint is {tmp_path / LAST}"
    with pytest.raises(TrainingError, match=says + last):
        run(model, few, phase(ADAM), watcher=SetNaN(model, name), checkpoints=checkpoints)
    found = checkpoints.latest()
    assert found.position == Position(0, 1, 0)
    assert all(torch.isfinite(value).all() for value in found.tensors["model"].values())


# -- dead layers -----------------------------------------------------------------------------------


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
    text = f"use std neuron own {{ {body} }} " + (NETWORK % "mean_over_time ->").replace(
        "use std", ""
    )
    model = danetc.build(text=text.replace("= LIF", "= own"), seed=1).eval()
    given: dict[str, float] = {}
    for name, module in model.named_modules():
        if isinstance(module, Neuron) and unit is not None:
            module.register_forward_hook(
                lambda module, x, out, name=name: given.update(
                    {name: out.abs().mean().item() / unit}
                )
            )
    found: dict[str, list[float]] = {}
    with watching_firing(model, found), torch.no_grad():
        model(torch.randn(5, 1, 8, 8))
    assert {name: rate for name, (rate, _, _) in found.items()} == pytest.approx(given)
    assert (len(given) == 3 and 0 < given["stem.spike"] < 4) or unit is None


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


# -- memory ----------------------------------------------------------------------------------------


def test_out_of_memory_says_what_to_do(few: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
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
