"""Detection of neurons that a model's own code runs step by step, as danetc's model.py does.

Such a neuron is a loop over time whose outputs are joined by ``torch.stack``. Its equations are
found by comparing two successive steps of the trace; names are not used.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
from torch import Tensor, fx, nn

from danetc.dsl.neuron.opcodes import OPCODES, ConstantError, Operand
from danetc.dsl.neuron.program import INPUT, Learnable, NeuronProgram, NeuronState, SurrogateProgram
from danetc.dsl.neuron.ssa import ProgramBuilder
from danetc.errors import UserError
from danetc.tasks.importing.known_neurons import surrogate_of
from danetc.tasks.importing.tracing import Spike, TracedModel, operation

Traced: TypeAlias = fx.Node | float

SAME = {"to", "type_as", "clone", "contiguous", "alias"}
"""Operations that return their input."""
NAMES = {"maximum": "max", "minimum": "min", "bitwise_and": "and", "bitwise_or": "or", "bitwise_not": "not"}  # fmt: skip
"""Opcodes with another name in ATen."""
FILLED = {"zeros_like": 0.0, "ones_like": 1.0}


@dataclass(frozen=True)
class StepwiseNeuron:
    """A neuron that runs over ``steps`` time steps of ``source``, [T, N, ...].

    ``places`` maps the names of its learnables in the program to paths of tensors.
    """

    source: fx.Node
    steps: int
    program: NeuronProgram
    places: Mapping[str, str]


def python_neurons(trace: TracedModel, model: nn.Module) -> dict[fx.Node, StepwiseNeuron]:
    """Return the neurons of a trace by the node of their output."""
    steps = _Steps(trace, model)
    stacks = [
        node
        for node in trace.graph.nodes
        if operation(node) == "stack" and node.args[1:] in ((), (0,))
    ]
    found = {node: _neuron(steps, [*map(steps.operand, node.args[0])]) for node in stacks}
    return {node: neuron for node, neuron in found.items() if neuron is not None}


class _Steps:
    """Interprets the nodes of a trace as operations of neuron equations."""

    def __init__(self, trace: TracedModel, model: nn.Module) -> None:
        self.trace = trace
        self.learnt = dict(model.named_parameters())
        self.tensors: dict[str, Tensor] = {**self.learnt, **dict(model.named_buffers())}
        self.first: dict[object, fx.Node] = {}

    def operation(self, value: Traced) -> tuple[str, tuple[Traced, ...]] | None:
        """Return the opcode and the operands of a node, or None for other values."""
        if not isinstance(value, fx.Node):
            return None
        name, args = operation(value), value.args
        if self.spike(value):
            name, args = "heaviside", args[:1]
        elif name == "rsub":
            name, args = "sub", args[::-1]
        elif name == "reciprocal":
            name, args = "div", (1.0, *args)
        opcode = NAMES.get(name, name)
        if (
            opcode not in OPCODES
            or len(args) != OPCODES[opcode].arity
            or not all(isinstance(item, (fx.Node, int, float)) for item in args)
            or value.kwargs
        ):
            return None
        return opcode, tuple(map(self.operand, args))

    def operand(self, value: Any) -> Traced:
        """Return the number of a constant value, the value that it copies, or the first node that
        reads its tensor or time step."""
        if not isinstance(value, fx.Node):
            return float(value)
        name, args = operation(value), value.args
        if name in SAME:
            return self.operand(args[0])
        if name in FILLED:
            return FILLED[name]
        if name == "full_like":
            return float(args[1])  # type: ignore[arg-type]
        if (step := self.step(value)) is not None:
            return self.first.setdefault(step, value)
        tensor, place = self.tensor(value), self.trace.places.get(value, "")
        if tensor is None:
            return value
        if tensor.numel() == 1 and place not in self.learnt:
            return float(tensor)
        return self.first.setdefault(place, value)

    def tensor(self, value: Traced) -> Tensor | None:
        """Return the parameter or buffer that a node reads, or None."""
        stored = isinstance(value, fx.Node) and value in self.trace.places
        return self.tensors.get(self.trace.places[value]) if stored else None  # type: ignore[index]

    def step(self, value: fx.Node) -> tuple[Any, Any] | None:
        """Return the sequence and the index of a node that reads a time step, or None."""
        match operation(value), value.args:
            case "select", (fx.Node() as source, 0, int(index)):
                return source, index
            case "getitem", (fx.Node() as parts, int(index)) if operation(parts) == "unbind":
                return (parts.args[0], index) if parts.args[1:] in ((), (0,)) else None
        return None

    def spike(self, value: fx.Node) -> Spike | None:
        """Return the custom autograd function that a node calls, or None."""
        found = self.trace.leaves[str(value.args[1])] if operation(value) == "leaf" else None
        return found if isinstance(found, Spike) else None


# -- comparison of two steps -----------------------------------------------------------------------


class _UnequalSteps(Exception):
    """Raised if two steps have different equations."""


@dataclass
class _Pair:
    """Two successive steps of a neuron, traversed together from their outputs to their inputs.

    ``earlier`` maps values of the later step to the earlier step. ``sources`` contains the
    sequences that both steps read, with their inputs. If the earlier step is the first, ``starts``
    contains the values that the later step reads from it and their initial numbers. Otherwise these
    values are ``known``, and ``next`` maps them to their next values.
    """

    trace: _Steps
    known: Collection[Traced] = ()
    earlier: dict[Traced, Traced] = field(default_factory=dict)
    sources: set[tuple[fx.Node, fx.Node, fx.Node]] = field(default_factory=set)
    starts: dict[Traced, float] = field(default_factory=dict)
    next: dict[Traced, Traced] = field(default_factory=dict)

    def walk(self, later: Traced, before: Traced) -> None:
        trace = self.trace
        if before in self.known:
            self.next[before] = later
        elif later in self.earlier:
            if self.earlier[later] != before:
                raise _UnequalSteps
        elif isinstance(later, float) or trace.tensor(later) is not None:
            if later != before:
                raise _UnequalSteps
        elif isinstance(before, float):
            self.starts[later] = before
        elif later is before:
            self.sources.add((later, later, later))
        elif (now := trace.step(later)) and (last := trace.step(before)) and now[0] is last[0]:
            self.sources.add((now[0], later, before))
        else:
            self._operation(later, before)

    def _operation(self, later: fx.Node, before: fx.Node) -> None:
        mine, other = self.trace.operation(later), self.trace.operation(before)
        if mine is None or other is None or mine[0] != other[0]:
            raise _UnequalSteps
        orders = [other[1]]
        if OPCODES[mine[0]].commutes and isinstance(other[1][-1], float):
            orders.append(other[1][::-1])  # a number is the last operand: 0.0 + x is x + 0.0
        for operands in orders:
            tried = replace(
                self,
                earlier={**self.earlier, later: before},
                sources={*self.sources},
                starts={**self.starts},
                next={**self.next},
            )
            try:
                for a, b in zip(mine[1], operands, strict=True):
                    tried.walk(a, b)
            except _UnequalSteps:
                continue
            vars(self).update(vars(tried))
            return
        raise _UnequalSteps

    def states(self) -> list[Traced]:
        """Return the values that the first step passes to the second one."""
        return [value for value in self.starts if not self._follows(value)]

    def _follows(self, value: Traced) -> bool:
        """True if a value and its initial number are computed from others in ``starts``.

        In the first step it is a constant, because Python computed it during tracing.
        """
        operation = self.trace.operation(value)
        if operation is None or self.starts.keys().isdisjoint(operation[1]):
            return False
        opcode, args = operation
        numbers = [item if isinstance(item, float) else self.starts.get(item) for item in args]
        function = OPCODES[opcode].value
        if function is None or None in numbers:
            return False
        return bool(np.float32(function(*numbers)) == np.float32(self.starts[value]))


def _neuron(trace: _Steps, outputs: Sequence[Traced]) -> StepwiseNeuron | None:
    """Return the neuron with these outputs at two or more steps, or None."""
    if len(outputs) < 2:
        return None
    first = _Pair(trace)
    try:
        first.walk(outputs[1], outputs[0])
        states = first.states()
        second = _Pair(trace, states)
        if len(outputs) > 2:
            second.walk(outputs[2], outputs[1])
    except _UnequalSteps:
        return None
    if len(first.sources) != 1 or not first.earlier:
        return None
    ((source, now, before),) = first.sources
    labels = {value: f"u{place or ''}" for place, value in enumerate(states)}
    made = _Equations(trace, (*labels.values(),), {now: INPUT, **labels})
    try:
        output = made.number(outputs[1])
        after = {labels[value]: made.number(later) for value, later in second.next.items()}
        if len(outputs) == 2:  # next values of states are only known for the first step
            made.values = {b: made.value(a) for a, b in first.earlier.items()} | {before: INPUT}
            after = {label: made.number(value) for value, label in labels.items()}
    except (_UnequalSteps, ConstantError):
        return None
    if after.keys() != {*labels.values()}:
        return None
    starts = {labels[value]: first.starts[value] for value in states}
    places = {learnt.parameter: place for place, learnt in made.learnables.items()}
    return StepwiseNeuron(source, len(outputs), made.program(starts, output, after), places)


# -- equations -------------------------------------------------------------------------------------


class _Equations:
    """Equations of a step; ``values`` maps values of the trace to operands."""

    def __init__(
        self, trace: _Steps, states: tuple[str, ...], values: Mapping[Any, Operand | bool]
    ) -> None:
        self.trace = trace
        self.values: dict[Any, Operand | bool] = {**values}
        self.build = ProgramBuilder((INPUT, *states))
        self.learnables: dict[str, Learnable] = {}
        self.spikes: list[Spike] = []

    def number(self, value: Traced) -> Operand:
        return self.build.number(self.value(value))

    def value(self, value: Traced) -> Operand | bool:
        """Return the operand for a value. Raises UserError if the neuron does not compute it."""
        if value not in self.values:
            self.values[value] = self._made(value)
        return self.values[value]

    def _made(self, value: Traced) -> Operand | bool:
        if isinstance(value, float):
            return value
        if (tensor := self.trace.tensor(value)) is not None:
            return self._learnable(self.trace.trace.places[value], tensor)
        operation = self.trace.operation(value)
        if operation is None:
            raise UserError(f"a neuron reads the value `{value.name}` in addition to its input")
        opcode, args = operation
        build = self.build
        if opcode == "where":
            condition, *choices = args
            return build.select(build.condition(self.value(condition)), *map(self.number, choices))
        if OPCODES[opcode].conditions:
            return build.logic(opcode, *(build.condition(self.value(item)) for item in args))
        numbers = [self.number(item) for item in args]
        if OPCODES[opcode].gives == "condition":
            return build.compare(opcode, *numbers)
        if (spike := self.trace.spike(value)) is not None:
            self.spikes.append(spike)
        return build.emit(opcode, *numbers)

    def _learnable(self, place: str, tensor: Tensor) -> str:
        """Return the name of a learnable tensor with one number, or one per channel."""
        if place not in self.learnables:
            if tensor.numel() > 1 and tensor.numel() != tensor.shape[0]:
                raise UserError(
                    f"{place}: a neuron learns one number or one per channel, not {tuple(tensor.shape)}"
                )
            label = f"w{len(self.learnables) + 1}" if self.learnables else "w"
            start = _written(float(tensor.detach().reshape(-1)[0]))
            per = "layer" if tensor.numel() == 1 else "channel"
            self.learnables[place] = Learnable(label, start, per=per)
            self.build.add_input(label, scalar=tensor.numel() == 1)
        return self.learnables[place].parameter

    def program(
        self, starts: Mapping[str, float], output: Operand, after: Mapping[str, Operand]
    ) -> NeuronProgram:
        ops, (given, *following) = self.build.finish([output, *(after[name] for name in starts)])
        return NeuronProgram(
            "imported_neuron",
            tuple(NeuronState(name, start) for name, start in starts.items()),
            tuple(self.learnables.values()),
            ops,
            given,
            tuple(following),
            self._surrogate() if any(op.opcode == "heaviside" for op in ops) else None,
        )

    def _surrogate(self) -> SurrogateProgram:
        found = {surrogate_of(spike, spike.numbers) for spike in self.spikes}
        if len(found) > 1:
            raise UserError("a neuron in the model's own code has several surrogates")
        return found.pop()


def _written(value: float) -> float:
    """Return the likely exact value of a float32: a short number, or -log(tau - 1) of one."""
    short = float(str(np.float32(value)))
    if abs(short) < 50:
        tau = float(f"{1 + math.exp(-short):.5g}")
        if tau > 1 and np.float32(-math.log(tau - 1)) == np.float32(value):
            return -math.log(tau - 1) + 0.0
    return short
