"""Layers as nodes, whatever library or file they are read from, and what of them danetc has not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from danetc.compiler.ir.graph import Attribute
from danetc.errors import UserError
from danetc.tasks.importing.source import SourceBuilder


def one(value: Any, path: str, what: str) -> int:
    """A size that is the same in both directions."""
    if isinstance(value, int):
        return value
    sizes = {*value}
    if len(sizes) != 1:
        raise UserError(f"{path}: its {what} is {tuple(value)}; danetc has one for both directions")
    return int(sizes.pop())


def sizes(path: str, **given: Any) -> dict[str, Attribute]:
    """Sizes by their names, each the same in both directions."""
    return {name: one(value, path, name) for name, value in given.items()}


def batchnorm(eps: float) -> tuple[str, dict[str, Attribute]]:
    """A norm over samples, with its eps where that is not the usual one."""
    return ("batchnorm", {}) if eps == 1e-5 else ("batchnorm_with", {"eps": eps})


def pool(
    build: SourceBuilder,
    op: str,
    x: int,
    path: str,
    kernel: Any,
    stride: Any = None,
    padding: Any = 0,
    *,
    dilation: Any = 1,
    ceil_mode: Any = False,
    counts_padding: Any = True,
    divisor: Any = None,
) -> int:
    """A pooling of square windows, ``maxpool`` or ``avgpool``."""
    k, p = one(kernel, path, "kernel"), one(padding, path, "padding")
    s = k if stride is None else one(stride, path, "stride")
    if one(dilation, path, "dilation") != 1:
        raise UserError(f"{path}: a pooling with a dilation")
    if ceil_mode and any((size + 2 * p - k) % s for size in build.shape_of(x)[1:]):
        raise UserError(f"{path}: ceil_mode pools a part of a window, which danetc does not")
    if divisor or (op == "avgpool" and p and not counts_padding):
        raise UserError(f"{path}: an average pooling that divides by other than its window's size")
    return build.add(op, [x], {"kernel": k, "stride": s, "padding": p}, path)


def adaptive(build: SourceBuilder, x: int, path: str, size: Any) -> int:
    """Adaptive average pooling: global, none, of whole windows, or an upsampling."""
    shape = build.shape_of(x)
    wanted = tuple(size) if isinstance(size, (tuple, list)) else (size, size)
    rows, columns = (s if w is None else w for s, w in zip(shape[1:], wanted, strict=True))
    if (rows, columns) == (1, 1):
        return build.add("global_avgpool", [x], {}, path)
    if (rows, columns) == shape[1:]:
        return x
    if shape[1] == shape[2] and rows == columns and shape[1] % rows == 0:
        return pool(build, "avgpool", x, path, shape[1] // rows)
    if shape[1] == shape[2] and rows == columns and rows % shape[1] == 0:
        return build.add("upsample", [x], {"scale": rows // shape[1]}, path)
    raise UserError(
        f"{path}: adaptive pooling of {shape[1]}x{shape[2]} to {rows}x{columns}, whose windows have "
        "several sizes; give an image size that it divides with --input"
    )


def average(build: SourceBuilder, x: int, path: str, *, keep: Any) -> int:
    """The mean over rows and columns, as a map of one pixel (``keep``) or as a vector."""
    pooled = build.add("global_avgpool", [x], {}, path)
    return pooled if keep else flatten(build, pooled, path)


def flatten(build: SourceBuilder, x: int, path: str) -> int:
    """A map as a vector."""
    return x if len(build.shape_of(x)) == 1 else build.add("flatten", [x], {}, path)


def concat(build: SourceBuilder, values: Sequence[int], path: str) -> int:
    """Values side by side along their channels."""
    return values[0] if len(values) == 1 else build.add("concat", values, {}, path)


_Affine = Callable[[float], tuple[float, float]]
_WITH_NUMBER: Mapping[str, tuple[_Affine, _Affine | None]] = {
    "add": (lambda c: (1.0, c), lambda c: (1.0, c)),
    "sub": (lambda c: (1.0, -c), lambda c: (-1.0, c)),
    "mul": (lambda c: (c, 0.0), lambda c: (c, 0.0)),
    "div": (lambda c: (1.0 / c, 0.0), None),
}
"""``x + c`` and ``c + x``, and so on, as a factor and an offset of x."""


def with_number(
    build: SourceBuilder, op: str, x: int, number: float, path: str, *, first: bool
) -> int:
    """An operation of a value and a number, which stands ``first`` or behind the value."""
    made = _WITH_NUMBER[op][first]
    if made is None:
        raise UserError(f"{path}: `{op}` of a number by a value")
    factor, offset = made(float(number))
    return build.add("affine", [x], {"factor": factor, "offset": offset}, path)
