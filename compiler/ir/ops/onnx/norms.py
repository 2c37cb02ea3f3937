"""Forms of norms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from danetc.compiler.ir.ops.kinds import number
from danetc.compiler.ir.ops.onnx.general import OnnxWriter, Site, repeat
from danetc.compiler.ir.ops.row import whole

if TYPE_CHECKING:
    import numpy as np
else:
    from danetc.compiler.ir.ops.onnx.general import np


def _batch_norm(to: OnnxWriter, at: Site, x: str) -> str:
    bias = to.weight("bias") if at.attrs.get("bias", True) else _zeros(to, at)
    statistics = (to.weight(name) for name in ("running_mean", "running_var"))
    weight = to.weight("weight")
    return to.node("BatchNormalization", x, weight, bias, *statistics, epsilon=_epsilon(at))


def _epsilon(at: Site) -> float:
    return number(at.attrs, "eps") if "eps" in at.attrs else 1e-5


def _zeros(to: OnnxWriter, at: Site) -> str:
    return to.array(np.zeros(at.shape[0]))


def batchnorm(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    if not at.attrs.get("per_step"):
        return _batch_norm(to, at, x[0])
    weight, mean, variance = (
        to.stored(name).astype(np.float64) for name in ("weight", "running_mean", "running_var")
    )
    bias = to.stored("bias").astype(np.float64) if at.attrs.get("bias", True) else 0.0
    scale = weight / np.sqrt(variance + _epsilon(at))
    factors, offsets = (_of_steps(to, at, each) for each in (scale, bias - mean * scale))
    y = x[0] if to.step else to.as_steps(repeat(to, at, x), at.shape)
    y = to.node("Add", to.node("Mul", y, factors), offsets)
    return y if to.step else to.as_batch(y, at.value.shape)


def _of_steps(to: OnnxWriter, at: Site, values: np.ndarray[Any, Any]) -> str:
    """[T, ...] along with [T, N, C, ...]; of one step, its own along with [N, C, ...]."""
    lead = values.reshape(len(values), 1, *values.shape[1:], *[1] * (at.rank + 1 - values.ndim))
    if not to.step:
        return to.array(lead)
    return to.node("Gather", to.array(lead[:, 0]), to.step, axis=0)


def batchnorm_with(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    """With a border of what the norm makes of 0, put around by adding it."""
    y = batchnorm(to, at, x)
    border = whole(at.attrs, "pad")
    if not border:
        return y
    scale = to.stored("weight") / np.sqrt(to.stored("running_var") + number(at.attrs, "eps"))
    bias = to.stored("bias") if at.attrs["bias"] else 0.0
    value = (bias - to.stored("running_mean") * scale).reshape(1, -1, 1, 1)
    edge = np.ones((1, 1, *at.value.shape[1:]))
    edge[..., border:-border, border:-border] = 0
    padded = to.node("Pad", y, to.ints(*[border] * 4), "", to.ints(2, 3))
    return to.node("Add", padded, to.node("Mul", to.array(value), to.array(edge)))


def tebn(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    y = _batch_norm(to, at, repeat(to, at, x))
    factors = _of_steps(to, at, to.stored("scale"))
    if to.step:
        return to.node("Mul", y, factors)
    y = to.node("Mul", to.as_steps(y, at.value.shape), factors)
    return to.as_batch(y, at.value.shape)


def groupnorm(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    y = x[0] if at.rank > 1 else to.node("Unsqueeze", x[0], to.ints(2))
    y = to.node(
        "GroupNormalization", y, to.weight("weight"), to.weight("bias"),
        num_groups=whole(at.attrs, "groups"), epsilon=1e-5,
    )  # fmt: skip
    return y if at.rank > 1 else to.node("Squeeze", y, to.ints(2))


def layernorm(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    y = to.node("Transpose", x[0], perm=[0, 2, 3, 1]) if at.rank > 1 else x[0]
    y = to.node(
        "LayerNormalization", y, to.weight("weight"), to.weight("bias"),
        axis=-1, epsilon=number(at.attrs, "eps"),
    )  # fmt: skip
    return to.node("Transpose", y, perm=[0, 3, 1, 2]) if at.rank > 1 else y


def running_mean(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    return to.array(to.stored("mean").reshape(1, -1, *[1] * (at.rank - 1)))
