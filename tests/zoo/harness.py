"""Networks of specs/zoo at small sizes, and their published numbers of parameters."""

from collections.abc import Mapping
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from danetc.compiler import graph_of
from danetc.compiler.frontend.program import Checked, check_file
from danetc.compiler.ir.at_node import taken
from danetc.compiler.ir.graph import Graph
from danetc.dsl.neuron.reading import read_program
from danetc.dsl.reading import ZOO, shipped_specs
from danetc.runtime.layers.neuron import Neuron
from danetc.runtime.layers.weight_layer import layers_of
from tests.differential.helpers import randn

NAMES = tuple(name.removeprefix(ZOO) for name in shipped_specs() if name.startswith(ZOO))
BATCH = 2
RATES = (0.02, 0.98)


@cache
def checked(name: str) -> Checked:
    return check_file(ZOO + name)


def file_of(name: str) -> Path:
    return shipped_specs()[ZOO + name]


def graph(name: str, settings: Mapping[str, Any]) -> Graph:
    return graph_of(checked(name), settings=dict(settings))


def frames(ours: Graph) -> Tensor:
    """Return an input of the network: an image [N, C, H, W], counts of events [T, N, C, H, W], or tokens."""
    value = taken(ours)
    if value.kind.is_token:
        size = (*[ours.steps] * value.varies, BATCH, *value.shape)
        return torch.arange(prod(size)).reshape(size) * 7 % (value.kind.high + 1)
    if not value.varies:
        return randn(BATCH, *value.shape)
    counts = torch.poisson(randn(ours.steps, BATCH, *value.shape).abs())
    return counts.clamp(max=value.kind.most) if value.kind.is_integer else counts


@torch.no_grad()
def rouse(network: nn.Module, x: Tensor, rounds: int = 25) -> list[float]:
    """Adjust the layer before each neuron until the neuron fires at a moderate rate.

    Returns the rates of the last pass.
    """
    rates: list[float] = []
    before: list[Any] = []
    adjusted: set[Any] = set()

    def adjust(module: nn.Module, inputs: object, output: Tensor) -> None:
        if not isinstance(module, Neuron):
            if isinstance(getattr(module, "weight", None), Tensor):
                before.append(module)
        elif read_program(module.program).has_step:
            rates.append(float((output != 0).double().mean()))
            layer, quiet = before[-1] if before else None, rates[-1] < 0.05
            if (not quiet and rates[-1] <= 0.9) or layer is None or layer in adjusted:
                return
            adjusted.add(layer)
            if hasattr(layer, "running_mean") and layer.bias is not None:
                layer.bias.add_(0.4 if quiet else -0.4)
                return
            getattr(layer, "weight_raw", layer.weight).mul_(1.6 if quiet else 0.6)
            if getattr(layer, "bias", None) is not None:
                layer.bias.add_(0.2 if quiet else -0.2)

    hooks = [
        module.register_forward_hook(adjust)
        for _, module in layers_of(network)
        if isinstance(module, Neuron) or {*module._modules} <= {"weight_layer"}
    ]
    for _ in range(rounds):
        for kept in (rates, before, adjusted):
            kept.clear()
        network.train()(x)
        if not adjusted:
            break
    for hook in hooks:
        hook.remove()
    return rates


