"""Files of ONNX: PyTorch's ResNets and spiking networks come back, others are refused."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import Tensor, nn

import danetc
from danetc.compiler import check_text, graph_of
from danetc.compiler.analysis.equivalence import Same, compare_graphs
from danetc.compiler.emit.fx import emit
from danetc.compiler.emit.onnx import TIMES, OnnxTime, emit_onnx
from danetc.errors import UserError
from danetc.tasks.comparing import make_vary
from danetc.tasks.importing import acceptance
from danetc.tasks.importing.network import ImportedNetwork
from tests.zoo import harness as zoo

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")
torchvision = pytest.importorskip("torchvision")


SPEC = """
use std
network drawn {{
  input = image(2, 12, 12)
  steps = 1
  neuron = ReLU
  stem = conv(4) -> norm -> spike
  stages = stage({stage}
  head = avgpool -> linear(5) -> mean_over_time
}}
"""


def exported(model: nn.Module, path: Path, size: tuple[int, ...]) -> Path:
    torch.onnx.export(model.eval(), (torch.rand(2, *size),), str(path), dynamo=True, verbose=False)
    return path


def narrow() -> nn.Module:
    """A ResNet-18 of a quarter of the width, whose norms and logits vary."""
    torch.manual_seed(0)
    model = torchvision.models.ResNet(
        torchvision.models.resnet.BasicBlock, [2, 2, 2, 2], num_classes=5
    )
    small = partial(torch.rand, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.copy_(0.5 + small(module.weight.shape))
                module.running_mean.copy_(0.1 * small(module.weight.shape))
    return model  # type: ignore[no-any-return]


@pytest.mark.thorough
def test_a_resnet_of_pytorch_comes_back(tmp_path: Path) -> None:
    """torch folds norms into convolutions, so that its connection has none."""
    path = exported(narrow(), tmp_path / "net.onnx", (3, 32, 32))
    found = danetc.import_network(path, samples=4)
    assert " = resnet18(block = layers) via residual\n" in found.text
    assert "norm" not in found.text
    assert found.agreement.deviation > 0.01
    assert len(found.found.own) == 2


@pytest.mark.parametrize("stage", ["basic(4), 2) via origin", "bottleneck(4), 2) via pa_a"])
def test_what_is_exported_comes_back(tmp_path: Path, stage: str) -> None:
    text = SPEC.format(stage=stage)
    model = danetc.build(text=text, backend="eager")
    small = partial(torch.rand, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.2 * small(value.shape))
    arrays = {name: value.numpy() for name, value in model.state_dict().items()}
    path = tmp_path / "drawn.onnx"
    onnx.save(emit_onnx(graph_of(check_text(text)), arrays), str(path))
    found = danetc.import_network(path, samples=20)
    again = check_text(found.text).graphs["drawn"]
    assert isinstance(compare_graphs(check_text(text).graphs["drawn"], again), Same)


def nameless(made: Any) -> Any:
    """A file without names and notes."""
    names: dict[str, str] = {"": ""}

    def rename(graph: Any) -> None:
        for item in (*graph.initializer, *graph.input):
            item.name = names.setdefault(item.name, f"v{len(names)}")
        for node in graph.node:
            node.name = ""
            for values in (node.input, node.output):
                values[:] = [names.setdefault(name, f"v{len(names)}") for name in values]
            for attribute in node.attribute:
                rename(attribute.g)
        for item in graph.output:
            item.name = names[item.name]

    rename(made.graph)
    del made.metadata_props[:]
    return made


# -- spiking networks ------------------------------------------------------------------------------

SPIKING = """
use std
network drawn {{
  input = {input}
  steps = {steps}
  neuron = {neuron}
  surrogate = atan
  stem = conv(4) -> norm -> spike
  stages = stage(basic(4), {blocks}) via {via}
  head = {head}
}}
"""
EACH, MEAN = "avgpool -> linear(3)", "avgpool -> mean_over_time -> linear(3)"


def spiking(path: Path, time: OnnxTime, **given: object) -> str:
    """A spiking network as a file of ONNX whose logits vary; its spec."""
    usual = {"input": "image(2, 6, 6)", "steps": 3, "blocks": 2, "via": "origin", "head": EACH}
    text = SPIKING.format(**usual | given)
    graph = graph_of(check_text(text))
    model = emit(graph)
    with torch.no_grad():
        make_vary(model, graph)
    arrays = {name: value.numpy() for name, value in model.state_dict().items()}
    onnx.save(emit_onnx(graph, arrays, time, about={"steps": str(graph.steps)}), str(path))
    return text


def assert_same(text: str, found: ImportedNetwork) -> None:
    assert found.agreement.own_weights
    assert found.agreement.deviation > 0.01
    graphs = (check_text(each).graphs["drawn"] for each in (text, found.text))
    assert isinstance(compare_graphs(*graphs), Same)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("time", "neuron", "via", "head"),
    [
        ("unrolled", "LIF(tau = 3.0)", "sew by densely_additive", MEAN),
        ("loop", "LIF(tau = 1.25, v_rest = -0.5)", "baa", MEAN),
        ("step", "LIF(tau = 3.0)", "sew by densely_additive", EACH),
        ("loop", "PLIF(tau = 3.0)", "sew_iand", EACH),
        ("step", "PLIF(tau = 3.0)", "sew_iand", EACH),
        ("unrolled", "ALIF", "origin", EACH),
        ("unrolled", "readout", "pa_a", MEAN),
    ],
)
def test_a_spiking_network_comes_back(
    tmp_path: Path, time: OnnxTime, neuron: str, via: str, head: str
) -> None:
    """Its steps one behind the other, in loops, or one step with its states."""
    path = tmp_path / "drawn.onnx"
    text = spiking(path, time, neuron=neuron, via=via, head=head, blocks=3)
    assert_same(text, danetc.import_network(path, samples=10))


class OfSpikingJelly(nn.Module):
    """A model of SpikingJelly that runs its time steps itself: of an image, which it repeats, or of a
    sequence."""

    def __init__(self, make: Callable[[], nn.Module], sequence: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.sequence = sequence
        self.stem, self.first, self.second = (_spiking_conv(c, make) for c in (2, 4, 4))
        self.rest = nn.Sequential(
            layer.MaxPool2d(2, 2), layer.Flatten(), layer.Linear(36, 6), make(), layer.Linear(6, 3)
        )
        functional.set_step_mode(self, "m")
        small = partial(torch.rand, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.weight.copy_(1.5 + small(module.weight.shape))
                    module.bias.copy_(small(module.bias.shape))
                elif isinstance(module, nn.Linear):
                    module.weight.mul_(3.0)
                    module.bias.copy_(0.5 * small(module.bias.shape))

    def forward(self, x: Tensor) -> Tensor:
        functional.reset_net(self)
        y = self.stem(x if self.sequence else x.unsqueeze(0).repeat(3, 1, 1, 1, 1))
        y = self.first(y) + y
        y = self.rest(self.second(y) + y)
        return y if self.sequence else y.mean(0)  # type: ignore[no-any-return]


def _spiking_conv(channels: int, make: Callable[[], nn.Module]) -> nn.Module:
    conv = layer.Conv2d(channels, 4, 3, padding=1, bias=False)
    return nn.Sequential(conv, layer.BatchNorm2d(4), make())


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("make", "form", "name"),
    [
        (lambda: neuron.LIFNode(tau=2.0), "dynamic", "LIF"),
        (lambda: neuron.IFNode(v_reset=None), "fixed", "IF_soft"),
        (
            lambda: neuron.LIFNode(tau=1.5, v_reset=-0.5),
            "sequence",
            "LIF(tau = 1.5, v_rest = -0.5)",
        ),
    ],
)
def test_what_pytorch_exports_of_spikingjelly_comes_back(
    tmp_path: Path, make: Callable[[], nn.Module], form: str, name: str
) -> None:
    """Its arithmetic is in another order than that of std's neurons."""
    path = tmp_path / "net.onnx"
    model = OfSpikingJelly(make, form == "sequence").eval()
    x = torch.rand((3, 2, 2, 6, 6) if form == "sequence" else (2, 2, 6, 6))
    free: dict[str, Any] = (
        {"dynamic_shapes": ({0: torch.export.Dim("N", max=99)},)} if form == "dynamic" else {}
    )
    with torch.no_grad():
        torch.onnx.export(model, (x,), str(path), dynamo=True, verbose=False, **free)
    found = danetc.import_network(path, samples=10)
    assert found.agreement.deviation > 0.01
    frames, mean = ("events", "") if form == "sequence" else ("image", " -> mean_over_time")
    assert (
        found.text
        == f"""\
use std

network net {{
  input     = {frames}(2, 6, 6)
  steps     = 3
  neuron    = {name}
  surrogate = atan
  stem      = conv(4) -> norm -> spike
  stages    = stage(single(4), 2) via sew
  head      = maxpool(2) -> linear(6) -> spike -> linear(3){mean}
}}
"""
    )


@pytest.mark.parametrize("time", TIMES)
def test_frames_come_back(tmp_path: Path, time: OnnxTime) -> None:
    path = tmp_path / "drawn.onnx"
    text = spiking(path, time, neuron="IF", input="events(2, 6, 6)", steps=2, blocks=1)
    assert_same(text, danetc.import_network(path, events=time == "step", samples=10))


@pytest.mark.parametrize("time", TIMES)
def test_layers_at_several_places_are_shared(tmp_path: Path, time: OnnxTime) -> None:
    """By the numbers that they read; norms that are equal and stand behind other layers are not."""
    text = """
    use std
    network drawn { input = image(2, 6, 6); steps = 2; neuron = IF; surrogate = atan
      f = shared(conv(2) -> norm)
      a = in -> f -> spike
      b = a -> f -> spike -> conv(2) -> norm -> spike
      out = (a + b) -> avgpool -> linear(3) }
    """
    graph = graph_of(check_text(text))
    model = emit(graph)
    with torch.no_grad():
        make_vary(model, graph)
        for norm in model.modules():
            if isinstance(norm, nn.BatchNorm2d):
                for value in norm.state_dict().values():
                    value.copy_(torch.ones_like(value))
    arrays = {name: value.numpy() for name, value in model.state_dict().items()}
    path = tmp_path / "drawn.onnx"
    onnx.save(emit_onnx(graph, arrays, time, about={"steps": "2"}), str(path))
    assert_same(text, danetc.import_network(path, samples=10))


@pytest.mark.thorough
@pytest.mark.parametrize("time", TIMES)
@pytest.mark.parametrize(
    "lines",
    [
        "h = ((in -> conv(2)) + (h -> delay(1) -> conv(2))) -> spike\n out = h -> linear(3)",
        "h = ((in -> conv(2)) * learn(2.0, per = neuron) + (h -> delay(1) -> conv(2) -> batchnorm(statistics = step))) -> spike\n"
        "out = max(h, h -> delay(1) -> spike) -> linear(3)",
        "h = ((in -> conv(2)) + (h -> delay(3) -> conv(2))) -> spike(v_threshold = 0.3)\n"
        "out = h -> conv(6) -> mean(over = channels, groups = 3) -> linear(3)",
        "a = in -> conv(2) -> spike\n h = (a + (g -> delay(2))) -> spike\n g = h -> conv(2)\n"
        "out = (g + (h -> delay(1))) -> avgpool -> linear(3)",
        "h = ((in -> conv(2)) + (h -> delay(1) -> conv(2))) -> gate\n"
        "out = (h + (h -> conv(2) -> gate)) -> linear(3)",
        "out = in -> conv(2) -> delay(2) -> spike -> delay(1) -> avgpool -> linear(3)",
    ],
)
def test_loops_and_delays_come_back(tmp_path: Path, lines: str, time: OnnxTime) -> None:
    gate = "neuron gate(threshold = 0.1) { s = heaviside(x - threshold) }"
    text = f"use std\n{gate}\nnetwork drawn {{ input = events(2, 6, 6); steps = 5; neuron = IF(v_threshold = 0.2); surrogate = atan\n {lines} }}"  # fmt: skip
    graph = graph_of(check_text(text))
    model = emit(graph)
    with torch.no_grad():
        make_vary(model, graph)
    arrays = {name: value.numpy() for name, value in model.state_dict().items()}
    path = tmp_path / "drawn.onnx"
    onnx.save(emit_onnx(graph, arrays, time, about={"steps": "5"}), str(path))
    assert_same(text, danetc.import_network(path, events=True, samples=10))


@pytest.mark.thorough
@pytest.mark.parametrize("time", TIMES)
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("brf", "-> delay(1))"),
        ("lif_firenet", "-> delay(1) -> conv(4)"),
        ("mpbn", "-> batchnorm(statistics = step)"),
        ("convlstm", "learn("),
        ("snasnet", "mean(over = channels, groups = 4)"),
        ("se_adlif", "-> delay(1)"),
        ("bntt", "per_step = true"),
        ("spytorch", "linear(10, bias = false) -> imported_neuron2"),
    ],
)
def test_networks_with_loops_come_back(
    tmp_path: Path, name: str, says: str, time: OnnxTime
) -> None:
    """Without names, but for those of what one step takes and gives the next."""
    graph = zoo.graph(name, zoo.case_of(name).small[0])
    torch.manual_seed(0)
    model = emit(graph)
    with torch.no_grad():
        make_vary(model, graph)
        for key, value in model.named_parameters():
            if key.endswith("weight") and value.dim() in (2, 4):
                value.mul_(3.0)
    arrays = {name: value.numpy() for name, value in model.state_dict().items()}
    made = emit_onnx(graph, arrays, time, about={"steps": str(graph.steps)})
    path = tmp_path / "drawn.onnx"
    onnx.save(made if time == "step" else nameless(made), str(path))
    events, steps = graph.input.value.varies, graph.steps
    found = danetc.import_network(path, events=events, steps=steps, samples=10)
    assert found.agreement.own_weights
    assert found.agreement.deviation > 0.01
    assert says in found.text


