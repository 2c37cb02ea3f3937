"""A network as a graph of NIR (Pedersen et al., Nature Communications 2024).

Nodes of NIR are differential equations and linear maps; the inputs of a node are added. Time steps
last ``DT`` seconds, and a forward Euler step of that length computes danetc's neurons: a LIF has
tau = ``tau * DT`` and r = 1, an IF r = 1 / ``DT``, as in SpikingJelly. Nodes have the names of the
spec; a node that multiplies another one has its name with the suffix ``.times_FACTOR``.

A norm is folded into the convolution before it, or becomes a 1x1 convolution. A grouped convolution
is written as a full one with zero weights between groups, since neither nir 1.0.8 nor SpikingJelly
reads groups. The graph returns the output at each step; the model returns the mean over steps.

A loop over one time step is a circle of edges, which readers of NIR delay by a step. The first
dimension of a Flatten is negative, which counts for readers with and without a dimension of samples.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import nir
import numpy as np

from danetc.compiler.emit.names import dotted
from danetc.compiler.ir.graph import Graph, Node, Shape
from danetc.compiler.ir.ops import OPS, whole
from danetc.compiler.ir.ops.kinds import number
from danetc.compiler.ir.ops.row import pair
from danetc.compiler.ir.ops.user import refuse_code
from danetc.dsl.errors import UserError
from danetc.dsl.neuron.spikingjelly import is_standard, match_neuron

Array: TypeAlias = "np.ndarray[Any, Any]"
Arrays = Mapping[str, Array]
DT = 1e-4
"""Length of a time step in seconds: the default of NIR's readers."""

Sum: TypeAlias = "tuple[tuple[str, float], ...]"
"""A value as a weighted sum: nodes of NIR with their factors."""


