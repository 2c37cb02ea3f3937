"""Rows of the table: the input, layers of weights, and neurons."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import Any

from danetc.compiler.ir.graph import Attribute, Shape, Value
from danetc.compiler.ir.ops import forms, kinds, shapes
from danetc.compiler.ir.ops.along import MASKED, conv_chosen, linear_chosen
from danetc.compiler.ir.ops.forms import START, nothing
from danetc.compiler.ir.ops.kinds import Attrs, Values
from danetc.compiler.ir.ops.onnx import forms as onnx
from danetc.compiler.ir.ops.row import Context, Op, Parameter, TorchModule, integer, whole
from danetc.dsl.syntax.words import AXES


def _conv_weights(attrs: Attrs, values: Values, context: Context) -> dict[str, Shape]:
    width, kernel = whole(attrs, "width"), whole(attrs, "kernel")
    weight = (width, values[0].shape[0] // whole(attrs, "groups"), kernel, kernel)
    return forms.with_bias(attrs, weight, width)


def _conv_macs(attrs: Attrs, values: Values, shape: Shape) -> int:
    group = values[0].shape[0] // whole(attrs, "groups")
    return prod(shape) * group * whole(attrs, "kernel") ** 2


def _conv_complete(attrs: dict[str, Any]) -> None:
    if attrs["padding"] is None:
        attrs["padding"] = attrs["dilation"] * (attrs["kernel"] // 2)


def _conv_module(attrs: Attrs, values: Values, value: Value, context: Context) -> TorchModule:
    kwargs = {"kernel_size": attrs["kernel"]}
    kwargs |= forms.unusual(attrs, stride=1, padding=0, dilation=1, groups=1, bias=True)
    return TorchModule("torch.nn.Conv2d", (values[0].shape[0], attrs["width"]), kwargs)


def _conv_label(attrs: Attrs) -> tuple[str, str]:
    size = windows(attrs, str(attrs["width"]))
    return f"conv {attrs['kernel']}×{attrs['kernel']},", size


def windows(attrs: Attrs, size: str = "") -> str:
    """Return the size of a layer, and its strides, groups and dilation other than 1."""
    extra = (("stride", "/{}"), ("groups", "groups {}"), ("dilation", "dilation {}"))
    shown = [form.format(attrs[name]) for name, form in extra if attrs.get(name) not in (None, 1)]
    return " ".join([*([size] if size else []), *shown])


def _linear_weights(attrs: Attrs, values: Values, context: Context) -> dict[str, Shape]:
    width = whole(attrs, "width")
    return forms.with_bias(attrs, (width, values[0].shape[0]), width)


def _linear_module(attrs: Attrs, values: Values, value: Value, context: Context) -> TorchModule:
    args = values[0].shape[0], attrs["width"]
    return TorchModule("torch.nn.Linear", args, forms.unusual(attrs, bias=True), layout="any")


def _neuron_weights(attrs: Attrs, values: Values, context: Context) -> dict[str, Shape]:
    sample = shapes.of_neuron(attrs, values)
    items = context.neuron(attrs).learnables
    trained = (item for item in items if not item.scheduled)
    return {item.parameter: item.shape(sample, context.steps) for item in trained}


def _neuron_module(attrs: Attrs, values: Values, value: Value, context: Context) -> TorchModule:
    program = context.neuron(attrs)
    size: Shape = () if all(item.is_scalar for item in program.learnables) else value.shape
    args: tuple[Attribute, ...] = (program.text(), context.steps, len(value.shape), *size)
    return TorchModule("danetc.runtime.layers.neuron.Neuron", args, {}, "seq")


ROWS = (
    Op(
        "input", "input of the network", lambda attrs, values: (), kinds.analog, nothing,
        operands=(0, 0), public=False,
    ),
    Op(
        "conv", "2-D convolution", shapes.convolved, kinds.analog, _conv_module,
        (
            replace(integer("width", "number of output channels; without it, a convolution over an axis is depthwise"), unless="over"),
            integer("kernel", "height and width of the kernel", 3, high=4096),
            integer("stride", "distance between windows, in pixels", 1, high=4096),
            replace(
                integer("padding", "zeros added on each side of the map; by default half of the kernel; over "
                        "time, by default only before the first step, so that it is causal", None, 0, 4096),
                words=("same",),
            ),
            integer("groups", "number of groups of channels that are convolved separately", 1),
            Parameter("bias", bool, "if true, add a learnable bias per channel", False),
            integer("dilation", "distance between entries of the kernel, in pixels", 1, high=4096),
            START,
            Parameter("over", str, "axis of the convolution; by default both rows and columns", None, words=AXES, sugar=True),
        ),
        chosen=conv_chosen, complete=_conv_complete, weights=_conv_weights, weighted=True, macs=_conv_macs,
        window=lambda attrs: whole(attrs, "dilation") * (whole(attrs, "kernel") - 1) + 1,
        linear=True, start=forms.zero_without_bias, label=_conv_label,
        nir="conv", onnx=onnx.conv,
        example="conv(16, kernel = 5, stride = 2)",
    ),
    Op(
        "linear", "fully connected layer, which flattens its input", shapes.connected, kinds.analog, _linear_module,
        (
            replace(integer("width", "number of outputs; over time, equal to the number of steps"), unless="over"),
            Parameter("bias", bool, "if true, add a learnable bias per output", True),
            START,
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
        chosen=linear_chosen, flattens=True, weights=_linear_weights, weighted=True,
        macs=lambda attrs, values, shape: values[0].shape[0] * shape[0],
        linear=True, start=forms.zero_without_bias,
        label=lambda attrs: (f"linear {attrs['width']}", ""),
        nir="linear", onnx=onnx.linear,
        example="flatten -> linear(10)",
    ),
    Op(
        "neuron", "spiking neuron or activation", shapes.of_neuron, kinds.analog, _neuron_module,
        public=False, time="neuron", weights=_neuron_weights,
        label=lambda attrs: (str(attrs["neuron"]), ""),
        nir="neuron",
    ),
)  # fmt: skip
