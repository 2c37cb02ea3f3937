"""Conversion of operations of ATen to danetc's, for imports.

Readers have the parameters of ATen's operations. Those of layers also read nodes of NIR (``nir_file``).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from danetc.compiler.analysis.neuron_forms import learnt_in_order
from danetc.compiler.emit.fx import emit
from danetc.compiler.emit.names import dotted
from danetc.compiler.ir.graph import Attribute, Graph, Node, Value
from danetc.compiler.ir.inference import Inference
from danetc.compiler.ir.ops import OPS, OpError
from danetc.dsl.kinds import ANALOG, Kind
from danetc.dsl.neuron.program import NeuronProgram
from danetc.errors import UserError
from danetc.runtime.model.built import Model
from danetc.tasks.importing.known_neurons import activation_program

Dimension = tuple[tuple[int, int, int], ...]
Layout = tuple[Dimension, ...]
"""Dimensions of a value; see ``layouts``."""
TIME, SAMPLES = -2, -1
"""Axes of a layout beside those of a map, which are 0 to 2."""

STEPS = 4
"""Default number of time steps of a spiking network."""


@dataclass(frozen=True)
class ReadNetwork:
    """A network that was read.

    Attributes:
        graph: The graph that lowering would have made.
        weights: Tensors of each node by their names in its module. They follow changes of the source.
        shape: Shape of a sample of the source.
    """

    graph: Graph
    weights: Mapping[int, Mapping[str, StoredTensor]]
    shape: tuple[int, ...]


def load_weights(
    model: Model, graph: Graph, pairs: Iterable[tuple[int, int]], source: ReadNetwork
) -> None:
    """Load the weights of the source into a model of a graph, for pairs of their nodes."""
    state = model.state_dict()
    with torch.no_grad():
        for theirs, mine in pairs:
            called: dict[str, str] = {}
            if graph[mine].op == "neuron":
                nodes = (source.graph, theirs), (graph, mine)
                names = [learnt_in_order(each.program(each[id])) for each, id in nodes]
                called = dict(zip(*names, strict=True))
            path = dotted(*graph[mine].scope, graph[mine].name)
            for name, item in source.weights.get(theirs, {}).items():
                key = f"{path}.{called.get(name, name)}"
                state[key].copy_(item.tensor.reshape(state[key].shape))


def model_of(source: ReadNetwork) -> Model:
    """Return a model of the network that was read, without detection of its structure."""
    model = emit(source.graph, 0).eval()
    load_weights(model, source.graph, ((id, id) for id in source.weights), source)
    return model


@dataclass
class SourceBuilder:
    """Builds the graph of a source node by node.

    ``shape`` is the shape of its input without T and N. Inputs of a spec are maps, so a vector of C
    values becomes C x 1 x 1 and is flattened. ReLUs are neurons unless the source is ``spiking``.
    """

    steps: int
    shape: tuple[int, ...]
    events: bool = False
    spiking: bool = True
    nodes: dict[int, Node] = field(default_factory=dict)
    neurons: dict[str, NeuronProgram] = field(default_factory=dict)
    weights: dict[int, Mapping[str, StoredTensor]] = field(default_factory=dict)
    shares: dict[int, int] = field(default_factory=dict)
    carries: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.inference = Inference(self.neurons, self.nodes)
        value = Value((*self.shape, 1, 1)[:3], ANALOG, self.events)
        self.nodes[0] = Node(0, "input", (), {"events": self.events}, value, (), "input")

    @property
    def entry(self) -> int:
        """Input of the first layer: an image repeated over time, or frames."""
        x = 0 if self.events else self.add("repeat", (0,), {}, "the input")
        return x if len(self.shape) == 3 else self.add("flatten", (x,), {}, "the input")

    def add(self, op: str, inputs: Sequence[int], attrs: Mapping[str, Attribute], name: str) -> int:
        """Add a node. Raises UserError, which starts with ``name``, if that is impossible."""
        id = len(self.nodes)
        given = OPS[op].completed(attrs)
        try:
            value = self.inference.value(op, given, tuple(inputs))
        except OpError as error:
            raise UserError(f"{name}: {error.message}") from error
        self.nodes[id] = Node(id, op, tuple(inputs), given, value, (), f"n{id}")
        return id

    def neuron(self, program: NeuronProgram) -> Mapping[str, str]:
        """Return the attributes of a neuron with these equations."""
        known = {item: key for key, item in self.neurons.items()}
        key = known.get(program, f"neuron{len(known) + 1}")
        self.neurons[key] = program
        return {"neuron": key}

    def carry(self, like: int, kind: Kind) -> int:
        """Add the value of a loop from one step ago, with the shape of a node; its source is added to
        ``carries``."""
        id, value = len(self.nodes), Value(self.nodes[like].value.shape, kind, True)
        self.nodes[id] = Node(id, "carry", (), {"steps": 1}, value, (), f"n{id}")
        return id

    @property
    def leads(self) -> tuple[Layout, Layout]:
        """Dimensions before those of a sample, of an image and of a sequence."""
        samples = ((SAMPLES, 2, 1),)
        return (samples,), (((TIME, self.steps, 1),) * (self.steps > 1), samples)

    def value(self, node: int, lead: Layout = (((SAMPLES, 2, 1),),)) -> ReadValue:
        """Return a node as a map or vector in the usual order, behind the dimensions ``lead``."""
        sizes = enumerate(self.nodes[node].value.shape)
        return ReadValue(node, (*lead, *(((axis, n, 1),) * (n > 1) for axis, n in sizes)))

    def finished(self, name: str, output: int, *, each_step: bool = True) -> ReadNetwork:
        """Return the network with a node as output, averaged over time unless ``each_step``."""
        if not each_step and self.nodes[output].value.varies:
            output = self.add("mean_over_time", [output], {}, "the output")
        graph = Graph(
            name, self.steps, self.nodes, {"out": output}, (), self.neurons,
            carries=self.carries, shares=self.shares,
        )  # fmt: skip
        return ReadNetwork(graph, self.weights, self.shape)


@dataclass(frozen=True)
class ReadValue:
    """A value that was read, its node, and the dimensions of its tensor in the source."""

    node: int
    dims: Layout

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of its tensor in the source."""
        return tuple(math.prod(size for _, size, _ in dim) for dim in self.dims)

    @property
    def lead(self) -> Layout:
        """Dimensions before those of a sample: [T, N], [N], or both as one dimension."""
        held = [place for place, dim in enumerate(self.dims) if any(axis < 0 for axis, *_ in dim)]
        return self.dims[: max(held) + 1]


