"""ONNX operators of the operations: forms for the field ``onnx`` of a row.

A form gets its operands and gives its value by name. Time and batch are one leading dimension B:
a map is [B, C, H, W], a vector [B, C]; B is N for what does not vary and T * N, step by step, for
what does. What all samples share is [1, ...]. Where a network runs one step at a time
(``OnnxWriter.step``) B is N for all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from danetc.compiler.ir.graph import Shape
from danetc.compiler.ir.ops import shapes
from danetc.compiler.ir.ops.row import Site, at_start, is_scheduled, pair
from danetc.dsl.first_weights import random_start

if TYPE_CHECKING:
    import numpy as np

Array: TypeAlias = "np.ndarray[Any, Any]"


class OnnxWriter(Protocol):
    """Writer of the operators of a node (``compiler.emit.onnx``)."""

    step: str
    """Number of the time step [1] if the network runs one step at a time; else empty."""

    def node(self, operator: str, *inputs: str, **attributes: Any) -> str: ...
    def weight(self, name: str) -> str:
        """Return a stored tensor of the node."""

    def stored(self, name: str) -> Array:
        """Return a stored tensor of the node as an array."""

    def array(self, values: Any) -> str:
        """Return a constant of the network's type."""

    def applied(self, name: str, x: Array, *args: Any) -> Array:
        """Return the result of a function of ``runtime.layers`` for a constant."""

    def ints(self, *values: int) -> str:
        """Return an int64 constant."""

    def length(self) -> str:
        """Return T, [1]."""

    def as_steps(self, x: str, shape: Shape) -> str:
        """Return [T * N, ...] as [T, N, ...]; ``shape`` is that of a sample."""

    def as_batch(self, x: str, shape: Shape) -> str:
        """Return [T, N, ...] as [T * N, ...]."""

    def like(self, x: str, other: str) -> str:
        """Return ``x``, [1, ...] or [B, ...], with as many samples as ``other``."""

    def before(self, name: str, shape: Shape, steps: int) -> str:
        """Return the value that the previous step remembered, [N, ...] or [steps, N, ...]; 0 in the
        first step."""

    def remember(self, name: str, value: str) -> None:
        """Remember a value for the next step."""


Form: TypeAlias = Callable[[OnnxWriter, Site, Sequence[str]], str]  # ``row.OnnxForm``


