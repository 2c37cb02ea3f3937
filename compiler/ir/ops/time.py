"""Rows of the table: time, encoders, and what drops at random in training."""

from __future__ import annotations

from danetc.compiler.ir.graph import Value
from danetc.compiler.ir.ops import kinds, shapes, starts
from danetc.compiler.ir.ops.forms import ours
from danetc.compiler.ir.ops.kinds import Attrs, Values
from danetc.compiler.ir.ops.row import Context, Op, Parameter, TorchModule, shown
from danetc.compiler.ir.ops.saved import Saved, mask


def _never(attrs: Attrs) -> bool:
    return attrs["p"] == 0


def _drop_path(attrs: Attrs, values: Values, value: Value, context: Context) -> TorchModule:
    args = (attrs["p"], len(value.shape))
    return TorchModule("danetc.runtime.layers.time.DropPath", args, layout="seq")


ROWS = (
    Op(
        "repeat", "a static value at each of T steps", shapes.same, kinds.kept,
        ours("per_step", steps=True), public=False, time="creates", linear=True,
        numbers=lambda x: x[0], start=starts.unchanged,
        saved=Saved(),  # a view, which who reads it copies
    ),
    # regularisation: analog in training, so analog here
    Op(
        "dropout", "dropout", shapes.same, kinds.analog,
        lambda attrs, values, value, context: TorchModule("torch.nn.Dropout", (attrs["p"],), layout="any"),
        (Parameter("p", float, "the probability that a number becomes 0", 0.5, 0.0, 0.999),),
        idle="drops nothing", random=True, training=True, same=_never, linear=True, start=starts.unchanged,
        label=lambda attrs: (f"dropout {shown(attrs['p'])}", ""),
        saved=Saved(extra=lambda sizes: sizes.output * sizes.width),
    ),
    Op(
        "droppath", "drops a sample's branch at all its steps", shapes.same, kinds.analog, _drop_path,
        (Parameter("p", float, "the probability that a sample's branch is dropped", 0.1, 0.0, 0.999),),
        idle="drops nothing", random=True, drops_samples=True, training=True, same=_never, linear=True,
        start=starts.unchanged, label=lambda attrs: (f"droppath {shown(attrs['p'])}", ""),
        saved=Saved(extra=mask),
    ),
    Op(
        "mean_over_time", "mean over the time steps", shapes.same, kinds.analog,
        ours("mean_over_time", steps=False), time="reduces", linear=True, start=starts.unchanged,
        label=lambda attrs: ("mean over T", ""),
        saved=Saved(),
    ),
    Op(
        "poisson", "rate code: spikes with probability x", shapes.same, kinds.spike,
        ours("poisson", steps=True), time="creates", random=True, gradient=False,
        saved=Saved(),
    ),
    Op(
        "latency", "one spike, the earlier the larger x", shapes.same, kinds.spike,
        ours("latency", "tau", steps=True),
        (Parameter("tau", float, "the time constant of the delay, in steps", 6.0, 1e-3, 1e6),),
        time="creates", whole_run=True, gradient=False,
        saved=Saved(),
    ),
)  # fmt: skip
