"""Neurons that are warned of as giving always the same do so against every input there is."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import pytest

from danetc.compiler import check_text, graph_of
from danetc.compiler.warnings.neurons import _constant
from danetc.dsl.neuron.opcodes import OPCODES
from danetc.dsl.neuron.program import INPUT, NeuronProgram
from tests.compiler.warning_cases import net

ROOT = Path(__file__).parents[2]
STD = (ROOT / "dsl" / "std" / "neurons.danet").read_text("utf-8")
CHANGES = ("v_threshold = 2.6", "v_threshold = 0.4", "v_threshold = -1.0", "tau = 3.0")
NEURONS = [
    f"{name}({change})"
    for name, parameters in re.findall(r"^neuron (\w+)(.*)", STD, re.MULTILINE)
    for change in ("", *CHANGES)
    if change.partition(" ")[0] in parameters
]


def outputs(program: NeuronProgram, xs: tuple[float, ...]) -> list[float]:
    """What a neuron gives for inputs, one a step, operation by operation."""
    states: dict[str, float | bool] = {state.name: state.init for state in program.states}
    result = []
    for x in xs:
        values: dict[str, float | bool] = {INPUT: x, **states}
        values |= {item.parameter: item.raw for item in program.learnables}
        for op in program.ops:
            value = OPCODES[op.opcode].value
            values[op.name] = value(*(a if isinstance(a, float) else values[a] for a in op.args))
        ends = [end if isinstance(end, float) else values[end] for end in program.next_states]
        states = dict(zip(states, ends, strict=True))
        result.append(float(values[str(program.output)]))
    return result


@pytest.mark.parametrize("neuron", NEURONS)
def test_a_neuron_that_always_gives_the_same_does(neuron: str) -> None:
    (program,) = graph_of(check_text(net(("= IF", f"= {neuron}")))).neurons.values()
    for largest, steps in product((1, 2), (1, 2, 4)):
        trains = product(map(float, range(largest + 1)), repeat=steps)
        every = {value for xs in trains for value in outputs(program, xs)}
        found = _constant(program, 0.0, float(largest), steps)
        if len(every) > 1:
            assert found is None
        elif not program.learnables:  # these may be learnt away
            assert {found} == every
