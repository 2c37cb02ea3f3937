"""Conversion of functions and methods of tensors to danetc's operations, for imports.

Readers have the parameters of torch's functions. Readers of layers are also used for modules
(``modules``) and nodes of NIR (``nir_file``).
"""

from __future__ import annotations

import inspect
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from danetc.compiler.ir.graph import Attribute, Graph, Node, Value
from danetc.compiler.ir.inference import Inference
from danetc.compiler.ir.ops import OPS, OpError
from danetc.dsl.kinds import ANALOG, Kind
from danetc.dsl.neuron.program import NeuronProgram
from danetc.errors import UserError
from danetc.tasks.importing.known_neurons import activation_program

StateReader = Callable[[Mapping[str, Tensor]], Tensor]
Layout = tuple[tuple[tuple[int, int, int], ...], ...]
"""Dimensions of a value; see ``layouts``."""

STEPS = 4
"""Default number of time steps of a spiking network."""


@dataclass(frozen=True)
class ReadNetwork:
    """A network that was read.

    Attributes:
        graph: The graph that lowering would have made.
        weights: Tensors of each node by their names in the node's module.
        places: Functions that return these tensors from the source's state dict, if they have one.
        shape: Shape of a sample of the source.
    """

    graph: Graph
    weights: Mapping[int, Mapping[str, Tensor]]
    places: Mapping[int, Mapping[str, StateReader]]
    shape: tuple[int, ...]


@dataclass
class SourceBuilder:
    """Builds the graph of a source node by node.

    ``shape`` is the shape of its input without T and N. Inputs of a spec are maps, so a vector of C
    values becomes C x 1 x 1 and is flattened.
    """

    steps: int
    shape: tuple[int, ...]
    events: bool = False
    nodes: dict[int, Node] = field(default_factory=dict)
    neurons: dict[str, NeuronProgram] = field(default_factory=dict)
    weights: dict[int, Mapping[str, Tensor]] = field(default_factory=dict)
    places: dict[int, Mapping[str, StateReader]] = field(default_factory=dict)
    shares: dict[int, int] = field(default_factory=dict)
    carries: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.inference = Inference(self.neurons, self.nodes)
        self._keys: dict[NeuronProgram, str] = {}
        value = Value((*self.shape, 1, 1)[:3], ANALOG, self.events)
        self.nodes[0] = Node(0, "input", (), {"events": self.events}, value, (), "input")

    @property
    def entry(self) -> int:
        """Input of the first layer: an image repeated over time, or frames."""
        x = 0 if self.events else self.add("repeat", (0,), {}, "the input")
        return x if len(self.shape) == 3 else self.add("flatten", (x,), {}, "the input")

    def add(
        self,
        op: str,
        inputs: Sequence[int],
        attrs: Mapping[str, Attribute],
        name: str,
        weights: Mapping[str, Tensor] | None = None,
    ) -> int:
        """Add a node. Raises UserError, which starts with ``name``, if that is impossible."""
        id = len(self.nodes)
        given = OPS[op].completed(attrs)
        try:
            value = self.inference.value(op, given, tuple(inputs))
        except OpError as error:
            raise UserError(f"{name}: {error.message}") from error
        self.nodes[id] = Node(id, op, tuple(inputs), given, value, (), f"n{id}")
        if weights:
            self.weights[id] = {key: item.detach() for key, item in weights.items()}
        return id

    def neuron(
        self,
        program: NeuronProgram,
        source: int,
        name: str,
        weights: Mapping[str, Tensor] | None = None,
    ) -> int:
        """Add a neuron with these equations."""
        key = self._keys.setdefault(program, f"neuron{len(self._keys) + 1}")
        self.neurons[key] = program
        return self.add("neuron", (source,), {"neuron": key}, name, weights)

    def carry(self, like: int, kind: Kind) -> int:
        """Add the value of a loop from one step ago, with the shape of a node; its source is added to
        ``carries``."""
        id, value = len(self.nodes), Value(self.shape_of(like), kind, True)
        self.nodes[id] = Node(id, "carry", (), {"steps": 1}, value, (), f"n{id}")
        return id

    def share(self, first: Sequence[int], again: Sequence[int]) -> None:
        """Make the nodes of a layer's second call share the weights of its first call."""
        if first != again:
            each = ([id for id in ids if id in self.weights] for ids in (first, again))
            for owner, id in zip(*each, strict=True):
                self.shares[id] = owner
                del self.weights[id]

    def shape_of(self, id: int) -> tuple[int, ...]:
        return self.nodes[id].value.shape

    def finished(self, name: str, output: int, *, each_step: bool = True) -> ReadNetwork:
        """Return the network with a node as output, averaged over time unless ``each_step``."""
        if not each_step and self.nodes[output].value.varies:
            output = self.add("mean_over_time", [output], {}, "the output")
        graph = Graph(
            name, self.steps, self.nodes, {"out": output}, (), self.neurons,
            carries=self.carries, shares=self.shares,
        )  # fmt: skip
        return ReadNetwork(graph, self.weights, self.places, self.shape)


