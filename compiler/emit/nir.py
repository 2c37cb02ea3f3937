"""A network as a graph of NIR (Pedersen et al., Nature Communications 2024), from its graph.

NIR's nodes are differential equations and linear maps; several edges into a node are a sum. Time
steps are ``DT`` seconds long, and neurons are written so that a forward Euler step of that length is
danetc's: tau = ``tau * DT`` of a LIF, r = 1 / ``DT`` of an IF, as SpikingJelly writes and reads them.
A LIF that a layer of weights drives has r = tau / ``DT``, and the weights are divided by that, so that
its input comes in whole, as snn-mlir reads it; another one has r = 1. A node has its name in the spec,
with ``.times_`` and a number behind it for a multiple.

A norm is folded into the convolution before it, or becomes a convolution of one pixel. A convolution
in groups is written as a full one with weights of 0 between groups, since neither nir 1.0.8 nor
SpikingJelly reads groups. What the network gives is its output at each step: the mean over the steps
is what the model gives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import nir
import numpy as np

from danetc.compiler.emit.names import dotted
from danetc.compiler.ir.graph import Graph, Node, Shape
from danetc.compiler.ir.ops import OPS, whole
from danetc.compiler.ir.ops.kinds import number
from danetc.dsl.neuron.program import NeuronProgram
from danetc.dsl.neuron.spikingjelly import is_standard, match_neuron

Array: TypeAlias = "np.ndarray[Any, Any]"
Arrays = Mapping[str, Array]
DT = 1e-4
"""Seconds from one time step to the next: what readers of NIR take where nobody says another."""

Sum: TypeAlias = "tuple[tuple[str, float], ...]"
"""A value: nodes of NIR, each times a number."""


class NotInNir(ValueError):
    """NIR has no node for something. The message names its node; ``hint`` says what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


HINTS: Mapping[str, str] = {
    "maxpool": "pool by `avgpool`, or let the convolution before it have the stride",
    "concat": "a rule of sums (`by densely_additive`) has a form in NIR",
    "tebn": "`norm = batchnorm` has a form in NIR",
    "groupnorm": "`norm = batchnorm` has a form in NIR",
    "layernorm": "`norm = batchnorm` has a form in NIR",
    "latency": "code the image before it goes in: `input = events(...)`",
    "poisson": "code the image before it goes in: `input = events(...)`",
}
"""What to do about an operation that NIR has no node for."""
_OTHERS = "ONNX has a form of it: write a file that ends in .onnx"


def emit_nir(graph: Graph, weights: Arrays, about: Mapping[str, Any] | None = None) -> nir.NIRGraph:
    """The network with these weights (a state dict's arrays) as a graph of NIR.

    Raises NotInNir for what NIR has no node for.
    """
    return _Emitter(graph, weights).graph_of(dict(about or {}))


