"""THE table of operations. A new operation is one row.

Each row says what an operation is called and takes in the language, how many operands it has,
and its rules: shape, kind, time, weights, cost (multiply-accumulates of one sample at one step)
and what it becomes in a model. Rules get the attributes and the values of the operands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, Literal

from danetc.compiler.ir import op_kinds as kinds
from danetc.compiler.ir.graph import Attribute, Shape, Value
from danetc.compiler.ir.op_kinds import Attrs, Values
from danetc.dsl import ranges
from danetc.dsl.kinds import Kind
from danetc.dsl.neuron.program import NeuronProgram

REQUIRED: Any = object()


class OpError(Exception):
    """An operation cannot be applied: a message and what to change."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of an operation in the language. ``low``..``high`` are inclusive bounds."""

    name: str
    type: type
    default: Attribute = REQUIRED
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Module:
    """A torch module by the dotted name of its class, with its constructor's arguments.

    ``layout`` says what forward takes: ``flat`` has T and N as one leading dimension, ``seq`` has
    them apart, ``any`` takes both and returns what it got.
    """

    target: str
    args: tuple[Attribute, ...] = ()
    kwargs: Mapping[str, Attribute] = field(default_factory=dict)
    layout: Literal["flat", "seq", "any"] = "flat"


@dataclass(frozen=True, slots=True)
class Function:
    """A function by its dotted name, called with the operands and then ``args`` and ``kwargs``.

    ``fold`` applies it pairwise from the left; ``as_list`` passes the operands as one list;
    ``before`` are constants that stand before the operands.
    """

    target: str
    args: tuple[Attribute, ...] = ()
    kwargs: Mapping[str, Attribute] = field(default_factory=dict)
    layout: Literal["flat", "seq", "any"] = "seq"
    fold: bool = False
    as_list: bool = False
    before: tuple[Attribute, ...] = ()


@dataclass(frozen=True, slots=True)
class Context:
    """What emission knows beyond operands: T and the programs of the neurons."""

    steps: int
    neurons: Mapping[str, NeuronProgram]


@dataclass(frozen=True, slots=True)
class Op:
    """A row of the table."""

    name: str
    meaning: str
    shape: Callable[[Attrs, Values], Shape]
    kind: Callable[[Attrs, Values], Kind]
    emit: Callable[[Attrs, Values, Value, Context], Module | Function | None]
    parameters: tuple[Parameter, ...] = ()
    operands: tuple[int, int | None] = (1, 1)
    time: Literal["pointwise", "creates", "reduces", "neuron", "per_step"] = "pointwise"
    weights: Callable[[Attrs, Values], dict[str, Shape]] = lambda attrs, values: {}
    macs: Callable[[Attrs, Values, Shape], int] = lambda attrs, values, shape: 0
    random: bool = False  # draws random numbers in training
    gradient: bool = True  # gradients flow through it; a neuron's equations say whether through it
    public: bool = True  # can be written in a spec
    # whether it gives the numbers that it takes, in their order
    same: Callable[[Attrs], bool] = lambda attrs: False
    # what it computes number by number, of its attributes and operands, where that is the same everywhere
    numbers: Callable[[Sequence[float]], float] | None = None


# -- shapes ---------------------------------------------------------------------------------------


def whole(attrs: Attrs, name: str) -> int:
    """An attribute that is a whole number."""
    value = attrs[name]
    assert isinstance(value, int)
    return value


def _map(values: Values, what: str) -> tuple[int, int, int]:
    shape = values[0].shape
    if len(shape) != 3:
        raise OpError(
            f"{what} needs a map of channels x height x width, but its input is a vector of {shape[0]}",
            "put it before the head flattens its input",
        )
    return shape[0], shape[1], shape[2]


def _window(size: int, kernel: int, stride: int, padding: int, dilation: int, what: str) -> int:
    reach = dilation * (kernel - 1) + 1
    if size + 2 * padding < reach:
        raise OpError(
            f"{what}: a window of {reach} does not fit into {size} with padding {padding}",
            "make the kernel smaller, the padding larger, or stride less before it",
        )
    return (size + 2 * padding - reach) // stride + 1


