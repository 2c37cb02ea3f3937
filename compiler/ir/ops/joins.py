"""Rows of the table: joins and multiples of values."""

from __future__ import annotations

from math import prod

from danetc.compiler.ir.ops import kinds, onnx, shapes
from danetc.compiler.ir.ops.kinds import Attrs, number
from danetc.compiler.ir.ops.row import Op, Parameter, Site, TorchFunction, function, shown
from danetc.dsl import ranges


def _affine(at: Site) -> TorchFunction:
    factor, offset = at["factor"], at["offset"]
    if offset == 0:
        return TorchFunction("operator.mul", (factor,), layout="any")
    if factor == 1:
        return TorchFunction("operator.add", (offset,), layout="any")
    if factor == -1:
        return TorchFunction("operator.sub", before=(offset,), layout="any")
    return TorchFunction("danetc.runtime.layers.time.affine", (factor, offset), layout="any")


def _affine_equation(attrs: Attrs, x: str) -> tuple[str, int]:
    """Return ``2 × x``, ``x − 1`` or ``1 − x``, and its precedence."""
    factor, offset = number(attrs, "factor"), number(attrs, "offset")
    product = x if factor == 1 else f"−{x}" if factor == -1 else f"{shown(factor)} × {x}"
    if offset == 0:
        return product, 2
    if factor == -1:
        return f"{shown(offset)} − {x}", 1
    return f"{product} {'−' if offset < 0 else '+'} {shown(abs(offset))}", 1


def _affine_label(attrs: Attrs) -> tuple[str, str]:
    factor = number(attrs, "factor")
    if attrs["offset"] == 0 and factor != -1:
        return f"× {shown(factor)}", ""
    return _affine_equation(attrs, "x")[0], ""


def _concat(at: Site) -> TorchFunction:
    alike = len({operand.varies for operand in at.values}) == 1
    target = "torch.cat" if alike else "torch.ops.danetc.concat"
    return TorchFunction(target, kwargs={"dim": -at.rank}, as_list=True)


ROWS = (
    Op(
        "add", "sum, evaluated from left to right", shapes.joined, kinds.folded(ranges.add),
        function("operator.add", fold=True), public=False, operands=(2, None),
        linear=True, numbers=sum, neutral=0.0, commutes=True, rule="sum", sign="+",
        nir="sum", onnx=onnx.folded("Add"),
    ),
    Op(
        "sub", "difference", shapes.joined, kinds.folded(ranges.subtract),
        function("operator.sub", fold=True), public=False, operands=(2, 2),
        linear=True, numbers=lambda x: x[0] - x[1], neutral=0.0, sign="−",
        nir="sum", onnx=onnx.folded("Sub"),
    ),
    Op(
        "mul", "product", shapes.joined, kinds.folded(ranges.multiply),
        function("operator.mul", fold=True), public=False, operands=(2, None),
        numbers=prod, neutral=1.0, absorbing=0.0, commutes=True, sign="×",
        onnx=onnx.folded("Mul"),
    ),
    Op(
        "div", "quotient", shapes.joined, kinds.analog,
        function("operator.truediv", fold=True), public=False, operands=(2, 2), sign="/",
        onnx=onnx.folded("Div"),
    ),
    Op(
        "maximum", "elementwise maximum", shapes.joined, kinds.folded(ranges.larger),
        function("torch.maximum", fold=True), public=False, operands=(2, None),
        numbers=max, commutes=True, rule="max", sign="max",
        onnx=onnx.folded("Max"),
    ),
    Op(
        "minimum", "elementwise minimum", shapes.joined, kinds.folded(ranges.smaller),
        function("torch.minimum", fold=True), public=False, operands=(2, None),
        numbers=min, commutes=True, rule="min", sign="min",
        onnx=onnx.folded("Min"),
    ),
    Op(
        "affine", "factor * x + offset", shapes.same, kinds.scaled, _affine,
        (
            Parameter("factor", float, "factor of x"),
            Parameter("offset", float, "constant term"),
        ),
        public=False, linear=True, same=lambda attrs: (attrs["factor"], attrs["offset"]) == (1, 0),
        numbers=lambda x: x[0] * x[2] + x[1], label=_affine_label, equation=_affine_equation,
        constant=lambda attrs: number(attrs, "offset") if attrs["factor"] == 0 else None,
        nir="scale", onnx=onnx.affine,
    ),
    Op(
        "beside", "inputs of a neuron with several inputs",
        lambda attrs, values: (*shapes.joined(attrs, values), len(values)), kinds.either,
        lambda at: TorchFunction("torch.ops.danetc.beside", kwargs={"rank": at.rank - 1}, as_list=True),
        public=False, operands=(2, None), linear=True, sign="[]",
        onnx=onnx.beside,
    ),
    Op(
        "concat", "concatenation of channels", shapes.concatenated, kinds.either, _concat,
        public=False, operands=(2, None), linear=True, rule="concat", sign="cat",
        onnx=lambda to, at, x: to.node("Concat", *onnx.alike(to, x), axis=1),
    ),
)  # fmt: skip