@dataclass(frozen=True)
class StoredTensor:
    """A parameter or buffer, and the functions that compute a tensor from it, one after the other.

    ``path`` is empty if it is from a file.
    """

    stored: Tensor
    path: str = ""
    changes: tuple[Callable[[Tensor], Tensor], ...] = ()

    @property
    def tensor(self) -> Tensor:
        return reduce(lambda tensor, change: change(tensor), self.changes, self.stored)

    def changed(self, change: Callable[[Tensor], Tensor]) -> StoredTensor:
        return replace(self, changes=(*self.changes, change))


@dataclass(frozen=True)
class CallSite:
    """A call of a function or module.

    Attributes:
        path: Location of the call, for messages.
        after: Shape of the result.
    """

    build: SourceBuilder
    path: str
    after: tuple[int, ...] = ()

    def refuse(self, why: str) -> UserError:
        return UserError(f"{self.path}: {why}")

    def shape(self, x: ReadValue) -> tuple[int, ...]:
        return self.build.nodes[x.node].value.shape

    def add(self, op: str, x: ReadValue, attrs: Mapping[str, Attribute] | None = None, **weights: Any) -> ReadValue:  # fmt: skip
        """Add an operation on a value. Weights that are None are ignored."""
        held = {name: item for name, item in weights.items() if item is not None}
        for item in held.values():
            self.stored(item)
        if op not in ANY_LAYOUT and x != self.usual(x):
            raise self.refuse(f"it reads {x.shape}, whose dimensions are not [N, C, H, W]")
        node = self.build.add(op, [x.node], attrs or {}, self.path)
        if held:
            self.build.weights[node] = held
        return replace(x, node=node) if op in ANY_LAYOUT else self.build.value(node, x.lead)

    def stored(self, weight: Any) -> Tensor:
        """Return a weight. Raises UserError if it depends on the input."""
        if not isinstance(weight, StoredTensor):
            raise self.refuse("its weights are computed, and not stored")
        return weight.tensor

    def usual(self, x: ReadValue) -> ReadValue:
        """Return a value with the dimensions of its map or vector in the usual order."""
        return self.build.value(x.node, x.lead)

    def square(self, **sizes: Any) -> dict[str, int]:
        """Return one number for each size, which must be the same for rows and columns."""
        found = {}
        for name, value in sizes.items():
            each = {value} if isinstance(value, int) else {*value}
            if len(each) != 1:
                raise self.refuse(
                    f"its {name} is {tuple(value)}; rows and columns must have the same {name}"
                )
            found[name] = int(each.pop())
        return found