@dataclass(frozen=True)
class ReadValue:
    """A value that was read, and its node.

    ``leading`` is the number of dimensions before those of a sample: 2 for T and N, 1 for N only or
    if one dimension combines both (``flat``). ``dims`` are the dimensions of an image, unless they are
    those of a map [N, C, H, W] or a vector [N, C] in this order.
    """

    node: int
    leading: int = 1
    flat: bool = False
    dims: Layout | None = None


@dataclass(frozen=True)
class StoredTensor:
    """A parameter or buffer, or a tensor computed from one; ``path`` is empty if it is from a file."""

    tensor: Tensor
    path: str = ""
    make: StateReader | None = None

    @property
    def of(self) -> StateReader:
        return self.make or operator.itemgetter(self.path)

    def changed(self, change: Callable[[Tensor], Tensor]) -> StoredTensor:
        of = self.of
        return StoredTensor(change(self.tensor), self.path, lambda state: change(of(state)))


@dataclass(frozen=True)
class CallSite:
    """A call of a function or module.

    Attributes:
        path: Location of the call, for messages.
        before: Shape of the first operand.
        after: Shape of the result.
        sequence: True if the network is called with all time steps, [T, N, ...].
    """

    build: SourceBuilder
    path: str
    before: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    sequence: bool = False

    def refuse(self, why: str) -> UserError:
        return UserError(f"{self.path}: {why}")

    def shape(self, x: ReadValue) -> tuple[int, ...]:
        return self.build.shape_of(x.node)

    def add(self, op: str, x: ReadValue, attrs: Mapping[str, Attribute] | None = None, **weights: Any) -> ReadValue:  # fmt: skip
        """Add an operation on a value. Weights that are None are ignored."""
        held = {name: item for name, item in weights.items() if item is not None}
        if not all(isinstance(item, StoredTensor) for item in held.values()):
            raise self.refuse("its weights are computed, and not stored")
        if x.dims is not None and op not in ANY_LAYOUT:
            raise self.refuse(f"it reads {self.before}, whose dimensions are not [N, C, H, W]")
        tensors = {name: item.tensor for name, item in held.items()}
        node = self.build.add(op, [x.node], attrs or {}, self.path, tensors)
        self.build.places[node] = {name: item.of for name, item in held.items() if item.path}
        return replace(x, node=node)

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
ANY_LAYOUT = {"affine", "dropout", "droppath", "gelu", "layernorm", "relu", "sigmoid", "tanh"}
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
    dilation: Any = 1, groups: int = 1, padding_mode: str = "zeros",
) -> ReadValue:  # fmt: skip
    if padding_mode != "zeros":
        raise call.refuse(f"its padding is {padding_mode}; danetc pads with zeros")
    if not isinstance(weight, StoredTensor):
        raise call.refuse("its weight is computed, and not stored")
    width, _, *kernel = weight.tensor.shape
    sizes = call.square(kernel=kernel, stride=stride, dilation=dilation)
    if padding == "same":
        reach = sizes["dilation"] * (sizes["kernel"] - 1)
        if reach % 2:
            raise call.refuse("padding='same' with an even kernel is asymmetric")
        padding = reach // 2
    sizes |= call.square(padding=0 if padding == "valid" else padding)
    attrs = {**sizes, "width": width, "groups": groups, "bias": bias is not None}
    return call.add("conv", x, attrs, weight=weight, bias=bias)


def linear(call: CallSite, x: ReadValue, weight: Any, bias: Any = None) -> ReadValue:
    if not isinstance(weight, StoredTensor):
        raise call.refuse("its weight is computed, and not stored")
    if len(call.shape(x)) != 1:
        raise call.refuse(
            f"a linear layer reads {call.shape(x)}, which is not a vector; flatten it"
        )
    attrs = {"width": int(weight.tensor.shape[0]), "bias": bias is not None}
    return call.add("linear", x, attrs, weight=weight, bias=bias)


