"""Canonical forms of neurons, independent of names and the order of equations.

``v = u + x`` and ``p = x + q`` have the same form. Operands that commute exactly in floating point
are sorted, but nothing is regrouped, so programs with the same form compute the same numbers,
forward and backward. Programs with different forms may still be equal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from hashlib import sha256

from danetc.dsl.neuron.opcodes import OPCODES, Operand
from danetc.dsl.neuron.program import INPUT, NeuronProgram
from danetc.dsl.neuron.ssa import Instruction


@lru_cache(maxsize=512)
def program_form(program: NeuronProgram) -> str:
    """Return a digest of the form of a neuron's program, including its surrogate.

    States and learnables are identified by their initial values and their uses.
    """
    order, starts, colours = _ordered(program)
    after = dict(zip((s.name for s in program.states), program.next_states, strict=True))
    for position, name in enumerate(order):  # distinguish states with equal digests
        colours[name] = _digest(str(position), starts[name])
    values = _values(program.ops, colours)
    parts = [_of(values, program.output)]
    parts += [_of(values, after[name]) for name in order if name in after]
    if program.surrogate is not None:
        slope = program.surrogate
        inputs = {INPUT: _digest("x")} | {item.name: starts[item.name] for item in slope.scheduled}
        parts += ["surrogate", _of(_values(slope.ops, inputs), slope.derivative)]
    return _digest(*parts)


def learnt_in_order(program: NeuronProgram) -> list[str]:
    """Return the names of learnables, in an order that programs of the same form share."""
    order, _, _ = _ordered(program)
    learnt = {item.parameter for item in program.learnables}
    return [name for name in order if name in learnt]


def _ordered(program: NeuronProgram) -> tuple[list[str], dict[str, str], dict[str, str]]:
    """Return states and learnables in the order of use, their initial values, and their digests."""
    starts = {state.name: _digest("state", repr(state.init)) for state in program.states}
    for item in program.learnables:
        starts[item.parameter] = _digest("learn", repr(replace(item, name="")))
    after = dict(zip((s.name for s in program.states), program.next_states, strict=True))
    colours = {INPUT: _digest("x"), **starts}
    colours |= {name: _digest("input", str(i)) for i, name in enumerate(program.inputs)}
    for _ in range(len(after) + 1):  # the digest of a state includes its next value
        values = _values(program.ops, colours)
        more = {name: _digest(colours[name], _of(values, after[name])) for name in after}
        colours |= more
    order = _in_order_of_use(program, after, colours)
    return order, starts, colours


def _digest(*parts: str) -> str:
    return sha256("\n".join(parts).encode()).hexdigest()


def _of(values: Mapping[str, str], operand: Operand) -> str:
    return _digest(repr(operand)) if isinstance(operand, float) else values[operand]


def _arguments(op: Instruction, values: Mapping[str, str]) -> list[Operand]:
    """Return the operands, sorted if the operation commutes."""
    args = list(op.args)
    commutes = OPCODES[op.opcode].commutes
    return sorted(args, key=lambda arg: _of(values, arg)) if commutes else args


def _values(ops: Sequence[Instruction], inputs: Mapping[str, str]) -> dict[str, str]:
    """Return a digest of every value."""
    values = dict(inputs)
    for op in ops:
        args = (_of(values, arg) for arg in _arguments(op, values))
        values[op.name] = _digest(op.opcode, *args)
    return values


def _in_order_of_use(
    program: NeuronProgram, after: Mapping[str, Operand], colours: Mapping[str, str]
) -> list[str]:
    """Return states and learnables in the order of a search from the output."""
    values = _values(program.ops, colours)
    ops = {op.name: op for op in program.ops}
    order: list[str] = []
    seen: set[Operand] = set()
    waiting: list[Operand] = [program.output]
    while waiting:
        value = waiting.pop()
        if isinstance(value, float) or value in seen:
            continue
        seen.add(value)
        if value in ops:
            waiting += reversed(_arguments(ops[value], values))
        elif value not in program.takes:
            order.append(value)
            if value in after:
                waiting.insert(0, after[value])
    return order
