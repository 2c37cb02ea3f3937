"""`danetc convert`: against SpikingJelly's converter, against rates, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from spikingjelly.activation_based import ann2snn, functional
from torch import Tensor, nn

import danetc as package
from danetc.errors import UserError
from danetc.requests import ConversionRequest
from danetc.runtime.data.registry import open_data
from danetc.tasks.converting import LEAST, convert, thresholds_of
from danetc.tasks.model_directory import write_model_directory
from danetc.tasks.networks import compile_spec, emit_model

from .conftest import Run

ANN = """\
use std

network ann {
  input = image(1, 8, 8); steps = 1; neuron = ReLU
  stem = conv(6) -> norm -> spike
  stages = stage(basic(6), 1) via origin
  head = avgpool -> mean_over_time -> linear(10)
}
"""
STEPS = 12


def images_of(split: str, count: int) -> Tensor:
    data = open_data("digits").split(split)  # type: ignore[arg-type]
    return torch.stack([data[index][0] for index in range(count)])


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A directory of ANN: its norms have seen digits, and outputs vary."""
    torch.manual_seed(0)
    compiled = compile_spec(text=ANN)
    model = emit_model(compiled.graph, 1, "eager").train()
    for norm in (each for each in model.modules() if isinstance(each, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.uniform_(norm.bias, -0.3, 0.6)
    for _ in range(30):
        model(images_of("train", 128))
    assert model.eval()(images_of("test", 64)).std(0).max() > 0.01
    write_model_directory(tmp_path / "ann", compiled, model, seed=1, note=lambda text: None)
    return tmp_path / "ann"


class Plain(nn.Module):
    """ANN as a module of PyTorch."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 6, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.conv1 = nn.Conv2d(6, 6, 3, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 6, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(6)
        self.relu, self.relu1, self.relu2 = nn.ReLU(), nn.ReLU(), nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(6, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.norm(self.conv(x)))
        y = self.norm2(self.conv2(self.relu1(self.norm1(self.conv1(x)))))
        return self.linear(self.pool(self.relu2(y + x)).flatten(1))


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("mode", "percentile", "channels"),
    [("Max", 100.0, False), ("99.9%", 99.9, False), ("Max", 100.0, True)],
)
def test_the_conversion_equals_spikingjellys(
    trained: Path, tmp_path: Path, mode: str, percentile: float, channels: bool
) -> None:
    """The same weights, thresholds and, at every T, outputs (in float64). SpikingJelly folds norms,
    which rounds otherwise: a sample in 32 may have a spike more."""
    train, test = images_of("train", 96).double(), images_of("test", 32).double()
    compiled = compile_spec(text=ANN)
    model = package.load(trained, backend="eager").double().eval()
    plain = Plain().double()
    ours = [value for key, value in model.state_dict().items()]
    plain.load_state_dict(dict(zip(plain.state_dict(), ours, strict=True)))
    plain.eval()
    assert torch.allclose(plain(test), model(test), atol=1e-12)

    how = ConversionRequest("", steps=STEPS, percentile=percentile, channels=channels)
    thresholds = thresholds_of(model, compiled.graph, iter([train]), how)
    convert(trained, tmp_path / "snn", data="digits", steps=STEPS, channels=channels, batches=1)
    spiking = package.load(tmp_path / "snn", backend="eager").double().eval()
    state = spiking.state_dict()
    for path, value in thresholds.items():
        assert state[f"{path}.theta"].shape == value.shape
    spiking.load_state_dict(state | {f"{path}.theta": t for path, t in thresholds.items()})

    loader = [(train, torch.zeros(len(train)))]
    recipe = ann2snn.RateCodingRecipe(loader, mode=mode, channel_wise=channels)
    theirs = ann2snn.Converter(recipe).convert(plain)
    functional.reset_net(theirs)
    states: Any = None
    sums = [torch.zeros(32, 10).double(), torch.zeros(32, 10).double()]
    equal = []
    with torch.no_grad():
        for _ in range(STEPS):
            found, states = spiking.stream(test, states)
            sums[0] += found
            sums[1] += theirs(test)
            equal.append((sums[0] - sums[1]).abs().amax(1) < 1e-6)
    assert sums[0].std(0).max() > 0.01
    assert sum(int(each.sum()) for each in equal) >= STEPS * 31
    assert torch.allclose(spiking(test), sums[0] / STEPS, atol=1e-9)


def test_spike_rate_is_the_clamped_activation(trained: Path, tmp_path: Path) -> None:
    """Of the first layer, whose input is constant: to one spike's share in T."""
    found = convert(trained, tmp_path / "snn", data="digits", steps=STEPS, percentile=90)
    (theta,) = found.thresholds["stem.spike"]
    assert list(found.frame()["top1"]) == [at.top1 for at in found.over_time]
    spiking, relu = found.figure().axes[0].lines
    assert list(spiking.get_ydata()) == [100 * (at.top1 or 0.0) for at in found.over_time]
    assert set(relu.get_ydata()) == {100 * (found.ann.top1 or 0.0)}
    assert repr(found).endswith(
        f"on digits: ReLU {found.ann.text}, T = 12: {found.over_time[-1].text}>"
    )
    ann, spiking = (package.load(p, backend="eager").eval() for p in (trained, tmp_path / "snn"))
    seen: dict[str, Tensor] = {}
    for name, model in (("ann", ann), ("snn", spiking)):
        layer = model.get_submodule("stem.spike")
        layer.register_forward_hook(lambda m, x, y, name=name: seen.update({name: y}))
        model(images_of("test", 16))
    activation = seen["ann"].reshape(16, 6, 8, 8).clamp(max=theta)
    rate = seen["snn"].reshape(STEPS, 16, 6, 8, 8).mean(0)
    assert set((seen["snn"] / theta).unique().tolist()) == {0.0, 1.0}
    assert (rate - activation).abs().max() <= theta / STEPS + 1e-5
    assert (activation == theta).any()


def test_a_silent_channel_stays_silent(trained: Path) -> None:
    model = package.load(trained, backend="eager").eval()
    with torch.no_grad():
        model.get_submodule("stem.norm").bias[0] = -100.0
    how = ConversionRequest("", channels=True)
    graph = compile_spec(text=ANN).graph
    found = thresholds_of(model, graph, iter([images_of("train", 32)]), how)
    assert float(found["stem.spike"][0]) == pytest.approx(LEAST)
    assert (found["stem.spike"][1:] > 0.01).all()
    assert found["stem.spike"].shape == (6, 1, 1)


@pytest.mark.thorough
@pytest.mark.usefixtures("all_digits")
def test_the_command_writes_a_directory_that_others_take(danetc: Run, tmp_path: Path) -> None:
    run = "pretrained:ann_c_small_digits"
    command = ["convert", run, "--steps", "6", "--batches", "1", "-o", "snn"]
    found = json.loads(danetc(*command, "--json", "--figure", "t.svg").out)
    assert (tmp_path / "t.svg").stat().st_size > 1000
    stated = json.loads(danetc("eval", run, "--json").out)["evaluated"][0]["results"][0]
    assert found["ann"]["top1"] == stated["top1"]
    assert [at["steps"] for at in found["over_time"]] == [1, 2, 3, 4, 5, 6]
    record = json.loads((tmp_path / "snn" / "conversion.json").read_text())
    assert {key: record[key] for key in found if key != "directory"} == {
        key: value for key, value in found.items() if key != "directory"
    }
    how = {"steps": 6, "percentile": 99.9, "channels": False, "batches": 1, "batch": 64}
    assert (found["source"], found["data"]) == (run, "digits")
    assert {key: record[key] for key in how} == how
    (again,) = json.loads(danetc("eval", "snn", "--json").out)["evaluated"]
    assert (again["data"], again["unlike_training"]) == ("digits", [])
    (at,) = again["results"]
    assert (at["steps"], at["images"]) == (6, 360)
    assert at["top1"] == pytest.approx(found["over_time"][-1]["top1"], abs=1.01 / 360)
    assert (
        danetc(
            "measure", "snn", "--data", "digits", "--only", "firing-rate", "--batches", "1"
        ).status
        == 0
    )
    assert danetc("report", "snn", "-o", "page.html").status == 0
    assert danetc("export", "snn", "-o", "snn.safetensors").status == 0
    table = danetc(*command).out
    assert "ReLU  98.06%" in table
    assert "written to snn" in table
    weights = tmp_path / "snn" / "weights.safetensors"
    danetc("convert", run, "--steps", "2", "--batches", "2", "-o", "other")
    weights.write_bytes((tmp_path / "other" / "weights.safetensors").read_bytes())
    danetc.fails("convert again", "eval", "snn")


SPIKING = ANN.replace("neuron = ReLU", "neuron = IF\n  surrogate = atan")
REFUSED = {
    "a spiking neuron": (SPIKING, "`stem.spike` is a neuron `IF`"),
    "an operation relu": (ANN.replace("norm -> spike", "norm -> relu"), "`stem.relu` is the operation"),
    "another activation": (ANN.replace("-> spike\n", "-> spike -> sigmoid\n"), "`stem.sigmoid` (sigmoid) is not linear"),
    "a neuron by its name": (ANN.replace("-> spike\n", "-> ReLU\n"), "`stem.spike` names its neuron"),
    "another norm": (ANN.replace("norm -> spike", "layernorm -> spike"), "`stem.norm` (layernorm) is not linear"),
    "frames": (ANN.replace("image(1", "events(1"), "`input` takes frames"),
    "a neuron behind the mean": (
        ANN.replace("-> linear(10)", "-> linear(8) -> spike -> linear(10)"), "put mean_over_time right before"
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_converted_is_refused_by_its_path(tmp_path: Path, what: str) -> None:
    text, message = REFUSED[what]
    compiled = compile_spec(text=text)
    model = emit_model(compiled.graph, 0, "eager")
    write_model_directory(tmp_path / "net", compiled, model, seed=0, note=lambda text: None)
    with pytest.raises(UserError) as caught:
        convert(tmp_path / "net", tmp_path / "snn", data="digits")
    assert message in str(caught.value)
    assert not (tmp_path / "snn").exists()


def test_a_network_is_not_written_over_itself(trained: Path) -> None:
    with pytest.raises(UserError, match="would be replaced"):
        convert(trained, trained, data="digits")
