"""Forms of the products of attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from danetc.compiler.ir.graph import Shape
from danetc.compiler.ir.ops.kinds import Values, number
from danetc.compiler.ir.ops.onnx.general import OnnxWriter, Site, reshaped
from danetc.compiler.ir.ops.row import whole

if TYPE_CHECKING:
    import numpy as np
else:
    from danetc.compiler.ir.ops.onnx.general import np


def _tokens(to: OnnxWriter, x: str, shape: Shape, heads: int) -> str:
    """A map as [B, heads, channels of a head, pixels]."""
    return reshaped(to, x, heads, shape[0] // heads, shape[1] * shape[2])


def _turned(to: OnnxWriter, x: str) -> str:
    return to.node("Transpose", x, perm=[0, 1, 3, 2])


def scores(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    return _scored(to, x, at.values, whole(at.attrs, "heads"))


def _scored(to: OnnxWriter, x: Sequence[str], values: Values, heads: int) -> str:
    q, k = (_tokens(to, each, of.shape, heads) for each, of in zip(x[:2], values[:2], strict=True))
    return to.node("MatMul", _turned(to, q), k)


def mix(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    return _mixed(to, at, x[0], x[1], at.values[1].shape, at.values[0].shape[0])


def _mixed(to: OnnxWriter, at: Site, a: str, v: str, shape: Shape, heads: int) -> str:
    y = to.node("MatMul", _tokens(to, v, shape, heads), _turned(to, a))
    return reshaped(to, y, *at.value.shape)


def keys_first(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    heads = whole(at.attrs, "heads")
    q, k, v = (_tokens(to, x[i], at.values[i].shape, heads) for i in range(3))
    memory = to.node("MatMul", v, _turned(to, k))
    return reshaped(to, to.node("MatMul", memory, q), *at.value.shape)


def band(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    _, rows, columns = at.shape
    ahead = np.arange(columns) - np.arange(rows)[:, None]
    before, after = at.attrs["before"], at.attrs["after"]
    first = -rows if before is None else -whole(at.attrs, "before")
    last = columns if after is None else whole(at.attrs, "after")
    inside = to.node("Cast", to.array((ahead >= first) & (ahead <= last)), to=9)
    return to.node("Where", inside, x[0], to.array(number(at.attrs, "outside")))
