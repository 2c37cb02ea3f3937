"""Rows of the table: operations along a named axis. ``pixels`` are rows and columns together.

The language writes ``sum(over = AXIS)`` for every axis; for time, the graph has a separate
operation ``sum_over_time``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

from danetc.compiler.ir.graph import Shape
from danetc.compiler.ir.ops import kinds, onnx, shapes
from danetc.compiler.ir.ops.kinds import Attrs, Values
from danetc.compiler.ir.ops.row import (
    Emit,
    OnnxForm,
    Op,
    OpError,
    Parameter,
    Steps,
    TorchFunction,
    function,
    integer,
    nothing,
    whole,
)
from danetc.dsl import ranges
from danetc.dsl.kinds import Kind
from danetc.dsl.syntax.words import AXES

_MODULE = "danetc.runtime.layers.axes"


def axis_function(name: str, *names: str) -> Emit:
    """Return a call of ``runtime.layers.axes`` with some attributes and the rank of a sample."""
    return function(f"{_MODULE}.{name}", *names, "rank", layout="any")


def _summed(attrs: Attrs, values: Values) -> Kind:
    """Range of the sum; analog if the input is."""
    return Kind.of(ranges.total(values[0].kind.range, shapes.reach(attrs, values)))


def _averaged(attrs: Attrs, values: Values) -> Kind:
    """Range of the mean if the count of averaged numbers is a power of two, else analog."""
    return kinds.mean(values[0].kind.range, shapes.reach(attrs, values))


_OVER = (
    Parameter("over", str, "axis to reduce", words=AXES),
    integer("groups", "number of groups of channels, each reduced separately", 1),
)


def _reduction(
    name: str, meaning: str, kind: kinds.Rule, sign: str, *, pixels: str = "", example: str
) -> tuple[Op, Op]:
    """Return the rows of ``NAME(over = ...)`` and of the operation over an axis other than time."""
    for_one_group = {"time": f"{name}_over_time"} | ({"pixels": pixels} if pixels else {})

    def stands_for(attrs: Attrs, threshold: Callable[[], float]) -> tuple[str, Attrs]:
        found = for_one_group.get(str(attrs["over"])) if attrs["groups"] == 1 else None
        return (found, {}) if found else (f"{name}_over", attrs)

    def label(attrs: Attrs) -> tuple[str, str]:
        groups = f"groups {attrs['groups']}" if attrs["groups"] != 1 else ""
        return f"{sign} over {attrs['over']}", groups

    return (
        Op(
            name, meaning, shapes.reduced, kind, nothing, _OVER,
            stands_for=stands_for, example=example,
        ),
        Op(
            f"{name}_over", meaning, shapes.reduced, kind, axis_function(f"{name}_over", "over", "groups"),
            (Parameter("over", str, "axis to reduce", words=AXES[:-1]), _OVER[1]), public=False,
            linear=name != "max", label=label, onnx=onnx.reduced(f"Reduce{name.capitalize()}"),
        ),
    )  # fmt: skip


# -- swapping ---------------------------------------------------------------------------------------


def _swapped(attrs: Attrs, values: Values) -> Shape:
    """Shape of the input with two axes swapped."""
    first, second = (shapes.axis(values, str(attrs[name]), "swap") for name in ("a", "b"))
    shape = [*values[0].shape]
    shape[first], shape[second] = shape[second], shape[first]
    return tuple(shape)


def _swap_chosen(attrs: Attrs, values: Values, steps: int) -> Steps:
    """Return the operation of a swap. A static value has one time step."""
    names = [name for name in (str(attrs["a"]), str(attrs["b"])) if name != "time"]
    if len(names) == 2:
        return (("swap", attrs),)
    if not names:
        raise OpError("swap: both axes are time", "name two axes: `swap(time, channels)`")
    axis = shapes.axis(values, names[0], "swap")
    extent = values[0].shape[axis]
    given: Attrs = {"axis": names[0], "steps": steps}
    if values[0].varies and extent == 1 and steps > 1:
        return (("steps_as_axis", given),)
    if extent == steps:
        return (("swap_with_time" if values[0].varies else "axis_as_steps", given),)
    length = steps if values[0].varies else 1
    raise OpError(
        f"swap: {length} time step{'s' * (length != 1)} and {extent} {names[0]} of "
        f"{shapes.text(values[0].shape)} cannot be swapped: T = {steps}",
        f"it needs {steps} {names[0]}, or 1 if the value varies over time: put "
        f"`mean(over = {names[0]})` or a layer of that width before it",
    )


def _with_time(
    name: str,
    meaning: str,
    time: Literal["reduces", "creates", "mixes"],
    form: OnnxForm,
    *,
    whole_run: bool = False,
) -> Op:
    """Return the row of a swap of an axis and time."""

    def shape(attrs: Attrs, values: Values) -> Shape:
        found = [*values[0].shape]
        place = shapes.axis(values, str(attrs["axis"]), "swap")
        found[place] = 1 if time == "creates" else whole(attrs, "steps")
        return tuple(found)

    return Op(
        name, meaning, shape, kinds.kept,
        lambda at: TorchFunction(f"{_MODULE}.{name}", (shapes.last_axis(at, "axis"), at.rank)),
        (Parameter("axis", str, "axis to swap with time", words=shapes.AXES), integer("steps", "T")),
        public=False, time=time, whole_run=whole_run, ahead=lambda attrs: True,
        fixes_steps="a place in its shape", label=lambda attrs: (f"T ↔ {attrs['axis']}", ""), onnx=form,
    )  # fmt: skip


# -- channels ---------------------------------------------------------------------------------------


def _sliced(attrs: Attrs, values: Values) -> Shape:
    return whole(attrs, "last") - whole(attrs, "first") + 1, *values[0].shape[1:]


def _reshaped(attrs: Attrs, values: Values) -> Shape:
    """The given sizes, whose product must equal the number of elements."""
    sizes = tuple(whole(attrs, name) for name in shapes.AXES)
    before = values[0].shape
    if math.prod(sizes) != math.prod(before):
        raise OpError(
            f"reshape: {shapes.text(before)} has {math.prod(before):,} elements, "
            f"but {shapes.text(sizes)} has {math.prod(sizes):,}",
            "choose sizes with the same product: `reshape(channels, rows, columns)`",
        )
    return sizes


ROWS = (
    *_reduction("sum", "sum over an axis", _summed, "Σ", example="sum(over = channels, groups = 2)"),
    *_reduction("mean", "mean over an axis", _averaged, "mean", pixels="global_avgpool", example="mean(over = rows)"),
    *_reduction(
        "max", "maximum over an axis; equal maxima share the gradient", kinds.kept, "max", example="max(over = time)",
    ),
    Op(
        "sum_over_time", "sum over the time steps", shapes.same, kinds.analog,
        function("torch.ops.danetc.sum_over_time", "rank"), public=False, time="reduces", whole_run=True,
        ahead=lambda attrs: True, linear=True, label=lambda attrs: ("Σ over T", ""),
        onnx=onnx.over_time("ReduceSum"),
    ),
    Op(
        "max_over_time", "maximum over the time steps", shapes.same, kinds.kept,
        function("torch.ops.danetc.max_over_time", "rank"), public=False, time="reduces",
        ahead=lambda attrs: True, label=lambda attrs: ("max over T", ""),
        onnx=onnx.over_time("ReduceMax"),
    ),
    Op(
        "swap", "swaps two axes", _swapped, kinds.kept,
        lambda at: TorchFunction(f"{_MODULE}.swap", (shapes.last_axis(at, "a"), shapes.last_axis(at, "b")), layout="any"),
        (
            Parameter("a", str, "first axis", words=(*shapes.AXES, "time")),
            Parameter("b", str, "second axis", words=(*shapes.AXES, "time")),
        ),
        chosen=_swap_chosen, linear=True, label=lambda attrs: (f"{attrs['a']} ↔ {attrs['b']}", ""), onnx=onnx.swap,
        example="swap(channels, rows)",
    ),
    _with_time("steps_as_axis", "time steps as an axis", "reduces", onnx.steps_as_axis, whole_run=True),
    _with_time("axis_as_steps", "an axis as time steps", "creates", onnx.axis_as_steps),
    _with_time("swap_with_time", "swaps time and an axis", "mixes", onnx.swap_with_time),
    Op(
        "repeat_channels", "repeats each channel",
        lambda attrs, values: (values[0].shape[0] * whole(attrs, "scale"), *values[0].shape[1:]), kinds.kept,
        axis_function("repeat_channels", "scale"),
        (integer("scale", "number of repetitions of each channel", high=2**16),),
        public=False, same=lambda attrs: attrs["scale"] == 1, linear=True, label=lambda attrs: (f"channels ×{attrs['scale']}", ""), onnx=onnx.repeat_channels,
    ),
    Op(
        "slice", "range of channels of a value", _sliced, kinds.kept,
        axis_function("slice_channels", "first", "last"),
        (integer("first", "first channel", low=0), integer("last", "last channel, included", low=0)),
        public=False, linear=True, label=lambda attrs: (f"[{attrs['first']} .. {attrs['last']}]", ""),
        onnx=lambda to, at, x: to.node("Slice", x[0], to.ints(at["first"]), to.ints(at["last"] + 1), to.ints(1)),
    ),
    Op(
        "shuffle", "channel shuffle: interleaves the channels of the groups",
        shapes.grouped("shuffle"), kinds.kept,
        axis_function("shuffle", "groups"),
        (integer("groups", "number of groups to interleave"),),
        linear=True, same=lambda attrs: attrs["groups"] == 1,
        label=lambda attrs: (f"shuffle {attrs['groups']}", ""), onnx=onnx.shuffle,
        example="shuffle(2)", source="Zhang et al., CVPR 2018",
    ),
    Op(
        "reshape", "map of another shape with the same elements in the same order", _reshaped, kinds.kept,
        axis_function("reshape", *shapes.AXES),
        (
            integer("channels", "number of channels of the result"),
            integer("rows", "number of rows of the result", 1),
            integer("columns", "number of columns of the result", 1),
        ),
        linear=True, label=lambda attrs: ("reshape", " × ".join(str(attrs[name]) for name in shapes.AXES)),
        onnx=lambda to, at, x: onnx.reshaped(to, x[0], *at.value.shape), example="reshape(8, 256)",
    ),
    Op(
        "as_map", "a vector as a map of one pixel",
        lambda attrs, values: (*values[0].shape, 1, 1), kinds.kept,
        function(f"{_MODULE}.as_map", layout="any"),
        public=False, same=lambda attrs: True, linear=True,
        onnx=lambda to, at, x: to.node("Unsqueeze", x[0], to.ints(2, 3)),
    ),
)  # fmt: skip
