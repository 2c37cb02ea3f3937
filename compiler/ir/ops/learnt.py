"""Rows of the table: numbers that are trained by themselves, ``learn(...)`` in a network."""

from __future__ import annotations

from danetc.compiler.ir.graph import Attribute, Shape, Value
from danetc.compiler.ir.ops import kinds
from danetc.compiler.ir.ops.kinds import Attrs, Values, number
from danetc.compiler.ir.ops.onnx import learnt as onnx
from danetc.compiler.ir.ops.row import Context, Op, Parameter, TorchModule, integer, shown, whole
from danetc.dsl.neuron.learn import Learn

BOUNDS = ("above", "below")


def _shape(attrs: Attrs, values: Values) -> Shape:
    if attrs["height"] is None:
        return (whole(attrs, "channels"),)
    return (whole(attrs, "channels"), whole(attrs, "height"), whole(attrs, "width"))


def _is_bounded(attrs: Attrs) -> bool:
    return any(attrs[name] is not None for name in BOUNDS)


def _weights(attrs: Attrs, values: Values, context: Context) -> dict[str, Shape]:
    shape = _shape(attrs, values)
    name = "weight_raw" if _is_bounded(attrs) else "weight"
    return {name: (context.steps, *shape) if attrs["per_step"] else shape}


def _module(attrs: Attrs, values: Values, value: Value, context: Context) -> TorchModule:
    bounds = {name: number(attrs, name) for name in BOUNDS if attrs[name] is not None}
    kwargs: dict[str, Attribute] = {"steps": context.steps} if attrs["per_step"] else {}
    raw = Learn(number(attrs, "init"), bounds.get("above"), bounds.get("below")).raw
    target = "danetc.runtime.layers.learnt.Learnt"
    return TorchModule(target, (raw, *value.shape), {**kwargs, **bounds}, "seq")


def _label(attrs: Attrs) -> tuple[str, str]:
    size = [attrs[name] for name in ("channels", "height", "width") if attrs[name] is not None]
    each = "×".join(map(str, size)) if size.count(1) < len(size) else ""
    return f"learn {shown(attrs['init'])}", " ".join(
        [each] * bool(each) + ["per step"] * bool(attrs["per_step"])
    )


ROWS = (
    Op(
        "parameter", "numbers that are trained by themselves", _shape, kinds.analog, _module,
        (
            Parameter("init", float, "the number that they start at"),
            integer("channels", "channels of what they join, or 1"),
            integer("height", "its height, or 1; none of a vector", None),
            integer("width", "its width, or 1; none of a vector", None),
            Parameter("per_step", bool, "whether each time step has its own", False),
            Parameter("above", float, "what they stay above", None),
            Parameter("below", float, "what they stay below", None),
        ),
        public=False, operands=(0, 0), for_samples=False, weights=_weights,
        constant=lambda attrs: number(attrs, "init"), label=_label,
        onnx=onnx.parameter,
    ),
)  # fmt: skip
