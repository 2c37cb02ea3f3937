"""Importing PyTorch and SpikingJelly models: std names where they match, and always equal outputs."""

import re
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import danetc
from danetc.compiler.importing.program import Imported, import_graph
from danetc.dsl.diagnostics.diagnostic import SpecError
from danetc.dsl.neuron.spikingjelly import SURROGATES
from danetc.errors import UserError
from danetc.tasks.importing import acceptance
from danetc.tasks.importing.acceptance import _differences, _vary
from danetc.tasks.importing.known_neurons import PLACES, neuron_program, program, surrogate_like
from danetc.tasks.importing.network import ImportedNetwork
from danetc.tasks.importing.torch_model import read_model

torchvision = pytest.importorskip("torchvision")
pytest.importorskip("spikingjelly")

from spikingjelly.activation_based import functional, layer, neuron, surrogate  # noqa: E402
from spikingjelly.activation_based.model import (  # noqa: E402
    parametric_lif_net,
    sew_resnet,
    spiking_resnet,
    spiking_vgg,
)

from . import library_neurons  # noqa: E402

Make = Callable[..., nn.Module]
SPIKES: dict[str, Any] = {"surrogate_function": surrogate.ATan(), "detach_reset": True}
fires: Make = partial(neuron.IFNode, **SPIKES)
learns: Make = partial(neuron.ParametricLIFNode, init_tau=2.0, **SPIKES)


def shape_of(make: Make, size: tuple[int, ...], mode: str = "m") -> Imported:
    """Import a model on the meta device, which holds no numbers."""
    with torch.device("meta"):
        model = make()
    functional.set_step_mode(model, mode)
    return import_graph(read_model(model, "net", size, None, False)[0].graph, "net")


SEW, SEEN = partial(partial, spiking_neuron=fires), partial(partial, weights=None)
VISION = torchvision.models


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("make", "stages"),
    [
        (SEW(sew_resnet.sew_resnet18, cnf="ADD"), "resnet18 via sew"),
        (SEW(sew_resnet.sew_resnet34, cnf="AND"), "resnet34 via sew_and"),
        (SEW(sew_resnet.sew_resnet18, cnf="IAND"), "resnet18 via sew_iand"),
        (SEW(sew_resnet.sew_resnet50, cnf="ADD"), "resnet50 via sew"),
        # its bottlenecks swap the operands of IAND
        (SEW(sew_resnet.sew_resnet50, cnf="IAND"), "resnet50 via sew_iand_exchanged"),
        (SEW(sew_resnet.sew_wide_resnet50_2, cnf="ADD"), "resnet50(block = wide) via sew"),
        (SEW(spiking_resnet.spiking_resnet18), "resnet18 via origin"),
        (SEW(spiking_resnet.spiking_resnet101), "resnet101 via origin"),
        (SEEN(VISION.resnet34), "resnet34 via origin"),
        (SEEN(VISION.resnet50), "resnet50 via origin"),
        (SEEN(VISION.resnext50_32x4d), "resnet50(block = grouped) via origin"),
        (SEEN(VISION.densenet121), "densenet121 via dense_layer by densely_concatenated"),
    ],
)
def test_published_networks_have_the_names_of_std(make: Make, stages: str) -> None:
    found = shape_of(make, (3, 64, 64))
    assert found.text.partition("stages")[2].partition("\n")[0].strip(" =") == stages
    assert found.own == ()
    assert found.lines <= 18


@pytest.mark.parametrize(("bn", "via"), [("_bn", "plain"), ("", "chained")])
@pytest.mark.parametrize("depth", [11, 16])
def test_vgg(depth: int, bn: str, via: str) -> None:
    """The convolutions have biases, unlike the blocks of std."""
    make = getattr(spiking_vgg, f"spiking_vgg{depth}{bn}")
    found = shape_of(partial(make, spiking_neuron=fires), (3, 32, 32), "s")
    assert f"vgg{depth}(block = layers) via {via}\n" in found.text
    assert "\n\nblock layers(width) = conv(width, kernel = 3, bias = true)\n\nnetwork" in found.text
    assert found.lines <= 18


@pytest.mark.parametrize(
    ("name", "size"), [("MNISTNet", (1, 28, 28)), ("DVSGestureNet", (2, 128, 128))]
)
def test_parametric_lif_net(name: str, size: tuple[int, ...]) -> None:
    make = partial(getattr(parametric_lif_net, name), spiking_neuron=learns)
    found = shape_of(make, size)
    assert " = PLIF(detach_reset = true)\n" in found.text
    assert {stage.connection for stage in found.stages} <= {"plain"}
    assert found.lines <= 27


# -- test networks, and changes to them --------------------------------------------------------------


