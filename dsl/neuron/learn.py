"""``learn(init, above = ..., below = ...)``: a number that is trained in a neuron, and its bounds."""

from __future__ import annotations

import math

from danetc.dsl.diagnostics.diagnostic import Reporter
from danetc.dsl.neuron.opcodes import Operand
from danetc.dsl.neuron.parameters import ParameterValue
from danetc.dsl.neuron.program import Learnable
from danetc.dsl.neuron.ssa import ProgramBuilder
from danetc.dsl.record import record
from danetc.dsl.syntax.source import Span

LEARN_TAKES = ("above", "below", "per", "per_step")
"""What `learn` takes behind the number to start from."""
IN_NEURONS = ("layer", "channel")
"""What a neuron has a learnt number of its own for."""


@record
class Learn:
    """A value given as ``learn(init, above = ..., below = ..., per = ...)``: trained, strictly in
    bounds. ``per`` says how many there are: one for a layer, or one for each channel or neuron; with
    ``per_step`` each time step has its own. ``scheduled(init)`` is one for a layer that is not
    ``trained``: a recipe may change it.
    """

    init: float
    above: float | None = None
    below: float | None = None
    per: str = "layer"
    per_step: bool = False
    trained: bool = True

    @property
    def raw(self) -> float:
        """What is stored at the start: it is not bounded, what is made of it is."""
        above, below = self.above, self.below
        if above is not None and below is not None:
            return math.log(self.init - above) - math.log(below - self.init) + 0.0
        if above is not None:
            return _softplus_inverse(self.init - above)
        return _softplus_inverse(below - self.init) if below is not None else self.init + 0.0


def check_learn(value: Learn, span: Span, reporter: Reporter) -> bool:
    """Report bounds that hold nothing, a start outside of them, and more numbers than neurons take."""
    if value.per not in IN_NEURONS:
        reporter.error(
            "E0711",
            f"a neuron learns nothing per {value.per}",
            span,
            hint="it learns per `layer`, `channel` or `step`; or numbers that join values: "
            f"`learn(1.0, per = {value.per}) * x` before the layer",
        )
        return False
    above, below = value.above, value.below
    if above is not None and below is not None and above >= below:
        reporter.error(
            "E0711",
            f"no value is above {above:g} and below {below:g}",
            span,
            hint="`above` is the lower bound, `below` the upper one",
        )
        return False
    outside = (above is not None and value.init <= above and f"above {above:g}") or (
        below is not None and value.init >= below and f"below {below:g}"
    )
    if outside or not math.isfinite(value.init):
        reporter.error(
            "E0711",
            f"`learn` starts at {value.init:g}, which is not {outside or 'a number'}",
            span,
            hint="the start lies strictly between the bounds",
        )
        return False
    return True


def stored(builder: ProgramBuilder, name: str, value: Learn) -> tuple[Learnable, Operand]:
    """A learnable that starts at ``value.init``, and the operations from what is stored to it."""
    above, below = value.above, value.below
    raw = value.raw
    if isinstance(value.init, ParameterValue) and (above, below) == (None, None):
        raw = ParameterValue(raw, value.init.origin)
    else:
        builder.fix(value.init, above, below)
    scheduled = "" if value.trained else f"neuron.{name}"
    start = float(raw) if scheduled else raw
    item = Learnable(name, start, above, below, value.per, value.per_step, scheduled)
    parameter = item.parameter
    builder.add_input(parameter, scalar=item.is_scalar)
    if above is not None and below is not None:
        share = builder.emit("mul", below - above, builder.emit("sigmoid", parameter))
        return item, builder.emit("add", above, share)
    if above is not None:
        return item, builder.emit("add", above, builder.emit("softplus", parameter))
    if below is not None:
        return item, builder.emit("sub", below, builder.emit("softplus", parameter))
    return item, parameter


def _softplus_inverse(y: float) -> float:
    """The z with log(1 + exp(z)) = y, for y > 0."""
    return y + math.log(-math.expm1(-y)) + 0.0  # -0.0 reads badly
