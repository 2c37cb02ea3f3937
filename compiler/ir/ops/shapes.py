"""Rules of the table that compute the shape of a result."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from danetc.compiler.ir.graph import Shape
from danetc.compiler.ir.ops.kinds import Attrs, Values
from danetc.compiler.ir.ops.row import OpError, Site, whole

AXES = ("channels", "rows", "columns")
"""Axes of a map, in order."""

# -- unknown sizes ----------------------------------------------------------------------------------
# The output of a loop's ``delay`` has the shape of a later value. In the first pass over a loop its
# sizes are unknown: arithmetic with one results in one, comparisons hold, and a known size replaces
# it. The second pass uses and checks the sizes found.


class Unknown(int):
    """An unknown size. The only instance is ``UNKNOWN``."""

    __add__ = __radd__ = __sub__ = __rsub__ = lambda self, other: self
    __mul__ = __rmul__ = __floordiv__ = __rfloordiv__ = lambda self, other: self
    __neg__ = __pow__ = lambda self, *others: self
    __eq__ = __le__ = __ge__ = lambda self, other: True  # type: ignore[assignment]
    __ne__ = __lt__ = __gt__ = lambda self, other: False  # type: ignore[assignment]

    def __mod__(self, other: object) -> int:
        return 0

    def __hash__(self) -> int:
        return hash("an unknown size")

    def __str__(self) -> str:
        return "?"

    __repr__ = __str__

    def __format__(self, form: str) -> str:
        return "?"


UNKNOWN = Unknown(1)


class AnyShape(tuple[int, ...]):
    """An unknown shape, treated as that of a map until it meets a known one."""


ANY_SHAPE = AnyShape((UNKNOWN, UNKNOWN, UNKNOWN))


def is_known(shape: tuple[int, ...]) -> bool:
    """Return True if all sizes of a shape are known."""
    return not any(isinstance(extent, Unknown) for extent in shape)


def met(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    """Return the common shape of two, with each size that either knows."""
    if isinstance(a, AnyShape):
        return b
    if isinstance(b, AnyShape):
        return a
    return tuple(y if isinstance(x, Unknown) else x for x, y in zip(a, b, strict=True))


# -- rules ------------------------------------------------------------------------------------------


def text(shape: Shape) -> str:
    return " x ".join(str(extent) for extent in shape)


def map_of(values: Values, what: str) -> tuple[int, int, int]:
    shape = values[0].shape
    if len(shape) != 3:
        raise OpError(
            f"{what} needs a map of channels x height x width, but its input is a vector of {shape[0]}",
            "move it before the operation that flattens its input",
        )
    return shape[0], shape[1], shape[2]


def window(size: int, kernel: int, stride: int, padding: int, dilation: int, what: str) -> int:
    reach = dilation * (kernel - 1) + 1
    if size + 2 * padding < reach:
        raise OpError(
            f"{what}: a window of {reach} does not fit into {size} with padding {padding}",
            "reduce the kernel, increase the padding, or reduce the strides before it",
        )
    return (size + 2 * padding - reach) // stride + 1


def check_groups(attrs: Attrs, values: Values) -> None:
    """Raise OpError unless groups divide the channels of a convolution."""
    groups, channels = whole(attrs, "groups"), values[0].shape[0]
    for extent, what in ((channels, "input channels"), (whole(attrs, "width"), "output channels")):
        if extent % groups:
            raise OpError(
                f"conv: {groups} groups do not divide the {extent} {what}",
                "choose groups that divide both the input channels and the width",
            )


def pooled(attrs: Attrs, values: Values) -> Shape:
    """Same channels, and floor((size + 2 padding - kernel) / stride) + 1 rows and columns."""
    channels, height, width = map_of(values, "pooling")
    k, s, p = (whole(attrs, name) for name in ("kernel", "stride", "padding"))
    if 2 * p > k:
        raise OpError(f"pooling: padding {p} is more than half of the kernel {k}")
    return (channels, window(height, k, s, p, 1, "pooling"), window(width, k, s, p, 1, "pooling"))


def same(attrs: Attrs, values: Values) -> Shape:
    """Shape of the input."""
    return values[0].shape


def axis(values: Values, name: str, what: str) -> int:
    """Return the index of an axis in a shape."""
    if name != "channels":
        map_of(values, f"{what} with {name}")
    return AXES.index(name)


def last_axis(at: Site, name: str) -> int:
    """Return the place of an attribute's axis, counted from the last."""
    return AXES.index(at[name]) - at.rank


