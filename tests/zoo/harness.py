"""Networks of specs/zoo at small sizes, and their numbers of parameters as published."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from danetc.compiler import graph_of
from danetc.compiler.frontend.program import Checked, check_file
from danetc.compiler.ir.graph import Graph
from danetc.dsl.neuron.reading import read_program
from danetc.dsl.reading import ZOO, shipped_specs
from danetc.runtime.layers.neuron import Neuron
from danetc.tasks.inputs import taken
from tests.differential.helpers import randn

NAMES = tuple(name.removeprefix(ZOO) for name in shipped_specs() if name.startswith(ZOO))
BATCH = 2
RATES = (0.02, 0.98)
DEVIATION = 0.01


@dataclass(frozen=True)
class Case:
    """Settings of a network of the zoo.

    ``small``: two widths and two T at which it is run. ``published``: numbers of parameters in the
    paper or its authors' code ("0.13 M"), with the settings of that network.
    """

    small: tuple[Mapping[str, Any], Mapping[str, Any]]
    published: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def case_of(name: str) -> Case:
    return CASES[name]


@cache
def checked(name: str) -> Checked:
    return check_file(ZOO + name)


def file_of(name: str) -> Path:
    return shipped_specs()[ZOO + name]


def graph(name: str, settings: Mapping[str, Any]) -> Graph:
    return graph_of(checked(name), settings=dict(settings))


def assert_alive(
    model: nn.Module, outputs: list[Tensor], spikes: list[Tensor], where: str = ""
) -> None:
    """Check that outputs vary over samples, and that all layers of neurons fire, but not always."""
    for output in outputs:
        assert float(output.std()) > DEVIATION, f"{where}: the outputs are all alike"
    layers = [module for module in model.modules() if isinstance(module, Neuron)]
    for layer, fired in zip(layers, spikes, strict=True):
        if has_step(layer):
            rate = float((fired != 0).double().mean())
            assert RATES[0] <= rate <= RATES[1], f"{where}: a layer fires at the rate {rate:.3f}"


def has_step(layer: Neuron) -> bool:
    """True unless the layer is an activation function."""
    return read_program(layer.program).has_step


def frames(ours: Graph) -> Tensor:
    """Return an input of the network: an image [N, C, H, W], or counts of events [T, N, C, H, W]."""
    value = taken(ours)
    if not value.varies:
        return randn(BATCH, *value.shape)
    counts = torch.poisson(randn(ours.steps, BATCH, *value.shape).abs())
    return counts.clamp(max=value.kind.most) if value.kind.is_integer else counts


@torch.no_grad()
def wake(network: nn.Module, seed: int = 7) -> None:
    """Draw weights and biases of norms, and all other biases.

    With weights from 1 to 2, neurons after the norms fire; the initial weights of 1 and biases of 0
    would hide which norm a value passed.
    """
    generator = torch.Generator().manual_seed(seed)

    def shift(parameter: Tensor, low: float, high: float) -> None:
        noise = torch.rand(parameter.shape, generator=generator, dtype=torch.float64)
        parameter.copy_(low + (high - low) * noise)

    for module in network.modules():
        for key, parameter in module.named_parameters(recurse=False):
            if hasattr(module, "running_mean") and key == "weight":
                shift(parameter, 1.0, 2.0)
            elif key == "bias":
                shift(parameter, -0.2, 0.6)


@torch.no_grad()
def rouse(network: nn.Module, x: Tensor, rounds: int = 25) -> list[float]:
    """Adjust the layer before each neuron until the neuron fires at a moderate rate.

    Returns the rates of the last pass.
    """
    rates: list[float] = []
    for _ in range(rounds):
        rates.clear()
        before: list[Any] = [None]
        adjusted: set[Any] = set()

        def adjust(
            module: nn.Module,
            inputs: object,
            output: Tensor,
            before: list[Any] = before,
            adjusted: set[Any] = adjusted,
        ) -> None:
            if not isinstance(module, Neuron):
                if isinstance(getattr(module, "weight", None), Tensor):
                    before[0] = module
                return
            if not has_step(module):
                return
            rates.append(float((output != 0).double().mean()))
            layer, quiet = before[0], rates[-1] < 0.05
            if (not quiet and rates[-1] <= 0.9) or layer is None or layer in adjusted:
                return
            adjusted.add(layer)
            if hasattr(layer, "running_mean") and layer.bias is not None:
                layer.bias.add_(0.4 if quiet else -0.4)
                return
            layer.weight.mul_(1.6 if quiet else 0.6)
            if getattr(layer, "bias", None) is not None:
                layer.bias.add_(0.2 if quiet else -0.2)

        hooks = [
            module.register_forward_hook(adjust)
            for module in network.modules()
            if isinstance(module, Neuron) or not [*module.children()]
        ]
        network.train()(x)
        for hook in hooks:
            hook.remove()
        if not adjusted:
            break
    return rates


def case(first: str, second: str, *published: str) -> Case:
    """Return a case from texts: ``width=4 steps=2``, and ``0.13 M`` or ``0.13 M: width=8``."""
    said = (text.partition(": ") for text in published)
    return Case(
        (_settings(first), _settings(second)), {number: _settings(rest) for number, _, rest in said}
    )


def _settings(text: str) -> Mapping[str, Any]:
    pairs = (item.partition("=") for item in text.split())
    return {name: int(value) if value.isdigit() else value for name, _, value in pairs}


CASES: Mapping[str, Case] = {
    "adlif": case(
        "width=6 inputs=8 steps=8 classes=4 drop=0.0",
        "width=8 inputs=7 steps=11 classes=3 drop=0.0",
    ),
    "autosnn": case(
        "width=3 image=8 steps=2 classes=3",
        "width=2 image=16 steps=3 classes=3",
        "20.92 M",
        "5.44 M: width=64",
        "1.46 M: width=32",
        "0.42 M: width=16",
    ),
    "bntt": case("width=3 image=8 steps=2 code=identity", "width=4 image=16 steps=3 code=identity"),
    "brf": case("inputs=8 width=8 steps=10 classes=4", "inputs=7 width=11 steps=14 classes=3"),
    "clif": case("width=3 image=16 steps=2", "width=4 image=16 steps=3"),
    "convlstm": case("size=4 patch=2 width=2 steps=3", "size=5 patch=3 width=3 steps=4"),
    "convnext": case(
        "width=2 image=32 steps=1 drop=0.0 classes=5",
        "width=3 image=64 steps=2 drop=0.0 classes=5",
        "28.59 M",
    ),
    "dcls_delays": case(
        "width=5 inputs=6 steps=7 classes=3 taps=3 sigma=0.7 drop=0.0",
        "width=6 inputs=5 steps=9 classes=2 taps=4 sigma=1.0 drop=0.0",
    ),
    "decolle": case(
        "width=3 image=8 steps=4 classes=3 drop=0.0", "width=4 image=12 steps=6 classes=2 drop=0.0"
    ),
    "denseformer": case(
        "width=8 heads=2 depth=3 image=8 patch=4 steps=1",
        "width=12 heads=3 depth=2 image=8 patch=4 steps=2",
    ),
    "dh_snn": case(
        "width=8 inputs=16 steps=6 skip=2", "width=12 inputs=20 steps=9 layers=2 skip=3"
    ),
    "diet_snn": case("width=3 image=16 steps=4 drop=0.0", "width=4 image=16 steps=3 drop=0.0"),
    "dspike_resnet18": case("width=3 image=8 steps=2", "width=4 image=16 steps=3"),
    "e_spikeformer": case(
        "width=8 last=32 image=64 steps=1",
        "width=10 last=48 image=64 steps=2",
        "10.0 M",
        "5.1 M: width=32 last=192",
        "19.0 M: width=64 last=360",
    ),
    "ems_yolo": case("width=2 image=64 steps=2", "width=3 image=32 steps=3"),
    "event_densenet": case(
        "image=64 width=4 steps=2 a=2 b=2 c=1 d=1",
        "image=65 width=5 steps=3 a=1 b=2 c=2 d=2",
        "1.76 M",
        "3.93 M: width=24",
        "6.95 M: width=32",
        "3.16 M: c=32 d=32",
    ),
    "evsnn": case("high=16 wide=24 width=2 steps=2", "high=24 wide=16 width=3 steps=3"),
    "gac": case("width=4 image=8 steps=4", "width=6 image=8 steps=3"),
    "glif": case("width=4 image=8 steps=2", "width=6 image=8 steps=3"),
    "glif_channel": case("width=4 image=8 steps=2", "width=6 image=8 steps=3"),
    "klif": case("width=4 image=8 steps=3 classes=3", "width=3 image=12 steps=2 classes=4"),
    "lif_firenet": case("width=4 height=6 wide=5 steps=4", "width=5 height=5 wide=6 steps=6"),
    "ma_snn": case(
        "width=4 image=8 steps=4 classes=3 c=2 t=2", "width=6 image=8 steps=3 classes=4 c=3 t=1"
    ),
    "masked_psn": case("width=4 image=8 steps=3", "width=5 image=8 steps=4 k=3 masked=0.5"),
    "maxformer": case("width=16 heads=2 image=8 steps=2", "width=24 heads=1 image=8 steps=3"),
    "meta_spikeformer": case(
        "width=8 last=32 image=64 steps=2",
        "width=12 last=48 image=64 steps=3",
        "31.3 M",
        "15.1 M: width=64 last=360",
        "55.4 M: width=128 last=640",
    ),
    "mlf": case("width=4 image=8 steps=2", "width=5 image=8 steps=3"),
    "mpbn": case("width=2 image=32 steps=2", "width=3 image=64 steps=3"),
    "msresnet": case("width=3 image=64 steps=2 classes=5", "width=4 image=64 steps=3 classes=5"),
    "plif_net": case(
        "width=5 image=16 steps=3 classes=3 drop=0.0", "width=3 image=12 steps=2 classes=4 drop=0.0"
    ),
    "psn": case("width=4 image=8 steps=2", "width=5 image=8 steps=3"),
    "qcfs": case("width=2 image=32 steps=1", "width=3 image=32 steps=2"),
    "qkformer": case(
        "width=16 heads=1 depth=3 image=16 steps=2",
        "width=24 heads=2 depth=4 image=16 steps=3",
        "6.74 M: classes=100",
    ),
    "real_spike": case("width=3 image=32 steps=2 classes=4", "width=4 image=32 steps=3 classes=3"),
    "se_adlif": case(
        "inputs=8 width=8 steps=8 classes=4 drop=0.0",
        "inputs=7 width=11 steps=11 classes=3 drop=0.0",
    ),
    "senet": case(
        "width=4 image=64 steps=1 classes=4", "width=8 image=64 steps=2 classes=3", "28.1 M"
    ),
    "sew_gesture": case("width=4 steps=2", "width=5 steps=3 join=sew_and", "0.13 M"),
    "sglformer": case(
        "width=24 heads=1 image=16 steps=2 classes=4", "width=36 heads=3 image=16 steps=3 classes=3"
    ),
    "sliding_psn": case("width=2 image=16 steps=3 p=0.0", "width=3 image=16 steps=4 k=3 p=0.0"),
    "snasnet": case(
        "width=4 steps=3 image=8 hidden=12 classes=4 drop=0",
        "width=5 steps=4 image=8 hidden=10 classes=3 drop=0",
    ),
    "spike_driven_transformer": case(
        "width=16 depth=2 image=8 steps=2",
        "width=24 depth=1 image=12 steps=3",
        "10.28 M: classes=100",
    ),
    "spikedhs": case("width=2 image=8 steps=3 classes=5", "width=3 image=16 steps=2 classes=5"),
    "spikegpt": case(
        "vocabulary=7 width=6 steps=6 depth=1 drop=0.0",
        "vocabulary=6 width=8 steps=8 depth=2 drop=0.0",
    ),
    "spikeyolo": case("width=2 image=64 steps=1", "width=3 image=64 steps=2"),
    "spikformer": case(
        "width=16 heads=1 depth=2 image=16 steps=2",
        "width=24 heads=2 depth=1 image=16 steps=3",
        "9.32 M",
    ),
    "spiking_lstm": case("inputs=6 width=8 steps=4", "inputs=6 width=11 steps=7"),
    "spiking_mobilenet": case(
        "image=32 width=2 steps=2",
        "image=33 width=3 steps=3 layer=full",
        "18.81 M: layer=full",
        "1.18 M: width=16 layer=full",
    ),
    "spiking_pointnet": case(
        "width=2 points=16 steps=2 classes=4 drop=0.0",
        "width=3 points=9 steps=3 classes=3 drop=0.0",
    ),
    "spiking_vgg16": case(
        "width=2 image=32 steps=2 drop=0.0", "width=3 image=32 steps=3 drop=0.0", "138.37 M"
    ),
    "spikingformer": case(
        "width=16 heads=1 depth=2 image=16 steps=2",
        "width=24 heads=2 depth=1 image=16 steps=3",
        "9.32 M",
    ),
    "spikingresformer": case(
        "width=8 wide=16 d=8 image=32 steps=2", "width=4 wide=12 d=4 image=32 steps=3"
    ),
    "spytorch": case("width=8 image=5 steps=9", "width=12 image=4 steps=7"),
    "srnn": case("inputs=12 width=8 steps=6 skip=2", "inputs=12 width=11 steps=9 skip=3"),
    "statten": case(
        "width=16 heads=2 depth=1 image=8 steps=4 chunk=2",
        "width=24 heads=1 depth=1 image=8 steps=3 chunk=3",
    ),
    "stbp": case("width=6 image=8 steps=3 code=identity", "width=4 image=12 steps=4 code=identity"),
    "stereospike": case(
        "height=20 width=27 w=2 steps=2 gain=8.0", "height=17 width=22 w=3 steps=3 gain=8.0"
    ),
    "stmixer": case(
        "width=16 heads=2 depth=1 image=8 steps=2 classes=4",
        "width=24 heads=3 depth=1 image=12 steps=3 classes=3",
    ),
    "stsc_snn": case("inputs=8 width=8 steps=6 classes=4", "inputs=6 width=10 steps=7 classes=3"),
    "surrogate_module": case(
        "width=4 image=16 steps=2 hidden=6", "width=6 image=16 steps=3 hidden=5"
    ),
    "tab": case("width=3 image=8 steps=2 drop=0.0", "width=4 image=16 steps=3 drop=0.0"),
    "tc_lif": case("width=4 steps=12", "width=6 steps=9", "85.1 k"),
    "tcja": case(
        "width=4 image=32 steps=4 classes=3 drop=0.0", "width=5 image=32 steps=5 classes=2 drop=0.0"
    ),
    "tdbn_resnet19": case("width=4 image=8 steps=2", "width=6 image=8 steps=3", "12.63 M"),
    "tebn": case("width=3 image=16 steps=2", "width=2 image=32 steps=3"),
    "ternary": case("width=4 image=8 steps=2", "width=5 image=8 steps=3 amplitude=learn(1.0)"),
    "vggsnn": case("width=3 image=16 steps=2", "width=2 image=32 steps=3"),
    "vit": case(
        "width=8 heads=2 depth=2 image=12 patch=4 steps=1",
        "width=12 heads=3 depth=1 image=8 patch=4 steps=2",
    ),
}
