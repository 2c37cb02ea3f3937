"""Rows of the table: layers of weights along one axis, and padding for even kernels."""

from __future__ import annotations

from math import prod
from typing import Any

from danetc.compiler.ir.graph import Attribute, Shape, Value
from danetc.compiler.ir.ops import forms, kinds, shapes
from danetc.compiler.ir.ops.forms import START
from danetc.compiler.ir.ops.kinds import Attrs, Values
from danetc.compiler.ir.ops.onnx import forms as onnx
from danetc.compiler.ir.ops.row import (
    Context,
    Op,
    OpError,
    Parameter,
    Steps,
    TorchFunction,
    TorchModule,
    at_start,
    integer,
    is_scheduled,
    whole,
    word,
)
from danetc.dsl.kinds import Kind
from danetc.dsl.ranges import constant

_TIME = "danetc.runtime.layers.time"
MASKED = "linear.masked"
"""Name in recipes of the degree to which a window hides other steps."""

# -- operations of `conv` and `linear` --------------------------------------------------------------


def conv_chosen(attrs: Attrs, values: Values, steps: int) -> Steps:
    """Return the operations of ``conv`` over pixels, rows, columns or time: padding if it is uneven,
    and the convolution."""
    given: dict[str, Any] = {**attrs}
    over = given.pop("over", None)
    if over == "channels":
        raise OpError(
            "conv does not slide over channels",
            "turn channels into rows: `swap(channels, rows) -> conv(8, over = rows) -> swap(channels, rows)`",
        )
    if over == "pixels":
        over = None
    if over is None and given.get("width") is None:
        raise OpError("conv needs `width`, the number of output channels", "write `conv(8)`")
    if over is not None and given["width"] is None:  # depthwise
        given |= {"width": values[0].shape[0], "groups": values[0].shape[0]}
    if over == "time":
        return (("conv_over_time", _in_time(given)),)
    name, axis = ("conv", {}) if over is None else ("conv_over", {"axis": over})
    if given["padding"] is None:
        given["padding"] = given["dilation"] * (given["kernel"] // 2)
    if given["padding"] != "same":
        return ((name, {**given, **axis}),)
    if given["stride"] != 1:
        raise OpError(
            f"`padding = same` keeps the size, but a stride of {given['stride']} does not",
            "give the padding as a number",
        )
    total = given["dilation"] * (given["kernel"] - 1)
    if total % 2 == 0:
        return ((name, {**given, **axis, "padding": total // 2}),)
    pad = {"over": over or "pixels", "before": total // 2, "after": total - total // 2}
    return ("pad", pad), (name, {**given, **axis, "padding": 0})


def _in_time(given: dict[str, Any]) -> Attrs:
    """Return the attributes of a convolution over time: causal, or symmetric with ``padding = same``
    and the odd step ahead."""
    total = given["dilation"] * (given["kernel"] - 1)
    if given["stride"] != 1:
        raise OpError("conv over time has no stride: it keeps the number of steps")
    if given["padding"] not in (None, "same"):
        raise OpError(
            f"conv over time keeps the number of steps, so `padding = {given['padding']}` is not possible",
            "leave it out to read only earlier steps, or write `padding = same` to read later ones too",
        )
    before = total if given["padding"] is None else total // 2
    kept = {name: given[name] for name in ("width", "kernel", "groups", "bias", "dilation", "init")}
    return {**kept, "before": before, "after": total - before}


def linear_chosen(attrs: Attrs, values: Values, steps: int) -> Steps:
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
    if over is None:
        if given["width"] is None:
            raise OpError("linear needs `width`, the number of outputs", "write `linear(8)`")
        return (("linear", given),)
    if over == "time":
        if given["width"] is not None:
            raise OpError(
                f"linear over time keeps the number of steps, {steps}, not {given['width']}",
                "leave the width out: `linear(over = time)`",
            )
        if reach is not None and reach > steps:
            raise OpError(
                f"linear over time: a window of {reach} steps, of T = {steps}",
                "reduce the window, or increase `steps`",
            )
        kept = {name: given[name] for name in ("bias", "init")}
        kept |= {"steps": steps, "window": reach, "masked": masked}
        return (("linear_over_time", kept),)
    if given["width"] is None:
        raise OpError(f"linear over {over} needs `width`", f"write `linear(8, over = {over})`")
    conv = {"kernel": 1, "stride": 1, "padding": 0, "groups": 1, "dilation": 1, **given}
    if over == "channels":
        return (("conv", conv),)
    turn = ("swap", {"a": "channels", "b": over})
    return turn, ("conv", conv), turn


# -- rules ------------------------------------------------------------------------------------------


def _weights(kernel: tuple[str, ...]) -> Any:
    def rule(attrs: Attrs, values: Values, context: Context) -> dict[str, Shape]:
        width, group = whole(attrs, "width"), values[0].shape[0] // whole(attrs, "groups")
        places = {"kernel": whole(attrs, "kernel"), "1": 1}
        if attrs.get("axis") == "columns":
            sizes = tuple(places[name] for name in reversed(kernel))
        else:
            sizes = tuple(places[name] for name in kernel)
        return forms.with_bias(attrs, (width, group, *sizes), width)

    return rule


def _macs(attrs: Attrs, values: Values, shape: Shape) -> int:
    return prod(shape) * (values[0].shape[0] // whole(attrs, "groups")) * whole(attrs, "kernel")


def _convolved_over(attrs: Attrs, values: Values) -> Shape:
    over = str(attrs["axis"])
    shape = list(shapes.map_of(values, f"conv over {over}"))
    shapes.check_groups(attrs, values)
    place = shapes.AXES.index(over)
    k, s, p, d = (whole(attrs, name) for name in ("kernel", "stride", "padding", "dilation"))
    shape[place] = shapes.window(shape[place], k, s, p, d, f"conv over {over}")
    return (whole(attrs, "width"), *shape[1:])


def _convolved_in_time(attrs: Attrs, values: Values) -> Shape:
    shapes.check_groups(attrs, values)
    return (whole(attrs, "width"), *values[0].shape[1:])


def _conv_over(attrs: Attrs, values: Values, value: Value, context: Context) -> TorchModule:
    def along(name: str, other: int) -> tuple[int, int]:
        number = whole(attrs, name)
        return (number, other) if attrs["axis"] == "rows" else (other, number)

    kwargs: dict[str, Attribute | tuple[int, int]] = {"kernel_size": along("kernel", 1)}
    for name, other in (("stride", 1), ("padding", 0), ("dilation", 1)):
        if attrs[name] != other:
            kwargs[name] = along(name, other)
    kwargs |= forms.unusual(attrs, groups=1, bias=True)
    return TorchModule("torch.nn.Conv2d", (values[0].shape[0], attrs["width"]), kwargs)


def _time_conv(attrs: Attrs, values: Values, value: Value, context: Context) -> TorchModule:
    kwargs = forms.unusual(attrs, before=0, after=0, groups=1, dilation=1, bias=True)
    args = (values[0].shape[0], attrs["width"], attrs["kernel"])
    kwargs["rank"] = len(value.shape)
    return TorchModule(f"{_TIME}.TimeConv", args, kwargs, "seq")


def _time_linear(attrs: Attrs, values: Values, value: Value, context: Context) -> TorchModule:
    kwargs = forms.unusual(attrs, bias=True)
    if attrs["window"] is None:
        return TorchModule(f"{_TIME}.TimeLinear", (attrs["steps"],), kwargs, "seq")
    kwargs["rank"] = len(value.shape)
    if not _hides(attrs):
        kwargs["masked"] = at_start(attrs["masked"])
    if is_scheduled(attrs["masked"]):
        kwargs["schedule"] = MASKED
    args = (attrs["steps"], attrs["window"])
    return TorchModule(f"{_TIME}.MaskedTimeLinear", args, kwargs, "seq")


def _time_weights(attrs: Attrs, values: Values, context: Context) -> dict[str, Shape]:
    steps = whole(attrs, "steps")
    return forms.with_bias(attrs, (steps, steps), steps)


def _seen(attrs: Attrs) -> int:
    """Return the number of steps that each step reads, zeros before the first included."""
    return whole(attrs, "window" if _hides(attrs) else "steps")


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
    shape = list(shapes.map_of(values, "padding"))
    more = whole(attrs, "before") + whole(attrs, "after")
    for place, name in enumerate(shapes.AXES):
        if attrs["over"] in (name, "pixels" if place else ""):
            shape[place] += more
    return tuple(shape)


def _with_zero(attrs: Attrs, values: Values) -> Kind:
    """Numbers of the input, and 0."""
    return Kind.of(values[0].kind.range | constant(0.0))


def _both_ends(attrs: dict[str, Any]) -> None:
    if attrs["after"] is None:
        attrs["after"] = attrs["before"]


def _pad(attrs: Attrs, values: Values, value: Value, context: Context) -> TorchFunction:
    args = tuple(attrs[name] for name in ("before", "after", "over"))
    return TorchFunction("danetc.runtime.layers.axes.pad", args, layout="any")


def _time_label(attrs: Attrs) -> tuple[str, str]:
    groups = f" groups {attrs['groups']}" if attrs["groups"] != 1 else ""
    ahead = f", {attrs['after']} ahead" if attrs["after"] else ""
    return f"conv {attrs['kernel']} over T{ahead},", f"{attrs['width']}{groups}"


_CONV = (
    integer("width", "number of output channels"),
    integer("kernel", "size of the kernel", 3, high=4096),
    integer("groups", "number of groups of channels that are convolved separately", 1),
    Parameter("bias", bool, "if true, add a learnable bias per channel", False),
    integer("dilation", "distance between entries of the kernel", 1, high=4096),
    START,
)


def _transposed_weights(attrs: Attrs, values: Values, context: Context) -> dict[str, Shape]:
    width, kernel = whole(attrs, "width"), whole(attrs, "kernel")
    weight = (values[0].shape[0], width // whole(attrs, "groups"), kernel, kernel)
    return forms.with_bias(attrs, weight, width)


def _transposed(attrs: Attrs, values: Values) -> Shape:
    """``width`` channels; (size - 1) stride + kernel - 2 padding + output_padding rows and columns."""
    _, *sizes = shapes.map_of(values, "conv_transposed")
    shapes.check_groups(attrs, values)
    kernel, stride, padding = (whole(attrs, name) for name in ("kernel", "stride", "padding"))
    more = whole(attrs, "output_padding")
    if more >= stride:
        raise OpError(
            f"conv_transposed: an output_padding of {more} with a stride of {stride}",
            f"it says which of the sizes it is that a stride of {stride} makes one of: "
            f"0 to {stride - 1}",
        )
    height, width = ((size - 1) * stride + kernel - 2 * padding + more for size in sizes)
    if min(height, width) < 1:
        raise OpError(
            f"conv_transposed: no output remains of {shapes.text(values[0].shape)} with padding {padding}",
            "reduce the padding",
        )
    return whole(attrs, "width"), height, width


def _transposed_module(attrs: Attrs, values: Values, value: Value, context: Context) -> TorchModule:
    kwargs = {"kernel_size": attrs["kernel"]}
    kwargs |= forms.unusual(attrs, stride=1, padding=0, output_padding=0, groups=1, bias=True)
    return TorchModule("torch.nn.ConvTranspose2d", (values[0].shape[0], attrs["width"]), kwargs)


def _transposed_macs(attrs: Attrs, values: Values, shape: Shape) -> int:
    part = whole(attrs, "width") // whole(attrs, "groups")
    return prod(values[0].shape) * part * whole(attrs, "kernel") ** 2


ROWS = (
    Op(
        "conv_transposed", "transposed 2-D convolution, which enlarges maps", _transposed, kinds.analog,
        _transposed_module,
        (
            integer("width", "number of output channels"),
            integer("kernel", "height and width of the kernel", 2, high=4096),
            integer("stride", "distance between windows in the output, in pixels", 2, high=4096),
            integer("padding", "pixels removed from each side of the output", 0, 0, 4096),
            integer("output_padding", "rows and columns added at the bottom and right of the output; less than the stride", 0, 0, 4095),
            integer("groups", "number of groups of channels that are convolved separately", 1),
            Parameter("bias", bool, "if true, add a learnable bias per channel", False),
            START,
        ),
        weights=_transposed_weights, macs=_transposed_macs, linear=True, start=forms.zero_without_bias,
        label=lambda attrs: (f"conv T {attrs['kernel']}×{attrs['kernel']}", f"{attrs['width']} ×{attrs['stride']}"),
        onnx=onnx.conv_transposed,
        example="conv_transposed(4)",
    ),
    Op(
        "conv_over", "convolution over rows or columns", _convolved_over, kinds.analog, _conv_over,
        (
            *_CONV,
            integer("stride", "distance between windows", 1, high=4096),
            integer("padding", "zeros added at both ends", 0, 0, 4096),
            word("axis", "axis of the convolution", words=("rows", "columns")),
        ),
        public=False, weights=_weights(("kernel", "1")), weighted=True, macs=_macs, linear=True,
        start=forms.zero_without_bias,
        label=lambda attrs: (f"conv {attrs['kernel']} over {attrs['axis']},", str(attrs["width"])),
        nir="conv", onnx=onnx.conv,
    ),
    Op(
        "conv_over_time", "convolution over time", _convolved_in_time, kinds.analog, _time_conv,
        (
            *_CONV,
            integer("before", "zero steps added before the first", low=0),
            integer("after", "zero steps added after the last", low=0),
        ),
        public=False, time="mixes", ahead=lambda attrs: bool(attrs["after"]),
        weights=_weights(("kernel",)), weighted=True, macs=_macs, linear=True,
        start=forms.zero_without_bias, label=_time_label,
        onnx=onnx.conv_over_time,
    ),
    Op(
        "linear_over_time", "linear layer over time", shapes.same, kinds.analog, _time_linear,
        (
            Parameter("bias", bool, "if true, add a learnable bias per time step", True),
            integer("steps", "T"),
            START,
            integer("window", "number of steps that each step reads, ending with itself; by default all", None),
            Parameter("masked", float, "degree of masking of steps outside the window, 0 to 1", 1.0, 0, 1, schedule=MASKED),
        ),
        public=False, time="mixes", ahead=lambda attrs: not _hides(attrs), fixes_steps="weights",
        weights=_time_weights, macs=lambda attrs, values, shape: _seen(attrs) * prod(shape),
        linear=True, start=forms.zero_without_bias, label=_time_linear_label,
        onnx=onnx.linear_over_time,
    ),
    Op(
        "pad", "zero padding", _padded, _with_zero, _pad,
        (
            integer("before", "zeros added before the first entry", low=0, high=4096),
            integer("after", "zeros added after the last entry; by default equal to `before`", None, low=0, high=4096),
            word("over", "axis to pad: rows, columns or both", "pixels", words=("pixels", "rows", "columns")),
        ),
        complete=_both_ends, same=lambda attrs: not attrs["before"] and not attrs["after"],
        linear=True, start=forms.zero,
        label=lambda attrs: (f"pad {attrs['before']}, {attrs['after']}", ""), onnx=onnx.pad,
        example="pad(1)",
    ),
)  # fmt: skip
