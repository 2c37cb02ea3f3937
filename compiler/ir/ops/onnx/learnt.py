"""Forms of parameters by themselves."""

from __future__ import annotations

from collections.abc import Sequence

from danetc.compiler.ir.ops.kinds import number
from danetc.compiler.ir.ops.onnx.general import OnnxWriter, Site


def parameter(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    """[1, ...], or [T, ...] where each step has its own."""
    above, below = at.attrs["above"], at.attrs["below"]
    value = to.stored("weight" if above is None and below is None else "weight_raw")
    value = value if at.attrs["per_step"] else value[None]
    y = to.array(value)
    if at.attrs["per_step"] and to.step:
        y = to.node("Gather", y, to.step, axis=0)
    if above is not None and below is not None:
        span = number(at.attrs, "below") - number(at.attrs, "above")
        y = to.node("Mul", to.array(span), to.node("Sigmoid", y))
        return to.node("Add", to.array(number(at.attrs, "above")), y)
    if above is not None:
        return to.node("Add", to.array(number(at.attrs, "above")), to.node("Softplus", y))
    if below is not None:
        return to.node("Sub", to.array(number(at.attrs, "below")), to.node("Softplus", y))
    return y