def conv1x1(call: CallSite, x: ReadValue, weight: Any, bias: Any = None) -> ReadValue:
    """Read a linear layer of the channels of each pixel, in any layout."""
    attrs = {"width": int(weight.tensor.shape[0]), "kernel": 1, "bias": bias is not None}
    found = call.add("conv", replace(x, dims=None), attrs, weight=weight, bias=bias)
    dims = x.dims and (*x.dims[:-1], ((0, attrs["width"], 1),))
    return replace(found, dims=dims)


def batch_norm(
    call: CallSite, x: ReadValue, running_mean: Any, running_var: Any, weight: Any = None, bias: Any = None,
    training: bool = False, momentum: float | None = 0.1, eps: float = 1e-5, **counter: Any,
) -> ReadValue:  # fmt: skip
    if training or None in (running_mean, running_var, weight, bias):
        raise call.refuse("a norm without weights or running statistics is not supported")
    return call.add(
        "batchnorm", x, {"eps": eps}, weight=weight, bias=bias, running_mean=running_mean, running_var=running_var,
        **counter,
    )  # fmt: skip


def _torch_batch_norm(
    call: CallSite, x: ReadValue, weight: Any, bias: Any, running_mean: Any, running_var: Any,
    training: bool, momentum: float, eps: float, cudnn_enabled: bool,
) -> ReadValue:  # fmt: skip
    return batch_norm(call, x, running_mean, running_var, weight, bias, training, momentum, eps)


def _pool(op: str, call: CallSite, x: ReadValue, kernel: Any, stride: Any, padding: Any, ceil_mode: bool) -> ReadValue:  # fmt: skip
    stride = stride or kernel  # also () of torch.max_pool2d
    attrs = call.square(kernel=kernel, stride=stride, padding=padding)
    k, s, p = attrs.values()
    if ceil_mode and any((size + 2 * p - k) % s for size in call.shape(x)[1:]):
        raise call.refuse("ceil_mode pools incomplete windows, which danetc does not support")
    return call.add(op, x, attrs)


def max_pool2d(
    call: CallSite, x: ReadValue, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
    ceil_mode: bool = False, return_indices: bool = False,
) -> ReadValue:  # fmt: skip
    if return_indices:
        raise call.refuse("max pooling with indices is not supported")
    if call.square(dilation=dilation)["dilation"] != 1:
        raise call.refuse("pooling with a dilation is not supported")
    return _pool("maxpool", call, x, kernel_size, stride, padding, ceil_mode)


def avg_pool2d(
    call: CallSite, x: ReadValue, kernel_size: Any, stride: Any = None, padding: Any = 0,
    ceil_mode: bool = False, count_include_pad: bool = True, divisor_override: Any = None,
) -> ReadValue:  # fmt: skip
    padded = call.square(padding=padding)["padding"] != 0
    if divisor_override or (padded and not count_include_pad):
        raise call.refuse("average pooling must divide by the size of its window")
    return _pool("avgpool", call, x, kernel_size, stride, padding, ceil_mode)