def test_nothing_goes_by_names(tmp_path: Path) -> None:
    path = tmp_path / "drawn.onnx"
    text = spiking(path, "unrolled", neuron="PLIF", via="sew")
    onnx.save(nameless(onnx.load(str(path))), str(path))
    assert_same(text, danetc.import_network(path, samples=10))


def test_a_sample_that_rounding_changes_is_traced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pixel that is at the threshold in float32 and below it in float64."""
    text = "use std\nnetwork n { input = image(1, 4, 4); steps = 2; neuron = IF; surrogate = atan\n out = in -> spike -> conv(3, kernel = 1) -> avgpool -> linear(3) }"
    graph = graph_of(check_text(text))
    model = emit(graph)
    arrays = {name: value.numpy() for name, value in model.state_dict().items()}
    path = tmp_path / "net.onnx"
    onnx.save(emit_onnx(graph, arrays), str(path))
    drawn = acceptance._inputs

    def inputs(lead: tuple[int, ...], samples: int, shape: tuple[int, ...], seed: int) -> Tensor:
        found = drawn(lead, samples, shape, seed)
        found[3, 0, 2, 2] = 1 - 1e-9
        return found

    monkeypatch.setattr(acceptance, "_inputs", inputs)
    found = danetc.import_network(path, samples=10)
    assert found.agreement.flipped == 3  # one for each seed
    assert found.agreement.difference < 1e-5
    assert found.as_dict()["compared"]["flipped"] == 3


@pytest.mark.parametrize(
    ("body", "steps", "why"),
    [
        ("out = in -> conv(2) -> layernorm -> spike -> avgpool -> linear(3)", None, "the operator Transpose is not read"),
        ("out = in -> conv(2) -> spike -> avgpool -> linear(3)", 5, "it is of 2 time steps"),
    ],
)  # fmt: skip
def test_what_is_no_layer_of_neurons_is_refused(
    tmp_path: Path, body: str, steps: int | None, why: str
) -> None:
    text = f"use std\nnetwork n {{ input = image(1, 6, 6); steps = 2; neuron = IF; surrogate = atan\n {body} }}"
    graph = graph_of(check_text(text))
    arrays = {name: value.numpy() for name, value in emit(graph).state_dict().items()}
    path = tmp_path / "net.onnx"
    onnx.save(emit_onnx(graph, arrays), str(path))
    with pytest.raises(UserError, match=why):
        danetc.import_network(path, steps=steps, samples=4)


@pytest.mark.thorough
def test_other_operators_are_refused_by_name(tmp_path: Path) -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cumsum(x, 1)

    path = exported(Odd(), tmp_path / "odd.onnx", (2, 4, 4))
    with pytest.raises(UserError, match="the operator CumSum is not read"):
        danetc.import_network(path, samples=4)


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    with pytest.raises(UserError, match="no file"):
        danetc.import_network(path)
    path.write_bytes(b"no graph")
    with pytest.raises(UserError, match="cannot be read as ONNX"):
        danetc.import_network(path)
