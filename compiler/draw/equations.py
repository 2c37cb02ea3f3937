"""Equations of a neuron's program: its named values with the terms that define them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, TypeAlias, Union

from danetc.dsl.kinds import Kind
from danetc.dsl.neuron.inference import ranges_of
from danetc.dsl.neuron.opcodes import NO_GRADIENT, OPCODES, Operand
from danetc.dsl.neuron.parameters import Origin, ParameterValue
from danetc.dsl.neuron.program import (
    INPUT,
    NEXT,
    Learnable,
    NeuronProgram,
    SurrogateProgram,
)
from danetc.dsl.neuron.ssa import Instruction
from danetc.dsl.ranges import NumberRange, constant
from danetc.dsl.record import record

When = Literal["now", "before", "always"]
_DEEPEST = 60  # nested operations; deeper ones become an ellipsis


@record
class Variable:
    """A named value of this step, of the step before, or constant over time."""

    name: str
    when: When


@record
class Operation:
    """An operation of ``OPCODES`` and its operands."""

    opcode: str
    args: tuple[Term, ...]


Term: TypeAlias = Union[float, Variable, Operation]


@record
class Read:
    """A value that an equation reads: of the step before (``before``), without gradient (``detached``)."""

    name: str
    before: bool
    detached: bool


@record
class Equation:
    """``name = term`` at each step."""

    name: str
    term: Term
    reads: tuple[Read, ...]
    kind: Kind
    fires: bool  # result of a step function


def equations(program: NeuronProgram) -> list[Equation]:
    """Return the named values of one time step in order; states have their own names.

    Values that are one number per layer are omitted; see ``scalars``.
    """
    reader = _Reader.of_neuron(program)
    found = [
        reader.equation(reader.shown(op.name), op.name)
        for op in program.ops
        if not _is_unnamed(op.name) and op.name not in {*reader.always, *reader.numbers}
    ]
    defined = {equation.name for equation in found}
    for state, after in zip(program.states, program.next_states, strict=True):
        if state.name not in defined:
            found.append(reader.equation(state.name, after))
    if isinstance(program.output, str) and _is_unnamed(program.output):
        found.append(reader.equation("s", program.output))
    return found


def output_of(program: NeuronProgram) -> Read:
    """Return the output of the neuron."""
    name = str(program.output)
    if name in {state.name for state in program.states}:
        return Read(name, True, False)
    return Read("s" if _is_unnamed(name) else _Reader.of_neuron(program).shown(name), False, False)


def scalars(program: NeuronProgram) -> list[tuple[str, Term]]:
    """Return the named values that are one number per layer or channel, without bounds."""
    reader = _Reader.of_neuron(program)
    bounded = {item.name for item in program.learnables}
    return [
        (op.name, reader.term(op.name, top=True))
        for op in program.ops
        if op.name in reader.always and not _is_unnamed(op.name) and op.name not in bounded
    ]


def slope(surrogate: SurrogateProgram) -> tuple[list[tuple[str, Term]], Term]:
    """Return the named values of a surrogate's derivative, and the derivative by ``x``."""
    names = [op.name for op in surrogate.ops if not _is_unnamed(op.name)]
    scheduled = {item.name: short_name(item) for item in surrogate.scheduled}
    reader = _Reader(surrogate.ops, (), (INPUT, *names, *scheduled), {}, scheduled)
    value = surrogate.derivative
    found = [(name, reader.term(name, top=True)) for name in names if name != value]
    return found, reader.term(value, top=True)


def short_name(item: Learnable) -> str:
    """Return the name of a learnt number in its declaration."""
    return item.scheduled.rpartition(".")[2] or item.name


def _is_unnamed(name: str) -> bool:
    """True for a name that the compiler generated, as ``_12``."""
    return name[:1] == "_" and name[1:].isdecimal()


class _Reader:
    def __init__(
        self,
        ops: Iterable[Instruction],
        states: Iterable[str],
        always: Iterable[str],
        ranges: Mapping[Operand, NumberRange],
        next_names: Mapping[str, str],
        numbers: Iterable[str] = (),
    ) -> None:
        self.ops: dict[Operand, Instruction] = {op.name: op for op in ops}
        self.states = set(states)
        self.always = set(always)
        self.numbers = set(numbers)  # learnt per step
        self.ranges = ranges
        self.next_names = next_names

    @staticmethod
    def of_neuron(program: NeuronProgram) -> _Reader:
        pairs = zip(program.states, program.next_states, strict=True)
        names = {
            f"{state.name}{NEXT}": state.name
            for state, after in pairs
            if after == f"{state.name}{NEXT}"
        }
        states = [state.name for state in program.states]
        numbers = {
            name
            for item in program.learnables
            if item.per_step
            for name in (item.name, item.parameter)
        }
        ranges = ranges_of(program)
        return _Reader(program.ops, states, program.constants(), ranges, names, numbers)

    def shown(self, name: str) -> str:
        return self.next_names.get(name, name)

    def equation(self, name: str, value: Operand) -> Equation:
        op = self.ops.get(value)
        if op is not None and not _is_unnamed(op.name) and self.shown(op.name) != name:
            op = None  # a state that takes a named value
        kind = constant(value) if isinstance(value, float) else self.ranges[value]
        return Equation(
            name,
            self.term(value, top=op is not None),
            self._reads(value, top=op is not None),
            Kind.of(kind),
            op is not None and OPCODES[op.opcode].step,
        )

    def term(self, value: Operand, *, top: bool = False, depth: int = 0) -> Term:
        """Return a value as a term; with ``top``, a named one as its definition."""
        if isinstance(value, ParameterValue):
            return _made(value.origin)
        if isinstance(value, float):
            return value
        if value in self.ops and (top or _is_unnamed(value)):
            op = self.ops[value]
            if depth > _DEEPEST:
                return Variable("…", "always")
            return Operation(op.opcode, tuple(self.term(arg, depth=depth + 1) for arg in op.args))
        if value in self.always:
            return Variable(self.shown(value), "always")
        return Variable(self.shown(value), "before" if value in self.states else "now")

    def _reads(self, value: Operand, *, top: bool) -> tuple[Read, ...]:
        found: dict[tuple[str, bool], bool] = {}
        seen: set[tuple[Operand, bool]] = set()
        waiting: list[tuple[Operand, bool]] = [(value, False)]
        while waiting:
            at = waiting.pop()
            value, detached = at
            if at in seen or isinstance(value, float) or value in self.always | self.numbers:
                continue
            seen.add(at)
            if value in self.ops and (top or _is_unnamed(value)):
                op = self.ops[value]
                inside = detached or OPCODES[op.opcode].derivative == NO_GRADIENT
                waiting += [(arg, inside) for arg in reversed(op.args)]
            else:
                key = (self.shown(value), value in self.states)
                found[key] = found.get(key, True) and detached
            top = False
        return tuple(Read(*key, detached) for key, detached in found.items())


def _made(origin: Origin) -> Term:
    """Return a constant as a term of the parameters it was computed from."""
    match origin:
        case float():
            return origin
        case str():
            return Variable(origin, "always")
        case _:
            return Operation(origin[0], tuple(map(_made, origin[1:])))