class _Emitter:
    def __init__(self, graph: Graph, weights: Arrays) -> None:
        self.graph = graph
        self.weights = weights
        self.nodes: dict[str, nir.NIRNode] = {}
        self.edges: dict[tuple[str, str], None] = {}
        self.values: dict[int, Sum] = {}
        self.scaled: dict[tuple[str, float], str] = {}
        users = graph.users()
        self.norms = {  # the norm behind a layer of weights that nothing else reads
            node.inputs[0]: node
            for node in graph.nodes.values()
            if OPS[node.op].nir == "norm"
            and not node.attrs.get("per_step")
            and not node.attrs.get("pad")
            and OPS[graph[node.inputs[0]].op].nir in ("conv", "linear")
            and len(users[node.inputs[0]]) == 1
        }
        self.driven = {  # neurons that alone read a layer of weights, and that layer
            node.id: layer
            for node in graph.nodes.values()
            if node.op == "neuron"
            and len(users[node.inputs[0]]) == 1
            and OPS[graph[layer := self._layer_of(node.inputs[0])].op].nir in ("conv", "linear")
        }
        self.gains = {
            layer: float(made.tau.flat[0]) / DT
            for id, layer in self.driven.items()
            if isinstance(made := self.neuron(graph[id]), nir.LIF)
        }
        """What weights are divided by, where they drive a LIF: its tau in steps, which its r then is."""

    def _layer_of(self, value: int) -> int:
        """The layer of weights that gives a value, with the norm that is folded into it."""
        source = self.graph[value]
        folded = source.inputs and self.norms.get(source.inputs[0]) is source
        return source.inputs[0] if folded else value

    def neuron(self, node: Node) -> nir.NIRNode | None:
        """The node with a neuron's equations, where NIR has one."""
        program = self.graph.program(node)
        return neuron_node(program, node.value.shape, lambda name: self.stored(node, name))

    def graph_of(self, about: dict[str, Any]) -> nir.NIRGraph:
        graph = self.graph
        if len(graph.inputs) != 1 or len(graph.outputs) != 1:
            raise NotInNir(
                f"{graph.name} has {len(graph.inputs)} inputs and {len(graph.outputs)} outputs, and "
                "readers of NIR take graphs of one each",
                _OTHERS,
            )
        (end,) = graph.outputs.values()
        self._check_mean()
        source = graph.input
        self.nodes["input"] = nir.Input(input_type={"input": np.array(source.value.shape)})
        self.values[source.id] = (("input", 1.0),)
        for node in graph.nodes.values():
            if node.id not in self.values:
                self.values[node.id] = self._value(node)
        last = graph[end]
        self.nodes["output"] = nir.Output(output_type={"output": np.array(last.value.shape)})
        self._connect(end, "output")
        about |= {"dt": DT, "steps": graph.steps, "network": graph.name}
        return nir.NIRGraph(self.nodes, [*self.edges], metadata=about, type_check=False)

    def _check_mean(self) -> None:
        """A mean over time is left to who reads the output: only linear nodes may follow it."""
        graph = self.graph
        behind: set[int] = set()
        for node in graph.nodes.values():
            if OPS[node.op].nir == "mean" and graph[node.inputs[0]].value.varies:
                behind.add(node.id)
            elif behind.intersection(node.inputs):
                if not OPS[node.op].linear or not behind.issuperset(node.inputs):
                    raise NotInNir(
                        f"{node.path}: {node.op} of a mean over time, and NIR has no mean over time",
                        "let the mean over time stand in the head, before linear layers alone",
                    )
                behind.add(node.id)

    def _value(self, node: Node) -> Sum:
        if node.id in self.graph.carries:
            raise NotInNir(f"{node.path}: a loop over time has no form in NIR here", _OTHERS)
        form = FORMS.get(OPS[node.op].nir)
        if form is None:
            raise NotInNir(
                f"{node.path}: NIR has no node for {node.op}", HINTS.get(node.op, _OTHERS)
            )
        return form(self, node)

    # -- nodes and edges --------------------------------------------------------------------------

    def add(self, node: Node, made: nir.NIRNode, path: str = "") -> Sum:
        """A node of NIR under the name of ours, with what ours reads as its inputs."""
        name = path or node.path
        self.nodes[name] = made
        for operand in node.inputs:
            self._connect(operand, name)
        return ((name, 1.0),)

    def _connect(self, value: int, target: str) -> None:
        shape = self.graph[value].value.shape
        for source, factor in self.values[value]:
            given = source if factor == 1 else self._times(source, factor, shape)
            self.edges[given, target] = None

    def _times(self, source: str, factor: float, shape: Shape) -> str:
        """A node that gives another one's output times a number."""
        if (source, factor) not in self.scaled:
            name = f"{source}.times_{factor:g}"  # a / would part groups of the file
            self.nodes[name] = diagonal(np.full(shape[0], factor), np.zeros(shape[0]), shape)
            self.edges[source, name] = None
            self.scaled[source, factor] = name
        return self.scaled[source, factor]

    def stored(self, node: Node, name: str) -> Array:
        owner = self.graph[self.graph.shares.get(node.id, node.id)]
        full = dotted(*owner.scope, owner.name, name)
        return self.weights[full].astype(np.float64)

    def affine(self, norm: Node) -> tuple[Array, Array]:
        """Factor and offset of each channel of a norm."""
        epsilon = number(norm.attrs, "eps") if "eps" in norm.attrs else 1e-5
        scale = self.stored(norm, "weight") / np.sqrt(self.stored(norm, "running_var") + epsilon)
        bias = self.stored(norm, "bias") if norm.attrs.get("bias", True) else 0.0
        return scale, bias - self.stored(norm, "running_mean") * scale

    def layer(self, node: Node) -> tuple[Array, Array]:
        """Weight and bias of a layer, with the norm behind it."""
        weight = self.stored(node, "weight")
        bias = self.stored(node, "bias") if node.attrs["bias"] else np.zeros(len(weight))
        if node.id in self.norms:
            scale, shift = self.affine(self.norms[node.id])
            weight = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
            bias = bias * scale + shift
        gain = self.gains.get(node.id, 1.0)
        weight, bias = weight / gain, bias / gain
        return weight.astype(np.float32), bias.astype(np.float32)


# -- forms ----------------------------------------------------------------------------------------


def diagonal(factor: Array, offset: Array, shape: Shape) -> nir.NIRNode:
    """Each channel times a number, plus one: a convolution of one pixel, of a vector a matrix."""
    weight, bias = np.diag(factor).astype(np.float32), offset.astype(np.float32)
    if len(shape) == 1:
        return nir.Affine(weight, bias)
    return nir.Conv2d(shape[1:], weight[:, :, None, None], (1, 1), (0, 0), (1, 1), 1, bias)


def _same(to: _Emitter, node: Node) -> Sum:
    return to.values[node.inputs[0]]


