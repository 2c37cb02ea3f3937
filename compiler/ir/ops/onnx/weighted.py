"""Forms of layers of weights, and of padding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from danetc.compiler.ir.ops.onnx.general import OnnxWriter, Site, pair, window
from danetc.compiler.ir.ops.row import whole
from danetc.compiler.ir.ops.scheduled import at_start, is_scheduled

if TYPE_CHECKING:
    import numpy as np
else:
    from danetc.compiler.ir.ops.onnx.general import np


def _with_bias(to: OnnxWriter, at: Site) -> list[str]:
    return [to.weight("weight"), *([to.weight("bias")] if at.attrs["bias"] else [])]


def conv(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    return to.node(
        "Conv", x[0], *_with_bias(to, at), **window(at),
        dilations=pair(at, "dilation", 1), group=whole(at.attrs, "groups"),
    )  # fmt: skip


def conv_transposed(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    return to.node(
        "ConvTranspose", x[0], *_with_bias(to, at), **window(at),
        output_padding=pair(at, "output_padding", 0), group=whole(at.attrs, "groups"),
    )  # fmt: skip


def linear(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    return to.node("Gemm", x[0], *_with_bias(to, at), transB=1)


def conv_over_time(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    """A convolution of [N, C, T, pixels]; of one step, of that and those before."""
    before, after = (whole(at.attrs, name) for name in ("before", "after"))
    weight = np.expand_dims(to.stored("weight"), -1)
    bias = [to.weight("bias")] if at.attrs["bias"] else []
    steps = _seen(to, at, x[0], before) if to.step else to.as_steps(x[0], at.shape)
    turned = to.node("Transpose", steps, perm=[1, 2, 0, *range(3, at.rank + 2)])
    y = to.node(
        "Conv", to.node("Reshape", turned, to.ints(0, 0, 0, -1)), to.array(weight), *bias,
        kernel_shape=[whole(at.attrs, "kernel"), 1],
        pads=[0, 0, 0, 0] if to.step else [before, 0, after, 0],
        dilations=[whole(at.attrs, "dilation"), 1], group=whole(at.attrs, "groups"),
    )  # fmt: skip
    y = to.node("Transpose", y, perm=[2, 0, 1, 3])
    return to.node("Reshape", y, to.ints(-1, *at.value.shape))


def _seen(to: OnnxWriter, at: Site, x: str, past: int) -> str:
    """This step and ``past`` before it, [past + 1, N, ...]; they are remembered."""
    now = to.node("Unsqueeze", x, to.ints(0))
    if not past:
        return now
    known = to.before("past", at.shape, past)
    known = to.node("Unsqueeze", known, to.ints(0)) if past == 1 else known
    seen = to.node("Concat", known, now, axis=0)
    if past == 1:
        to.remember("past", x)
    else:
        to.remember("past", to.node("Slice", seen, to.ints(1), to.ints(past + 1), to.ints(0)))
    return seen


def linear_over_time(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    """The steps as rows of a matrix."""
    steps, window = whole(at.attrs, "steps"), at.attrs["window"]
    weight = to.stored("weight")
    if window is not None:
        assert isinstance(window, int)
        masked = at.attrs["masked"]
        share = float(to.stored("masked")) if is_scheduled(masked) else at_start(masked)
        inside = np.triu(np.tril(np.ones_like(weight)), 1 - window)
        weight = (share * inside + (1 - share)) * weight
    if to.step:
        assert isinstance(window, int)  # else it looks ahead
        rows = np.zeros((steps, window), weight.dtype)
        for t in range(steps):
            first = max(0, t + 1 - window)
            rows[t, window - (t + 1 - first) :] = weight[t, first : t + 1]
        matrix = to.node("Gather", to.array(rows), to.step, axis=0)
        seen = _seen(to, at, x[0], window - 1)
    else:
        matrix, seen = to.array(weight), to.as_steps(x[0], at.shape)
    y = to.node("MatMul", matrix, to.node("Flatten", seen, axis=1))
    if at.attrs["bias"]:
        bias = to.array(to.stored("bias").reshape(-1, 1))
        y = to.node("Add", y, to.node("Gather", bias, to.step, axis=0) if to.step else bias)
    return to.node("Reshape", y, to.ints(-1, *at.value.shape))


def pad(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    before, after = whole(at.attrs, "before"), whole(at.attrs, "after")
    axes = [axis for name, axis in (("rows", 2), ("columns", 3)) if at.attrs["over"] in (name, "pixels")]  # fmt: skip
    ends = to.ints(*[before] * len(axes), *[after] * len(axes))
    return to.node("Pad", x[0], ends, "", to.ints(*axes))