def _conv_shape(attrs: Attrs, values: Values) -> Shape:
    channels, height, width = _map(values, "conv")
    groups = whole(attrs, "groups")
    for extent, what in ((channels, "input channels"), (whole(attrs, "width"), "output channels")):
        if extent % groups:
            raise OpError(
                f"conv: {groups} groups do not divide the {extent} {what}",
                "choose groups that divide both the input channels and the width",
            )
    k, s, p, d = (whole(attrs, name) for name in ("kernel", "stride", "padding", "dilation"))
    return (
        whole(attrs, "width"),
        _window(height, k, s, p, d, "conv"),
        _window(width, k, s, p, d, "conv"),
    )


def _pool_shape(attrs: Attrs, values: Values) -> Shape:
    channels, height, width = _map(values, "pooling")
    k, s, p = (whole(attrs, name) for name in ("kernel", "stride", "padding"))
    if 2 * p > k:
        raise OpError(f"pooling: padding {p} is more than half of the kernel {k}")
    return (channels, _window(height, k, s, p, 1, "pooling"), _window(width, k, s, p, 1, "pooling"))


def _same(attrs: Attrs, values: Values) -> Shape:
    return values[0].shape


def _grouped(attrs: Attrs, values: Values) -> Shape:
    shape, groups = values[0].shape, whole(attrs, "groups")
    if shape[0] % groups:
        raise OpError(
            f"groupnorm: {groups} groups do not divide the {shape[0]} channels",
            "choose groups that divide the channels: `groupnorm(8)`",
        )
    return shape


def _joined(attrs: Attrs, values: Values) -> Shape:
    """Equal shapes, or a size of 1 that is repeated (a gate of C x 1 x 1 over a map)."""
    result = values[0].shape
    for value in values[1:]:
        if value.shape == result:
            continue
        if len(value.shape) != len(result) or any(
            a != b and 1 not in (a, b) for a, b in zip(result, value.shape, strict=True)
        ):
            raise OpError(
                f"shapes do not agree: {text(result)} and {text(value.shape)}",
                _how_to_join(result, value.shape),
            )
        result = tuple(max(a, b) for a, b in zip(result, value.shape, strict=True))
    return result


def _how_to_join(a: Shape, b: Shape) -> str:
    """What to change where two shapes do not join."""
    vector, map_ = sorted((a, b), key=len)
    if len(vector) == 1 and len(map_) == 3:
        channels, height, width = map_
        return (
            f"a map of {text(map_)} joins {channels} x 1 x 1, one number a channel, or "
            f"1 x {height} x {width}, one a pixel: a gate is `a -> avgpool -> conv({channels}, "
            "kernel = 1, bias = true) -> sigmoid`, without `flatten` and `linear`"
        )
    return "give the shorter way a projection, or make widths and strides equal"


def _concat_shape(attrs: Attrs, values: Values) -> Shape:
    first = values[0].shape
    for value in values[1:]:
        if value.shape[1:] != first[1:] or len(value.shape) != len(first):
            raise OpError(
                f"concat: sizes do not agree: {text(first)} and {text(value.shape)}",
                "only the number of channels may differ",
            )
    return (sum(value.shape[0] for value in values), *first[1:])


def text(shape: Shape) -> str:
    return " x ".join(str(extent) for extent in shape)


# -- weights and costs ----------------------------------------------------------------------------


