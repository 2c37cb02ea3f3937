"""Forms of delays and of encodings of images as spikes."""

from __future__ import annotations

from collections.abc import Sequence

from danetc.compiler.ir.ops.kinds import number
from danetc.compiler.ir.ops.onnx.general import OnnxWriter, Site, repeat
from danetc.compiler.ir.ops.row import whole


def delay(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    count = whole(at.attrs, "steps")
    if to.step:
        known = to.before("past", at.shape, count)
        if count == 1:
            to.remember("past", x[0])
            return known
        now = to.node("Unsqueeze", x[0], to.ints(0))
        later = to.node("Slice", known, to.ints(1), to.ints(count), to.ints(0))
        to.remember("past", to.node("Concat", later, now, axis=0))
        return to.node("Squeeze", to.node("Slice", known, to.ints(0), to.ints(1), to.ints(0)), to.ints(0))  # fmt: skip
    y = to.node("Pad", to.as_steps(x[0], at.shape), to.ints(count, 0), "", to.ints(0))
    y = to.node("Slice", y, to.ints(0), to.ints(-count), to.ints(0))
    return to.as_batch(y, at.shape)


def poisson(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    rate = repeat(to, at, x)
    drawn = to.node("RandomUniformLike", rate, high=1.0, low=0.0)
    return to.node("Cast", to.node("Less", drawn, rate), to=10 if to.half else 1)


def latency(to: OnnxWriter, at: Site, x: Sequence[str]) -> str:
    """A spike at the step that the input says."""
    within = to.node("Clip", x[0], to.array(0.0), to.array(1.0))
    delayed = to.node("Mul", to.node("Log", within), to.array(-number(at.attrs, "tau")))
    when, kind = to.node("Floor", delayed), 10 if to.half else 1
    if to.step:
        return to.node("Cast", to.node("Equal", when, to.node("Cast", to.step, to=kind)), to=kind)
    if at.values[0].varies:
        when = to.as_steps(when, at.shape)
    ends = [to.node("Squeeze", each, to.ints(0)) for each in (to.ints(0), to.length(), to.ints(1))]
    steps = to.node("Cast", to.node("Range", *ends), to=kind)
    steps = to.node("Reshape", steps, to.ints(-1, *[1] * (at.rank + 1)))
    y = to.node("Cast", to.node("Equal", when, steps), to=kind)
    return to.as_batch(y, at.value.shape)
