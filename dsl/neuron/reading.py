"""Reader of the text of a program.

Graphs, exports and model directories contain such text, so the reader is strict: it only accepts
operations of ``opcodes.OPCODES`` on known values, and text as ``NeuronProgram.text`` writes it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import pairwise

from danetc.dsl.first_weights import Draw, random_start, read_draw
from danetc.dsl.neuron.opcodes import OPCODES, Operand
from danetc.dsl.neuron.parameters import read_origin
from danetc.dsl.neuron.program import (
    INPUT,
    SURROGATE,
    Learnable,
    NeuronProgram,
    NeuronState,
    SurrogateProgram,
)
from danetc.dsl.neuron.ssa import MAX_OPS, Instruction


class _Scope:
    """Parameters, known values and operations of a neuron or a surrogate."""

    def __init__(self, name: str, known: Iterable[str]) -> None:
        self.name = _name(name)
        self.parameters: dict[str, float | bool] = {}
        self.known = {*known}
        self.conditions: set[str] = set()
        self.ops: list[Instruction] = []

    def parameter(self, name: str, text: str) -> None:
        value = text == "true" if text in ("true", "false") else _number(text)
        self.parameters[_name(name)] = value

    def define(self, name: str) -> str:
        if name in self.known:
            raise _wrong(f"{name!r} is defined twice")
        self.known.add(_name(name))
        return name

    def number(self, text: str) -> float:
        """Read a constant, and its origin if there is one."""
        value, bracket, origin = text.partition("[")
        number = _number(value)
        return read_origin(origin[:-1], number, self.parameters) if bracket else number

    def value(self, text: str, *, condition: bool = False) -> Operand:
        if text in self.known and (text in self.conditions) == condition:
            return text
        if text in self.known or condition:
            raise _wrong(f"{text!r} is {'not ' * condition}a condition")
        return self.number(text)

    def op(self, name: str, opcode: str, args: Sequence[str]) -> None:
        info = OPCODES.get(opcode)
        if info is None or len(args) != info.arity or len(self.ops) >= MAX_OPS:
            raise _wrong(f"{opcode!r} with {len(args)} operands, or more than {MAX_OPS} operations")
        values = (self.value(arg, condition=i in info.conditions) for i, arg in enumerate(args))
        self.ops.append(Instruction(name, opcode, tuple(values)))
        self.define(name)
        if info.gives == "condition":
            self.conditions.add(name)


def _wrong(what: str) -> ValueError:
    return ValueError(f"neuron program: {what}")


def _name(text: str) -> str:
    if re.fullmatch(r"[^\W\d]\w*", text) is None:
        raise _wrong(f"{text[:40]!r} is not a name")
    return text


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise _wrong(f"{text[:40]!r} is not defined, and not a number")
    return value


@lru_cache(maxsize=10_000)
def read_program(text: str) -> NeuronProgram:
    """Return the program that ``text`` contains. Raises ValueError if it contains none."""
    statements = [part.strip() for part in re.split(r"[;\n]", text) if part.strip()]
    neuron = scope = _Scope("unnamed", [INPUT])
    slope: _Scope | None = None
    inputs: list[str] = []
    draws: list[Draw] = []
    states: list[NeuronState] = []
    learnables: list[Learnable] = []
    after: list[Operand] = []
    held: tuple[Learnable, ...] = ()
    output = derivative = None
    for statement in statements:
        match statement.split():
            case ["neuron", name]:
                neuron.name = _name(name)
            case ["param", name, "=", value]:
                scope.parameter(name, value)
            case ["input", name, *law] if name != "=":
                inputs.append(scope.define(name))
                draws += [read_draw(law)] if law else []
            case ["state", name, "=", init]:
                states.append(NeuronState(scope.define(name), scope.number(init)))
            case ["hold", name, "=", raw, "by", path]:
                scheduled = ".".join(map(_name, path.split(".")))
                learnables.append(Learnable(scope.define(name), _number(raw), scheduled=scheduled))
            case ["learn", name, "=", raw, *more]:
                pairs = pairwise(more)
                bounds = {word: _number(end) for word, end in pairs if word in ("above", "below")}
                per = next((word for word in ("channel", "neuron") if word in more), "layer")
                above, below = bounds.get("above"), bounds.get("below")
                random = random_start(" ".join(more[1:4])) if more[:1] == ["from"] else None
                item = Learnable(
                    name, scope.number(raw), above, below, per, "step" in more, random=random
                )
                scope.define(item.parameter)
                learnables.append(item)
            case ["next", _, "=", value]:
                after.append(scope.value(value))
            case ["out", value]:
                output = scope.value(value)
            case ["surrogate", name]:
                held = tuple(x for x in learnables if x.scheduled.startswith(SURROGATE))
                slope = scope = _Scope(name, [INPUT, *(item.name for item in held)])
            case ["dy", value]:
                derivative = scope.value(value)
            case [name, "=", opcode, *args]:
                scope.op(name, opcode, args)
            case _:
                raise _wrong(f"{statement[:80]!r} is not a statement")
    if not isinstance(output, str) or len(after) != len(states):
        raise _wrong("it has no output, or a state without a next value")
    surrogate = None
    if slope is not None and derivative is not None:
        ops, given = tuple(slope.ops), tuple(slope.parameters.items())
        surrogate = SurrogateProgram(slope.name, ops, derivative, given, held)
    step = tuple(states), tuple(learnables), tuple(neuron.ops), output, tuple(after), surrogate
    given = tuple(neuron.parameters.items())
    program = NeuronProgram(neuron.name, *step, given, tuple(inputs), tuple(draws))
    if program.text() != "; ".join(statements):
        raise _wrong("it is not written as danetc writes it")
    return program
