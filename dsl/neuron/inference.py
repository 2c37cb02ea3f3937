"""Ranges of the values of a neuron, from its equations."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TypeAlias, Union

from danetc.dsl.kinds import ANALOG, Kind
from danetc.dsl.neuron.opcodes import OPCODES, Operand
from danetc.dsl.neuron.program import NeuronProgram
from danetc.dsl.neuron.ssa import Instruction, fold
from danetc.dsl.ranges import REAL, NumberRange, RangeTable, Tables, constant, fixpoint

_Known: TypeAlias = tuple[Union[RangeTable, float, None], NumberRange]
"""A value as a function of few others if it is one, and its range."""


@lru_cache(maxsize=1024)
def output_kind(program: NeuronProgram, x: Kind = ANALOG) -> Kind:
    """Kind of the output of a neuron at all steps, for an input of kind ``x``."""
    return Kind.of(ranges_of(program, x)[program.output])


@lru_cache(maxsize=1024)
def ranges_of(program: NeuronProgram, x: Kind = ANALOG) -> Mapping[Operand, NumberRange]:
    """Ranges of all values of a neuron; those of its states hold at the start of a step.

    ``x`` is the kind of each input. Learnables have no bounds. The ranges of states are computed by
    iteration from their initial values; a range that keeps growing has no bounds.
    """

    def step(states: Mapping[str, NumberRange]) -> Mapping[str, NumberRange]:
        values = _step(program, x, states)
        after = zip(program.states, program.next_states, strict=True)
        return {
            state.name: constant(value) if isinstance(value, float) else values[value]
            for state, value in after
        }

    start = {state.name: constant(state.init) for state in program.states}
    return _step(program, x, fixpoint(start, step))


def _step(
    program: NeuronProgram, x: Kind, states: Mapping[str, NumberRange]
) -> Mapping[Operand, NumberRange]:
    """Ranges of the values of one step."""
    tables = Tables()
    inputs = dict.fromkeys(program.takes, x.range) | {**states}
    inputs |= {item.parameter: REAL for item in program.learnables}

    def apply(op: Instruction, args: list[_Known]) -> _Known:
        info = OPCODES[op.opcode]
        if not info.rounds and (found := tables.apply(info.value, (table for table, _ in args))):
            return found
        made = info.range(*(known for _, known in args))
        return tables.source(op.name, made), made

    known: dict[str, _Known] = {
        name: (tables.source(name, found), found) for name, found in inputs.items()
    }
    values = fold(program.ops, known, apply, lambda value: (value, constant(value)))
    return {name: found for name, (_, found) in values.items()}