def adaptive_avg_pool2d(call: CallSite, x: ReadValue, output_size: Any) -> ReadValue:
    """Read global pooling, no pooling, pooling with equal windows, or upsampling."""
    _, *size = call.shape(x)
    wanted = output_size if isinstance(output_size, (tuple, list)) else (output_size, output_size)
    wanted = [s if w is None else w for s, w in zip(size, wanted, strict=True)]
    if wanted == [1, 1]:
        return call.add("global_avgpool", x)
    if wanted == size:
        return x
    (rows, columns), (height, width) = wanted, size
    if height == width and rows == columns and height % rows == 0:
        return avg_pool2d(call, x, height // rows)
    if height == width and rows == columns and rows % height == 0:
        return call.add("upsample", x, {"scale": rows // height})
    raise call.refuse(
        f"adaptive pooling of {height}x{width} to {rows}x{columns} has windows of several sizes; "
        "choose an image size that it divides with --input"
    )


def dropout(call: CallSite, x: ReadValue, p: float = 0.5, training: bool = True, inplace: bool = False) -> ReadValue:  # fmt: skip
    return call.add("dropout", x, {"p": float(p)}) if p else x


def function(op: str) -> Reader:
    return lambda call, x, inplace=False: call.add(op, x)


def activation(name: str) -> Reader:
    """Return the reader of an activation function, which becomes a neuron of this name."""

    def reader(call: CallSite, x: ReadValue, inplace: bool = False) -> ReadValue:
        return replace(x, node=call.build.neuron(activation_program(name), x.node, call.path))

    return reader


def gelu(call: CallSite, x: ReadValue, approximate: str = "none") -> ReadValue:
    tanh = approximate == "tanh"
    return activation("GELU_tanh")(call, x) if tanh else call.add("gelu", x)


relu = function("relu")
"""Reader of ReLU, which is the neuron of a network without other neurons (``torch_model``)."""


def vector(call: CallSite, x: ReadValue) -> ReadValue:
    """Flatten a map to a vector."""
    return x if len(call.shape(x)) == 1 else call.add("flatten", x)


# -- shapes ----------------------------------------------------------------------------------------


def same(call: CallSite, x: ReadValue) -> ReadValue:
    return x


def flatten(call: CallSite, x: ReadValue, start_dim: int = 0, end_dim: int = -1) -> ReadValue:
    rank = len(call.before)
    first, last = start_dim % rank, end_dim % rank
    if first == last:
        return x
    if (first, last) == (0, 1) and x.leading == 2:
        return ReadValue(x.node, 1, flat=True)
    if first == x.leading and last == rank - 1:
        return vector(call, x)
    raise call.refuse(f"flattening dimensions {first} to {last} of {call.before} is not supported")


def view(call: CallSite, x: ReadValue, *size: Any, **named: Any) -> ReadValue:
    """Read a change of shape: T and N as one or two dimensions, a map as a vector, or none."""
    before, after, sample = call.before, call.after, call.shape(x)
    lead = before[: x.leading]
    if before == after:
        return x
    if x.flat and after[2:] == sample and after[0] * after[1] == before[0]:
        return ReadValue(x.node, 2)
    if x.leading == 2 and after == (lead[0] * lead[1], *sample):
        return ReadValue(x.node, 1, flat=True)
    if after == (*lead, math.prod(sample)):
        return vector(call, x)
    raise call.refuse(f"a change of shape from {before} to {after} is not supported")


def _unsqueeze(call: CallSite, x: ReadValue, dim: int) -> ReadValue:
    """Read a new time dimension of an image, over which the image is then repeated."""
    if dim == 0 and x.leading == 1 and not x.flat and not call.sequence:
        return ReadValue(x.node, 2)
    raise call.refuse("a new dimension is not supported")


def _repeat(call: CallSite, x: ReadValue, *times: Any) -> ReadValue:
    """Read an image that is repeated at each time step."""
    first, *rest = times[0] if isinstance(times[0], (tuple, list)) else times
    before = [*call.before]
    others_stay = all(item in (1, -1) for item in rest) or rest in (before, before[1:])
    steps = call.build.steps
    if not others_stay or first != steps:
        raise call.refuse(f"a repetition by {(first, *rest)}; T is {steps} (--steps)")
    if x.leading == 2 and before[0] == 1:
        return x
    if x.leading == 1 and len(rest) == len(before):
        return ReadValue(x.node, 2)
    raise call.refuse(f"a repetition by {(first, *rest)}")


def part(call: CallSite, *args: Any, **kwargs: Any) -> ReadValue:
    raise call.refuse(
        "reading a part of a value or a single time step is not supported, except in a neuron "
        "with the same equations at each step"
    )


# -- several values --------------------------------------------------------------------------------


def concat(call: CallSite, tensors: Sequence[Any], dim: int = 0) -> ReadValue:
    first = tensors[0]
    all_read = all(isinstance(item, ReadValue) and item.dims is None for item in tensors)
    if not all_read or dim % len(call.after) != first.leading:
        raise call.refuse("only channels can be concatenated")
    if len({(item.leading, item.flat) for item in tensors}) > 1:
        raise call.refuse("values with and without time steps cannot be concatenated")
    if len(tensors) == 1:
        return first  # type: ignore[no-any-return]
    node = call.build.add("concat", [item.node for item in tensors], {}, call.path)
    return ReadValue(node, first.leading, first.flat)


_FACTOR_AND_OFFSET: Mapping[str, Sequence[Callable[[float], tuple[float, float]]]] = {
    "add": (lambda c: (1.0, c), lambda c: (1.0, c)),
    "sub": (lambda c: (1.0, -c), lambda c: (-1.0, c)),
    "mul": (lambda c: (c, 0.0), lambda c: (c, 0.0)),
    "div": (lambda c: (1.0 / c, 0.0),),
}
"""Factor and offset of x in ``x + c``, ``c + x``, and so on, as functions of c."""


def _arithmetic(op: str) -> Reader:
    """Read an operation on two values, or on a value and a number."""
    forms = _FACTOR_AND_OFFSET.get(op, ())

    def arithmetic(call: CallSite, a: Any, b: Any, alpha: float = 1, rounding_mode: Any = None) -> ReadValue:  # fmt: skip
        if alpha != 1 or rounding_mode:
            raise call.refuse(f"`{op}` with a factor or rounding is not supported")
        if isinstance(a, ReadValue) and isinstance(b, ReadValue):
            if a.flat != b.flat:
                raise call.refuse("only one of the operands has T and N in one dimension")
            if a.dims != b.dims:
                raise call.refuse("its operands have their dimensions in different orders")
            node = call.build.add(op, [a.node, b.node], {}, call.path)
            leading = max(a.leading, b.leading)  # a static value may be repeated
            return replace(a, node=node, leading=leading)
        second = not isinstance(a, ReadValue)
        x, number = (b, a) if second else (a, b)
        if not isinstance(number, (int, float)) or len(forms) <= second:
            kinds = type(a).__name__, type(b).__name__
            of = " and ".join("a value" if kind == "ReadValue" else kind for kind in kinds)
            raise call.refuse(f"`{op}` of {of} is not supported")
        factor, offset = forms[second](float(number))
        return call.add("affine", x, {"factor": factor, "offset": offset})

    return arithmetic


_sum, _difference, _product, _quotient = map(_arithmetic, ("add", "sub", "mul", "div"))


def mean(call: CallSite, x: ReadValue, dim: Any = None, keepdim: bool = False) -> ReadValue:
    if dim is None:
        raise call.refuse("a mean over all dimensions, including samples, is not supported")
    rank = len(call.before)
    axes = {axis % rank for axis in (dim if isinstance(dim, (tuple, list)) else (dim,))}
    if axes == {0} and x.leading == 2 and not keepdim:
        return ReadValue(call.add("mean_over_time", x).node, 1)
    if axes == {rank - 1, rank - 2} and rank - x.leading == 3:
        pooled = call.add("global_avgpool", x)
        return pooled if keepdim else vector(call, pooled)
    raise call.refuse(f"a mean over dimensions {sorted(axes)} of {call.before} is not supported")


def _sum_over(call: CallSite, x: ReadValue, dim: Any = None, keepdim: bool = False) -> ReadValue:
    if dim == 0 and x.leading == 2 and not keepdim:
        return ReadValue(call.add("sum_over_time", x).node, 1)
    raise call.refuse(f"a sum over dimension {dim} of {call.before} is not supported")


WEIGHTED: Mapping[Any, Reader] = {
    F.conv2d: conv2d, torch.conv2d: conv2d, F.linear: linear,
    F.batch_norm: batch_norm, torch.batch_norm: _torch_batch_norm,
}  # fmt: skip
"""Functions that read parameters and buffers of the model."""

FUNCTIONS: Mapping[Any, Reader] = {
    **WEIGHTED,
    operator.add: _sum, operator.iadd: _sum, torch.add: _sum,
    operator.sub: _difference, operator.isub: _difference, torch.sub: _difference,
    torch.rsub: lambda call, a, b, alpha=1: _difference(call, b, a, alpha),
    operator.mul: _product, operator.imul: _product, torch.mul: _product,
    operator.truediv: _quotient, torch.div: _quotient,
    torch.cat: concat, torch.concat: concat, torch.concatenate: concat,
    operator.getitem: part, torch.stack: part,
    torch.flatten: flatten, torch.reshape: view, torch.unsqueeze: _unsqueeze,
    torch.relu: relu, F.relu: relu,
    torch.sigmoid: function("sigmoid"), F.sigmoid: function("sigmoid"),
    torch.tanh: function("tanh"), F.tanh: function("tanh"), F.gelu: gelu,
    F.relu6: activation("ReLU6"), F.silu: activation("SiLU"), F.hardswish: activation("Hardswish"),
    F.hardsigmoid: activation("Hardsigmoid"),
    torch.mean: mean, torch.sum: _sum_over,
    torch.maximum: _arithmetic("maximum"), torch.minimum: _arithmetic("minimum"),
    F.max_pool2d: max_pool2d, torch.max_pool2d: max_pool2d, F.avg_pool2d: avg_pool2d,
    F.adaptive_avg_pool2d: adaptive_avg_pool2d, F.dropout: dropout,
}  # fmt: skip

METHODS: Mapping[str, Reader] = {
    "add": _sum, "add_": _sum, "sub": _difference, "mul": _product, "mul_": _product,
    "div": _quotient, "flatten": flatten, "view": view, "reshape": view, "unflatten": view,
    "relu": relu, "relu_": relu, "sigmoid": function("sigmoid"), "tanh": function("tanh"),
    "mean": mean, "sum": _sum_over, "unsqueeze": _unsqueeze, "repeat": _repeat, "expand": _repeat,
    "contiguous": same, "clone": same, "float": same,
}  # fmt: skip
