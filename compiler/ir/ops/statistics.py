"""Rows of the table: what training passes leave behind, without gradient."""

from __future__ import annotations

from danetc.compiler.ir.graph import Shape, Value
from danetc.compiler.ir.ops import kinds
from danetc.compiler.ir.ops.kinds import Attrs, Values
from danetc.compiler.ir.ops.onnx import norms as onnx
from danetc.compiler.ir.ops.row import Context, Op, OpError, Parameter, TorchModule, integer, whole

_NUMBER, _COUNTER = 4, 8
"""Bytes of a number (float32), and of the count of batches (int64)."""


def _of_groups(attrs: Attrs, values: Values) -> Shape:
    """A number for each group of channels, with rows and columns of 1 where its input is a map."""
    shape, groups = values[0].shape, whole(attrs, "groups")
    if shape[0] % groups:
        raise OpError(
            f"running_mean: {groups} groups do not divide the {shape[0]} channels",
            "choose groups that divide the channels",
        )
    return (groups, *[1] * (len(shape) - 1))


def _module(attrs: Attrs, values: Values, value: Value, context: Context) -> TorchModule:
    args = (attrs["groups"], attrs["momentum"])
    target = "danetc.runtime.layers.norm.RunningMean"
    return TorchModule(target, args, {"rank": len(value.shape)}, layout="seq")


ROWS = (
    Op(
        "running_mean", "mean of each group of channels, averaged over training passes, without gradient",
        _of_groups, kinds.analog, _module,
        (
            integer("groups", "groups of channels that have a mean of their own", 1),
            Parameter("momentum", float, "the share of a pass in the running mean", 0.1, 0.0, 1.0),
        ),
        time="constant", gradient=False,
        buffers=lambda attrs, values, context: _NUMBER * whole(attrs, "groups") + _COUNTER,
        label=lambda attrs: ("running mean", f"{attrs['groups']} groups" if attrs["groups"] != 1 else ""),
        onnx=onnx.running_mean,
        example="a - (a -> running_mean)",
    ),
)  # fmt: skip