Reader = Callable[..., Any]
"""Function of a call and its arguments, which returns a ReadValue, or several."""
ANY_LAYOUT = {
    "affine", "dropout", "droppath", "gelu", "layernorm", "mean_over_time", "neuron", "relu", "sigmoid", "sum_over_time", "tanh",
}  # fmt: skip
"""Operations of each element or pixel, for which the order of dimensions does not matter."""


def read(reader: Reader, call: CallSite, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """Read a call. Raises UserError if the reader does not accept the arguments."""
    try:
        inspect.signature(reader).bind(call, *args, **kwargs)
    except TypeError as error:
        raise call.refuse(f"these arguments are not supported: {error}") from error
    return reader(call, *args, **kwargs)


# -- layers ----------------------------------------------------------------------------------------


def conv2d(
    call: CallSite, x: ReadValue, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0,
    dilation: Any = 1, groups: int = 1,
) -> ReadValue:  # fmt: skip
    width, _, *kernel = call.stored(weight).shape
    sizes = call.square(kernel=kernel, stride=stride, dilation=dilation)
    if padding == "same":
        reach = sizes["dilation"] * (sizes["kernel"] - 1)
        if reach % 2:
            raise call.refuse("padding='same' with an even kernel is asymmetric")
        padding = reach // 2
    sizes |= call.square(padding=0 if padding == "valid" else padding)
    attrs = {**sizes, "width": width, "groups": groups, "bias": bias is not None}
    return call.add("conv", x, attrs, weight=weight, bias=bias)


def pixelwise(call: CallSite, x: ReadValue) -> None:
    """Raise UserError unless the last dimension of a value is that of its channels."""
    channels = call.shape(x)[0]
    if x.dims[-1] != ((0, channels, 1),) * (channels > 1):
        raise call.refuse(
            f"it reads {x.shape}, whose last dimension is not its channels; permute or flatten it"
        )


def linear(call: CallSite, x: ReadValue, weight: Any, bias: Any = None) -> ReadValue:
    """Read a linear layer of a vector, or of the channels of each pixel in any layout."""
    pixelwise(call, x)
    attrs = {"width": call.stored(weight).shape[0], "bias": bias is not None}
    if len(call.shape(x)) == 1:
        return call.add("linear", x, attrs, weight=weight, bias=bias)
    attrs["kernel"] = 1
    found = call.add("conv", call.usual(x), attrs, weight=weight, bias=bias)
    return replace(found, dims=(*x.dims[:-1], ((0, attrs["width"], 1),)))


def batch_norm(
    call: CallSite, x: ReadValue, weight: Any, bias: Any, running_mean: Any, running_var: Any,
    training: bool, momentum: float, eps: float, cudnn_enabled: bool,
) -> ReadValue:  # fmt: skip
    if training or None in (running_mean, running_var):
        raise call.refuse("a norm without running statistics is not supported")
    weight = weight or running_mean.changed(torch.ones_like)
    bias = bias or running_mean.changed(torch.zeros_like)
    return call.add(
        "batchnorm", x, {"eps": eps}, weight=weight, bias=bias, running_mean=running_mean, running_var=running_var,
    )  # fmt: skip


def group_norm(
    call: CallSite, x: ReadValue, groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5,
    cudnn_enabled: bool = True,
) -> ReadValue:  # fmt: skip
    if eps != 1e-5 or weight is None:
        raise call.refuse("a group norm with another eps than 1e-5, or without weights")
    return call.add("groupnorm", x, {"groups": groups}, weight=weight, bias=bias)


def upsample_nearest2d(call: CallSite, x: ReadValue, size: Any, scales: Any) -> ReadValue:
    if scales is None:
        raise call.refuse("an upsampling to a size; give its factor")
    factor = call.square(factor=scales)["factor"]
    if {factor} != {*scales}:
        raise call.refuse(f"an upsampling by {scales[0]}, which is not an integer")
    return call.add("upsample", x, {"scale": factor})


def _pool(op: str, call: CallSite, x: ReadValue, kernel: Any, stride: Any, padding: Any, ceil_mode: bool) -> ReadValue:  # fmt: skip
    attrs = call.square(kernel=kernel, stride=stride or kernel, padding=padding)
    k, s, p = attrs.values()
    if ceil_mode and any((size + 2 * p - k) % s for size in call.shape(x)[1:]):
        raise call.refuse("ceil_mode pools incomplete windows, which danetc does not support")
    return call.add(op, x, attrs)


def max_pool2d(
    call: CallSite, x: ReadValue, kernel: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
    ceil_mode: bool = False,
) -> ReadValue:  # fmt: skip
    if call.square(dilation=dilation)["dilation"] != 1:
        raise call.refuse("pooling with a dilation is not supported")
    return _pool("maxpool", call, x, kernel, stride, padding, ceil_mode)


def avg_pool2d(
    call: CallSite, x: ReadValue, kernel: Any, stride: Any = None, padding: Any = 0,
    ceil_mode: bool = False, count_include_pad: bool = True, divisor_override: Any = None,
) -> ReadValue:  # fmt: skip
    padded = call.square(padding=padding)["padding"] != 0
    if divisor_override or (padded and not count_include_pad):
        raise call.refuse("average pooling must divide by the size of its window")
    return _pool("avgpool", call, x, kernel, stride, padding, ceil_mode)


def adaptive_avg_pool2d(call: CallSite, x: ReadValue, size: Sequence[int]) -> ReadValue:
    """Read global pooling, no pooling, pooling with equal windows, or upsampling."""
    _, height, width = call.shape(x)
    rows, columns = size
    if rows == columns == 1:
        return call.add("global_avgpool", x)
    if (rows, columns) == (height, width):
        return x
    if height == width and rows == columns and height % rows == 0:
        return avg_pool2d(call, x, height // rows)
    if height == width and rows == columns and rows % height == 0:
        return call.add("upsample", x, {"scale": rows // height})
    raise call.refuse(
        f"adaptive pooling of {height}x{width} to {rows}x{columns} has windows of several sizes; "
        "choose an image size that it divides with --input"
    )


def avg_pool1d(
    call: CallSite, x: ReadValue, kernel: Sequence[int], stride: Sequence[int] = ()
) -> ReadValue:
    """Read a mean of the votes for each class, [N, 1, votes]."""
    (count,), (votes,) = kernel, call.shape(x)
    if kernel != (stride or kernel) or votes % count:
        raise call.refuse(f"{votes} votes are not a multiple of {count}")
    groups = votes // count
    found = call.add("mean_over", call.usual(x), {"over": "channels", "groups": groups})
    return replace(found, dims=(*x.dims[:-1], ((0, groups, 1),)))


def dropout(call: CallSite, x: ReadValue, p: float, train: bool) -> ReadValue:
    return call.add("dropout", x, {"p": p}) if p else x


def function(op: str, call: CallSite, x: ReadValue) -> ReadValue:
    return call.add(op, x)


def relu(call: CallSite, x: ReadValue) -> ReadValue:
    return call.add("relu", x) if call.build.spiking else activation("ReLU", call, x)


def activation(name: str, call: CallSite, x: ReadValue) -> ReadValue:
    """Read an activation function, which becomes a neuron of this name."""
    return call.add("neuron", x, call.build.neuron(activation_program(name)))


def gelu(call: CallSite, x: ReadValue, approximate: str = "none") -> ReadValue:
    tanh = approximate == "tanh"
    return activation("GELU_tanh", call, x) if tanh else call.add("gelu", x)


def hardtanh(call: CallSite, x: ReadValue, low: float = -1, high: float = 1) -> ReadValue:
    if (low, high) != (0, 6):
        raise call.refuse(f"hardtanh from {low} to {high}; ReLU6, from 0 to 6, is supported")
    return activation("ReLU6", call, x)


def same(call: CallSite, x: ReadValue, **options: Any) -> ReadValue:
    return x


def converted(call: CallSite, x: ReadValue, dtype: Any, *options: Any) -> ReadValue:
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise call.refuse(f"a conversion to {dtype}")
    return x


def vector(call: CallSite, x: ReadValue) -> ReadValue:
    """Flatten a map to a vector."""
    return x if len(call.shape(x)) == 1 else call.add("flatten", x)
