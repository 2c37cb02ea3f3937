"""Rows of the table: time, encoders, and dropout."""

from __future__ import annotations

from danetc.compiler.ir.ops import kinds, onnx, shapes
from danetc.compiler.ir.ops.kinds import Attrs, Values
from danetc.compiler.ir.ops.row import Op, Parameter, function, integer, module, nothing, shown
from danetc.dsl.first_weights import DRAW_WORDS, Draw, random_start
from danetc.dsl.kinds import Kind
from danetc.dsl.ranges import REAL, NumberRange

_OURS = "torch.ops.danetc"
_TIME = "danetc.runtime.layers.time"


def _never(attrs: Attrs) -> bool:
    return attrs["p"] == 0


def _delay_label(attrs: Attrs) -> tuple[str, str]:
    return f"delay {attrs['steps']}", ""


def _draw(attrs: Attrs) -> Draw:
    return Draw(random_start(str(attrs["law"])), str(attrs["evaluate"]), str(attrs["per"]))


def _drawn_kind(attrs: Attrs, values: Values) -> Kind:
    law = _draw(attrs).law
    return Kind.of(NumberRange(law.first, law.second) if law.name == "uniform" else REAL)


_RANDOM = {
    "step": module(f"{_TIME}.Random", "law", "evaluate", layout="any"),
    "sample": module(f"{_TIME}.SampleRandom", "law", "evaluate", "rank", layout="seq"),
}
_DROPOUT = {
    None: module("torch.nn.Dropout", "p", layout="any"),
    "sample": module(f"{_TIME}.SampleDropout", "p", "rank", layout="seq"),
}
_STEPS = integer("steps", "number of time steps", 1, 1, 4096)


ROWS = (
    Op(
        "repeat", "repeats a static value at each of T steps", shapes.same, kinds.kept,
        function(f"{_OURS}.per_step", "T", "rank"), public=False, time="creates", linear=True, takes_tokens=True,
        numbers=lambda x: x[0], nir="same", onnx=onnx.repeat,
    ),
    # regularisation: analog in training, so analog here
    Op(
        "dropout", "dropout", shapes.same, kinds.analog, lambda at: _DROPOUT[at["per"]](at),
        (
            Parameter("p", float, "probability of an element to be set to 0", 0.5, 0.0, 0.999),
            Parameter("per", str, "`sample`: use the same mask at all time steps", None, words=("sample",)),
        ),
        random=True, training=True, same=_never, linear=True,
        label=lambda attrs: (f"dropout {shown(attrs['p'])}", "per sample" if attrs["per"] else ""),
        nir="same", onnx=onnx.same,
        example="dropout(0.5, per = sample)", source="Srivastava et al., JMLR 2014",
    ),
    Op(
        "droppath", "drops the branch of a sample at all time steps (stochastic depth)", shapes.same, kinds.analog, module(f"{_TIME}.DropPath", "p", "rank", layout="seq"),
        (Parameter("p", float, "probability of dropping the branch of a sample", 0.1, 0.0, 0.999),),
        random=True, drops_samples=True, training=True, same=_never, linear=True,
        label=lambda attrs: (f"droppath {shown(attrs['p'])}", ""),
        nir="same", onnx=onnx.same,
        example="a + (b -> conv(8) -> droppath(0.1))", source="Huang et al., ECCV 2016",
    ),
    Op(
        "delay", "value from `steps` time steps ago; 0 at the first steps", shapes.same, kinds.with_zero,
        module(f"{_TIME}.Delay", "steps", "rank", layout="seq"),
        (_STEPS, Parameter("like", str, "value of the same shape as the delayed value", None, sugar=True, shape_of=True)),
        time="mixes", cuts=True, label=_delay_label,
        onnx=onnx.delay,
        example="delay(1)",
    ),
    Op(
        "carry", "value of a loop from `steps` time steps ago", shapes.same, kinds.with_zero, nothing,
        (_STEPS,), public=False, operands=(0, 0), time="mixes", cuts=True, label=_delay_label,
    ),
    Op(
        "mean_over_time", "mean over the time steps", shapes.same, kinds.analog,
        function(f"{_OURS}.mean_over_time", "rank"), time="reduces", linear=True, label=lambda attrs: ("mean over T", ""),
        nir="mean", onnx=onnx.over_time("ReduceMean"),
        example="mean_over_time",
    ),
    Op(
        "poisson", "rate coding: spikes with probability x", shapes.same, kinds.spike,
        function(f"{_OURS}.poisson", "T", "rank"), time="creates", random=True, gradient=False,
        onnx=onnx.poisson,
        example="in -> poisson -> conv(8) -> norm -> spike",
    ),
    Op(
        "random", "random numbers of the size of another value", shapes.same, _drawn_kind, lambda at: _RANDOM[at["per"]](at),
        (
            Parameter("law", str, "text of the distribution"),
            Parameter("evaluate", str, "in evaluation, `draw` or the `mean`", "draw", words=DRAW_WORDS["evaluate"]),
            Parameter("per", str, "`step`, or `sample` for the same numbers at all steps", "step", words=DRAW_WORDS["per"]),
        ),
        public=False, random=True, gradient=False,
        label=lambda attrs: (f"random {_draw(attrs).law}", ", ".join(_draw(attrs).facts)),
        onnx=onnx.random,
    ),
    Op(
        "latency", "latency coding: one spike, earlier for larger x", shapes.same, kinds.spike,
        function(f"{_OURS}.latency", "T", "rank", "tau"),
        (Parameter("tau", float, "time constant of the latency, in steps", 6.0, 1e-3, 1e6),),
        time="creates", whole_run=True, gradient=False,
        onnx=onnx.latency,
        example="in -> latency(tau = 6) -> conv(8) -> norm -> spike",
    ),
)  # fmt: skip