def _sum(to: _Emitter, node: Node) -> Sum:
    """The terms of its operands, those of a subtrahend negative; equal ones together."""
    found: dict[str, float] = {}
    for place, operand in enumerate(node.inputs):
        if to.graph[operand].value.shape != node.value.shape:
            raise NotInNir(
                f"{node.path}: values of several sizes are added, and NIR has no node for that",
                _OTHERS,
            )
        sign = -1.0 if node.op == "sub" and place else 1.0
        for source, factor in to.values[operand]:
            found[source] = found.get(source, 0.0) + sign * factor
    return tuple(found.items())


def _scale(to: _Emitter, node: Node) -> Sum:
    factor, offset = number(node.attrs, "factor"), number(node.attrs, "offset")
    if offset == 0:
        return tuple((name, factor * old) for name, old in to.values[node.inputs[0]])
    channels = node.value.shape[0]
    return to.add(
        node, diagonal(np.full(channels, factor), np.full(channels, offset), node.value.shape)
    )


def _conv(to: _Emitter, node: Node) -> Sum:
    weight, bias = to.layer(node)
    weight = _ungrouped(weight, whole(node.attrs, "groups"))
    _, *size = to.graph[node.inputs[0]].value.shape

    def pair(name: str, other: int) -> tuple[int, int]:
        one = whole(node.attrs, name)
        ways = {"rows": (one, other), "columns": (other, one)}
        return ways.get(str(node.attrs.get("axis")), (one, one))

    made = nir.Conv2d(
        tuple(size), weight, pair("stride", 1), pair("padding", 0), pair("dilation", 1),
        1, bias,
    )  # fmt: skip
    return to.add(node, made)


def _ungrouped(weight: Array, groups: int) -> Array:
    """The weight of a convolution in groups as that of one of all channels."""
    width, each, *kernel = weight.shape
    whole_weight = np.zeros((width, each * groups, *kernel), weight.dtype)
    for group in range(groups):
        rows = slice(group * width // groups, (group + 1) * width // groups)
        whole_weight[rows, group * each : (group + 1) * each] = weight[rows]
    return whole_weight


def _linear(to: _Emitter, node: Node) -> Sum:
    return to.add(node, nir.Affine(*to.layer(node)))


def _norm(to: _Emitter, node: Node) -> Sum:
    if node.attrs.get("per_step") or node.attrs.get("pad"):
        what = "a norm for each time step" if node.attrs.get("per_step") else "a norm with a border"
        raise NotInNir(f"{node.path}: NIR has no node for {what}", HINTS["tebn"])
    if node.inputs[0] in to.norms:
        return to.values[node.inputs[0]]
    return to.add(node, diagonal(*to.affine(node), node.value.shape))


def _avgpool(to: _Emitter, node: Node) -> Sum:
    _, height, width = to.graph[node.inputs[0]].value.shape
    kernel, stride, padding = (height, width), (height, width), (0, 0)
    if "kernel" in node.attrs:
        kernel, stride, padding = (
            (whole(node.attrs, name),) * 2 for name in ("kernel", "stride", "padding")
        )
    return to.add(node, nir.AvgPool2d(*(np.array(pair) for pair in (kernel, stride, padding))))


def _flatten(to: _Emitter, node: Node) -> Sum:
    shape = np.array(to.graph[node.inputs[0]].value.shape)
    return to.add(node, nir.Flatten({"input": shape}, 0, -1))


def _neuron(to: _Emitter, node: Node) -> Sum:
    made = to.neuron(node)
    if made is None:
        raise NotInNir(
            f"{node.path}: NIR has no node with the equations of `{to.graph.program(node).name}`",
            "IF, LIF and PLIF have one, with a reset to `v_rest`, and the readout",
        )
    if isinstance(made, nir.LIF) and node.id in to.driven:
        made.r = made.tau / DT
    return to.add(node, made)


def neuron_node(
    program: NeuronProgram, shape: Shape, stored: Callable[[str], Array]
) -> nir.NIRNode | None:
    """The node with a neuron's equations, where NIR has one."""

    def full(value: float) -> Array:
        return np.full(shape, value, np.float64)

    found = match_neuron(program)
    if found is None and is_standard(program, "readout"):
        tau = float(dict(program.parameters)["tau"])
        return nir.LI(tau=full(tau * DT), r=full(1.0), v_leak=full(0.0))
    if found is None or found.v_reset is None:
        return None
    ends = {"v_threshold": full(found.v_threshold), "v_reset": full(found.v_reset)}
    if found.neuron == "IF":
        return nir.IF(r=full(1 / DT), **ends)
    tau = found.tau
    if found.neuron == "PLIF":
        tau = 1 + float(np.exp(-stored(program.learnables[0].parameter)))
    return nir.LIF(tau=full(tau * DT), r=full(1.0), v_leak=full(found.v_reset), **ends)


FORMS: Mapping[str, Callable[[_Emitter, Node], Sum]] = {
    "same": _same,
    "mean": _same,
    "sum": _sum,
    "scale": _scale,
    "conv": _conv,
    "linear": _linear,
    "norm": _norm,
    "avgpool": _avgpool,
    "flatten": _flatten,
    "neuron": _neuron,
}
"""What the field ``nir`` of an operation's row names."""
