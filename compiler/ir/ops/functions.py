"""Rows of the table: functions of real values, and learnt numbers."""

from __future__ import annotations

from typing import Any

from danetc.compiler.ir.graph import Attribute, Shape
from danetc.compiler.ir.ops import kinds, onnx, shapes
from danetc.compiler.ir.ops.kinds import Attrs, Values, number
from danetc.compiler.ir.ops.row import (
    Op,
    Parameter,
    Site,
    TorchFunction,
    TorchModule,
    function,
    integer,
    shown,
    whole,
)
from danetc.dsl import ranges
from danetc.dsl.first_weights import RandomStart, random_start
from danetc.dsl.kinds import Kind
from danetc.dsl.neuron.program import Learn


def _pointwise(
    name: str,
    meaning: str,
    target: str,
    operator: str,
    kind: kinds.Rule = kinds.analog,
    **more: Any,
) -> Op:
    """Return the row of a function of real numbers with one operator of ONNX."""
    options = {"example": f"conv(16) -> {name}", **more}
    emit = function(target, layout="any")
    form = onnx.operator(operator)
    return Op(name, meaning, shapes.same, kind, emit, onnx=form, **options)


def _softmax_shape(attrs: Attrs, values: Values) -> Shape:
    """Shape of the input, a map if the axis is one of pixels."""
    if attrs["over"] != "channels":
        shapes.map_of(values, f"softmax over {attrs['over']}")
    return values[0].shape


def _above_zero(attrs: Attrs, values: Values) -> Kind:
    """Range of the input without negative numbers."""
    return Kind.of(ranges.larger(values[0].kind.range, ranges.constant(0.0)))


BOUNDS = ("above", "below")


def _learnt_shape(attrs: Attrs, values: Values) -> Shape:
    names = ("channels", "height", "width")
    return tuple(whole(attrs, name) for name in names if attrs[name] is not None)


def _learnt_weights(at: Site) -> dict[str, Shape]:
    name = "weight" if all(at[bound] is None for bound in BOUNDS) else "weight_raw"
    return {name: (*[at.steps] * at["per_step"], *at.value.shape)}


def start_of(attrs: Attrs) -> float | RandomStart:
    """Return the initial value of a parameter, or its distribution."""
    init = attrs["init"]
    return random_start(init) if isinstance(init, str) else number(attrs, "init")


def _learnt(at: Site) -> TorchModule:
    bounds = {name: at[name] for name in BOUNDS if at[name] is not None}
    kwargs: dict[str, Attribute] = {"steps": at.steps} if at["per_step"] else {}
    learn = Learn(start_of(at.attrs), bounds.get("above"), bounds.get("below"))
    law = {"law": learn.init.text} if isinstance(learn.init, RandomStart) else {}
    target = "danetc.runtime.layers.time.Learnt"
    return TorchModule(target, (learn.raw, *at.value.shape), {**kwargs, **bounds, **law}, "seq")


def _learnt_label(attrs: Attrs) -> tuple[str, str]:
    size = _learnt_shape(attrs, ())
    each = "×".join(map(str, size)) if size.count(1) < len(size) else ""
    start = start_of(attrs)
    return f"learn {start if isinstance(start, RandomStart) else shown(start)}", " ".join(
        [each] * bool(each) + ["per step"] * bool(attrs["per_step"])
    )


ROWS = (
    _pointwise("relu", "max(x, 0)", "torch.relu", "Relu", _above_zero),
    Op(
        "detach", "identity without a gradient", shapes.same, kinds.kept,
        function("torch.detach", layout="any"), gradient=False, linear=True, nir="same", onnx=onnx.same,
        example="a * (a -> detach)",
    ),
    _pointwise("sigmoid", "logistic function", "torch.sigmoid", "Sigmoid"),
    _pointwise("tanh", "hyperbolic tangent", "torch.tanh", "Tanh"),
    _pointwise("softplus", "softplus, log(1 + exp(x))", "torch.nn.functional.softplus", "Softplus"),
    _pointwise(
        "gelu", "Gaussian error linear unit: x times the normal distribution function of x",
        "torch.nn.functional.gelu", "Gelu", source="Hendrycks and Gimpel, 2016",
    ),
    _pointwise(
        "abs", "absolute value", "torch.abs", "Abs",
        lambda attrs, values: Kind.of(ranges.absolute(values[0].kind.range)), public=False, example="",
    ),
    _pointwise("sqrt", "square root", "torch.sqrt", "Sqrt", public=False, example=""),
    _pointwise("exp", "e to the power of x", "torch.exp", "Exp", public=False, example=""),
    Op(
        "softmax", "softmax along an axis", _softmax_shape, kinds.analog,
        lambda at: TorchFunction("torch.softmax", kwargs={"dim": shapes.last_axis(at, "over")}, layout="any"),
        (Parameter("over", str, "axis along which the result sums to 1", "channels", words=(*shapes.AXES, "time")),),
        stands_for=lambda attrs, threshold: ("softmax_over_time", {}) if attrs["over"] == "time" else ("softmax", attrs),
        onnx=lambda to, at, x: to.node("Softmax", x[0], axis=onnx.axis_of(at, "over")),
        example="scores(a, b) -> softmax(over = columns)",
    ),
    Op(
        "softmax_over_time", "softmax along the time steps", shapes.same, kinds.analog,
        lambda at: TorchFunction("torch.softmax", kwargs={"dim": -at.rank - 2}), public=False, time="mixes", ahead=lambda attrs: True,
        label=lambda attrs: ("softmax over T", ""),
        onnx=lambda to, at, x: to.as_batch(to.node("Softmax", to.as_steps(x[0], at.shape), axis=0), at.shape),
    ),
    Op(
        "parameter", "learnable parameters", _learnt_shape, kinds.analog, _learnt,
        (
            Parameter("init", float, "initial value, or the text of its distribution"),
            integer("channels", "number of channels of the other operand, or 1"),
            integer("height", "height of the other operand, or 1; none for a vector", None),
            integer("width", "width of the other operand, or 1; none for a vector", None),
            Parameter("per_step", bool, "if true, each time step has its own parameters", False),
            Parameter("above", float, "lower bound, excluded", None),
            Parameter("below", float, "upper bound, excluded", None),
        ),
        public=False, operands=(0, 0), for_samples=False, weights=_learnt_weights,
        constant=lambda attrs: None if isinstance(attrs["init"], str) else number(attrs, "init"),
        label=_learnt_label,
        onnx=onnx.parameter,
    ),
)  # fmt: skip
