"""Rows of the table: the input, layers of weights, padding, and neurons.

``conv`` and ``linear`` stand for operations of their own over a single axis.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

from danetc.compiler.ir.graph import Attribute, Node, Shape
from danetc.compiler.ir.ops import kinds, onnx, shapes
from danetc.compiler.ir.ops.kinds import Attrs, Values
from danetc.compiler.ir.ops.row import (
    START,
    WEIGHT,
    Op,
    OpError,
    Parameter,
    Site,
    Steps,
    TorchModule,
    at_start,
    function,
    integer,
    is_scheduled,
    module,
    nothing,
    pair,
    unusual,
    whole,
    with_bias,
)
from danetc.dsl.syntax.words import AXES

_TIME = "danetc.runtime.layers.time"
MASKED = "linear.masked"
"""Name in recipes of the degree to which a window hides other steps."""

# -- operations of `conv` and `linear` --------------------------------------------------------------


def _conv_chosen(attrs: Attrs, values: Values, steps: int) -> Steps:
    """Return the operations of ``conv`` over pixels, rows, columns or time: padding if it is uneven,
    and the convolution."""
    given: dict[str, Any] = {**attrs}
    over = given.pop("over", None)
    over = None if over == "pixels" else over
    if over == "channels":
        raise OpError(
            "conv does not slide over channels",
            "turn channels into rows: `swap(channels, rows) -> conv(8, over = rows) -> swap(channels, rows)`",
        )
    if over is None and given.get("width") is None:
        raise OpError("conv needs `width`, the number of output channels", "write `conv(8)`")
    if over is not None and given["width"] is None:  # depthwise
        given |= {"width": values[0].shape[0], "groups": values[0].shape[0]}
    total = given["dilation"] * (given["kernel"] - 1)
    same, stride = given["padding"] == "same", given["stride"]
    if over == "time":
        if stride != 1:
            raise OpError("conv over time has no stride: it keeps the number of steps")
        if given["padding"] is not None and not same:
            raise OpError(
                f"conv over time keeps the number of steps, so `padding = {given['padding']}` is not possible",
                "leave it out to read only earlier steps, or write `padding = same` to read later ones too",
            )
        before = total // 2 if same else total
        given |= {"before": before, "after": total - before}
        del given["stride"], given["padding"]
        return (("conv_over_time", given),)
    if same and stride != 1:
        raise OpError(
            f"`padding = same` keeps the size, but a stride of {stride} does not",
            "give the padding as a number",
        )
    first: Steps = ()
    if same:
        ends = {"before": total // 2, "after": total - total // 2}
        first = (("pad", {"over": over or "pixels", **ends}),) if total % 2 else ()
        given["padding"] = 0 if first else total // 2
    last = ("conv", given) if over is None else ("conv_over", {**given, "axis": over})
    return (*first, last)


def _linear_chosen(attrs: Attrs, values: Values, steps: int) -> Steps:
    """Return the operations of ``linear``."""
    given: dict[str, Any] = {**attrs}
    over, reach = given.pop("over", None), given.pop("window", None)
    masked = given.pop("masked", 1.0)
    if reach is None and masked != 1.0:
        raise OpError(
            "`masked` needs a `window` over time",
            "leave it out, or write `linear(over = time, window = 2, masked = 0.5)`",
        )
    if reach is not None and over != "time":
        raise OpError(
            f"a window needs time steps, which linear over {over or 'all axes'} does not read",
            f"leave it out, or write `linear(over = time, window = {reach})`",
        )
    if over == "time":
        width = given.pop("width")
        if width is not None:
            raise OpError(
                f"linear over time keeps the number of steps, {steps}, not {width}",
                "leave the width out: `linear(over = time)`",
            )
        if reach is not None and reach > steps:
            raise OpError(
                f"linear over time: a window of {reach} steps, of T = {steps}",
                "reduce the window, or increase `steps`",
            )
        given |= {"steps": steps, "window": reach, "masked": masked}
        return (("linear_over_time", given),)
    if given["width"] is None:
        where, how = ("", "8") if over is None else (f" over {over}", f"8, over = {over}")
        what = "`width`, the number of outputs" if over is None else "`width`"
        raise OpError(f"linear{where} needs {what}", f"write `linear({how})`")
    if over is None:
        return (("linear", given),)
    conv = {"kernel": 1, "stride": 1, "padding": 0, "groups": 1, "dilation": 1, **given}
    turn = () if over == "channels" else (("swap", {"a": "channels", "b": over}),)
    return (*turn, ("conv", conv), *turn)


# -- convolutions -----------------------------------------------------------------------------------


def _convolved(attrs: Attrs, values: Values) -> Shape:
    """``width`` channels; (size + 2 padding - dilation (kernel - 1) - 1) / stride + 1 rows and columns,
    rounded down.
    """
    what = f"conv over {attrs['axis']}" if "axis" in attrs else "conv"
    _, *sizes = shapes.map_of(values, what)
    shapes.check_groups(attrs, values)
    usual = {"kernel": 1, "stride": 1, "padding": 0, "dilation": 1}
    pairs = (pair(attrs, name, other) for name, other in usual.items())
    height, width = (
        shapes.window(size, k, s, p, d, what)
        for size, k, s, p, d in zip(sizes, *pairs, strict=True)
    )
    return whole(attrs, "width"), height, width


def _kernel(attrs: Attrs) -> Shape:
    """Return the size of a kernel over pixels, rows, columns or time."""
    return (whole(attrs, "kernel"),) if "before" in attrs else pair(attrs, "kernel", 1)


def _conv_weights(at: Site) -> dict[str, Shape]:
    group = at.shape[0] // at["groups"]
    return with_bias(at, (at["width"], group, *_kernel(at.attrs)), at["width"])


def _conv_macs(at: Site) -> int:
    _, *each = _conv_weights(at)["weight"]
    return prod((*at.value.shape, *each))


def _conv_module(at: Site) -> TorchModule:
    other = {"kernel_size": 1, "stride": 1, "padding": 0, "dilation": 1}
    kwargs: dict[str, Attribute | tuple[int, int]] = {"kernel_size": at["kernel"]}
    kwargs |= unusual(at.attrs, stride=1, padding=0, dilation=1)
    if "axis" in at.attrs:
        kwargs = {name: pair(at.attrs, name.removesuffix("_size"), other[name]) for name in kwargs}
    kwargs |= unusual(at.attrs, groups=1, bias=True)
    return TorchModule("torch.nn.Conv2d", (at.shape[0], at["width"]), kwargs)


def _half_padded(attrs: dict[str, Any]) -> None:
    if attrs["padding"] is None:
        attrs["padding"] = attrs["dilation"] * (attrs["kernel"] // 2)


def windows(attrs: Attrs, size: str = "") -> str:
    """Return the size of a layer, and its strides, groups and dilation other than 1."""
    extra = (("stride", "/{}"), ("groups", "groups {}"), ("dilation", "dilation {}"))
    shown = [form.format(attrs[name]) for name, form in extra if attrs.get(name) not in (None, 1)]
    return " ".join([*([size] if size else []), *shown])


def _convolved_in_time(attrs: Attrs, values: Values) -> Shape:
    shapes.check_groups(attrs, values)
    return (whole(attrs, "width"), *values[0].shape[1:])


def _time_conv_label(attrs: Attrs) -> tuple[str, str]:
    ahead = f", {attrs['after']} ahead" if attrs["after"] else ""
    return f"conv {attrs['kernel']} over T{ahead},", windows(
        {**attrs, "dilation": 1}, str(attrs["width"])
    )


def _transposed(attrs: Attrs, values: Values) -> Shape:
    """``width`` channels; (size - 1) stride + kernel - 2 padding + output_padding rows and columns."""
    _, *sizes = shapes.map_of(values, "conv_transposed")
    shapes.check_groups(attrs, values)
    names = ("kernel", "stride", "padding", "output_padding")
    kernel, stride, padding, more = (whole(attrs, name) for name in names)
    if more >= stride:
        raise OpError(
            f"conv_transposed: an output_padding of {more} with a stride of {stride}",
            f"it adds rows and columns that a stride of {stride} would lose: 0 to {stride - 1}",
        )
    height, width = ((size - 1) * stride + kernel - 2 * padding + more for size in sizes)
    if min(height, width) < 1:
        raise OpError(
            f"conv_transposed: no output remains of {shapes.text(values[0].shape)} with padding {padding}",
            "reduce the padding",
        )
    return whole(attrs, "width"), height, width


def _transposed_weights(at: Site) -> dict[str, Shape]:
    weight = (at.shape[0], at["width"] // at["groups"], at["kernel"], at["kernel"])
    return with_bias(at, weight, at["width"])


def _transposed_module(at: Site) -> TorchModule:
    kwargs = {"kernel_size": at["kernel"]}
    kwargs |= unusual(at.attrs, stride=1, padding=0, output_padding=0, groups=1, bias=True)
    return TorchModule("torch.nn.ConvTranspose2d", (at.shape[0], at["width"]), kwargs)


def weight_map(node: Node, weight: Shape) -> Shape:
    """Return the map as which a layer gets the weight of a node: output channels, input channels of a
    group, entries of the kernel."""
    inputs = weight[1]
    if "output_padding" in node.attrs:  # transposed: its inputs come first
        weight, inputs = (whole(node.attrs, "width"),), weight[0] // whole(node.attrs, "groups")
    kernel = _kernel(node.attrs) if "kernel" in node.attrs else ()
    return weight[0], inputs, prod(kernel)


# -- embeddings -------------------------------------------------------------------------------------


def _vocabulary(attrs: Attrs, values: Values) -> int:
    """Return the number of tokens: that of the input, or the attribute."""
    kind, given = values[0].kind, attrs["vocabulary"]
    found = kind.high + 1 if kind.is_token else given
    if found is None:
        raise OpError(
            f"embedding takes tokens, but its input is {kind}",
            "declare `input = tokens(vocabulary)`, and apply it to `in`; for the logits of tied "
            "weights, write `shared(embedding(width, vocabulary = ...))`",
        )
    if given not in (None, found):
        raise OpError(
            f"embedding: a vocabulary of {given} tokens, but its input has {found}",
            "leave `vocabulary` out, or make both equal",
        )
    assert isinstance(found, int)
    return found


def _embedded(attrs: Attrs, values: Values) -> Shape:
    """A vector of ``width`` elements of one token, a map ``width`` x 1 x L of L tokens. A logit for each token
    of the vocabulary in place of ``width`` numbers."""
    vocabulary, width = _vocabulary(attrs, values), whole(attrs, "width")
    first, *rest = values[0].shape
    if not values[0].kind.is_token:
        if first != width:
            raise OpError(
                f"embedding: vectors of {width} elements have no product with {first} channels",
                "add a linear layer of this width before it",
            )
        return (vocabulary, *rest)
    return (width,) if first == 1 else (width, 1, first)


def _table(at: Site) -> tuple[int, int]:
    return _vocabulary(at.attrs, at.values), at["width"]


# -- linear layers, padding, neurons ----------------------------------------------------------------


def _time_linear(at: Site) -> TorchModule:
    kwargs = unusual(at.attrs, bias=True)
    if at["window"] is None:
        return TorchModule(f"{_TIME}.TimeLinear", (at["steps"],), kwargs, "seq")
    kwargs["rank"] = at.rank
    if not _hides(at.attrs):
        kwargs["masked"] = at_start(at["masked"])
    if is_scheduled(at["masked"]):
        kwargs["schedule"] = MASKED
    return TorchModule(f"{_TIME}.MaskedTimeLinear", (at["steps"], at["window"]), kwargs, "seq")


def _hides(attrs: Attrs) -> bool:
    """Return True for a window whose outside always counts as 0."""
    return attrs["window"] is not None and attrs["masked"] == 1.0


def _time_linear_label(attrs: Attrs) -> tuple[str, str]:
    if attrs["window"] is None:
        return "linear over T", ""
    share = "" if _hides(attrs) else f" masked {at_start(attrs['masked']):.3g}"
    share += " at the start" * is_scheduled(attrs["masked"])
    return "linear over T,", f"window {attrs['window']}{share}"


def _padded(attrs: Attrs, values: Values) -> Shape:
    """Shape of the input with the border."""
    channels, height, width = shapes.map_of(values, "padding")
    more = whole(attrs, "before") + whole(attrs, "after")
    over = attrs["over"]
    return channels, height + more * (over != "columns"), width + more * (over != "rows")


def _both_ends(attrs: dict[str, Any]) -> None:
    if attrs["after"] is None:
        attrs["after"] = attrs["before"]


def _neuron_weights(at: Site) -> dict[str, Shape]:
    items = at.neurons[at["neuron"]].learnables
    return {i.parameter: i.shape(at.value.shape, at.steps) for i in items if not i.scheduled}


def _neuron_module(at: Site) -> TorchModule:
    program = at.neurons[at["neuron"]]
    size: Shape = () if all(item.is_scalar for item in program.learnables) else at.value.shape
    args: tuple[Attribute, ...] = (program.text(), at.steps, at.rank, *size)
    return TorchModule("danetc.runtime.layers.neuron.Neuron", args, {}, "seq")


_WIDTH = integer("width", "number of output channels")
_GROUPS = integer("groups", "number of groups of channels that are convolved separately", 1)
_BIAS = Parameter("bias", bool, "if true, add a learnable bias per channel", False)
_DILATION = integer("dilation", "distance between entries of the kernel, in pixels", 1, high=4096)
_OVER_ONE = (_WIDTH, integer("kernel", "size of the kernel", 3, high=4096), _GROUPS, _BIAS, _DILATION, START, WEIGHT)  # fmt: skip

ROWS = (
    Op(
        "input", "input of the network", lambda attrs, values: (), kinds.analog, nothing,
        operands=(0, 0), public=False,
    ),
    Op(
        "conv", "2-D convolution", _convolved, kinds.analog, _conv_module,
        (
            replace(_WIDTH, meaning="number of output channels; without it, a convolution over an axis is depthwise", unless="over"),
            integer("kernel", "height and width of the kernel", 3, high=4096),
            integer("stride", "distance between windows, in pixels", 1, high=4096),
            replace(
                integer("padding", "zeros added on each side of the map; by default half of the kernel; over "
                        "time, by default only before the first step, so that it is causal", None, 0, 4096),
                words=("same",),
            ),
            _GROUPS, _BIAS, _DILATION, START, WEIGHT,
            Parameter("over", str, "axis of the convolution; by default both rows and columns", None, words=AXES, sugar=True),
        ),
        chosen=_conv_chosen, complete=_half_padded, weights=_conv_weights, weighted=True, macs=_conv_macs,
        window=lambda attrs: whole(attrs, "dilation") * (whole(attrs, "kernel") - 1) + 1, linear=True,
        label=lambda attrs: (f"conv {attrs['kernel']}×{attrs['kernel']},", windows(attrs, str(attrs["width"]))),
        nir="conv", onnx=onnx.conv,
        example="conv(16, kernel = 5, stride = 2)",
    ),
    Op(
        "linear", "fully connected layer, which flattens its input", shapes.connected, kinds.analog, module("torch.nn.Linear", "C", "width", layout="any", bias=True),
        (
            replace(integer("width", "number of outputs; over time, equal to the number of steps"), unless="over"),
            Parameter("bias", bool, "if true, add a learnable bias per output", True),
            START, WEIGHT,
            Parameter("over", str, "axis to mix; by default all", None, words=AXES, sugar=True),
            replace(
                integer("window", "over time: number of steps that each step reads, ending with itself; "
                        "by default all steps, including later ones", None),
                sugar=True,
            ),
            Parameter(
                "masked", float, "degree of masking of steps outside the window, whose weights are "
                "multiplied by 1 - masked", 1.0, 0, 1, sugar=True, schedule=MASKED,
            ),
        ),
        chosen=_linear_chosen, flattens=True, weights=lambda at: with_bias(at, (at["width"], at.shape[0]), at["width"]), weighted=True,
        macs=lambda at: at.shape[0] * at["width"],
        linear=True, label=lambda attrs: (f"linear {attrs['width']}", ""),
        nir="linear", onnx=lambda to, at, x: to.node("Gemm", x[0], *onnx.with_bias(to, at), transB=1),
        example="flatten -> linear(10)",
    ),
    Op(
        "conv_transposed", "transposed 2-D convolution, which enlarges maps", _transposed, kinds.analog,
        _transposed_module,
        (
            _WIDTH,
            integer("kernel", "height and width of the kernel", 2, high=4096),
            integer("stride", "distance between windows in the output, in pixels", 2, high=4096),
            integer("padding", "pixels removed from each side of the output", 0, 0, 4096),
            integer("output_padding", "rows and columns added at the bottom and right of the output; less than the stride", 0, 0, 4095),
            _GROUPS, _BIAS, START, WEIGHT,
        ),
        weights=_transposed_weights, macs=lambda at: prod(at.shape) * (at["width"] // at["groups"]) * at["kernel"] ** 2, linear=True,
        label=lambda attrs: (f"conv T {attrs['kernel']}×{attrs['kernel']}", f"{attrs['width']} ×{attrs['stride']}"),
        onnx=onnx.conv_transposed,
        example="conv_transposed(4)",
    ),
    Op(
        "embedding", "learnable vector for each token of the vocabulary", _embedded, kinds.analog,
        lambda at: TorchModule(f"{_TIME}.Embedding", _table(at), layout="any"),
        (
            integer("width", "number of elements of a vector"),
            replace(START, meaning="initialisation of the vectors; by default `normal(1)`"),
            integer(
                "vocabulary", "number of tokens, for an input of vectors: its products with all vectors of the "
                "table, which are logits; with `shared`, their weights are tied", None, 2, 2**24,
            ),
        ),
        takes_tokens=True, weights=lambda at: {"weight": _table(at)},
        macs=lambda at: 0 if at.values[0].kind.is_token else at["width"] * prod(at.value.shape), label=lambda attrs: (f"embedding {attrs['width']}", ""),
        onnx=onnx.embedding,
        example="in -> embedding(16) -> spike",
    ),
    Op(
        "conv_over", "convolution over rows or columns", _convolved, kinds.analog, _conv_module,
        (
            *_OVER_ONE,
            integer("stride", "distance between windows", 1, high=4096),
            integer("padding", "zeros added at both ends", 0, 0, 4096),
            Parameter("axis", str, "axis of the convolution", words=("rows", "columns")),
        ),
        public=False, complete=_half_padded, weights=_conv_weights, weighted=True, macs=_conv_macs, linear=True,
        label=lambda attrs: (f"conv {attrs['kernel']} over {attrs['axis']},", str(attrs["width"])),
        nir="conv", onnx=onnx.conv,
    ),
    Op(
        "conv_over_time", "convolution over time", _convolved_in_time, kinds.analog,
        module(
            f"{_TIME}.TimeConv", "C", "width", "kernel", layout="seq",
            before=0, after=0, groups=1, dilation=1, bias=True, rank=None,
        ),
        (
            *_OVER_ONE,
            integer("before", "zero steps added before the first", low=0),
            integer("after", "zero steps added after the last", low=0),
        ),
        public=False, time="mixes", ahead=lambda attrs: bool(attrs["after"]),
        weights=_conv_weights, weighted=True, macs=_conv_macs, linear=True,
        label=_time_conv_label, onnx=onnx.conv_over_time,
    ),
    Op(
        "linear_over_time", "linear layer over time", shapes.same, kinds.analog, _time_linear,
        (
            Parameter("bias", bool, "if true, add a learnable bias per time step", True),
            integer("steps", "T"),
            START, WEIGHT,
            integer("window", "number of steps that each step reads, ending with itself; by default all", None),
            Parameter("masked", float, "degree of masking of steps outside the window, 0 to 1", 1.0, 0, 1, schedule=MASKED),
        ),
        public=False, time="mixes", ahead=lambda attrs: not _hides(attrs), fixes_steps="weights",
        weights=lambda at: with_bias(at, (at["steps"], at["steps"]), at["steps"]),
        macs=lambda at: at["window" if _hides(at.attrs) else "steps"] * prod(at.shape),
        linear=True, label=_time_linear_label,
        onnx=onnx.linear_over_time,
    ),
    Op(
        "pad", "zero padding", _padded, kinds.with_zero,
        function("danetc.runtime.layers.axes.pad", "before", "after", "over", layout="any"),
        (
            integer("before", "zeros added before the first entry", low=0, high=4096),
            integer("after", "zeros added after the last entry; by default equal to `before`", None, low=0, high=4096),
            Parameter("over", str, "axis to pad: rows, columns or both", "pixels", words=("pixels", "rows", "columns")),
        ),
        complete=_both_ends, same=lambda attrs: not attrs["before"] and not attrs["after"], linear=True,
        label=lambda attrs: (f"pad {attrs['before']}, {attrs['after']}", ""), onnx=onnx.pad,
        example="pad(1)",
    ),
    Op(
        "neuron", "spiking neuron or activation", shapes.of_neuron, kinds.analog, _neuron_module,
        public=False, time="neuron", weights=_neuron_weights,
        label=lambda attrs: (str(attrs["neuron"]), ""),
        nir="neuron",
    ),
)  # fmt: skip
