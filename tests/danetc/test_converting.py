"""`danetc convert`: comparison with SpikingJelly's converter and SRP's code, activations, and errors."""

import math
import shutil
from collections.abc import Sequence
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
from danetc.runtime.system.files import read_record
from danetc.tasks.converting import LEAST, _heights, convert, height_of, thresholds_of
from danetc.tasks.model_directory import model_files, write_model_directory
from danetc.tasks.networks import compile_spec, emit_model
from tests.written import save_tensors

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


def write(text: str, place: Path) -> nn.Module:
    """Write an untrained network to a directory, and return it."""
    compiled = compile_spec(text=text)
    model = emit_model(compiled.graph, seed=1)
    write_model_directory(place, model_files(compiled, seed=1, note=lambda text: None), model)
    return model


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of ANN, whose norms have seen digits and whose outputs vary."""
    place = tmp_path_factory.mktemp("trained") / "ann"
    model = write(ANN, place)
    torch.manual_seed(0)
    for norm in (each for each in model.modules() if isinstance(each, nn.BatchNorm2d)):
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.uniform_(norm.bias, -0.3, 0.6)
    for _ in range(30):
        model.train()(images_of("train", 128))
    assert model.eval()(images_of("test", 64)).std(0).max() > 0.01
    save_tensors(model.state_dict(), place / "weights.safetensors")
    return place


def loaded(place: Path) -> Any:
    return package.load(place, backend="eager").double().eval()


def thresholds(model: nn.Module, images: Tensor, **how: Any) -> dict[str, Tensor]:
    graph, request = compile_spec(text=ANN).graph, ConversionRequest("", **how)
    return dict(thresholds_of(model, graph, iter([images]), _heights(graph, model), request))


def converted(ann: Path, place: Path, thetas: dict[str, Tensor], **how: Any) -> Any:
    convert(ann, place, data="digits", batches=1, **how)
    model = loaded(place)
    state = model.state_dict()
    for path, value in thetas.items():
        assert state[f"{path}.theta"].shape == value.shape
    model.load_state_dict(state | {f"{path}.theta": value for path, value in thetas.items()})
    return model


def outputs_of(model: nn.Module, layer: str, x: Tensor) -> Tensor:
    """Return the output of a layer for images, as [T, N, C, H, W]."""
    seen: list[Tensor] = []
    model.get_submodule(layer).register_forward_hook(lambda module, given, y: seen.append(y))
    with torch.no_grad():
        model(x)
    return seen[0].reshape(-1, len(x), *seen[0].shape[-3:])


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6))
            for width in (1, 6, 6)
        )
        self.relus = nn.ModuleList(nn.ReLU() for _ in range(3))
        self.pool, self.linear = nn.AdaptiveAvgPool2d(1), nn.Linear(6, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relus[0](self.layers[0](x))
        y = self.layers[2](self.relus[1](self.layers[1](x)))
        return self.linear(self.pool(self.relus[2](y + x)).flatten(1))


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("percentile", "channels", "half"),
    [(100, False, False), (99.9, False, False), (100, True, False), (99, True, True)],
)
def test_the_conversion_equals_spikingjellys(
    trained: Path, tmp_path: Path, percentile: float, channels: bool, half: bool
) -> None:
    """Weights, thresholds and, at every T, outputs are equal in float64. SpikingJelly folds norms,
    which rounds differently: one sample in 32 may have an extra spike."""
    train, test = images_of("train", 96).double(), images_of("test", 32).double()
    model, plain = loaded(trained), Plain().double().eval()
    plain.load_state_dict(dict(zip(plain.state_dict(), model.state_dict().values(), strict=True)))
    assert torch.allclose(plain(test), model(test), atol=1e-12)
    how: Any = {"steps": STEPS, "channels": channels}
    thetas = thresholds(model, train, percentile=percentile, **how)
    spiking = converted(trained, tmp_path / "snn", thetas, half=half, **how)
    loader = [(train, torch.zeros(len(train)))]
    mode = "Max" if percentile == 100 else f"{percentile}%"
    recipe = ann2snn.RateCodingRecipe(loader, mode=mode, channel_wise=channels, half_threshold=half)
    theirs = ann2snn.Converter(recipe).convert(plain)
    functional.reset_net(theirs)
    states: Any = None
    sums = [torch.zeros(32, 10).double(), torch.zeros(32, 10).double()]
    equal = 0
    with torch.no_grad():
        for _ in range(STEPS):
            found, states = spiking.stream(test, states)
            sums[0] += found
            sums[1] += theirs(test)
            equal += int(((sums[0] - sums[1]).abs().amax(1) < 1e-6).sum())
    assert sums[0].std(0).max() > 0.01
    assert equal >= STEPS * 31
    assert torch.allclose(spiking(test), sums[0] / STEPS, atol=1e-9)


def test_spike_rate_is_the_clamped_activation(trained: Path, tmp_path: Path) -> None:
    """In the first layer, whose input is constant, they differ by at most half a spike in T steps."""
    options: Any = {"data": "digits", "percentile": 90, "channels": False}
    found = convert(trained, tmp_path / "snn", steps=STEPS, **options)
    (theta,) = found.thresholds["stem.spike"]
    assert list(found.frame()["top1"]) == [at.top1 for at in found.over_time]
    spiking, relu = found.figure().axes[0].lines
    assert list(spiking.get_ydata()) == [100 * (at.top1 or 0.0) for at in found.over_time]
    assert set(relu.get_ydata()) == {100 * (found.ann.top1 or 0.0)}
    last = found.over_time[-1].text
    assert repr(found).endswith(f"on digits: ANN {found.ann.text}, T = 12: {last}>")
    ann, snn = (package.load(each, backend="eager").eval() for each in (trained, tmp_path / "snn"))
    activation = outputs_of(ann, "stem.spike", images_of("test", 16))[0].clamp(max=theta)
    spikes = outputs_of(snn, "stem.spike", images_of("test", 16))
    assert len(spikes) == STEPS
    assert set((spikes / theta).unique().tolist()) == {0.0, 1.0}
    rate = spikes.mean(0)
    assert (rate - activation).abs().max() <= theta / STEPS / 2 + 1e-5
    assert (activation == theta).any()


def test_a_silent_channel_stays_silent(trained: Path) -> None:
    model = loaded(trained)
    with torch.no_grad():
        model.get_submodule("stem.norm").bias[0] = -100.0
    found = thresholds(model, images_of("train", 32).double(), channels=True)["stem.spike"]
    assert float(found[0]) == pytest.approx(LEAST)
    assert (found[1:] > 0.01).all()
    assert found.shape == (6, 1, 1)


QCFS = """
neuron QCFS(levels = 4, height = 0.875) {
  h = learn(height)
  s = h * round(min(max(x / h * levels, -0.5), levels + 0.5)) / levels
}
"""
TWO_LAYERS = f"""use std
{QCFS}
network ann {{
  input = image(1, 8, 8); steps = 1; neuron = QCFS
  stem = conv(4, bias = true) -> spike -> conv(4, bias = true) -> spike
  head = avgpool -> linear(3)
}}
"""
THREE = "synthetic:size=8,channels=1,classes=3,count=60,test=30"


def test_the_mean_converges_to_the_outputs_of_the_ann(trained: Path, tmp_path: Path) -> None:
    """In float64, with thresholds that no activation exceeds, the error falls as 1 / T."""
    x, ann = images_of("test", 16).double(), loaded(trained)
    thetas = thresholds(ann, x, percentile=100)
    errors = []
    for steps in (8, 256):
        model = converted(trained, tmp_path / str(steps), thetas, steps=steps)
        errors.append(float((model(x) - ann(x)).detach().abs().max()))
    assert errors[1] < 0.01 * ann(x).std()
    assert errors[1] < errors[0] / 16


def test_qcfs_is_exact_in_the_first_layer_at_its_number_of_levels(tmp_path: Path) -> None:
    write(TWO_LAYERS.replace("levels = 4", "levels = 6"), tmp_path / "ann")
    convert(tmp_path / "ann", tmp_path / "snn", data=THREE, steps=6)
    seen = []
    for name in ("ann", "snn"):
        model = loaded(tmp_path / name)
        with torch.no_grad():
            model.get_submodule("stem.conv1").weight.mul_(4)
        seen.append(outputs_of(model, "stem.spike1", images_of("test", 16).double()))
    assert torch.equal((seen[0] / 0.875 * 6).round(), (seen[1].sum(0, True) / 0.875).round())
    assert len(seen[0].round(decimals=6).unique()) == 7


SRP = {
    1: [[0.5272958359, 0.5739191557, 0.1115009747], [0.5257208695, 0.5707764563, 0.1068047537]],
    2: [[0.5278868382, 0.5752955813, 0.1136565993], [0.5270995499, 0.5739216584, 0.1117022548]],
    4: [[0.5281328918, 0.5756388324, 0.1140954957], [0.5283303126, 0.5765253968, 0.1156671946]],
    8: [[0.5281699478, 0.5758728631, 0.1145254428], [0.5281210712, 0.5760709157, 0.1149695289]],
}
"""Means of the outputs of hzc1208/ANN2SNN_SRP@c31b44c after k steps: conv(1, 4), MPLayer(0.875, 4, 8), conv(4, 4),
MPLayer(0.625, 4, 8), the mean of maps and linear(4, 3) in float64, all filled as below."""


def filled(shape: Sequence[int], k: float) -> Tensor:
    count = torch.arange(torch.Size(shape).numel(), dtype=torch.float64)
    return torch.sin(count * k + k).reshape(tuple(shape))


def test_srp_equals_its_authors_code(tmp_path: Path) -> None:
    """A model with 4 + k steps returns the mean of the last k."""
    write(TWO_LAYERS, tmp_path / "ann")
    x = filled((2, 1, 8, 8), 1.7).abs()
    for k, outputs in SRP.items():
        found = convert(tmp_path / "ann", tmp_path / "snn", data=THREE, steps=4 + k, srp=4)
        assert [at.steps for at in found.over_time] == [4 + n for n in range(1, k + 1)]
        model = loaded(tmp_path / "snn")
        layers = [model.get_submodule(path) for path in ("stem.conv1", "stem.conv2", "head.linear")]
        values = [p for layer in layers for p in (layer.weight, layer.bias)]
        with torch.no_grad():
            for j, value in enumerate(values):
                value.copy_(filled(value.shape, 2.3 + j) * 0.6)
            model.get_submodule("stem.spike2").theta.fill_(0.625)
            assert torch.allclose(model(x).mean(0), torch.tensor(outputs).double(), atol=1e-9)


ACTIVATIONS = {
    "max(x, 0)": math.inf,
    "min(max(x, 0), 6)": math.inf,
    "0.5 * x + 0.5 * abs(x)": math.inf,
    "2 * min(round(max(x / 2 * 3, 0)), 3) / 3": 2.0,
    "min(max(round(x), 0), 1)": 1.0,
    "2 * min(round(max(x / 2 * 3 + 0.2, 0)), 3) / 3": None,
}
"""Equations, and the height of their highest step."""
OTHERS = "max(x, 0.1 * x); sigmoid(x); heaviside(x - 1); x; -max(x, 0); abs(x); 0 * x; log(x)"


@pytest.mark.parametrize("equation", [*ACTIVATIONS, *OTHERS.split("; ")])
def test_an_activation_is_known_by_its_values(equation: str) -> None:
    spec = ANN.replace("ReLU", "f\n  surrogate = sigmoid(alpha = 4)")
    spec = spec.replace("network", f"neuron f {{ s = {equation} }}\nnetwork")
    model = emit_model(compile_spec(text=spec).graph)
    height = height_of(model.get_submodule("stem.spike"), (6, 8, 8))
    wanted = ACTIVATIONS.get(equation)
    assert (height is None) == (wanted is None)
    assert height is None or height.tolist() == pytest.approx([wanted] * 6)


@pytest.mark.thorough
@pytest.mark.usefixtures("all_digits")
def test_the_command_writes_a_directory_that_others_take(danetc: Run, tmp_path: Path) -> None:
    run = "pretrained:ann_c_small_digits"
    command = ["convert", run, "--steps", "6", "--batches", "1", "-o", "snn"]
    found = danetc.json(*command, "--figure", "t.svg")
    assert Path("t.svg").stat().st_size > 1000
    stated = danetc.json("eval", run)["evaluated"][0]["results"][0]
    assert found["ann"]["top1"] == stated["top1"]
    assert [at["steps"] for at in found["over_time"]] == [1, 2, 3, 4, 5, 6]
    record = read_record(Path("snn/conversion.json"))
    del found["directory"]
    assert {key: record[key] for key in found} == found
    how = {"steps": 6, "percentile": 99.0, "channels": True, "half": True, "srp": 0}
    assert (found["source"], found["data"]) == (run, "digits")
    assert {key: record[key] for key in how} == how
    (again,) = danetc.json("eval", "snn")["evaluated"]
    assert (again["data"], again["unlike_training"]) == ("digits", [])
    (at,) = again["results"]
    assert (at["steps"], at["images"]) == (6, 360)
    assert at["top1"] == pytest.approx(found["over_time"][-1]["top1"], abs=1.01 / 360)
    quick = ("--only", "firing-rate", "--batches", "1")
    danetc.passes("measure", "snn", "--data", "digits", *quick)
    danetc.passes("report", "snn", "-o", "page.html")
    danetc.passes("export", "snn", "-o", "snn.safetensors")
    table = danetc(*command).out
    assert ["ANN", "1", "98.06%"] in [line.split()[:3] for line in table.splitlines()]
    assert "written to snn" in table
    danetc.passes("convert", run, "--steps", "2", "--batches", "2", "-o", "other")
    shutil.copy("other/weights.safetensors", "snn")
    danetc.fails("convert again", "eval", "snn")


SPIKING = ANN.replace("neuron = ReLU", "neuron = IF\n  surrogate = atan")
REFUSED = {
    "a spiking neuron": (SPIKING, "`stem.spike` is a neuron `IF`"),
    "a neuron with a number for each place": (
        ANN.replace("= ReLU", "= own") + "neuron own { a = learn(1.0, per = neuron); s = max(a * x, 0) }",
        "`stem.spike` is a neuron `own`",
    ),
    "an operation relu": (ANN.replace("norm -> spike", "norm -> relu"), "`stem.relu` is the operation"),
    "another activation": (ANN.replace("-> spike\n", "-> spike -> sigmoid\n"), "`stem.sigmoid` (sigmoid) is not linear"),
    "a neuron by its name": (ANN.replace("-> spike\n", "-> ReLU\n"), "`stem.spike` names its neuron"),
    "another norm": (ANN.replace("norm -> spike", "layernorm -> spike"), "`stem.norm` (layernorm) is not linear"),
    "frames": (ANN.replace("image(1", "events(1"), "`input` takes frames"),
    "a neuron behind the mean": (
        ANN.replace("-> linear(10)", "-> linear(8) -> spike -> linear(10)"), "put mean_over_time right before"
    ),
    "SRP, a neuron before the output and another": (
        ANN.replace("head = ", "head = more -> ") + "block more { out = in + (in -> conv(6) -> spike) }", "also `head.more.spike` (neuron)"
    ),
    "SRP, a maximum before the output": (ANN.replace("head = ", "head = maxpool(2) -> "), "also `head.maxpool`"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_converted_is_refused_by_its_path(tmp_path: Path, what: str) -> None:
    text, message = REFUSED[what]
    write(text, tmp_path / "net")
    with pytest.raises(UserError) as caught:
        convert(tmp_path / "net", tmp_path / "snn", data="digits", srp=4 if "SRP" in what else 0)
    assert message in str(caught.value)
    assert not (tmp_path / "snn").exists()


def test_options_that_do_not_fit_are_refused(trained: Path) -> None:
    with pytest.raises(UserError, match="steps=4 leaves none after the first srp=4"):
        convert(trained, data="digits", steps=4, srp=4)
    with pytest.raises(UserError, match="would be replaced"):
        convert(trained, trained, data="digits")


def test_lines_are_called_like_attributes_of_modules(tmp_path: Path) -> None:
    body = "train = in -> conv(4) -> spike; out = train -> avgpool -> linear(10) }"
    write(f"{ANN.partition('stem')[0]}{body}", tmp_path / "a")
    found = convert(tmp_path / "a", tmp_path / "snn", data="digits", steps=2, batches=1, srp=1)
    assert [*found.thresholds] == ["train_.spike"]
