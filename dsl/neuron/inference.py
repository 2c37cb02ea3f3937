"""What a neuron's equations say of its numbers: which its output, states and other values may be."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from danetc.dsl.kinds import ANALOG, Kind
from danetc.dsl.neuron.opcodes import OPCODES, Operand
from danetc.dsl.neuron.program import NeuronProgram
from danetc.dsl.ranges import REAL, NumberRange, RangeTable, Tables, constant, fixpoint


@lru_cache(maxsize=1024)
def output_kind(program: NeuronProgram, x: Kind = ANALOG) -> Kind:
    """The kind of what a neuron gives, at all steps, for an input of kind ``x``."""
    return Kind.of(ranges_of(program, x)[program.output])


@lru_cache(maxsize=1024)
def ranges_of(program: NeuronProgram, x: Kind = ANALOG) -> Mapping[Operand, NumberRange]:
    """The ranges of all values of a neuron; those of its states are as a step finds them.

    Of several inputs ``x`` is the kind of each.

    Learnables may become any number. States are followed from their first values until nothing
    moves; one that keeps moving may become any number.
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
    """The ranges of one step's values."""
    tables = Tables()
    ranges: dict[Operand, NumberRange] = dict.fromkeys(program.takes, x.range)
    ranges.update(states)
    ranges |= {item.parameter: REAL for item in program.learnables}
    known: dict[Operand, RangeTable | None] = {
        name: tables.source(str(name), found) for name, found in ranges.items()
    }
    for op in program.ops:
        info = OPCODES[op.opcode]
        operands = [constant(a) if isinstance(a, float) else ranges[a] for a in op.args]
        ranges[op.name] = info.range(*operands)
        found = None
        if info.value is not None and not info.rounds:
            args = [a if isinstance(a, float) else known[a] for a in op.args]
            found = tables.apply(info.value, args)
        if found is not None:
            known[op.name], ranges[op.name] = found
        else:
            known[op.name] = tables.source(op.name, ranges[op.name])
    return ranges
