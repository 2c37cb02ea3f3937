"""One time step of a neuron as operators of ONNX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from danetc.compiler.emit.onnx.writer import NodeWriter, proto_type
from danetc.dsl.neuron.opcodes import OPCODES, Operand
from danetc.dsl.neuron.program import NeuronProgram
from danetc.dsl.neuron.strength_reduction import cheaper


def neuron_step(
    to: NodeWriter, program: NeuronProgram, x: str, states: Sequence[str]
) -> tuple[str, list[str]]:
    """The output, and the states for the next step. Computed in float32, as danetc's kernels do.

    Several inputs lie side by side in the last dimension of ``x``. A state may come as one number.
    """
    single = proto_type(np.float32)
    x = to.node("Cast", x, to=single) if to.half else x
    values: dict[Operand, str] = {"x": x}
    if program.inputs:
        for place, name in enumerate(program.takes):
            index = to.node("Squeeze", to.ints(place), to.ints(0))
            values[name] = to.node("Gather", x, index, axis=-1)
    values |= zip((state.name for state in program.states), states, strict=True)
    for item in program.learnables:
        weight = to.weight(item.parameter)
        if item.per_step:
            weight = to.node("Gather", weight, to.step, axis=0)
        values[item.parameter] = to.node("Cast", weight, to=single) if to.half else weight
    results = [program.output, *program.next_states]
    whole = {*program.takes}  # what has the shape of the input
    for op in cheaper(program.ops, results):
        operands = [_operand(to, arg, values) for arg in op.args]
        values[op.name] = _operation(to, op.opcode, operands)
        if whole.intersection(arg for arg in op.args if isinstance(arg, str)):
            whole.add(op.name)
    found = []
    for result in results:
        value = _operand(to, result, values)
        if result not in whole:
            value = to.node("Expand", value, to.node("Shape", values["x"]))
        found.append(value)
    s, *after = found
    return (to.node("Cast", s, to=proto_type(to.type)) if to.half else s), after


def _operand(to: NodeWriter, value: Operand, values: Mapping[Operand, str]) -> str:
    return to.array(value, single=True) if isinstance(value, float) else values[value]


def _operation(to: NodeWriter, opcode: str, operands: list[str]) -> str:
    """The operators of the row, one behind the other; the first takes the operands."""
    row = OPCODES[opcode]
    if row.onnx is None:
        raise NotImplementedError(f"the function {opcode} has no form in ONNX")
    for name in row.onnx:
        operator, *numbers = name.split()
        taken = [*operands, *(to.array(float(number), single=True) for number in numbers)]
        if operator == "Cast":
            operands = [to.node("Cast", taken[0], to=proto_type(np.float32))]
        else:
            operands = [to.node(operator, *taken)]
    return operands[0]
