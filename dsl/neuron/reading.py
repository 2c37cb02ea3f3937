"""Reader of the text of a program.

Graphs, exports and model directories contain such text, so the reader is strict: it only accepts
operations of ``opcodes.OPCODES`` on known values.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from functools import lru_cache

from danetc.dsl.neuron.opcodes import OPCODES, Operand
from danetc.dsl.neuron.parameters import Parameters, read_origin
from danetc.dsl.neuron.program import (
    INPUT,
    SURROGATE,
    Learnable,
    NeuronProgram,
    NeuronState,
    SurrogateProgram,
)
from danetc.dsl.neuron.ssa import MAX_OPS, Instruction

_NAME = r"([^\W\d]\w*)"
_FLOAT = r"(-?\d\S*)"
_ARG = r"(\S+)"
_HEAD = re.compile(rf"neuron {_NAME}")
_PARAM = re.compile(rf"param {_NAME} = (true|false|{_FLOAT[1:-1]})")
_INPUT = re.compile(rf"input {_NAME}")
_STATE = re.compile(rf"state {_NAME} = {_FLOAT}")
_LEARN = re.compile(
    rf"learn {_NAME} = {_FLOAT}(?: above {_FLOAT})?(?: below {_FLOAT})?( per channel)?( per step)?"
)
_HOLD = re.compile(rf"hold {_NAME} = {_FLOAT} by ((?:neuron|surrogate)\.[^\W\d]\w*)")
_OP = re.compile(rf"{_NAME} = (\w+) (.+)")
_NEXT = re.compile(rf"next {_NAME} = {_ARG}")
_OUT = re.compile(rf"out {_ARG}")
_SURROGATE = re.compile(rf"surrogate {_NAME}")
_DY = re.compile(rf"dy {_ARG}")


class _Reader:
    """The statements that are left, and the values known so far."""

    def __init__(self, text: str) -> None:
        self.rest = [part.strip() for part in re.split(r"[;\n]", text) if part.strip()]
        self.position = 0
        self.conditions: set[str] = set()
        self.known: set[str] = {INPUT}
        self.parameter_values: dict[str, float | bool] = {}

    def parameters(self) -> Parameters:
        self.parameter_values = {}
        for name, value in self.all(_PARAM):
            if name in self.parameter_values:
                raise ValueError(f"neuron program: {name!r} is given twice")
            is_bool = value in ("true", "false")
            self.parameter_values[name] = value == "true" if is_bool else _number(value)
        return tuple(self.parameter_values.items())

    def number(self, text: str) -> float:
        """Read a constant, and its origin if there is one."""
        value, bracket, origin = text.partition("[")
        if not bracket:
            return _number(value)
        if not origin.endswith("]"):
            raise ValueError(f"neuron program: {text[:40]!r} is not a number")
        return read_origin(origin[:-1], _number(value), self.parameter_values)

    def accept(self, pattern: re.Pattern[str]) -> tuple[str, ...] | None:
        if self.position == len(self.rest):
            return None
        match = pattern.fullmatch(self.rest[self.position])
        if match is None:
            return None
        self.position += 1
        return match.groups()

    def expect(self, pattern: re.Pattern[str], what: str) -> tuple[str, ...]:
        groups = self.accept(pattern)
        if groups is None:
            here = self.rest[self.position] if self.position < len(self.rest) else "its end"
            raise ValueError(f"neuron program: {what} expected at {here[:80]!r}")
        return groups

    def all(self, *patterns: re.Pattern[str]) -> Iterator[tuple[str, ...]]:
        """Accept statements as long as they match one of the patterns."""
        while groups := next(filter(None, map(self.accept, patterns)), None):
            yield groups

    def define(self, name: str) -> str:
        if name in self.known:
            raise ValueError(f"neuron program: {name!r} is defined twice")
        self.known.add(name)
        return name

    def value(self, text: str, *, condition: bool = False) -> Operand:
        if text[0].isdigit() or text[0] == "-":
            if condition:
                raise ValueError(f"neuron program: {text!r} is not a condition")
            return self.number(text)
        if text not in self.known:
            raise ValueError(f"neuron program: {text!r} is not defined")
        if (text in self.conditions) != condition:
            raise ValueError(f"neuron program: {text!r} is {'not ' * condition}a condition")
        return text

    def ops(self) -> tuple[Instruction, ...]:
        ops: list[Instruction] = []
        for name, opcode, args in self.all(_OP):
            info = OPCODES.get(opcode)
            operands = args.split()
            if info is None or len(operands) != info.arity:
                raise ValueError(f"neuron program: {opcode!r} with {len(operands)} operands")
            values = tuple(
                self.value(arg, condition=i in info.conditions) for i, arg in enumerate(operands)
            )
            ops.append(Instruction(self.define(name), opcode, values))
            if info.gives == "condition":
                self.conditions.add(name)
            if len(ops) > MAX_OPS:
                raise ValueError(f"neuron program: more than {MAX_OPS} operations")
        return tuple(ops)


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"neuron program: {text[:40]!r} is not a number")
    return value


@lru_cache(maxsize=10_000)
def read_program(text: str) -> NeuronProgram:
    """Return the program that ``text`` contains. Raises ValueError if it contains none."""
    reader = _Reader(text)
    (name,) = reader.expect(_HEAD, "`neuron NAME`")
    parameters = reader.parameters()
    inputs = tuple(reader.define(groups[0]) for groups in reader.all(_INPUT))
    states = tuple(
        NeuronState(reader.define(state), reader.number(init)) for state, init in reader.all(_STATE)
    )
    learnables = []
    for groups in reader.all(_LEARN, _HOLD):
        if len(groups) == 3:
            item = Learnable(groups[0], _number(groups[1]), scheduled=groups[2])
        else:
            above, below = (None if bound is None else _number(bound) for bound in groups[2:4])
            per, raw = "channel" if groups[4] else "layer", reader.number(groups[1])
            item = Learnable(groups[0], raw, above, below, per, bool(groups[5]))
        reader.define(item.parameter)
        learnables.append(item)
    ops = reader.ops()
    next_states = []
    for state in states:
        after, value = reader.expect(_NEXT, f"`next {state.name} = ...`")
        if after != state.name:
            raise ValueError(f"neuron program: {state.name!r} comes before {after!r}")
        next_states.append(reader.value(value))
    output = reader.value(reader.expect(_OUT, "`out ...`")[0])
    if isinstance(output, float):
        raise ValueError("neuron program: the output is a constant")
    surrogate = None
    if (found := reader.accept(_SURROGATE)) is not None:
        scheduled = tuple(x for x in learnables if x.scheduled.startswith(SURROGATE))
        reader.known, reader.conditions = {INPUT, *(item.name for item in scheduled)}, set()
        surrogate_parameters = reader.parameters()
        surrogate_ops = reader.ops()
        derivative = reader.value(reader.expect(_DY, "`dy ...`")[0])
        surrogate = SurrogateProgram(
            found[0], surrogate_ops, derivative, surrogate_parameters, scheduled
        )
    if reader.position != len(reader.rest):
        raise ValueError(f"neuron program: {reader.rest[reader.position][:80]!r} is left over")
    return NeuronProgram(
        name,
        states,
        tuple(learnables),
        ops,
        output,
        tuple(next_states),
        surrogate,
        parameters,
        inputs,
    )
