"""Forms of what joins values."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import TYPE_CHECKING

from danetc.compiler.ir.ops.kinds import number
from danetc.compiler.ir.ops.onnx.general import OnnxWriter, Site

if TYPE_CHECKING:
    import numpy as np
else:
    from danetc.compiler.ir.ops.onnx.general import np


def affine(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    factor, offset = number(at.attrs, "factor"), number(at.attrs, "offset")
    if factor == -1 and offset:
        return to.node("Sub", to.array(offset), x[0])
    y = x[0] if factor == 1 else to.node("Mul", x[0], to.array(factor))
    return to.node("Add", y, to.array(offset)) if offset or factor == 1 else y


def beside(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    """Side by side in a new last dimension."""
    size = np.broadcast_shapes(*(value.shape for value in at.values))
    parts = []
    for each, value in zip(_alike(to, x), at.values, strict=True):
        whole_map = each if value.shape == size else to.node("Expand", each, to.ints(1, *size))
        parts.append(to.node("Unsqueeze", whole_map, to.ints(-1)))
    return to.node("Concat", *parts, axis=-1)


def concat(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    return to.node("Concat", *_alike(to, x), axis=1)


def _alike(to: OnnxWriter, x: Sequence[str]) -> list[str]:
    """All with as many samples."""
    last = reduce(lambda a, b: to.like(b, a), x)
    return [to.like(each, last) for each in x]