def small_net(cnf: str = "ADD", mode: str = "m") -> nn.Sequential:
    block = partial(sew_resnet.BasicBlock, cnf=cnf, spiking_neuron=fires)
    down = nn.Sequential(layer.Conv2d(4, 8, 1, stride=2, bias=False), layer.BatchNorm2d(8))
    stem = layer.Conv2d(2, 4, 3, padding=1, bias=False), layer.BatchNorm2d(4), fires()
    blocks = block(4, 4), block(4, 8, stride=2, downsample=down), block(8, 8)
    head = layer.AdaptiveAvgPool2d(1), layer.Flatten(), layer.Linear(8, 5)
    model = nn.Sequential(*stem, *blocks, *head)
    functional.set_step_mode(model, mode)
    return model


def network(model: nn.Module, **more: Any) -> ImportedNetwork:
    found = danetc.import_network(model, (2, 12, 12), steps=2, samples=20, **more)
    assert found.agreement.deviation > 0.01
    assert found.agreement.difference < 1e-5
    return found


@pytest.mark.parametrize(("cnf", "via"), [("ADD", "sew"), ("IAND", "sew_iand")])
@pytest.mark.parametrize("mode", ["s", "m"])
def test_an_unchanged_network_has_the_names_of_std(cnf: str, via: str, mode: str) -> None:
    found = network(small_net(cnf, mode))
    assert found.found.own == ()
    assert {stage.connection for stage in found.found.stages} == {via}
    assert {stage.block.name for stage in found.found.stages} == {"basic"}


def test_a_wrong_translation_is_not_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    """One sample in 20 may differ, as if a spike was at its threshold, but not two."""
    gaps, samples = acceptance.gaps, 1

    def wrong(mine: list[Tensor], theirs: list[Tensor]) -> Tensor:
        theirs[0][:samples] *= 1.001
        return gaps(mine, theirs)

    monkeypatch.setattr(acceptance, "gaps", wrong)
    record = danetc.import_network(small_net(), (2, 12, 12), steps=2, samples=20).as_dict()
    assert record["compared"]["flipped"] == 1
    assert record["compared"]["difference"] < 1e-5
    samples = 2
    with pytest.raises(UserError, match="has different outputs: 2 of 20 samples differ"):
        danetc.import_network(small_net(), (2, 12, 12), steps=2, samples=20)


