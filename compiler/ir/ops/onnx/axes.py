"""Forms of what changes the axes of a value."""

from __future__ import annotations

from collections.abc import Sequence

from danetc.compiler.ir.ops import shapes
from danetc.compiler.ir.ops.onnx.general import Form, OnnxWriter, Site, reshaped
from danetc.compiler.ir.ops.row import whole


def as_map(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    return to.node("Unsqueeze", x[0], to.ints(2, 3))


def reduced(name: str) -> Form:
    """A reduction over an axis, which keeps one entry; of channels one for each group."""

    def form(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
        if at.attrs["over"] != "channels":
            axes = {"rows": [2], "columns": [3], "pixels": [2, 3]}[str(at.attrs["over"])]
            return to.node(name, x[0], to.ints(*axes), keepdims=1)
        channels, *rest = at.shape
        groups = whole(at.attrs, "groups")
        split = reshaped(to, x[0], groups, channels // groups, *rest)
        return to.node(name, split, to.ints(2), keepdims=0)

    return form


def axis_of(at: Site, name: str) -> int:
    """An axis of a sample, of [B, ...]."""
    return 1 + shapes.AXES.index(str(at.attrs[name]))


def _exchanged(rank: int, a: int, b: int) -> list[int]:
    perm = [*range(rank)]
    perm[a], perm[b] = perm[b], perm[a]
    return perm


def swap(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    return to.node(
        "Transpose", x[0], perm=_exchanged(at.rank + 1, axis_of(at, "a"), axis_of(at, "b"))
    )


def steps_as_axis(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    axis = axis_of(at, "axis")
    y = to.node("Squeeze", to.as_steps(x[0], at.shape), to.ints(axis + 1))
    rest = [*range(1, at.rank + 1)]
    return to.node("Transpose", y, perm=[*rest[:axis], 0, *rest[axis:]])


def axis_as_steps(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    axis = axis_of(at, "axis")
    rest = [i for i in range(at.rank + 1) if i != axis]
    y = to.node("Transpose", x[0], perm=[axis, *rest])
    return to.as_batch(to.node("Unsqueeze", y, to.ints(axis + 1)), at.value.shape)


def swap_with_time(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    perm = _exchanged(at.rank + 2, 0, axis_of(at, "axis") + 1)
    y = to.node("Transpose", to.as_steps(x[0], at.shape), perm=perm)
    return to.as_batch(y, at.value.shape)


def reshape(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    return reshaped(to, x[0], *at.value.shape)


def repeat_channels(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    channels, *rest = at.shape
    y = to.node("Unsqueeze", x[0], to.ints(2))
    y = to.node("Expand", y, to.ints(1, channels, whole(at.attrs, "scale"), *rest))
    return reshaped(to, y, *at.value.shape)


def slice_channels(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    first, last = whole(at.attrs, "first"), whole(at.attrs, "last")
    return to.node("Slice", x[0], to.ints(first), to.ints(last + 1), to.ints(1))


def shuffle(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    groups = whole(at.attrs, "groups")
    channels, *rest = at.shape
    y = reshaped(to, x[0], groups, channels // groups, *rest)
    y = to.node("Transpose", y, perm=_exchanged(at.rank + 2, 1, 2))
    return reshaped(to, y, *at.shape)
