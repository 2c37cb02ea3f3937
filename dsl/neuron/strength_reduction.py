"""Cheaper operations for kernels, with the same results for all finite values.

A neuron's step is a chain of operations that wait for each other, so each one less counts.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from danetc.dsl.neuron.opcodes import Operand
from danetc.dsl.neuron.ssa import Instruction, needed


def cheaper(
    ops: Sequence[Instruction], outputs: Sequence[Operand], scalars: Collection[str]
) -> tuple[Instruction, ...]:
    """The operations that the outputs need, in cheaper forms and under the same names.

    ``scalars`` are the inputs that hold one number for the whole layer.

    - ``heaviside(a - b)``, one of them constant, compares ``a >= b``. That is exact: with gradual
      underflow a difference is 0 only between equals, and its sign is right.
    - ``a * s`` and ``a * (1 - s)``, s such a comparison, select between a and 0. They differ for
      an infinite a alone (0 in place of NaN), and in the sign of 0.
    """
    by_name = {op.name: op for op in ops}
    same: dict[Operand, Operand] = {}  # what a detached value is: kernels run without autograd
    ones: dict[Operand, str] = {}  # conditions of the values that are 1 where they hold, else 0
    zeros: dict[Operand, str] = {}  # of those that are 0 where they hold, else 1
    single = set(scalars)
    result: list[Instruction] = []
    for op in ops:
        args = tuple(same.get(arg, arg) for arg in op.args)
        if op.opcode == "total" or all(isinstance(a, float) or a in single for a in args):
            single.add(op.name)
        new = op
        match op.opcode, *args:
            case ["detach", a]:
                same[op.name] = a
            case ["heaviside", a]:
                condition = ones[op.name] = f"{op.name} holds"
                result.append(Instruction(condition, "ge", _compared(a, by_name)))
                new = Instruction(op.name, "number", (condition,))
            case ["sub", 1.0, s] if s in ones:
                zeros[op.name] = ones[s]
            case ["sub", 1.0, s] if s in zeros:
                ones[op.name] = zeros[s]
            case ["mul", a, b]:
                for s, other in ((b, a), (a, b)):
                    if isinstance(other, float) or other in single:
                        continue  # it has not the type of the result
                    if s in ones:
                        new = Instruction(op.name, "where", (ones[s], other, 0.0))
                        break
                    if s in zeros:
                        new = Instruction(op.name, "where", (zeros[s], 0.0, other))
                        break
        result.append(new)
    return needed(result, outputs)


def _compared(value: Operand, by_name: dict[str, Instruction]) -> tuple[Operand, Operand]:
    """Two values of which the first is not below the second where ``value`` is not below 0."""
    op = by_name.get(value) if isinstance(value, str) else None
    if op is not None and op.opcode == "sub":
        left, right = op.args
        if isinstance(left, float) or isinstance(right, float):
            return left, right
    return value, 0.0