def _conv_weights(attrs: Attrs, values: Values) -> dict[str, Shape]:
    width, kernel = whole(attrs, "width"), whole(attrs, "kernel")
    weights: dict[str, Shape] = {
        "weight": (width, values[0].shape[0] // whole(attrs, "groups"), kernel, kernel)
    }
    if attrs["bias"]:
        weights["bias"] = (width,)
    return weights


def _conv_macs(attrs: Attrs, values: Values, shape: Shape) -> int:
    return prod(_conv_weights(attrs, values)["weight"]) * shape[1] * shape[2]


def _linear_weights(attrs: Attrs, values: Values) -> dict[str, Shape]:
    width = whole(attrs, "width")
    weights: dict[str, Shape] = {"weight": (width, values[0].shape[0])}
    if attrs["bias"]:
        weights["bias"] = (width,)
    return weights


def _linear_shape(attrs: Attrs, values: Values) -> Shape:
    if len(values[0].shape) != 1:
        raise OpError("linear needs a vector", "flatten its input")
    return (whole(attrs, "width"),)


def _affine_weights(attrs: Attrs, values: Values) -> dict[str, Shape]:
    return {"weight": values[0].shape[:1], "bias": values[0].shape[:1]}


# -- emission -------------------------------------------------------------------------------------


def _emit_conv(attrs: Attrs, values: Values, value: Value, context: Context) -> Module:
    kwargs: dict[str, Attribute] = {"kernel_size": attrs["kernel"]}
    defaults: dict[str, Attribute] = {
        "stride": 1,
        "padding": 0,
        "dilation": 1,
        "groups": 1,
        "bias": True,
    }
    kwargs |= {name: attrs[name] for name, default in defaults.items() if attrs[name] != default}
    return Module("torch.nn.Conv2d", (values[0].shape[0], attrs["width"]), kwargs)


def _emit_linear(attrs: Attrs, values: Values, value: Value, context: Context) -> Module:
    kwargs: dict[str, Attribute] = {} if attrs["bias"] else {"bias": False}
    return Module("torch.nn.Linear", (values[0].shape[0], attrs["width"]), kwargs, layout="any")


def _emit_batchnorm(attrs: Attrs, values: Values, value: Value, context: Context) -> Module:
    channels, rank = value.shape[0], len(value.shape)
    if attrs["per_step"]:
        return Module(
            "danetc.runtime.layers.norm.StepBatchNorm2d",
            (channels, context.steps),
            {"rank": rank},
            "seq",
        )
    if not value.varies:
        return Module(
            "danetc.runtime.layers.norm.StaticBatchNorm2d",
            (channels, context.steps),
            {"rank": rank},
            "seq",
        )
    return Module("torch.nn.BatchNorm2d" if rank == 3 else "torch.nn.BatchNorm1d", (channels,))


def _emit_tebn(attrs: Attrs, values: Values, value: Value, context: Context) -> Module:
    return Module(
        "danetc.runtime.layers.norm.TemporalEffectiveBatchNorm2d",
        (value.shape[0], context.steps),
        {"rank": len(value.shape)},
        "seq",
    )


def _emit_neuron(attrs: Attrs, values: Values, value: Value, context: Context) -> Module:
    program = context.neurons[str(attrs["neuron"])].text()
    return Module(
        "danetc.runtime.layers.neuron.Neuron", (program, context.steps, len(value.shape)), {}, "seq"
    )


def _emit_pool(attrs: Attrs, target: str) -> Module:
    kwargs: dict[str, Attribute] = {"stride": attrs["stride"]}
    if attrs["padding"]:
        kwargs["padding"] = attrs["padding"]
    return Module(target, (attrs["kernel"],), kwargs)


def _emit_affine(attrs: Attrs, values: Values, value: Value, context: Context) -> Function:
    factor, offset = attrs["factor"], attrs["offset"]
    if offset == 0:
        return Function("operator.mul", (factor,), layout="any")
    if factor == 1:
        return Function("operator.add", (offset,), layout="any")
    if factor == -1:
        return Function("operator.sub", before=(offset,), layout="any")
    return Function("danetc.runtime.layers.time.affine", (factor, offset), layout="any")


def _emit_concat(attrs: Attrs, values: Values, value: Value, context: Context) -> Function:
    alike = len({operand.varies for operand in values}) == 1
    # else the static ones are the same at each step
    target = "torch.cat" if alike else "torch.ops.danetc.concat"
    return Function(target, kwargs={"dim": -len(value.shape)}, as_list=True)


def _function(target: str, **options: Any) -> Callable[..., Function]:
    return lambda attrs, values, value, context: Function(target, **options)


def _timed(name: str, *names: str, steps: bool) -> Callable[..., Function]:
    """An op of ours that knows the number of sample dimensions, and T where it makes time."""

    def emit(attrs: Attrs, values: Values, value: Value, context: Context) -> Function:
        rank = len(value.shape)
        extra = tuple(attrs[item] for item in names)
        return Function(
            f"torch.ops.danetc.{name}", (*((context.steps,) if steps else ()), rank, *extra)
        )

    return emit


def _int(
    name: str, default: Attribute = REQUIRED, low: float = 1, high: float = 2**20
) -> Parameter:
    return Parameter(name, int, default, low, high)


def _window_of_one(attrs: Attrs) -> bool:
    return attrs["kernel"] == 1 and attrs["stride"] in (1, None) and not attrs["padding"]


def _never_drops(attrs: Attrs) -> bool:
    return attrs["p"] == 0


_POOL = (_int("kernel", high=4096), _int("stride", None, high=4096), _int("padding", None, 0, 4096))
_INIT = Parameter("init", float, 1.0, 0.0, 1e3)


def _table(*rows: Op) -> dict[str, Op]:
    return {row.name: row for row in rows}


OPS: Mapping[str, Op] = _table(
    Op("input", "the network's input", lambda a, v: (), kinds.analog, lambda a, v, o, c: None, operands=(0, 0), public=False),
    Op("repeat", "a static value at each of T steps", _same, kinds.kept, _timed("per_step", steps=True), time="creates", public=False, numbers=lambda x: x[0]),
    # weighted layers
    Op("conv", "2-D convolution, no bias", _conv_shape, kinds.analog, _emit_conv,
       (_int("width"), _int("kernel", 3, high=4096), _int("stride", 1, high=4096), _int("padding", None, 0, 4096),
        _int("groups", 1), Parameter("bias", bool, False), _int("dilation", 1, high=4096)),
       weights=_conv_weights, macs=_conv_macs),
    Op("linear", "fully connected, flattens its input", _linear_shape, kinds.analog, _emit_linear,
       (_int("width"), Parameter("bias", bool, True)), weights=_linear_weights,
       macs=lambda a, v, s: v[0].shape[0] * s[0]),
    # norms
    Op("batchnorm", "batch norm over T and N together, or per step", _same, kinds.analog, _emit_batchnorm,
       (_INIT, Parameter("per_step", bool, False)), weights=_affine_weights),
    Op("tebn", "temporal effective batch norm", _same, kinds.analog, _emit_tebn, (_INIT,), time="per_step", weights=_affine_weights),
    Op("groupnorm", "group norm", _grouped, kinds.analog,
       lambda a, v, o, c: Module("torch.nn.GroupNorm", (a["groups"], o.shape[0])),
       (_int("groups", 32), _INIT), weights=_affine_weights),
    Op("tdbn", "batch norm whose weight starts at alpha * V_th", _same, kinds.analog, lambda a, v, o, c: None,
       (Parameter("alpha", float, 1.0, 0.0, 1e3),), weights=_affine_weights),
    # neurons
    Op("neuron", "a spiking neuron, or an activation", _same, kinds.analog, _emit_neuron, time="neuron", public=False),
    # joins
    Op("add", "sum, folded from the left", _joined, kinds.folded(ranges.add), _function("operator.add", fold=True), operands=(2, None), public=False,
       numbers=sum),
    Op("sub", "difference", _joined, kinds.folded(ranges.subtract), _function("operator.sub", fold=True), operands=(2, 2), public=False,
       numbers=lambda x: x[0] - x[1]),
    Op("mul", "product", _joined, kinds.folded(ranges.multiply), _function("operator.mul", fold=True), operands=(2, None), public=False,
       numbers=prod),
    Op("div", "quotient", _joined, kinds.analog, _function("operator.truediv", fold=True), operands=(2, 2), public=False),
    Op("maximum", "elementwise maximum", _joined, kinds.folded(ranges.larger), _function("torch.maximum", fold=True), operands=(2, None), public=False,
       numbers=max),
    Op("minimum", "elementwise minimum", _joined, kinds.folded(ranges.smaller), _function("torch.minimum", fold=True), operands=(2, None), public=False,
       numbers=min),
    Op("affine", "factor * x + offset", _same, kinds.scaled, _emit_affine, (Parameter("factor", float), Parameter("offset", float)), public=False,
       same=lambda a: (a["factor"], a["offset"]) == (1, 0),
       numbers=lambda x: x[0] * x[2] + x[1]),
    Op("concat", "channels side by side", _concat_shape, kinds.either,
       _emit_concat, operands=(2, None), public=False),
    # pooling and shapes
    Op("maxpool", "max pooling", _pool_shape, kinds.kept, lambda a, v, o, c: _emit_pool(a, "torch.nn.MaxPool2d"), _POOL, same=_window_of_one),
    Op("avgpool", "average pooling; global without a kernel", _pool_shape, kinds.averaged, lambda a, v, o, c: _emit_pool(a, "torch.nn.AvgPool2d"), _POOL, same=_window_of_one),
    Op("global_avgpool", "average over height and width", lambda a, v: (_map(v, "avgpool")[0], 1, 1), kinds.averaged_map,
       lambda a, v, o, c: Module("torch.nn.AdaptiveAvgPool2d", (1,)), public=False),
    Op("upsample", "nearest neighbour", lambda a, v: (_map(v, "upsample")[0], *(n * whole(a, "scale") for n in v[0].shape[1:])), kinds.kept,
       lambda a, v, o, c: Module("torch.nn.UpsamplingNearest2d", kwargs={"scale_factor": a["scale"]}), (_int("scale", 2, high=64),), same=lambda a: a["scale"] == 1),
    Op("flatten", "a map as a vector", lambda a, v: (prod(v[0].shape),), kinds.kept,
       lambda a, v, o, c: Function("torch.flatten", kwargs={"start_dim": -len(v[0].shape)}, layout="any"), same=lambda a: True),
    # functions of real values
    Op("sigmoid", "logistic function", _same, kinds.analog, _function("torch.sigmoid", layout="any")),
    Op("tanh", "hyperbolic tangent", _same, kinds.analog, _function("torch.tanh", layout="any")),
    Op("softplus", "smooth rectifier", _same, kinds.analog, _function("torch.nn.functional.softplus", layout="any")),
    # regularisation: analog in training, so analog here
    Op("dropout", "dropout", _same, kinds.analog, lambda a, v, o, c: Module("torch.nn.Dropout", (a["p"],), layout="any"),
       (Parameter("p", float, 0.5, 0.0, 0.999),), random=True, same=_never_drops),
    Op("droppath", "drops a sample's branch at all its steps", _same, kinds.analog,
       lambda a, v, o, c: Module("danetc.runtime.layers.time.DropPath", (a["p"], len(o.shape)), layout="seq"),
       (Parameter("p", float, 0.1, 0.0, 0.999),), random=True, same=_never_drops),
    # time
    Op("mean_over_time", "mean over the time steps", _same, kinds.analog, _timed("mean_over_time", steps=False), time="reduces"),
    Op("poisson", "rate code: spikes with probability x", _same, kinds.spike, _timed("poisson", steps=True), time="creates", random=True, gradient=False),
    Op("latency", "one spike, the earlier the larger x", _same, kinds.spike, _timed("latency", "tau", steps=True),
       (Parameter("tau", float, 6.0, 1e-3, 1e6),), time="creates", gradient=False),
)  # fmt: skip
