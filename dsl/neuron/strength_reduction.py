"""Cheaper operations for kernels, with the same results.

A neuron's step is a chain of operations that wait for each other, so each one less counts.
"""

from __future__ import annotations

from collections.abc import Sequence

from danetc.dsl.neuron.opcodes import Operand
from danetc.dsl.neuron.ssa import Instruction, needed


def cheaper(ops: Sequence[Instruction], outputs: Sequence[Operand]) -> tuple[Instruction, ...]:
    """The operations that the outputs need, in cheaper forms and under the same names.

    ``heaviside(a - b)``, one of them constant, compares ``a >= b``. That is exact, also for NaN and
    infinity: with gradual underflow a difference is 0 only between equals, and its sign is right.

    ``a * s`` of a spike s stays a product. A selection between a and 0 would be as fast, and would
    hide that a is NaN or infinite.
    """
    by_name = {op.name: op for op in ops}
    same: dict[Operand, Operand] = {}  # detached values: kernels run without autograd
    result: list[Instruction] = []
    for op in ops:
        match op.opcode, *(same.get(arg, arg) for arg in op.args):
            case ["detach", a]:
                same[op.name] = a
            case ["heaviside", a]:
                condition = f"{op.name} holds"
                result.append(Instruction(condition, "ge", _compared(a, by_name)))
                op = Instruction(op.name, "number", (condition,))
        result.append(op)
    return needed(result, outputs)


def _compared(value: Operand, by_name: dict[str, Instruction]) -> tuple[Operand, Operand]:
    """Two values of which the first is not below the second where ``value`` is not below 0."""
    op = by_name.get(value) if isinstance(value, str) else None
    if op is not None and op.opcode == "sub":
        left, right = op.args
        if isinstance(left, float) or isinstance(right, float):
            return left, right
    return value, 0.0