def reach(attrs: Attrs, values: Values) -> int:
    """Return the number of elements that are reduced to one."""
    shape, over = values[0].shape, str(attrs["over"])
    if over == "channels":
        return shape[0] // whole(attrs, "groups")
    return prod(shape[1:]) if over == "pixels" else shape[AXES.index(over)]


def grouped(what: str) -> Callable[[Attrs, Values], Shape]:
    """Return the rule of an operation on groups of channels."""

    def rule(attrs: Attrs, values: Values) -> Shape:
        """Shape of the input."""
        shape, groups = values[0].shape, whole(attrs, "groups")
        if shape[0] % groups:
            raise OpError(
                f"{what}: {groups} groups do not divide the {shape[0]} channels of {text(shape)}",
                "choose groups that divide the channels",
            )
        return shape

    return rule


def reduced(attrs: Attrs, values: Values) -> Shape:
    """One element along an axis; for channels, one per group."""
    over, groups = str(attrs["over"]), whole(attrs, "groups")
    if over == "channels":
        return (groups, *grouped("over channels")(attrs, values)[1:])
    if groups != 1:
        raise OpError(f"groups divide channels, not {over}", "leave out `groups`")
    channels, height, width = map_of(values, f"over {over}")
    return (channels, 1 if over != "columns" else height, 1 if over != "rows" else width)


def joined(attrs: Attrs, values: Values) -> Shape:
    """Common shape after broadcasting, as for a gate of C x 1 x 1 and a map."""
    result = values[0].shape
    known = is_known(result)
    for value in values[1:]:
        if known and value.shape == result:
            continue  # the fast path: a sum may have many operands
        is_any = isinstance(result, AnyShape) or isinstance(value.shape, AnyShape)
        if is_any or value.shape == result:
            result = met(result, value.shape)
            continue
        if len(value.shape) != len(result) or any(
            a != b and 1 not in (a, b) for a, b in zip(result, value.shape, strict=True)
        ):
            raise OpError(
                f"shapes do not agree: {text(result)} and {text(value.shape)}",
                _how_to_join(result, value.shape),
            )
        result = tuple(map(max, met(result, value.shape), met(value.shape, result)))
    return result


def of_neuron(attrs: Attrs, values: Values) -> Shape:
    """Shape of the input, without the axis of several inputs."""
    shape = values[0].shape
    return shape[:-1] if attrs.get("inputs", 1) != 1 else shape


def _how_to_join(a: Shape, b: Shape) -> str:
    """Return a hint for two shapes that cannot be broadcast."""
    vector, map_ = sorted((a, b), key=len)
    if len(vector) == 1 and len(map_) == 3:
        channels, height, width = map_
        return (
            f"a map of {text(map_)} can join {channels} x 1 x 1 (one number per channel), "
            f"1 x {height} x {width} (one per pixel) or a vector of {channels}; a gate is "
            f"`a -> avgpool -> linear({channels}) -> sigmoid`"
        )
    return "add a projection to the shortcut, or make widths and strides equal"


def concatenated(attrs: Attrs, values: Values) -> Shape:
    first = values[0].shape
    for value in values[1:]:
        if isinstance(first, AnyShape) or isinstance(value.shape, AnyShape):
            first = (UNKNOWN, *met(first, value.shape)[1:])
            continue
        if value.shape[1:] == first[1:] and len(value.shape) == len(first):
            first = (first[0], *met(first, value.shape)[1:])
        else:
            raise OpError(
                f"concat: sizes do not agree: {text(first)} and {text(value.shape)}",
                "only the number of channels may differ",
            )
    return (sum(value.shape[0] for value in values), *first[1:])


def connected(attrs: Attrs, values: Values) -> Shape:
    """A vector of ``width`` elements."""
    if len(values[0].shape) != 1:
        raise OpError("linear needs a vector", "flatten its input")
    return (whole(attrs, "width"),)


def scaled(attrs: Attrs, values: Values) -> Shape:
    """Same channels, ``scale`` times as many rows and columns."""
    channels, height, width = map_of(values, "upsample")
    scale = whole(attrs, "scale")
    return (channels, height * scale, width * scale)


def vector(attrs: Attrs, values: Values) -> Shape:
    """A vector of all elements."""
    return (prod(values[0].shape),)