class Recurring(nn.Module):
    """A model that calls one convolution and its norm three times, followed by a head."""

    def __init__(self, neuron_too: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = layer.Conv2d(2, 2, 3, padding=1, bias=False)
        self.norm = layer.BatchNorm2d(2)
        neurons = [neuron.IFNode() for _ in range(3)]
        self.fire = nn.ModuleList(neurons[:1] * 3 if neuron_too else neurons)
        self.head = nn.Sequential(layer.AdaptiveAvgPool2d(1), layer.Flatten(), layer.Linear(2, 3))
        functional.set_step_mode(self, "m")

    def forward(self, x: Tensor) -> Tensor:
        for fire in self.fire:
            x = x + fire(self.norm(self.conv(x)))
        return self.head(x)  # type: ignore[no-any-return]


def imported_around(fire: nn.Module, container: Make = nn.Sequential) -> str:
    """Return the spec of a network with a neuron. The import compares its outputs at each step."""
    torch.manual_seed(0)
    conv, linear = nn.Conv2d(2, 4, 3, padding=1), nn.Linear(144, 5)
    with torch.no_grad():
        for weight in (conv.weight, linear.weight):
            weight.mul_(4)
    model = container(conv, fire, nn.Flatten(), linear)
    found = danetc.import_network(model, (2, 6, 6), steps=5, samples=20)
    assert found.agreement.own_weights
    assert found.agreement.difference < 1e-9
    return found.text


@pytest.mark.parametrize("v_reset", [0.0, None])
@pytest.mark.parametrize("decays", [True, False])
@pytest.mark.parametrize(
    ("make", "ours"), [(neuron.LIFNode, "LIF"), (neuron.ParametricLIFNode, "PLIF")]
)
def test_neurons_of_spikingjelly(make: Make, ours: str, decays: bool, v_reset: Any) -> None:
    """No neuron of std has an input that does not decay."""
    text = imported_around(make(2.5, decay_input=decays, v_threshold=0.6, v_reset=v_reset))
    name = f"{ours}{'_soft' * (v_reset is None)}{'_undecayed' * (not decays)}"
    assert re.search(rf"neuron +(= )?{name}\b", text)


def test_layers_at_several_places_are_shared() -> None:
    found = danetc.import_network(Recurring(), (2, 12, 12), steps=2, samples=4)
    assert found.text.count("shared(") == 2
    counted = danetc.build(text=found.text, backend="eager")
    wanted = sum(value.numel() for value in Recurring().parameters())
    assert sum(value.numel() for value in counted.parameters()) == wanted
    with pytest.raises(UserError, match="called more than once with the same states"):
        danetc.import_network(Recurring(neuron_too=True), (2, 12, 12), steps=2, samples=4)


def test_containers_of_one_step_are_looked_into() -> None:
    stem = nn.Conv2d(2, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
    head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)
    model = nn.Sequential(layer.SeqToANNContainer(*stem), fires(), layer.SeqToANNContainer(*head))
    functional.set_step_mode(model, "m")
    text = network(model).text
    assert "= in -> conv(4) -> norm -> spike -> avgpool -> linear(3)" in text


# -- what is refused ---------------------------------------------------------------------------------


class Residual(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.relu(super().forward(x))


SPIKING = nn.Sequential(nn.Linear(64, 32), neuron.IFNode(), nn.Linear(32, 10))


@pytest.mark.parametrize(
    ("model", "events"),
    [
        (nn.Linear(64, 10), False),
        (nn.Sequential(nn.BatchNorm1d(64), nn.Linear(64, 10)), False),
        (Residual(64, 64), False),
        (nn.ReLU(), False),
        (SPIKING, False),
        (nn.Linear(64, 10), True),
        (SPIKING, True),
    ],
)
def test_samples_may_be_vectors(model: nn.Module, events: bool) -> None:
    found = danetc.import_network(model, (64,), events=events, samples=20)
    assert f"{'events' if events else 'image'}(64, 1, 1)" in found.text
    assert ("= 4\n" in found.text) == (model is SPIKING or events)  # time steps
    assert found.agreement.difference < 1e-9


def test_wrong_shapes_and_arguments_are_errors() -> None:
    with pytest.raises(UserError, match="it has 2 dimensions"):
        danetc.import_network(nn.Linear(64, 10), (3, 64))
    with pytest.raises(SpecError, match="the logarithm of 0"):
        program("PLIF", {"tau": 1.0})


def test_a_single_time_step_may_be_left_out() -> None:
    assert _differences(torch.zeros(5, 1, 3), torch.ones(5, 3)).tolist() == [1.0] * 5
    with pytest.raises(UserError, match=r"shape \(5, 2, 3\), but \(5, 3\) when imported"):
        _differences(torch.zeros(5, 2, 3), torch.ones(5, 3))


def test_a_parameter_of_a_surrogate_is_found_by_its_reciprocal() -> None:
    """A rectangle of width 0.8 divides by its width. The source may multiply by 1.25 instead."""
    slopes = tuple(1.25 * (abs(x) < 0.4) for x in PLACES)
    assert surrogate_like(slopes, (1.25,)).parameters == (("width", 0.8),)


SHAPES = {"width": 0.8, "leak": 0.03, "slope": 1.2, "alpha": 1.75, "beta": 0.7}


@pytest.mark.parametrize("name", SURROGATES)
def test_surrogates_of_spikingjelly_are_found_by_their_derivatives(name: str) -> None:
    row = SURROGATES[name]
    given = {ours: SHAPES[ours] for ours, _, _ in row.arguments}
    made = neuron.IFNode(surrogate_function=getattr(surrogate, row.theirs)(**row.to_theirs(given)))
    found = neuron_program(made).surrogate
    assert found is not None
    assert (found.name, dict(found.parameters)) == (name, pytest.approx(given))


CONVNEXT = [VISION.convnext.CNBlockConfig(8, 16, 2), VISION.convnext.CNBlockConfig(16, None, 1)]


def timm_model(name: str, **options: Any) -> nn.Module:
    timm = pytest.importorskip("timm")
    made: nn.Module = timm.create_model(name, num_classes=5, **options)
    return made


VISION_MODELS: dict[str, Make] = {
    "mobilenet_v2": partial(VISION.mobilenet_v2, width_mult=0.25, num_classes=5),
    "mobilenet_v3": partial(VISION.mobilenet_v3_small, num_classes=5),
    "efficientnet": partial(VISION.efficientnet_b0, num_classes=5),
    "convnext": partial(VISION.ConvNeXt, CONVNEXT, layer_scale=0.7, num_classes=5),
    "vit": partial(VISION.VisionTransformer, 32, 8, 2, 2, 16, 32, num_classes=5),
    "timm vit": partial(timm_model, "vit_tiny_patch16_224", img_size=32, depth=2),
    "timm vit, mean": partial(
        timm_model, "vit_tiny_patch16_224", img_size=32, depth=1, global_pool="avg", class_token=False,
    ),
    "timm convnext": partial(timm_model, "convnext_atto", depths=(1, 1, 1, 1), dims=(8, 16, 16, 16)),
    "timm efficientnet": partial(timm_model, "test_efficientnet"),
    "timm mobilenetv3": partial(timm_model, "mobilenetv3_small_050"),
}  # fmt: skip
OF_MANY_LAYERS = ("mobilenet_v2", "mobilenet_v3", "efficientnet")
"""Each takes a second or more. The timm models have the same kinds of layers."""


CASES = [
    pytest.param(name, marks=[pytest.mark.thorough] * (name in OF_MANY_LAYERS))
    for name in VISION_MODELS
]


@pytest.mark.parametrize("name", CASES)
def test_networks_for_images_are_imported(name: str) -> None:
    """With warmed norms and no parameter at its initial value, the outputs are the same."""
    torch.manual_seed(0)
    model = VISION_MODELS[name]().eval()
    x = torch.randn(6, 3, 32, 32)
    with torch.no_grad():
        for value in model.parameters():
            scale = value.abs().mean() + 0.5 * (value == 0).all()
            value.add_(0.1 * torch.randn_like(value) * scale)
    _vary(model, lambda: model(x))
    found = danetc.import_network(model, (3, 32, 32), samples=4)
    ours = found.model.eval().double()
    with torch.no_grad():
        wanted = model.double()(x.double())
        assert wanted.std(0).max() > 0.05
        torch.testing.assert_close(ours(x.double()), wanted, rtol=1e-4, atol=1e-4)


def library(name: str) -> Any:
    """Return a library, or neurons with its equations if it is not installed."""
    try:
        return import_module(name)
    except ImportError:
        return library_neurons


def leaky(**options: Any) -> nn.Module:
    snn = library("snntorch")
    if "slope" in options:
        options["spike_grad"] = snn.surrogate.fast_sigmoid(slope=options.pop("slope"))
    made: nn.Module = snn.Leaky(init_hidden=True, **options)
    return made


def cell(kind: str, **options: Any) -> nn.Module:
    made: nn.Module = getattr(library("norse.torch"), kind)(**options)
    return made


LIBRARY_NEURONS: dict[str, Make] = {
    "Leaky": partial(leaky, beta=0.9),
    "Leaky to zero": partial(leaky, beta=0.7, reset_mechanism="zero", threshold=0.5),
    "Leaky without a reset": partial(leaky, beta=0.7, reset_mechanism="none"),
    "Leaky at once": partial(leaky, beta=0.7, reset_delay=False, slope=25),
    "Leaky to zero at once": partial(leaky, beta=0.7, reset_delay=False, reset_mechanism="zero"),
    "Leaky, beta above 1": partial(leaky, beta=1.5, reset_mechanism="zero"),
    "LIFBoxCell": partial(cell, "LIFBoxCell", dt=0.005),
    "IAFCell": partial(cell, "IAFCell"),
    "LIFBoxCell, constants": partial(library_neurons.LIFBoxCell, v_leak=0.2, v_reset=-0.1, alpha=9),
    "IAFCell, constants": partial(library_neurons.IAFCell, v_th=0.8, v_reset=-0.1, alpha=9),
}


@pytest.mark.parametrize("name", LIBRARY_NEURONS)
def test_neurons_of_snntorch_and_norse(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if library("norse.torch") is library_neurons:
        monkeypatch.setitem(sys.modules, "norse.torch.functional.threshold", library_neurons)  # type: ignore[arg-type]
    made, container = LIBRARY_NEURONS[name](), nn.Sequential
    if type(made).__module__.startswith("norse"):
        own = isinstance(made, library_neurons.Cell)
        container = (library_neurons if own else library("norse.torch")).SequentialState
    assert f"neuron {type(made).__name__} {{" in imported_around(made, container)


@pytest.mark.parametrize(
    ("neuron", "told"),
    [
        (library_neurons.Leaky(0.9), "give it init_hidden=True"),
        (library_neurons.Leaky(0.9, init_hidden=True, inhibition=True), "inhibits its neighbours"),
        (library_neurons.Leaky(0.9, init_hidden=True, state_quant=True), "quantises its state"),
        (library_neurons.Leaky(0.9, graded_spikes_factor=2.0), "grades its spikes"),
        (library_neurons.LIFBoxCell(reset_method=max), "only reset_method=reset_value is read"),
        (library_neurons.IAFCell(v_th=torch.tensor([1.0, 2.0])), "theta differs from neuron to"),
    ],
)
def test_neurons_of_libraries_that_are_refused(
    neuron: nn.Module, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "norse.torch.functional.threshold", library_neurons)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=told):
        neuron_program(neuron)
