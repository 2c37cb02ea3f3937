"""The equations of a neuron multiplied out, by which two orders of the same arithmetic are one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from danetc.dsl.neuron.opcodes import Operand
from danetc.dsl.neuron.program import INPUT, NeuronProgram

Polynomial: TypeAlias = Mapping[tuple[str, ...], float]
"""Factors by products of atoms, each product sorted: 0.5 u - u s is ``{("u",): 0.5, ("s", "u"): -1}``."""
MOST_TERMS = 64


class NoForm(Exception):
    """Equations of several states or learnt numbers, or too long ones."""


def polynomial_form(program: NeuronProgram) -> str:
    """What a neuron gives and remembers, as polynomials in its input, its state, what it learns, and
    functions of such polynomials, with the factors that float32 tells apart. Raises NoForm."""
    if len(program.states) > 1 or len(program.learnables) > 1 or program.inputs:
        raise NoForm
    values: dict[str, Polynomial] = {INPUT: {("x",): 1.0}}
    values |= {state.name: {("u",): 1.0} for state in program.states}
    values |= {item.parameter: {("w",): 1.0} for item in program.learnables}
    for op in program.ops:
        args = [_of(values, arg) for arg in op.args]
        rule = RULES.get(op.opcode)
        found = None if rule is None else rule(args)
        if found is None:
            found = {(f"{op.opcode}({', '.join(map(_text, args))})",): 1.0}
        if len(found) > MOST_TERMS:
            raise NoForm
        values[op.name] = found
    starts = [repr(state.init) for state in program.states]
    learnt = [repr((i.raw, i.above, i.below, i.per, i.per_step)) for i in program.learnables]
    results = [_text(_of(values, name)) for name in (program.output, *program.next_states)]
    return "; ".join([*starts, *learnt, *results])


def _of(values: Mapping[str, Polynomial], operand: Operand) -> Polynomial:
    return values[operand] if isinstance(operand, str) else {(): float(operand)}


def _text(polynomial: Polynomial) -> str:
    terms = {atoms: str(np.float32(factor)) for atoms, factor in polynomial.items()}
    return " + ".join(f"{terms[atoms]} {' '.join(atoms)}" for atoms in sorted(terms))


def _sum(a: Polynomial, b: Polynomial, sign: float = 1.0) -> Polynomial:
    found = {**a}
    for atoms, factor in b.items():
        found[atoms] = found.get(atoms, 0.0) + sign * factor
    return {atoms: factor for atoms, factor in found.items() if abs(factor) > 1e-9}


def _product(a: Polynomial, b: Polynomial) -> Polynomial:
    found: Polynomial = {}
    for atoms, factor in a.items():
        for others, other in b.items():
            found = _sum(found, {tuple(sorted((*atoms, *others))): factor * other})
    return found


def _quotient(args: Sequence[Polynomial]) -> Polynomial | None:
    """By a number alone."""
    a, b = args
    return _product(a, {(): 1.0 / b[()]}) if b.keys() == {()} and b[()] else None


RULES: Mapping[str, Callable[[Sequence[Polynomial]], Polynomial | None]] = {
    "add": lambda args: _sum(args[0], args[1]),
    "sub": lambda args: _sum(args[0], args[1], -1.0),
    "neg": lambda args: _sum({}, args[0], -1.0),
    "mul": lambda args: _product(args[0], args[1]),
    "div": _quotient,
    "cast": lambda args: args[0],
}
"""What operations make of polynomials, where that is one."""