def same(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    """Return the operand, for an operation without effect in inference."""
    return x[0]


def operator(name: str, **attributes: Any) -> Form:
    """Return the form of a single operator."""
    return lambda to, at, x: to.node(name, *x, **attributes)


def folded(name: str) -> Form:
    """Return the form of an operator of two operands, folded from the left."""
    return lambda to, at, x: reduce(lambda a, b: to.node(name, a, b), x)


def reshaped(to: OnnxWriter, x: str, *shape: int) -> str:
    """Return ``x`` as [B, ...]."""
    return to.node("Reshape", x, to.ints(0, *shape))


def over_time(name: str) -> Form:
    """Return the form of a reduction over time steps, which returns static values themselves."""

    def form(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
        if not at.values[0].varies or to.step:
            return x[0]
        return to.node(name, to.as_steps(x[0], at.shape), to.ints(0), keepdims=0)

    return form


def repeat(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    """Repeat [N, ...] T times."""
    if to.step or at.values[0].varies:
        return x[0]
    ones = to.ints(*[1] * at.rank)
    return to.node("Tile", x[0], to.node("Concat", to.length(), ones, axis=0))


def window(at: Site) -> dict[str, tuple[int, ...]]:
    """Return kernel, stride and padding of windows under their ONNX names."""
    return {
        "kernel_shape": pair(at.attrs, "kernel", 1),
        "strides": pair(at.attrs, "stride", 1),
        "pads": 2 * pair(at.attrs, "padding", 0),
    }


# -- axes ---------------------------------------------------------------------------------------------


def reduced(name: str) -> Form:
    """Return the form of a reduction over an axis to one entry, or to one for each group."""

    def form(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
        if at["over"] != "channels":
            axes = {"rows": [2], "columns": [3], "pixels": [2, 3]}[at["over"]]
            return to.node(name, x[0], to.ints(*axes), keepdims=1)
        channels, *rest = at.shape
        groups = at["groups"]
        split = reshaped(to, x[0], groups, channels // groups, *rest)
        return to.node(name, split, to.ints(2), keepdims=0)

    return form


def axis_of(at: Site, name: str) -> int:
    """Return the place of a sample's axis in [B, ...]."""
    return 1 + shapes.AXES.index(at[name])


def _exchanged(rank: int, a: int, b: int) -> list[int]:
    perm = [*range(rank)]
    perm[a], perm[b] = perm[b], perm[a]
    return perm


def swap(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    perm = _exchanged(at.rank + 1, axis_of(at, "a"), axis_of(at, "b"))
    return to.node("Transpose", x[0], perm=perm)


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


def embedding(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    table = to.weight("weight")
    if not at.values[0].kind.is_token:
        axes = "dhw"[: at.rank]
        return to.node("Einsum", table, x[0], equation=f"v{axes[0]},n{axes}->nv{axes[1:]}")
    rows = to.node("Gather", table, x[0], axis=0)
    if at.rank == 1:
        return to.node("Squeeze", rows, to.ints(1))
    return to.node("Unsqueeze", to.node("Transpose", rows, perm=[0, 2, 1]), to.ints(2))


def transform(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    import numpy as np  # late: `check` does not need it

    over, all_axes = at["over"], "chw"[: at.rank]
    axis = all_axes[shapes.AXES.index(over)]
    size = at.shape[all_axes.index(axis)]
    matrix = to.applied("axes.basis", np.zeros(1), at["by"], size)
    form = f"k{axis},...{all_axes}->...{all_axes.replace(axis, 'k')}"
    matrix = matrix.T if at["inverse"] else matrix
    return to.node("Einsum", to.array(matrix), x[0], equation=form)


def sinusoidal(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    import numpy as np

    zeros = np.zeros((1, *at.shape))
    positions = to.array(to.applied("axes.sinusoidal", zeros, at["over"]))
    return to.node("Expand", positions, to.node("Shape", x[0]))


def repeat_channels(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    channels, *rest = at.shape
    y = to.node("Unsqueeze", x[0], to.ints(2))
    y = to.node("Expand", y, to.ints(1, channels, at["scale"], *rest))
    return reshaped(to, y, *at.value.shape)


def shuffle(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    groups = at["groups"]
    channels, *rest = at.shape
    y = reshaped(to, x[0], groups, channels // groups, *rest)
    y = to.node("Transpose", y, perm=_exchanged(at.rank + 2, 1, 2))
    return reshaped(to, y, *at.shape)


# -- joins --------------------------------------------------------------------------------------------


def affine(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    factor, offset = at["factor"], at["offset"]
    if factor == -1 and offset:
        return to.node("Sub", to.array(offset), x[0])
    y = x[0] if factor == 1 else to.node("Mul", x[0], to.array(factor))
    return to.node("Add", y, to.array(offset)) if offset or factor == 1 else y


def beside(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    """Stack values along a new last dimension."""
    size = shapes.joined(at.attrs, at.values)
    parts = []
    for each, value in zip(alike(to, x), at.values, strict=True):
        whole_map = each if value.shape == size else to.node("Expand", each, to.ints(1, *size))
        parts.append(to.node("Unsqueeze", whole_map, to.ints(-1)))
    return to.node("Concat", *parts, axis=-1)


def alike(to: OnnxWriter, x: Sequence[str]) -> list[str]:
    """Return values with equal numbers of samples."""
    last = reduce(lambda a, b: to.like(b, a), x)
    return [to.like(each, last) for each in x]


# -- parameters ---------------------------------------------------------------------------------------


def parameter(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    """Return learnt numbers as [1, ...], or as [T, ...] if each step has its own."""
    above, below = at["above"], at["below"]
    raw = to.stored("weight" if above is None and below is None else "weight_raw")
    value = to.applied("neuron.within", raw, above, below)
    if not at["per_step"]:
        return to.array(value[None])
    y = to.array(value)
    return to.node("Gather", y, to.step, axis=0) if to.step else y


# -- norms --------------------------------------------------------------------------------------------


def _batch_norm(to: OnnxWriter, at: Site, x: str) -> str:
    bias = to.weight("bias") if at.attrs.get("bias", True) else to.array([0.0] * at.shape[0])
    statistics = (to.weight(name) for name in ("running_mean", "running_var"))
    weight = to.weight("weight")
    return to.node("BatchNormalization", x, weight, bias, *statistics, epsilon=_epsilon(at))


def _epsilon(at: Site) -> float:
    return at["eps"] if "eps" in at.attrs else 1e-5


def batchnorm(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    if not at["per_step"]:
        border = to.ints(*[at["pad"]] * 4)
        y = to.node("Pad", x[0], border, "", to.ints(2, 3)) if at["pad"] else x[0]
        return _batch_norm(to, at, y)
    weight, mean, variance = (
        to.stored(name).astype(float) for name in ("weight", "running_mean", "running_var")
    )
    bias = to.stored("bias").astype(float) if at["bias"] else 0.0
    scale = weight / (variance + _epsilon(at)) ** 0.5
    factors, offsets = (_of_steps(to, at, each) for each in (scale, bias - mean * scale))
    y = x[0] if to.step else to.as_steps(repeat(to, at, x), at.shape)
    y = to.node("Add", to.node("Mul", y, factors), offsets)
    return y if to.step else to.as_batch(y, at.value.shape)


def _of_steps(to: OnnxWriter, at: Site, values: Array) -> str:
    """Return [T, ...] for broadcasting with [T, N, C, ...]; for one step, its own."""
    lead = values.reshape(len(values), 1, *values.shape[1:], *[1] * (at.rank + 1 - values.ndim))
    if not to.step:
        return to.array(lead)
    return to.node("Gather", to.array(lead[:, 0]), to.step, axis=0)


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
        num_groups=at["groups"], epsilon=1e-5,
    )  # fmt: skip
    return y if at.rank > 1 else to.node("Squeeze", y, to.ints(2))


def layernorm(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    y = to.node("Transpose", x[0], perm=[0, 2, 3, 1]) if at.rank > 1 else x[0]
    y = to.node(
        "LayerNormalization", y, to.weight("weight"), to.weight("bias"),
        axis=-1, epsilon=at["eps"],
    )  # fmt: skip
    return to.node("Transpose", y, perm=[0, 3, 1, 2]) if at.rank > 1 else y


# -- pooling and sizes --------------------------------------------------------------------------------


def pooling(name: str, **attributes: Any) -> Form:
    return lambda to, at, x: to.node(name, x[0], **window(at), **attributes)


def resize(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    """Resize to the nearest pixel from the upper left, or bilinearly."""
    _, height, width = at.value.shape
    ways = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}  # fmt: skip
    if at["mode"] == "bilinear":
        ways = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    return to.node("Resize", x[0], "", "", to.ints(height, width), axes=[2, 3], **ways)


# -- time ---------------------------------------------------------------------------------------------


def delay(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    count = at["steps"]
    if to.step and count == 1:
        known = to.before("past", at.shape, 1)
        to.remember("past", x[0])
        return known
    if to.step:
        seen = _seen(to, at, x[0], count)
        first = to.node("Slice", seen, to.ints(0), to.ints(1), to.ints(0))
        return to.node("Squeeze", first, to.ints(0))
    y = to.node("Pad", to.as_steps(x[0], at.shape), to.ints(count, 0), "", to.ints(0))
    y = to.node("Slice", y, to.ints(0), to.ints(-count), to.ints(0))
    return to.as_batch(y, at.shape)


def poisson(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    rate = repeat(to, at, x)
    drawn = to.node("RandomUniformLike", rate, high=1.0, low=0.0)
    return to.node("Cast", to.node("Less", drawn, rate), to=1)


def random(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    law = random_start(at["law"])
    if at["evaluate"] == "mean":
        return to.node("Expand", to.array(law.mean), to.node("Shape", x[0]))
    same = at["per"] == "sample" and at.values[0].varies
    steps = to.as_steps(x[0], at.shape) if same and not to.step else ""
    like = to.node("Slice", steps, to.ints(0), to.ints(1), to.ints(0)) if steps else x[0]
    names = {"uniform": ("low", "high"), "normal": ("mean", "scale")}[law.name]
    ends = dict(zip(names, (law.first, law.second), strict=True))
    drawn = to.node(f"Random{law.name.title()}Like", like, **ends)
    if steps:
        return to.as_batch(to.node("Expand", drawn, to.node("Shape", steps)), at.shape)
    if same:  # step by step: the first step's
        first = to.node("Equal", to.step, to.ints(0))
        drawn = to.node("Where", first, drawn, to.before("drawn", at.shape, 1))
        to.remember("drawn", drawn)
    return drawn


def latency(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    """Return a spike at the step that the input encodes."""
    within = to.node("Clip", x[0], to.array(0.0), to.array(1.0))
    delayed = to.node("Mul", to.node("Log", within), to.array(-at["tau"]))
    when = to.node("Floor", delayed)
    if to.step:
        return to.node("Cast", to.node("Equal", when, to.node("Cast", to.step, to=1)), to=1)
    if at.values[0].varies:
        when = to.as_steps(when, at.shape)
    ends = [to.node("Squeeze", each, to.ints(0)) for each in (to.ints(0), to.length(), to.ints(1))]
    steps = to.node("Cast", to.node("Range", *ends), to=1)
    steps = to.node("Reshape", steps, to.ints(-1, *[1] * (at.rank + 1)))
    y = to.node("Cast", to.node("Equal", when, steps), to=1)
    return to.as_batch(y, at.value.shape)


# -- layers of weights --------------------------------------------------------------------------------


def with_bias(to: OnnxWriter, at: Site) -> list[str]:
    return [to.weight("weight"), *([to.weight("bias")] if at["bias"] else [])]


def conv(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    return to.node(
        "Conv", x[0], *with_bias(to, at), **window(at),
        dilations=pair(at.attrs, "dilation", 1), group=at["groups"],
    )  # fmt: skip


def conv_transposed(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    return to.node(
        "ConvTranspose", x[0], *with_bias(to, at), **window(at),
        output_padding=pair(at.attrs, "output_padding", 0), group=at["groups"],
    )  # fmt: skip


def conv_over_time(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    """Convolve [N, C, T, pixels], or one step and those before."""
    before, after = (at[name] for name in ("before", "after"))
    weight = to.stored("weight")[..., None]
    bias = [to.weight("bias")] if at["bias"] else []
    steps = _seen(to, at, x[0], before) if to.step else to.as_steps(x[0], at.shape)
    turned = to.node("Transpose", steps, perm=[1, 2, 0, *range(3, at.rank + 2)])
    y = to.node(
        "Conv", to.node("Reshape", turned, to.ints(0, 0, 0, -1)), to.array(weight), *bias,
        kernel_shape=[at["kernel"], 1],
        pads=[0, 0, 0, 0] if to.step else [before, 0, after, 0],
        dilations=[at["dilation"], 1], group=at["groups"],
    )  # fmt: skip
    y = to.node("Transpose", y, perm=[2, 0, 1, 3])
    return to.node("Reshape", y, to.ints(-1, *at.value.shape))


def _seen(to: OnnxWriter, at: Site, x: str, past: int) -> str:
    """Return this step and ``past`` before it, [past + 1, N, ...], and remember them."""
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
    """Multiply a matrix whose rows are the steps."""
    import numpy as np

    steps, window = at["steps"], at["window"]
    weight = to.stored("weight")
    if window is not None:
        assert isinstance(window, int)
        masked = at["masked"]
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
    if at["bias"]:
        bias = to.array(to.stored("bias").reshape(-1, 1))
        y = to.node("Add", y, to.node("Gather", bias, to.step, axis=0) if to.step else bias)
    return to.node("Reshape", y, to.ints(-1, *at.value.shape))


def pad(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    before, after = at["before"], at["after"]
    axes = [axis for name, axis in (("rows", 2), ("columns", 3)) if at["over"] in (name, "pixels")]  # fmt: skip
    ends = to.ints(*[before] * len(axes), *[after] * len(axes))
    return to.node("Pad", x[0], ends, "", to.ints(*axes))


# -- products of attention ----------------------------------------------------------------------------


def _tokens(to: OnnxWriter, x: str, shape: Shape, heads: int) -> str:
    """Return a map as [B, heads, channels of a head, pixels]."""
    return reshaped(to, x, heads, shape[0] // heads, shape[1] * shape[2])


def _turned(to: OnnxWriter, x: str) -> str:
    return to.node("Transpose", x, perm=[0, 1, 3, 2])


def scores(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    q, k = (_tokens(to, x[i], at.values[i].shape, at["heads"]) for i in range(2))
    return to.node("MatMul", _turned(to, q), k)


def mix(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    v = _tokens(to, x[1], at.values[1].shape, at.shape[0])
    return reshaped(to, to.node("MatMul", v, _turned(to, x[0])), *at.value.shape)


def keys_first(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    q, k, v = (_tokens(to, x[i], at.values[i].shape, at["heads"]) for i in range(3))
    memory = to.node("MatMul", v, _turned(to, k))
    return reshaped(to, to.node("MatMul", memory, q), *at.value.shape)
