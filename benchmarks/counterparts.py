"""Networks of torchvision and SpikingJelly that correspond to a graph.

torchvision's has the same weighted layers in the same order (weights, strides, paddings, groups),
ReLU for neurons and no time: the ANN that a spiking network is compared with, whatever its connection
and rule. SpikingJelly's is the same network: the same layers, connection, rule and neuron.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch
from torch import nn

from danetc.compiler.ir.at_node import weights
from danetc.compiler.ir.ops import OPS, whole
from danetc.compiler.ir.rule_forms import OutputOf, StageInput
from danetc.dsl.neuron.program import NeuronProgram
from danetc.dsl.neuron.spikingjelly import CLASSES, match_neuron

if TYPE_CHECKING:
    from danetc.compiler.ir.graph import Graph, Node

TORCHVISION = (
    "resnet18", "resnet34", "resnet50", "resnet101", "resnet152",
    "resnext50_32x4d", "resnext101_32x8d", "wide_resnet50_2", "wide_resnet101_2",
    "densenet121", "densenet161", "densenet169", "densenet201",
)  # fmt: skip
RESNETS = tuple(name for name in TORCHVISION if "resne" in name)
"""Networks that SpikingJelly has as ``sew_NAME`` and ``spiking_NAME``."""


@dataclass(frozen=True, slots=True)
class CounterpartLayer:
    """A weighted layer: the shape of its weight, and stride, padding and groups of a convolution."""

    weight: tuple[int, ...]
    stride: int = 1
    padding: int = 0
    groups: int = 1

    def __str__(self) -> str:
        return "x".join(map(str, self.weight)) + (f"/{self.stride}" if self.stride > 1 else "")


@dataclass(frozen=True, slots=True)
class Counterpart:
    """A network of another library. ``make()`` returns it with its own initial weights."""

    library: str
    name: str
    make: Callable[[], nn.Module]

    def __str__(self) -> str:
        return f"{self.library} {self.name}"


@dataclass(frozen=True, slots=True)
class NoCounterpart:
    """Reason why another library has no counterpart."""

    library: str
    reason: str

    def __str__(self) -> str:
        return f"no counterpart in {self.library}: {self.reason}"


def torchvision_counterpart(graph: Graph) -> Counterpart | NoCounterpart:
    """Return the ReLU network of the same weighted layers."""
    name = _backbone(graph)
    if isinstance(name, NoCounterpart):
        return name
    classes = _layers(graph)[-1].weight[0]
    return Counterpart("torchvision", name, lambda: _torchvision(name, classes))


def spikingjelly_counterpart(graph: Graph) -> Counterpart | NoCounterpart:
    """Return the SEW ResNet or spiking ResNet that is this network, neuron for neuron."""
    library = "SpikingJelly"
    found = _backbone(graph)
    if isinstance(found, NoCounterpart):
        return NoCounterpart(library, found.reason)
    if found not in RESNETS:
        return NoCounterpart(library, f"it has no spiking {found}")
    family = _family(graph)
    if isinstance(family, NoCounterpart):
        return family
    if len(graph.neurons) != 1:
        return NoCounterpart(library, "its networks have one kind of neuron throughout")
    neuron = _neuron(next(iter(graph.neurons.values())))
    if neuron is None:
        names = ", ".join(graph.neurons)
        return NoCounterpart(library, f"none of its neurons is known to be {names}")
    if find_spec("spikingjelly") is None:
        return NoCounterpart(library, "it is not installed: pip install 'danetc[spikingjelly]'")
    prefix, options = family
    name, classes = f"{prefix}_{found}", _layers(graph)[-1].weight[0]

    def make() -> nn.Module:
        module = "sew_resnet" if prefix == "sew" else "spiking_resnet"
        maker = getattr(import_module(f"spikingjelly.activation_based.model.{module}"), name)
        model: nn.Module = maker(spiking_neuron=neuron, num_classes=classes, **options)
        return model

    counts = _counts(make, graph)
    if counts is not None:
        return NoCounterpart(library, f"its {name} comes closest, but {counts}")
    return Counterpart(library, name, make)


def _counts(make: Callable[[], nn.Module], graph: Graph) -> str | None:
    """Return how the numbers of norms and neurons differ from the graph's, or None."""
    base = import_module("spikingjelly.activation_based.base")
    with torch.device("meta"):
        modules = list(make().modules())
    rows = [OPS[node.op] for node in graph.nodes.values()]
    for mine, what, kind in (
        (sum(row.norm == "channel" for row in rows), "norms", nn.BatchNorm2d),
        (sum(row.time == "neuron" for row in rows), "neuron layers", base.MemoryModule),
    ):
        theirs = sum(isinstance(module, kind) for module in modules)
        if mine != theirs:
            return f"has {theirs} {what}, not {mine}"
    return None


