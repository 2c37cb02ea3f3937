"""Membrane potential and threshold of a neuron, found in its program.

A program has no value called a membrane. Spikes are the ``heaviside`` of an argument. If that is a
difference ``v - v_threshold``, ``v`` is the membrane potential before the reset and ``v_threshold``
the threshold; otherwise the argument is the potential and the threshold is 0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from danetc.dsl.neuron.opcodes import Operand
from danetc.dsl.neuron.program import NeuronProgram, NeuronState, unique
from danetc.dsl.neuron.reading import read_program
from danetc.runtime.kernels.neuron import NeuronKernel, kernel, spread, to_accumulate_dtype
from danetc.runtime.kernels.neuron_operators import inputs_over_time
from danetc.runtime.layers.neuron import Neuron


@dataclass(frozen=True, slots=True)
class Membrane:
    """Operands of a program: ``argument`` of heaviside is ``potential - threshold``."""

    potential: Operand
    threshold: Operand
    argument: Operand


def find_membrane(program: NeuronProgram) -> Membrane | str:
    """Return the membrane of the neuron's output, or the reason why there is none.

    The output must be a heaviside, or the program must have only one.
    """
    ops = {op.name: op for op in program.ops}
    firing = [op for op in program.ops if op.opcode == "heaviside"]
    if not firing:
        return f"neuron {program.name} has no threshold: it uses no heaviside"
    output = [op for op in firing if op.name == program.output]
    if not output and len(firing) > 1:
        names = ", ".join(str(op.args[0]) for op in firing)
        return (
            f"neuron {program.name} has no single membrane potential: its output is made of "
            f"{len(firing)} heavisides (of {names})"
        )
    argument = (output or firing)[0].args[0]
    whole = Membrane(argument, 0.0, argument)
    op = ops.get(argument) if isinstance(argument, str) else None
    if op is None or op.opcode != "sub":
        return whole
    left, right = op.args
    scalars = program.scalars()
    scalar = isinstance(right, float) or right in scalars
    if isinstance(left, float) or left in scalars:
        return whole  # `threshold - v` fires below it
    named = _named(left)
    if _named(argument) and not (named and scalar):
        return whole  # `v = a - b; s = heaviside(v)`
    return Membrane(left, right, argument) if scalar or named else whole


def _named(value: Operand) -> bool:
    """Return True for a value named in the text; names of the compiler begin with ``_``."""
    return isinstance(value, str) and not value.startswith("_")


@dataclass(frozen=True, slots=True)
class Instant:
    """Values of a layer at one time step, [N, ...], in float32 or float64.

    ``potential`` is that before the reset, ``argument`` the difference to the threshold and ``slope``
    the surrogate's derivative dO/dV there.
    """

    potential: Tensor
    threshold: Tensor
    argument: Tensor
    slope: Tensor


@dataclass(frozen=True)
class Instrument:
    """A program with the arithmetic of a layer that also returns its membrane.

    ``program`` is its text. With a membrane, its last three states are potential, threshold and
    argument; ``slope`` is the derivative of the surrogate, which reads the layer's parameters at the
    places ``held``.
    """

    program: str
    kernel: NeuronKernel
    membrane: Membrane | str
    slope: NeuronKernel | float = 0.0
    held: tuple[int, ...] = ()

    def instants(self, neuron: Neuron, x: Tensor) -> Iterator[Instant]:
        """Yield the time steps of a layer with a membrane for its input [N, ...] or [T, N, ...].

        If nothing in the layer varies, one instant stands for all steps.
        """
        params = [value.detach() for value in neuron.params()]
        inputs = inputs_over_time(x, neuron.steps, neuron.input_rank, neuron.program)
        states = self.kernel.initial_states(to_accumulate_dtype(inputs[0]))
        for t, x_t in enumerate(inputs):
            current, now = to_accumulate_dtype(x_t), self.kernel.at(params, t)
            _, *states = self.kernel.step(current, *states, *now)
            potential, threshold, argument = states[-3:]
            held = [now[place] for place in self.held]
            if isinstance(self.slope, float):
                slope = torch.full_like(argument, self.slope)
            else:
                slope = spread(self.slope.step(argument, *held)[0], argument)
            yield Instant(potential, threshold, argument, slope)


@lru_cache(maxsize=256)
def instrument(program: str) -> Instrument:
    """Return the instrument of a program's text."""
    parsed = read_program(program)
    membrane = find_membrane(parsed)
    if isinstance(membrane, str):
        return Instrument(program, kernel(program), membrane)
    names = [*parsed.takes, *(item.parameter for item in parsed.learnables)]
    names += [state.name for state in parsed.states] + [op.name for op in parsed.ops]
    seen = parsed
    for name in ("potential", "threshold", "argument"):
        names.append(unique(f"seen_{name}", {*names}))
        seen = replace(
            seen,
            states=(*seen.states, NeuronState(names[-1], 0.0)),
            next_states=(*seen.next_states, getattr(membrane, name)),
        )
    surrogate = parsed.surrogate
    assert surrogate is not None  # the kernel of a program with heaviside needs one
    slope: NeuronKernel | float
    if isinstance(surrogate.derivative, float):
        slope = surrogate.derivative
    else:
        derivative = NeuronProgram(
            "slope", (), surrogate.scheduled, surrogate.ops, surrogate.derivative, (), surrogate,
            surrogate.parameters,
        )  # fmt: skip
        slope = kernel(derivative.text())
    read = surrogate.scheduled
    held = tuple(place for place, item in enumerate(parsed.learnables) if item in read)
    return Instrument(seen.text(), kernel(seen.text()), membrane, slope, held)
