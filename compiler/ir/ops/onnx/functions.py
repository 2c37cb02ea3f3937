"""Forms of the softmax."""

from __future__ import annotations

from collections.abc import Sequence

from danetc.compiler.ir.ops.onnx.axes import axis_of
from danetc.compiler.ir.ops.onnx.general import OnnxWriter, Site


def softmax(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    return to.node("Softmax", x[0], axis=axis_of(at, "over"))


def softmax_over_time(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    y = to.node("Softmax", to.as_steps(x[0], at.shape), axis=0)
    return to.as_batch(y, at.shape)
