"""``learn(init, above = ..., below = ...)``: a number of a neuron that is trained, and its bounds."""

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
"""Keyword arguments of `learn`."""


@record
class Learn:
    """The value of ``learn(init, above = ..., below = ..., per = ...)``, strictly within bounds.

    There is one number for a layer, or one for each channel; ``per_step`` has a number for each
    time step as well. ``scheduled(init)`` is one for a layer that a recipe changes: not ``trained``.
    """

    init: float
    above: float | None = None
    below: float | None = None
    per: str = "layer"
    per_step: bool = False
    trained: bool = True

    @property
    def raw(self) -> float:
        """First value of the stored number, which is not bounded."""
        above, below = self.above, self.below
        if above is not None and below is not None:
            return math.log(self.init - above) - math.log(below - self.init) + 0.0
        if above is not None:
            return _softplus_inverse(self.init - above)
        return _softplus_inverse(below - self.init) if below is not None else self.init + 0.0


def check_learn(value: Learn, span: Span, reporter: Reporter) -> bool:
    """Report a start outside of the bounds, and numbers that neurons do not have."""
    low = -math.inf if value.above is None else value.above
    high = math.inf if value.below is None else value.below
    if value.per not in ("layer", "channel"):
        message = f"a neuron has no parameters per {value.per}"
        hint = (
            "it learns per `layer`, `channel` or `step`; or numbers that join values: "
            f"`learn(1.0, per = {value.per}) * x` before the layer"
        )
    elif not low < value.init < high:
        ends = [f"above {low:g}"] * (value.above is not None)
        ends += [f"below {high:g}"] * (value.below is not None)
        wanted = " and ".join(ends) or "a number"
        message = f"`learn` starts at {value.init:g}, which is not {wanted}"
        hint = "the start lies strictly between the bounds"
    else:
        return True
    reporter.error("E0711", message, span, hint=hint)
    return False


def stored(builder: ProgramBuilder, name: str, value: Learn) -> tuple[Learnable, Operand]:
    """Emit the operations from the stored number to its value; return the learnable and the value."""
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
    return y + math.log(-math.expm1(-y)) + 0.0  # -0.0 becomes 0.0
