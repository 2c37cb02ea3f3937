"""A neuron's program as equations again: its named values, and what each is made of."""

from __future__ import annotations

import re
from dataclasses import dataclass

from danetc.dsl.kinds import Kind
from danetc.dsl.neuron.inference import ranges_of
from danetc.dsl.neuron.opcodes import ATOM, OPCODES, Operand
from danetc.dsl.neuron.parameters import Origin, ParameterValue
from danetc.dsl.neuron.program import NEXT, NeuronProgram
from danetc.dsl.neuron.ssa import Instruction
from danetc.dsl.ranges import constant

_UNNAMED = re.compile(r"_\d+")  # what the compiler named


@dataclass(frozen=True, slots=True)
class Read:
    """A value that an equation reads. ``before``: of the step before; ``detached``: no gradient."""

    name: str
    before: bool
    detached: bool


@dataclass(frozen=True, slots=True)
class Equation:
    """``name[t] = right side``. ``{name}`` and ``{name-}`` in ``text`` stand for values of this
    step and of the step before."""

    name: str
    text: str
    reads: tuple[Read, ...]
    kind: Kind
    fires: bool  # made by a step function

    def at(self, step: int) -> str:
        """The right side at a time step."""

        def shown(match: re.Match[str]) -> str:
            return f"{match[1]}[{step - 1 if match[2] else step}]"

        return re.sub(r"\{(\w+)(-?)\}", shown, self.text)


def equations(program: NeuronProgram) -> list[Equation]:
    """The named values of one time step in order; states come under their own names.

    Values that are one number for a layer are left out: ``scalars`` has them.
    """
    reader = _Reader(program)
    found = [
        reader.equation(reader.names.get(op.name, op.name), op.name)
        for op in program.ops
        if not _UNNAMED.fullmatch(op.name) and op.name not in reader.constant
    ]
    defined = {equation.name for equation in found}
    for state, after in zip(program.states, program.next_states, strict=True):
        if state.name not in defined:
            found.append(reader.equation(state.name, after))
    if program.output not in reader.ops and program.output not in defined:
        return found
    if isinstance(program.output, str) and _UNNAMED.fullmatch(program.output):
        found.append(reader.equation("s", program.output))
    return found


def output_of(program: NeuronProgram) -> Read:
    """The value that leaves the neuron."""
    states = {state.name for state in program.states}
    name = str(program.output)
    if name in states:
        return Read(name, True, False)
    if _UNNAMED.fullmatch(name):
        return Read("s", False, False)
    return Read(_Reader(program).names.get(name, name), False, False)


def scalars(program: NeuronProgram) -> list[str]:
    """What is learnt, one number a layer: ``g = softplus(g_raw), g_raw learnt from -0.43``."""
    reader = _Reader(program)
    found = [
        f"{op.name} = {reader.expression(op.name, top=True)[0]}"
        for op in program.ops
        if op.name in reader.constant and not _UNNAMED.fullmatch(op.name)
    ]
    found += [
        f"{item.parameter} is {'scheduled' if item.scheduled else 'learnt'} from "
        f"{float(item.raw):.4g}{'' if item.is_scalar else f', one a {item.per}'}"
        for item in program.learnables
    ]
    return [re.sub(r"\{(\w+)-?\}", r"\1", text) for text in found]


class _Reader:
    def __init__(self, program: NeuronProgram) -> None:
        self.ops: dict[Operand, Instruction] = {op.name: op for op in program.ops}
        self.states = {state.name for state in program.states}
        self.inputs = frozenset(program.takes)
        self.constant = program.scalars()
        self.ranges = ranges_of(program)
        self.names = {
            after: state.name
            for state, after in zip(program.states, program.next_states, strict=True)
            if isinstance(after, str) and after == f"{state.name}{NEXT}"
        }

    def equation(self, name: str, value: Operand) -> Equation:
        op = self.ops.get(value)
        if (
            op is not None
            and not _UNNAMED.fullmatch(op.name)
            and self.names.get(op.name, op.name) != name
        ):
            op = None  # a state that keeps what has a name of its own
        if op is None:
            text, _, reads = self._operand(value, False)
        else:
            text, reads = self.expression(value, top=True)
        merged: dict[tuple[str, bool], Read] = {}
        for read in reads:
            key = (read.name, read.before)
            known = merged.get(key)
            merged[key] = Read(*key, read.detached and (known is None or known.detached))
        return Equation(
            name,
            text,
            tuple(merged.values()),
            Kind.of(constant(value) if isinstance(value, float) else self.ranges[value]),
            op is not None and OPCODES[op.opcode].step,
        )

    def expression(
        self, value: Operand, *, top: bool = False, detached: bool = False
    ) -> tuple[str, list[Read]]:
        text, _, reads = (
            self._infix(self.ops[value], detached) if top else self._operand(value, detached)
        )
        return text, reads

    def _operand(self, value: Operand, detached: bool) -> tuple[str, int, list[Read]]:
        if isinstance(value, ParameterValue):
            return (*_made(value.origin), [])
        if isinstance(value, float):
            return (*_made(value), [])
        if value in self.ops and _UNNAMED.fullmatch(value):
            return self._infix(self.ops[value], detached)
        if value in self.constant:
            return value, ATOM, []
        if value in self.inputs:
            return f"{{{value}}}", ATOM, [Read(str(value), False, detached)]
        if value in self.states:
            return f"{{{value}-}}", ATOM, [Read(value, True, detached)]
        name = self.names.get(value, value)
        return f"{{{name}}}", ATOM, [Read(name, False, detached)]

    def _infix(self, op: Instruction, detached: bool) -> tuple[str, int, list[Read]]:
        inside = detached or op.opcode == "detach"
        parts = [self._operand(arg, inside) for arg in op.args]
        reads = [read for _, _, more in parts for read in more]
        return (*_written(op.opcode, [part[:2] for part in parts]), reads)


def _made(origin: Origin) -> tuple[str, int]:
    """What a constant was made of, as an equation says it."""
    match origin:
        case float():
            return f"{origin:.4g}", ATOM if origin >= 0 else 2
        case str():
            return origin, ATOM
        case _:
            return _written(origin[0], [_made(part) for part in origin[1:]])


def _written(opcode: str, parts: list[tuple[str, int]]) -> tuple[str, int]:
    """An operation as text, and how tight it binds; its operands likewise."""
    info = OPCODES[opcode]
    if info.infix:
        level = info.binds[0] - (info.infix in ("and", "or"))  # words bind less than signs
        return f"{_held(parts[0], level)} {info.infix} {_held(parts[1], level + 1)}", level
    if opcode == "neg":
        return f"-{_held(parts[0], 4)}", 3
    if opcode == "not":
        return f"not {_held(parts[0], 4)}", 1
    if opcode == "where":
        words = [_held(part, 1) for part in parts]
        return f"{words[1]} if {words[0]} else {words[2]}", -1
    if opcode in ("cast", "number"):
        return parts[0]
    return f"{opcode}({', '.join(text for text, _ in parts)})", ATOM


def _held(part: tuple[str, int], level: int) -> str:
    return part[0] if part[1] >= level else f"({part[0]})"