class NotInNir(UserError):
    """Raised if NIR has no node for an operation. The message names it; ``hint`` says what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(f"{message}; {hint}")
        self.hint = hint


_OTHERS = "ONNX supports it: write a file that ends in .onnx"
HINTS: Mapping[str, str] = {
    "maxpool": "use `avgpool`, or give the convolution before it a stride",
    "concat": "use a rule of sums, such as `by densely_additive`",
    "tebn": "use `norm = batchnorm`",
}
"""Hints for operations without a node in NIR."""


def emit_nir(graph: Graph, weights: Arrays, about: Mapping[str, Any] | None = None) -> nir.NIRGraph:
    """Return the network with these weights (arrays of a state dict) as a graph of NIR.

    Raises NotInNir for an operation without a node in NIR, SpecError for layers in Python.
    """
    refuse_code(graph, "has no form in NIR")
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
        weighted = {n.id for n in graph.nodes.values() if OPS[n.op].nir in ("conv", "linear")}
        self.norms = {  # norms that are folded, by the node of their layer
            node.inputs[0]: node
            for node in graph.nodes.values()
            if OPS[node.op].nir == "norm"
            and not (node.attrs.get("per_step") or node.attrs.get("pad"))
            and node.inputs[0] in weighted
            and len(users[node.inputs[0]]) == 1
        }

    def graph_of(self, about: dict[str, Any]) -> nir.NIRGraph:
        graph = self.graph
        if len(graph.inputs) != 1 or len(graph.outputs) != 1:
            raise NotInNir(
                f"{graph.name} has {len(graph.inputs)} inputs and {len(graph.outputs)} outputs; "
                "readers of NIR expect one each",
                _OTHERS,
            )
        (end,) = graph.outputs.values()
        self._check_mean()
        source, users = graph.input, graph.users()
        shape: Shape = source.value.shape
        repeated = [id for id in users[source.id] if graph[id].op == "repeat"]
        self.values |= dict.fromkeys([source.id, *repeated], (("input", 1.0),))
        readers = [id for each in self.values for id in users[each] if id not in self.values]
        if shape[1:] == (1, 1) and all(graph[id].op == "flatten" for id in readers):
            shape = shape[:1]  # a vector
            self.values |= dict.fromkeys(readers, (("input", 1.0),))
        self.nodes["input"] = nir.Input(input_type={"input": np.array(shape)})
        for node in graph.nodes.values():
            if node.id not in self.values:
                self.values[node.id] = self._value(node)
        last = graph[end]
        self.nodes["output"] = nir.Output(output_type={"output": np.array(last.value.shape)})
        self._connect(end, "output")
        about |= {"dt": DT, "steps": graph.steps, "network": graph.name}
        return nir.NIRGraph(self.nodes, [*self.edges], metadata=about, type_check=False)

    def _check_mean(self) -> None:
        """Check that only linear nodes follow the mean over time, which NIR does not contain."""
        graph = self.graph
        behind: set[int] = set()
        for node in graph.nodes.values():
            if OPS[node.op].nir == "mean" and graph[node.inputs[0]].value.varies:
                behind.add(node.id)
            elif behind.intersection(node.inputs):
                if not OPS[node.op].linear or not behind.issuperset(node.inputs):
                    raise NotInNir(
                        f"{node.path}: {node.op} reads a mean over time, which NIR does not have",
                        "move the mean over time to the head, before linear layers only",
                    )
                behind.add(node.id)

    def _value(self, node: Node) -> Sum:
        if node.id in self.graph.carries:
            return self._carried(node)
        inputs = [self.graph[id].value.shape for id in node.inputs]
        match OPS[node.op].nir:
            case "same" | "mean":
                return self.values[node.inputs[0]]
            case "sum":
                return self._sum(node)
            case "scale":
                factor, offset = number(node.attrs, "factor"), number(node.attrs, "offset")
                if offset == 0:
                    return tuple((key, factor * old) for key, old in self.values[node.inputs[0]])
                return self.add(node, diagonal(factor, offset, node.value.shape))
            case "conv":
                weight, bias = self.layer(node)
                weight = _ungrouped(weight, whole(node.attrs, "groups"))
                ends = {"stride": 1, "padding": 0, "dilation": 1}
                stride, padding, dilation = (pair(node.attrs, *each) for each in ends.items())
                made = nir.Conv2d(inputs[0][1:], weight, stride, padding, dilation, 1, bias)
                return self.add(node, made)
            case "linear":
                return self.add(node, nir.Affine(*self.layer(node)))
            case "norm":
                return self._norm(node)
            case "avgpool":
                sizes = [inputs[0][1:], inputs[0][1:], (0, 0)]
                if "kernel" in node.attrs:
                    names = ("kernel", "stride", "padding")
                    sizes = [(whole(node.attrs, name),) * 2 for name in names]
                return self.add(node, nir.AvgPool2d(*map(np.array, sizes)))
            case "flatten":
                first = -len(inputs[0])
                return self.add(node, nir.Flatten({"input": np.array(inputs[0])}, first, -1))
            case "neuron":
                return self._neuron(node)
        hint = HINTS.get(node.op, _OTHERS)
        raise NotInNir(f"{node.path}: NIR has no node for {node.op}", hint)

    def _sum(self, node: Node) -> Sum:
        """Return the sum of the operands; the factors of a subtrahend are negated."""
        found: dict[str, float] = {}
        for place, operand in enumerate(node.inputs):
            if self.graph[operand].value.shape != node.value.shape:
                raise NotInNir(f"{node.path}: NIR cannot add values of different sizes", _OTHERS)
            sign = -1.0 if node.op == "sub" and place else 1.0
            for source, factor in self.values[operand]:
                found[source] = found.get(source, 0.0) + sign * factor
        return tuple(found.items())

    def _carried(self, node: Node) -> Sum:
        """Return the value of a loop. Readers of NIR start with 0 as the output of its last node, so a
        layer in it must not have a bias."""
        graph = self.graph
        source = graph[graph.carries[node.id]]
        if whole(node.attrs, "steps") != 1 or OPS[source.op].nir != "neuron":
            message = f"{node.path}: NIR has loops over one time step from a neuron, and no others"
            raise NotInNir(message, "write `delay(1)` after a neuron; ONNX supports other loops")
        for user in (graph[id] for id in graph.users()[node.id]):
            layer = OPS[user.op].nir in ("conv", "linear")
            if not layer or self.layer(user)[1].any():
                raise NotInNir(
                    f"{node.path}: `{user.path}` reads a loop, and has a bias or is no layer",
                    "write `h -> delay(1) -> linear(width, bias = false)`, without a norm behind it",
                )
        return ((source.path, 1.0),)

    def _norm(self, node: Node) -> Sum:
        if node.attrs.get("per_step") or node.attrs.get("pad"):
            message = f"{node.path}: NIR has no norm per time step or with a border"
            raise NotInNir(message, HINTS["tebn"])
        if node.inputs[0] in self.norms:
            return self.values[node.inputs[0]]
        return self.add(node, diagonal(*self.affine(node), node.value.shape))

    def _neuron(self, node: Node) -> Sum:
        program = self.graph.program(node)

        def full(value: float) -> Array:
            return np.full(node.value.shape, value, np.float64)

        found = match_neuron(program)
        if found is None and is_standard(program, "readout"):
            tau = float(dict(program.parameters)["tau"])
            return self.add(node, nir.LI(tau=full(tau * DT), r=full(1.0), v_leak=full(0.0)))
        if found is None or found.v_reset is None:
            raise NotInNir(
                f"{node.path}: NIR has no node with the equations of `{program.name}`",
                "it has nodes for IF, LIF and PLIF with a reset to `v_rest`, and for readouts",
            )
        ends = {"v_threshold": full(found.v_threshold), "v_reset": full(found.v_reset)}
        if found.neuron == "IF":
            return self.add(node, nir.IF(r=full(1 / DT), **ends))
        tau = found.tau
        if found.neuron == "PLIF":
            tau = 1 + float(np.exp(-self.stored(node, program.learnables[0].parameter)))
        made = nir.LIF(tau=full(tau * DT), r=full(1.0), v_leak=full(found.v_reset), **ends)
        return self.add(node, made)

    # -- nodes and edges --------------------------------------------------------------------------

    def add(self, node: Node, made: nir.NIRNode) -> Sum:
        """Add a node of NIR for a node of the graph."""
        self.nodes[node.path] = made
        for operand in node.inputs:
            self._connect(operand, node.path)
        return ((node.path, 1.0),)

    def _connect(self, value: int, target: str) -> None:
        shape = self.graph[value].value.shape
        for source, factor in self.values[value]:
            given = source if factor == 1 else self._times(source, factor, shape)
            self.edges[given, target] = None

    def _times(self, source: str, factor: float, shape: Shape) -> str:
        """Return the node that multiplies the output of another one."""
        if (source, factor) not in self.scaled:
            name = f"{source}.times_{factor:g}"  # a / would separate groups of the file
            self.nodes[name] = diagonal(factor, 0.0, shape)
            self.edges[source, name] = None
            self.scaled[source, factor] = name
        return self.scaled[source, factor]

    def stored(self, node: Node, name: str) -> Array:
        owner = self.graph[self.graph.shares.get(node.id, node.id)]
        full = dotted(*owner.scope, owner.name, name)
        return self.weights[full].astype(np.float64)

    def affine(self, norm: Node) -> tuple[Array, Array]:
        """Return factor and offset of each channel of a norm."""
        epsilon = number(norm.attrs, "eps") if "eps" in norm.attrs else 1e-5
        scale = self.stored(norm, "weight") / np.sqrt(self.stored(norm, "running_var") + epsilon)
        bias = self.stored(norm, "bias") if norm.attrs.get("bias", True) else 0.0
        return scale, bias - self.stored(norm, "running_mean") * scale

    def layer(self, node: Node) -> tuple[Array, Array]:
        """Return weight and bias of a layer, including its folded norm."""
        weight = self.stored(node, "weight")
        bias = self.stored(node, "bias") if node.attrs["bias"] else np.zeros(len(weight))
        if node.id in self.norms:
            scale, shift = self.affine(self.norms[node.id])
            weight = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
            bias = bias * scale + shift
        return weight.astype(np.float32), bias.astype(np.float32)


def diagonal(factor: Array | float, offset: Array | float, shape: Shape) -> nir.NIRNode:
    """Return a factor and an offset per channel: a 1x1 convolution, or a matrix for vectors."""
    factors, bias = (np.full(shape[0], each).astype(np.float32) for each in (factor, offset))
    weight = np.diag(factors)
    if len(shape) == 1:
        return nir.Affine(weight, bias)
    return nir.Conv2d(shape[1:], weight[:, :, None, None], (1, 1), (0, 0), (1, 1), 1, bias)


def _ungrouped(weight: Array, groups: int) -> Array:
    """Return the weight of a grouped convolution as the weight of a full one."""
    width, each, *kernel = weight.shape
    whole_weight = np.zeros((width, each * groups, *kernel), weight.dtype)
    for group in range(groups):
        rows = slice(group * width // groups, (group + 1) * width // groups)
        whole_weight[rows, group * each : (group + 1) * each] = weight[rows]
    return whole_weight
