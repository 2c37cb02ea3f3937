"""Static single assignment: the form of the equations of neurons.

A value is a constant (a float) or a name, and a name is an input or the result of one operation.
The builder folds constants, shares equal operations and drops identities (``x + 0``, ``1 * x``). It
never reorders arithmetic, so results are exactly those of the text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import count
from typing import TypeVar

from danetc.dsl.neuron.opcodes import ALL_OPCODES, OPCODES, ConstantError, Operand, compute
from danetc.dsl.neuron.parameters import folded, names_of
from danetc.dsl.ranges import REAL, NumberRange, constant
from danetc.dsl.record import record
from danetc.dsl.work import current

Value = TypeVar("Value")


class TooManyOperations(ValueError):
    """Raised if equations have more operations than the limit."""


@record
class Instruction:
    """``name = opcode args``."""

    name: str
    opcode: str
    args: tuple[Operand, ...]


MAX_OPS = 1000
OPERATION = 15  # number of steps of work of an operation


class ProgramBuilder:
    """Emits and simplifies operations.

    ``scalars`` are the inputs with a single number for the whole layer. A value is a scalar if all
    of its operands are scalars, else a tensor.
    """

    def __init__(
        self, inputs: Iterable[str], scalars: Iterable[str] = (), max_ops: int = MAX_OPS
    ) -> None:
        self.ops: list[Instruction] = []
        self.by_name: dict[str, Instruction] = {}
        self.labels: dict[str, str] = {}
        self.inputs = tuple(inputs)
        self.max_ops = max_ops
        self._scalars = set(scalars)
        self._ranges: dict[Operand, NumberRange] = {}  # for all inputs and states
        self._known: dict[tuple[str, tuple[object, ...]], Instruction] = {}
        self.fixed: set[str] = set()  # parameters that determine the operations

    def fix(self, *values: object) -> None:
        """Record that the operations depend on these values, which fixes their parameters."""
        self.fixed.update(*map(names_of, values))

    def add_input(self, name: str, *, scalar: bool) -> None:
        """Add an input; a scalar is one number for the whole layer."""
        self.inputs += (name,)
        if scalar:
            self._scalars.add(name)

    def is_scalar(self, value: Operand) -> bool:
        return isinstance(value, float) or value in self._scalars

    def is_condition(self, value: Operand | bool) -> bool:
        if isinstance(value, bool):
            return True
        op = self.by_name.get(value) if isinstance(value, str) else None
        return op is not None and ALL_OPCODES[op.opcode].gives == "condition"

    def number(self, value: Operand | bool) -> Operand:
        """Convert a condition to 0 or 1."""
        if isinstance(value, bool):
            return float(value)
        return self.emit("number", value) if self.is_condition(value) else value

    def condition(self, value: Operand | bool) -> Operand | bool:
        """Convert a number to a condition: True if it is not 0."""
        if isinstance(value, float):
            self.fix(value)
            return value != 0
        return value if self.is_condition(value) else self.compare("ne", value, 0.0)

    def compare(self, opcode: str, left: Operand, right: Operand) -> Operand | bool:
        if isinstance(left, float) and isinstance(right, float):
            self.fix(left, right)
            return bool(compute(opcode, left, right))
        return self.append(opcode, (left, right))

    def logic(self, opcode: str, *args: Operand | bool) -> Operand | bool:
        """Emit ``and``, ``or`` or ``not``."""
        if opcode == "not":
            return not args[0] if isinstance(args[0], bool) else self.append("not", args)
        left, right = args
        for one, other in ((left, right), (right, left)):
            if isinstance(one, bool):
                return one if one == (opcode == "or") else other
        return self.append(opcode, (left, right))

    def select(self, condition: Operand | bool, then: Operand, otherwise: Operand) -> Operand:
        if isinstance(condition, bool):
            return then if condition else otherwise
        if (then, otherwise) == (1.0, 0.0):
            self.fix(then, otherwise)
            return self.emit("number", condition)
        if then == otherwise:
            self.fix(then, otherwise)
            return then
        scalars = self.is_scalar(then) and self.is_scalar(otherwise)
        if scalars and not self.is_scalar(condition):  # scalars must not determine the dtype
            then, otherwise = (
                value if isinstance(value, float) else self.append("cast", (value,))
                for value in (then, otherwise)
            )
        return self.append("where", (condition, then, otherwise))

    def emit(self, opcode: str, *args: Operand) -> Operand:
        """Emit an operation on numbers, or fold it if its operands are constants."""
        if opcode in OPCODES and all(isinstance(arg, float) for arg in args):
            try:
                value = float(compute(opcode, *args))
            except OverflowError:
                value = math.inf
            if not math.isfinite(value):
                raise ConstantError("a number too large")
            return folded(value, opcode, args)
        same = self._identity(opcode, args)
        if same is not None:
            self.fix(*args)
            return same
        if opcode in ("max", "min") and isinstance(args[0], float):
            args = args[::-1]  # the constant comes second, as in clamp
        if opcode == "max" and args[1] == 0.0:
            self.fix(args[1])
            return self.append("relu", args[:1])
        return self.append(opcode, args)

    def _identity(self, opcode: str, args: Sequence[Operand]) -> Operand | None:
        match opcode, *args:
            case ["add", a, 0.0] | ["add", 0.0, a] | ["sub", a, 0.0]:
                return a
            case ["div", _, 0.0]:
                raise ConstantError("division by zero")
            case ["mul", a, 1.0] | ["mul", 1.0, a] | ["div", a, 1.0]:
                return a
            case ["mul", a, 0.0] | ["mul", 0.0, a] if self._range(a).size < math.inf:
                return 0.0
            case ["neg", str(a)] if a in self.by_name and self.by_name[a].opcode == "neg":
                return self.by_name[a].args[0]
            case ["neg", str(a)] if a in self.by_name and self.by_name[a].opcode == "mul":
                return self._negated_product(*self.by_name[a].args)
            case ["max" | "min", a, b] if a == b:
                return a
            case ["detach", str(a)] if a in self.by_name and self.by_name[a].opcode == "detach":
                return a
        return None

    def _negated_product(self, a: Operand, b: Operand) -> Operand | None:
        """Return ``c * b`` for ``-(-c * b)``, which is exact; None without a constant factor."""
        for factor, other in ((a, b), (b, a)):
            if isinstance(factor, float):
                return self.emit("mul", self.emit("neg", factor), other)
            op = self.by_name.get(factor)
            if op is not None and op.opcode == "neg":
                return self.emit("mul", op.args[0], other)
        return None

    def append(self, opcode: str, args: tuple[Operand | bool, ...]) -> str:
        """Append an operation that needs no simplification."""
        key = (opcode, tuple(repr(arg) if isinstance(arg, float) else arg for arg in args))
        if (known := self._known.get(key)) is not None:
            both = known.args, args
            origins, others = ([getattr(it, "origin", None) for it in its] for its in both)
            if origins != others:
                self.fix(*known.args, *args)  # equal for these values of the parameters only
            return known.name
        if len(self.ops) >= self.max_ops:
            raise TooManyOperations
        current().spend(OPERATION)
        name = f"%{len(self.ops)}"
        op = self.by_name[name] = self._known[key] = Instruction(name, opcode, args)
        self.ops.append(op)
        if opcode == "total" or all(self.is_scalar(arg) for arg in args):
            self._scalars.add(name)
        self._ranges[name] = ALL_OPCODES[opcode].range(*map(self._range, args))
        return name

    def _range(self, value: Operand | bool) -> NumberRange:
        if isinstance(value, (bool, float)):
            return constant(float(value))
        return self._ranges.get(value, REAL)

    def label(self, value: Operand | bool, name: str) -> None:
        """Record the first name that the text gives to a value."""
        if isinstance(value, str) and value in self.by_name:
            self.labels.setdefault(value, name)

    def finish(
        self, outputs: Sequence[Operand]
    ) -> tuple[tuple[Instruction, ...], tuple[Operand, ...]]:
        """Return the operations that the outputs need, with readable names, and the outputs."""
        ops = needed(self.ops, outputs)
        taken = set(self.inputs) | {self.labels[op.name] for op in ops if op.name in self.labels}
        names: dict[Operand, Operand] = {}
        free = (f"_{i}" for i in count(1))
        for op in ops:
            label = self.labels.get(op.name)
            names[op.name] = label or next(name for name in free if name not in taken)

        def renamed(op: Instruction) -> Instruction:
            args = tuple(names.get(arg, arg) for arg in op.args)
            return Instruction(str(names[op.name]), op.opcode, args)

        return tuple(map(renamed, ops)), tuple(names.get(value, value) for value in outputs)


def fold(
    ops: Iterable[Instruction],
    values: Mapping[str, Value],
    apply: Callable[[Instruction, list[Value]], Value],
    constant: Callable[[float], Value],
) -> dict[str, Value]:
    """Compute a value for every name of a program, in program order.

    Args:
        values: Values of the inputs.
        apply: Computes the value of an operation from the values of its operands.
        constant: Returns the value of a number.
    """
    found = dict(values)
    for op in ops:
        args = [constant(arg) if isinstance(arg, float) else found[arg] for arg in op.args]
        found[op.name] = apply(op, args)
    return found


def evaluate(
    ops: Iterable[Instruction], values: Mapping[str, float | bool]
) -> dict[str, float | bool]:
    """Evaluate a program on numbers. Raises ConstantError or OverflowError if one is undefined."""
    return fold(ops, values, lambda op, args: compute(op.opcode, *args), float)


def needed(ops: Sequence[Instruction], outputs: Iterable[Operand]) -> tuple[Instruction, ...]:
    """Return the operations on which the outputs depend, in order."""
    wanted = set(outputs)
    kept = []
    for op in reversed(ops):
        if op.name in wanted:
            kept.append(op)
            wanted.update(op.args)
    return tuple(reversed(kept))


def computed_from(ops: Iterable[Instruction], names: Iterable[str]) -> list[Instruction]:
    """Return the operations that only read constants, the names and results of each other."""
    known, found = set(names), []
    for op in ops:
        if all(isinstance(arg, float) or arg in known for arg in op.args):
            known.add(op.name)
            found.append(op)
    return found


def cheaper(ops: Sequence[Instruction], outputs: Sequence[Operand]) -> tuple[Instruction, ...]:
    """Return the operations that the outputs need, in forms that are cheaper in kernels.

    Each operation of a step waits for the previous one, so a shorter chain is faster.

    ``heaviside(a - b)`` becomes ``a >= b`` if one of them is constant. This is exact, also for NaN
    and infinity: with gradual underflow, a difference is 0 only for equal numbers. The product
    ``a * s`` with a spike stays: a selection is no faster and would hide an infinite ``a``.
    """
    by_name = {op.name: op for op in ops}
    result: list[Instruction] = []
    for op in ops:
        if op.opcode == "heaviside":
            condition, compared = f"{op.name} holds", (*op.args, 0.0)
            difference = by_name.get(str(op.args[0]))
            if difference is not None and difference.opcode == "sub":
                has_constant = any(isinstance(arg, float) for arg in difference.args)
                compared = difference.args if has_constant else compared
            result.append(Instruction(condition, "ge", compared))
            op = Instruction(op.name, "number", (condition,))
        result.append(op)
    return needed(result, outputs)