SMALL = """
adlif width=6 inputs=8 steps=8 classes=4 drop=0.0
alif_firenet width=4 height=6 wide=5 steps=4
autosnn width=3 image=8 steps=2 classes=3
backeisnn width=3 image=8 steps=3 classes=3 wide=6 drop=0.0
bntt width=3 image=8 steps=2 code=identity
brf inputs=8 width=8 steps=10 classes=4
clif width=3 image=16 steps=2
cml width=16 heads=1 depth=2 image=16 steps=2
convlstm size=4 patch=2 width=2 steps=3
convnext width=2 image=32 steps=1 drop=0.0 classes=5
dcls_delays width=5 inputs=6 steps=7 classes=3 taps=3 sigma=0.7 drop=0.0
decolle width=3 image=8 steps=4 classes=3 drop=0.0
denseformer width=12 heads=3 depth=2 image=8 patch=4 steps=2
dh_snn width=8 inputs=16 steps=6 skip=2
diet_snn width=3 image=16 steps=4 drop=0.0
dspike_resnet18 width=3 image=8 steps=2
dsr width=3 image=32 steps=8 classes=4
dsr_if width=4 image=32 steps=20 classes=5
e_spikeformer width=8 last=32 image=64 steps=1
ems_yolo width=2 image=64 steps=2
esdnet width=16 image=8 steps=4 a=1 b=1 d=1 c=4
event_densenet image=64 width=4 steps=2 a=2 b=2 c=1 d=1
evsnn high=16 wide=24 width=2 steps=2
gac width=4 image=8 steps=4
glif width=4 image=8 steps=2
glif_channel width=4 image=8 steps=2
heterogeneity inputs=6 width=8 steps=10 classes=4 syn=3 mem=2
imloss width=3 image=16 steps=4 classes=4
imp width=3 image=16 steps=3 classes=4 drop=0.0
inflor width=3 image=16 steps=2 classes=4
ispikformer variables=5 window=8 horizon=4 steps=3 width=16 heads=1 depth=1
klif width=4 image=8 steps=3 classes=3
lif_firenet width=4 height=6 wide=5 steps=4
lisnn width=3 image=8 steps=4 classes=3 wide=6
localzo width=4 image=16 steps=3 classes=10
ltmd width=4 image=16 steps=3 classes=4 k=4 a=1 b=2 c=1
ma_snn width=4 image=8 steps=4 classes=3 c=2 t=2
masked_psn width=5 image=8 steps=4 k=3 masked=0.5
max_resnet width=4 image=8 steps=2 classes=4
maxformer width=16 heads=2 image=8 steps=2
meta_spikeformer width=8 last=32 image=64 steps=2
mlf width=4 image=8 steps=2
mpbn width=2 image=32 steps=2
msresnet width=3 image=64 steps=2 classes=5
nsnn width=8 image=16 steps=2 classes=4
ottt_vgg width=4 image=16 steps=4 classes=4
paralif inputs=6 width=6 steps=8 classes=3 syn=3 mem=2
plif_net width=5 image=16 steps=3 classes=3 drop=0.0
psn width=4 image=8 steps=2
qcfs width=2 image=32 steps=1
qkformer width=16 heads=1 depth=3 image=16 steps=2
qsd_transformer width=8 last=16 image=32 classes=4 depth=4
real_spike width=3 image=32 steps=2 classes=4
se_adlif inputs=8 width=8 steps=8 classes=4 drop=0.0
senet width=4 image=64 steps=1 classes=4
sew_gesture width=5 steps=3 join=sew_and
sglformer width=24 heads=1 image=16 steps=2 classes=4
sliding_psn width=2 image=16 steps=3 p=0.0
sltt width=4 image=32 steps=2 classes=4 a=2 b=1 c=1 d=1
sltt_resnet18 width=3 image=32 steps=4 classes=4
snasnet width=4 steps=3 image=8 hidden=12 classes=4 drop=0
spike_driven_transformer width=16 depth=2 image=8 steps=2
spike_flownet width=2 image=16 steps=3 v_threshold=0.5
spike_rnn variables=3 window=6 steps=3 width=8 depth=1
spikebert vocabulary=9 classes=3 length=6 steps=3 width=8 heads=2 depth=1
spikedhs width=2 image=8 steps=3 classes=5
spikegpt vocabulary=7 width=6 steps=6 depth=1 drop=0.0
spikelm vocabulary=9 length=12 steps=3 width=8 heads=2 depth=1 p=0.0
spikeyolo width=3 image=64 steps=2
spikformer width=16 heads=1 depth=2 image=16 steps=2
spikformer_cpg variables=3 window=6 steps=3 width=16 heads=2 depth=1 neurons=6 drop=0.0
spikformer_ts variables=3 window=8 steps=3 width=16 heads=1 depth=1
spiking_fullsubnet inputs=6 outputs=4 width=5 steps=6
spiking_lstm inputs=6 width=8 steps=4
spiking_mobilenet image=33 width=3 steps=3 layer=full
spiking_pointnet width=2 points=16 steps=2 classes=4 drop=0.0
spiking_ssm inputs=3 steps=6 width=4 states=3 depth=2 classes=3 drop=0.0
spiking_vgg16 width=2 image=32 steps=2 drop=0.0
spikingformer width=16 heads=1 depth=2 image=16 steps=2
spikingformer_cml width=16 heads=1 depth=1 image=16 steps=2
spikingresformer width=8 wide=16 d=8 image=32 steps=2
spytorch width=8 image=5 steps=9
srnn inputs=12 width=8 steps=6 skip=2
statten width=16 heads=2 depth=1 image=8 steps=4 chunk=2
stbp width=6 image=8 steps=3 code=identity
stereospike height=20 width=27 w=2 steps=2 gain=8.0
stmixer width=16 heads=2 depth=1 image=8 steps=2 classes=4
stsc_snn inputs=8 width=8 steps=6 classes=4
surrogate_module width=4 image=16 steps=2 hidden=6
swformer width=16 groups=2 depth=1 image=16 steps=2
ta_snn inputs=6 width=5 steps=6 classes=4 reduction=3 drop=0.0
tab width=3 image=8 steps=2 drop=0.0
tc_lif width=4 steps=12
tcja width=4 image=32 steps=4 classes=3 drop=0.0
tdbn_resnet19 width=4 image=8 steps=2
tebn width=3 image=16 steps=2
ternary width=5 image=8 steps=3 amplitude=learn(1.0)
tim width=16 heads=4 depth=1 image=32 steps=3 classes=4
ts_lif variables=4 steps=6 width=6 depth=2
vggsnn width=3 image=16 steps=2
vit width=12 heads=3 depth=1 image=8 patch=4 steps=2
xlif_firenet width=4 height=6 wide=5 steps=4
"""
"""The settings with which each network is run."""
PUBLISHED = """
autosnn: 20.92 M
autosnn: 5.44 M: width=64
autosnn: 1.46 M: width=32
autosnn: 0.42 M: width=16
convnext: 28.59 M
e_spikeformer: 10.0 M
e_spikeformer: 5.1 M: width=32 last=192
e_spikeformer: 19.0 M: width=64 last=360
event_densenet: 1.76 M
event_densenet: 3.93 M: width=24
event_densenet: 6.95 M: width=32
event_densenet: 3.16 M: c=32 d=32
meta_spikeformer: 31.3 M
meta_spikeformer: 15.1 M: width=64 last=360
meta_spikeformer: 55.4 M: width=128 last=640
qkformer: 6.74 M: classes=100
senet: 28.1 M
sew_gesture: 0.13 M
spike_driven_transformer: 10.28 M: classes=100
spikformer: 9.32 M
spiking_mobilenet: 18.81 M: layer=full
spiking_mobilenet: 1.18 M: width=16 layer=full
spiking_vgg16: 138.37 M
spikingformer: 9.32 M
tc_lif: 85.1 k
tdbn_resnet19: 12.63 M
"""
"""Numbers of parameters in the paper or its authors' code, with the settings of that network."""


def _settings(text: str) -> dict[str, Any]:
    pairs = (item.partition("=") for item in text.split())
    return {name: int(value) if value.isdigit() else value for name, _, value in pairs}


CASES: Mapping[str, Mapping[str, Any]] = {
    line.partition(" ")[0]: _settings(line.partition(" ")[2]) for line in SMALL.split("\n")[1:-1]
}


def published(name: str) -> dict[str, dict[str, Any]]:
    """Return the settings of a network by the published number of its parameters."""
    found = (line.split(": ") for line in PUBLISHED.split("\n")[1:-1])
    return {number: _settings(" ".join(rest)) for key, number, *rest in found if key == name}
