"""Linear forms of a neuron's step for fixed spikes.

Between two spikes, the membrane potential of most neurons is a linear function of input and states.
Its coefficients determine properties that hold for all inputs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import product

from danetc.dsl.neuron.opcodes import ConstantError, compute
from danetc.dsl.neuron.program import NeuronProgram
from danetc.dsl.neuron.ssa import Instruction
from danetc.dsl.record import record
from danetc.dsl.work import current

MAX_STEPS_OF_SPIKES = 4  # maximum number of heavisides, whose combinations are all examined


@record
class Form:
    """A linear function: ``constant`` plus the sum of ``factors`` times inputs and states."""

    constant: float
    factors: Mapping[str, float]

    def factor(self, name: str) -> float:
        return self.factors.get(name, 0.0)


Forms = Mapping[str, "Form | bool | None"]
"""Values of a step: a form, a constant condition, or None for other values."""


@record
class Held:
    """A step in which the heavisides have the results ``spikes``."""

    spikes: Mapping[str, float]
    values: Forms
    output: Form | None
    after: Mapping[str, Form | None]  # states at the end of the step


def held(program: NeuronProgram) -> Iterator[Held]:
    """Yield the step of a neuron for each combination of spikes, unless there are too many.

    Learnables have their initial values.
    """
    steps = [op for op in program.ops if op.opcode == "heaviside"]
    if len(steps) > MAX_STEPS_OF_SPIKES:
        return
    for results in product((0.0, 1.0), repeat=len(steps)):
        spikes = {op.name: result for op, result in zip(steps, results, strict=True)}
        try:
            values = _values(program, spikes)
        except (ConstantError, OverflowError):
            continue
        names = [state.name for state in program.states]
        after = {
            name: _form(values, end) for name, end in zip(names, program.next_states, strict=True)
        }
        yield Held(spikes, values, _form(values, program.output), after)


def _form(values: Forms, operand: str | float) -> Form | None:
    value = Form(operand, {}) if isinstance(operand, float) else values[operand]
    return value if isinstance(value, Form) else None


def _values(program: NeuronProgram, spikes: Mapping[str, float]) -> Forms:
    values: dict[str, Form | bool | None] = {x: Form(0.0, {x: 1.0}) for x in program.takes}
    values |= {state.name: Form(0.0, {state.name: 1.0}) for state in program.states}
    values |= {item.parameter: Form(item.raw, {}) for item in program.learnables}
    for op in program.ops:
        if op.name in spikes:
            values[op.name] = Form(spikes[op.name], {})
        else:
            args = [Form(a, {}) if isinstance(a, float) else values[a] for a in op.args]
            values[op.name] = _apply(op, args)
    return values


def _apply(op: Instruction, args: list[Form | bool | None]) -> Form | bool | None:
    match op.opcode, args:
        case "add", [Form() as a, Form() as b]:
            return _sum(a, b, 1.0)
        case "sub", [Form() as a, Form() as b]:
            return _sum(a, b, -1.0)
        case "neg", [Form() as a]:
            return _times(a, -1.0)
        case "mul", [Form() as a, Form() as b] if not b.factors:
            return _times(a, b.constant)
        case "mul", [Form() as a, Form() as b] if not a.factors:
            return _times(b, a.constant)
        case "div", [Form() as a, Form() as b] if not b.factors and b.constant:
            return _times(a, 1 / b.constant)
        case (("detach" | "cast"), [Form() as a]):
            return a
        case "where", [bool() as condition, then, otherwise]:
            return then if condition else otherwise
        case _:
            return _constant(op, args)


def _sum(a: Form, b: Form, sign: float) -> Form:
    names = dict.fromkeys((*a.factors, *b.factors))
    current().spend(1 + len(names))
    factors = {name: a.factor(name) + sign * b.factor(name) for name in names}
    return Form(a.constant + sign * b.constant, {n: f for n, f in factors.items() if f})


def _times(a: Form, factor: float) -> Form:
    factors = {name: factor * value for name, value in a.factors.items()} if factor else {}
    return Form(factor * a.constant, factors)


def _constant(op: Instruction, args: list[Form | bool | None]) -> Form | bool | None:
    """Return the result of an operation on constants, or None."""
    numbers: list[float | bool] = []
    for arg in args:
        if arg is None or (isinstance(arg, Form) and arg.factors):
            return None
        numbers.append(arg.constant if isinstance(arg, Form) else arg)
    result = compute(op.opcode, *numbers)
    return result if isinstance(result, bool) else Form(result, {})


def bounds(form: Form, of: Mapping[str, tuple[float, float]]) -> tuple[float, float]:
    """Return the bounds of a form, given the bounds ``of`` input and states."""
    low = high = form.constant
    current().spend(1 + len(form.factors))
    for name, factor in form.factors.items():
        ends = (factor * of[name][0], factor * of[name][1])
        low, high = low + min(ends), high + max(ends)
    return (low, high) if not math.isnan(low + high) else (-math.inf, math.inf)
