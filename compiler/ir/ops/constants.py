"""Rows of the table: tensors that are given by a formula or a file and not trained."""

from __future__ import annotations

from math import prod

from danetc.compiler.ir.graph import Shape
from danetc.compiler.ir.ops import kinds, onnx, shapes
from danetc.compiler.ir.ops.axes import axis_function
from danetc.compiler.ir.ops.kinds import Attrs, Values
from danetc.compiler.ir.ops.row import (
    Op,
    OpError,
    Parameter,
    TorchModule,
    integer,
    module,
    shown,
    whole,
)
from danetc.dsl.syntax.words import BASES


def _extent(attrs: Attrs, values: Values) -> int:
    """Size of the axis that is transformed."""
    return values[0].shape[shapes.axis(values, str(attrs["over"]), "transform")]


def _transformed(attrs: Attrs, values: Values) -> Shape:
    """Shape of the input."""
    extent = _extent(attrs, values)
    if attrs["by"] == "haar" and extent & (extent - 1):
        raise OpError(
            f"transform: a Haar transform needs a power of two, but there are {extent} {attrs['over']}",
            "resize or pad the value, or use `transform(dct)`",
        )
    return values[0].shape


def _positions(attrs: Attrs, values: Values) -> Shape:
    """Shape of the input, a map."""
    return shapes.map_of(values, "sinusoidal")


def _masked(attrs: Attrs, values: Values) -> Shape:
    """Shape of the input; a map whose channels can be divided into the parts."""
    if attrs["parts"] is not None and shapes.map_of(values, "mask")[0] % whole(attrs, "parts"):
        raise OpError(
            f"mask: {values[0].shape[0]} channels cannot be divided into {attrs['parts']} parts",
            "choose a divisor of the number of channels",
        )
    return values[0].shape


ROWS = (
    Op(
        "transform", "orthogonal transform along an axis, by a matrix that is not trained", _transformed,
        kinds.analog, module("danetc.runtime.layers.axes.Transform", "by", "over", "inverse", "rank", layout="any"),
        (
            Parameter("by", str, "matrix: the recursive Haar wavelets of a power of two, or the DCT-II", words=BASES),
            Parameter("over", str, "axis to transform", words=shapes.AXES),
            Parameter("inverse", bool, "if true, the inverse transform", False),
        ),
        linear=True, macs=lambda at: prod(at.shape) * _extent(at.attrs, at.values),
        label=lambda attrs: (f"{'inverse ' * bool(attrs['inverse'])}{attrs['by']}", f"over {attrs['over']}"),
        onnx=onnx.transform,
        example="transform(haar, over = rows)",
    ),
    Op(
        "table", "constant numbers of a file",
        lambda attrs, values: tuple(map(int, str(attrs["numbers"]).split(":")[1].split("x"))), kinds.analog,
        module("danetc.runtime.layers.time.ConstantTable", "numbers", layout="seq"),
        (Parameter("numbers", str, "sizes of the axes, and the numbers in base64"),),
        public=False, operands=(0, 0), for_samples=False,
        label=lambda attrs: ("table", str(attrs["numbers"]).split(":")[1].replace("x", "×")),
        onnx=lambda to, at, x: to.array(to.stored("numbers")[None]),
    ),
    Op(
        "mask", "product with a mask of 0 and 1 that is drawn once, from the seed, and is not trained", _masked,
        kinds.with_zero,
        lambda at: TorchModule(
            "danetc.runtime.layers.weight_layer.Mask", (at["kept"], at["parts"], *at.shape), layout="any"
        ),
        (
            Parameter("kept", float, "probability of 1 for each entry", low=0, high=1, unless="parts"),
            integer(
                "parts", "number of parts of the channels; each entry is 1 in the channel of one random part at "
                "the same place and 0 in those of the others, so that parts have equal shares", None,
            ),
        ),
        drawn=True, linear=True,
        label=lambda attrs: (f"mask {attrs['parts'] or ''}", "" if attrs["kept"] is None else shown(attrs["kept"])),
        onnx=lambda to, at, x: to.node("Mul", x[0], to.array(to.stored("mask")[None])),
        example="mask(0.5) -> conv(16)",
    ),
    Op(
        "sinusoidal", "sinusoidal positions: for pixel p, channels 2k and 2k + 1 are the sine and cosine of "
        "p / 10000^(2k / channels). Only the size of the input is used",
        _positions, kinds.analog, axis_function("sinusoidal", "over"),
        (Parameter("over", str, "axis that counts positions", "pixels", words=("pixels", "rows", "columns")),),
        gradient=False, label=lambda attrs: ("sinusoidal", f"over {attrs['over']}"),
        onnx=onnx.sinusoidal,
        example="a + (a -> sinusoidal)", source="Vaswani et al., NeurIPS 2017",
    ),
)  # fmt: skip