def _neuron(program: NeuronProgram) -> Callable[[], nn.Module] | None:
    """Return a function that makes a neuron layer of SpikingJelly with these equations, or None."""
    found = match_neuron(program)
    if found is None:
        return None  # SpikingJelly has no layer with these equations
    options, node = found.settings(), CLASSES[found.neuron]

    def make() -> nn.Module:
        base = "spikingjelly.activation_based"
        surrogate = getattr(import_module(f"{base}.surrogate"), found.surrogate)
        layer: nn.Module = getattr(import_module(f"{base}.neuron"), node)(
            surrogate_function=surrogate(**dict(found.shape)), **options
        )
        return layer

    return make


# -- weighted layers ------------------------------------------------------------------------------


def _backbone(graph: Graph) -> str | NoCounterpart:
    """Return the name of the torchvision network with these weighted layers."""
    library = "torchvision"
    if len(graph.outputs) != 1:
        return NoCounterpart(library, f"the network has {len(graph.outputs)} outputs")
    layers = _layers(graph)
    if not layers or len(layers[-1].weight) != 2:
        return NoCounterpart(library, "the network does not end in a linear layer")
    classes = layers[-1].weight[0]
    closest, same = "", -1
    for name in TORCHVISION:
        theirs = _layers_of(name, classes)
        if theirs == layers:
            return name
        shared = sum((Counter(theirs) & Counter(layers)).values())
        if shared > same:
            closest, same = name, shared
    return NoCounterpart(library, _difference(layers, closest, classes))


def _difference(layers: tuple[CounterpartLayer, ...], closest: str, classes: int) -> str:
    theirs = _layers_of(closest, classes)
    for number, (mine, other) in enumerate(zip(layers, theirs, strict=False)):
        if mine != other:
            return (
                f"of its networks {closest} comes closest, but there weighted layer {number + 1} "
                f"is {other}, here {mine}"
            )
    return (
        f"of its networks {closest} comes closest, but it has {len(theirs)} weighted layers, "
        f"not {len(layers)}"
    )


def _layers(graph: Graph) -> tuple[CounterpartLayer, ...]:
    """Return convolutions and linear layers in the order of the spec."""
    weighted = (id for id in sorted(graph.nodes) if OPS[graph[id].op].weighted)
    return tuple(_layer(graph, graph[id]) for id in weighted)


def _layer(graph: Graph, node: Node) -> CounterpartLayer:
    weight = weights(graph, node)["weight"]
    if OPS[node.op].window is None:
        return CounterpartLayer(weight)
    stride, padding, groups = (whole(node.attrs, name) for name in ("stride", "padding", "groups"))
    return CounterpartLayer(weight, stride, padding, groups)


@cache
def _layers_of(name: str, classes: int) -> tuple[CounterpartLayer, ...]:
    """Return those of a torchvision network, which is built on the meta device."""
    with torch.device("meta"):
        model = _torchvision(name, classes)
    layers = []
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            stride, padding = module.stride[0], module.padding[0]
            assert isinstance(padding, int)
            layers.append(
                CounterpartLayer(tuple(module.weight.shape), stride, padding, module.groups)
            )
        elif isinstance(module, nn.Linear):
            layers.append(CounterpartLayer(tuple(module.weight.shape)))
    return tuple(layers)


def _torchvision(name: str, classes: int) -> nn.Module:
    models = import_module("torchvision.models")
    model: nn.Module = getattr(models, name)(weights=None, num_classes=classes)
    return model


# -- connections ----------------------------------------------------------------------------------


def _family(graph: Graph) -> tuple[str, dict[str, str]] | NoCounterpart:
    """Return ``sew`` or ``spiking``, and the options of its constructor, by the joins of blocks."""
    library = "SpikingJelly"
    found: set[str] = set()
    for stage in graph.stages:
        for i, block in enumerate(stage.blocks):
            before = StageInput() if i == 0 else OutputOf(i - 1)
            if stage.terms(block.feed) != {before: 1.0} or block.shortcut is not None:
                return NoCounterpart(library, f"none of its networks has the rule {stage.rule}")
            found.add(_join(graph, block.join, block.after))
        if stage.terms(stage.result_form) != {OutputOf(len(stage.blocks) - 1): 1.0}:
            return NoCounterpart(library, f"none of its networks has the rule {stage.rule}")
    names = " and ".join(sorted({stage.connection for stage in graph.stages}))
    if len(found) != 1 or "" in found:
        return NoCounterpart(library, f"none of its ResNets has the connection {names}")
    kind = found.pop()
    return ("spiking", {}) if kind == "spiking" else ("sew", {"cnf": kind})


def _join(graph: Graph, join: int, after: tuple[str, ...]) -> str:
    """Return ``spiking`` (a neuron after the sum), SEW's ``ADD``, ``AND`` or ``IAND``, or ""."""
    node = graph[join]
    ways = graph.inputs_of(node)
    spikes = all(way.value.kind.is_integer for way in ways)
    row, neurons = OPS[node.op], [OPS[op].time == "neuron" for op in after]
    if row.rule == "sum" and neurons == [True] and OPS[ways[0].op].norm == "channel":
        return "spiking"
    if neurons or not spikes:
        return ""
    if row.rule == "sum":
        return "ADD"
    if row.absorbing == 0:  # a product
        return "IAND" if ways[0].attrs.get("factor") == -1 else "AND"
    return ""
