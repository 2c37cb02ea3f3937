"""Detection of neurons that a model's own code runs step by step, as danetc's model.py does.

Such a neuron is a loop over time whose outputs are joined by ``torch.stack``. Its equations are
found by comparing two successive steps of the trace; names are not used.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
from torch import Tensor, fx, nn

from danetc.dsl.neuron.opcodes import OPCODES, ConstantError, Operand, compute
from danetc.dsl.neuron.program import INPUT, Learnable, NeuronProgram, NeuronState
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
    return {
        node: neuron
        for node in trace.graph.nodes
        if operation(node) == "stack" and node.args[1:] in ((), (0,))
        if (neuron := _neuron(steps, [*map(steps.operand, node.args[0])])) is not None
    }


class _Steps:
    """Interprets the nodes of a trace as operations of neuron equations."""

    def __init__(self, trace: TracedModel, model: nn.Module) -> None:
        self.trace = trace
        self.tensors = dict(
            chain[tuple[str, Tensor]](model.named_parameters(), model.named_buffers())
        )
        self.first: dict[object, fx.Node] = {}

    def operation(self, value: Traced) -> tuple[str, tuple[Traced, ...]]:
        """Return the opcode and the operands of a node, both empty for other values."""
        if not isinstance(value, fx.Node):
            return "", ()
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
            return "", ()
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
        if tensor.numel() == 1 and not isinstance(tensor, nn.Parameter):
            return float(tensor)
        return self.first.setdefault(place, value)

    def tensor(self, value: Traced) -> Tensor | None:
        """Return the parameter or buffer that a node reads, or None."""
        return self.tensors.get(self.trace.places.get(value, ""))  # type: ignore[arg-type]

    def step(self, value: Traced) -> tuple[Any, Any] | None:
        """Return the sequence and the index of a node that reads a time step, or None."""
        match isinstance(value, fx.Node) and (operation(value), value.args):
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


@dataclass
class _Pair:
    """Two successive steps of a neuron, traversed together from their outputs to their inputs.

    ``earlier`` maps values of the later step to those of the earlier step, which are numbers if Python
    computed them during tracing. ``next`` maps the ``known`` states of the earlier step to their next
    values.
    """

    trace: _Steps
    known: Collection[Traced] = ()
    earlier: dict[Traced, Traced] = field(default_factory=dict)
    next: dict[Traced, Traced] = field(default_factory=dict)

    def walk(self, later: Traced, before: Traced) -> bool:
        """Return True if both steps compute a value alike."""
        constant = isinstance(later, float) or self.trace.tensor(later) is not None
        if before in self.known:
            self.next[before] = later
            return True
        if constant or later in self.earlier:
            return self.earlier.get(later, later) == before
        self.earlier[later] = before
        known = isinstance(before, float) or self.source(later, before) is not None
        return known or self._operation(later, before)

    def source(self, later: Traced, before: Traced) -> Any:
        """Return the value of which both steps read their part, or that both read; else None."""
        now, last = self.trace.step(later), self.trace.step(before)
        if now and last and now[0] is last[0] and later is not before:
            return now[0]
        return later if later is before else None

    def _operation(self, later: Traced, before: Traced) -> bool:
        (mine, args), (other, others) = map(self.trace.operation, (later, before))
        if mine != other or not mine:
            return False
        orders = [others]
        if OPCODES[mine].commutes and isinstance(others[-1], float):
            orders.append(others[::-1])  # a number is the last operand: 0.0 + x is x + 0.0
        for operands in orders:
            saved = {**self.earlier}, {**self.next}
            if all(map(self.walk, args, operands)):
                return True
            self.earlier, self.next = saved
        return False

    def states(self) -> dict[Traced, float]:
        """Return the values that the first step passes to the second one, and their initial numbers."""
        starts = {a: b for a, b in self.earlier.items() if isinstance(b, float)}

        def follows(value: Traced) -> bool:  # from others, of which Python computed its number
            opcode, args = self.trace.operation(value)
            if starts.keys().isdisjoint(args):
                return False
            numbers = [item if isinstance(item, float) else starts.get(item) for item in args]
            if None in numbers:
                return False
            return bool(np.float32(compute(opcode, *numbers)) == np.float32(starts[value]))

        return {value: number for value, number in starts.items() if not follows(value)}


def _neuron(trace: _Steps, outputs: Sequence[Traced]) -> StepwiseNeuron | None:
    """Return the neuron with these outputs at two or more steps, or None."""
    if len(outputs) < 2:
        return None
    first = _Pair(trace)
    alike = first.walk(outputs[1], outputs[0])
    states = first.states()
    second = _Pair(trace, states)
    if not alike or (len(outputs) > 2 and not second.walk(outputs[2], outputs[1])):
        return None
    pairs = first.earlier.items()
    sources = [(a, found) for a, b in pairs if (found := first.source(a, b)) is not None]
    if len(sources) != 1 or len(pairs) == 1:
        return None
    ((now, source),) = sources
    labels = {value: f"u{place or ''}" for place, value in enumerate(states)}
    made = _Equations(trace, (*labels.values(),), {now: INPUT, **labels})
    try:
        output = made.number(outputs[1])
        after = {labels[value]: made.number(later) for value, later in second.next.items()}
        if len(outputs) == 2:  # next values of states are only known for the first step
            made.values = {b: made.value(a) for a, b in pairs if not isinstance(b, float)}
            after = {label: made.number(value) for value, label in labels.items()}
    except ConstantError:
        return None
    names = [*labels.values()]
    if after.keys() != {*names}:
        return None
    ops, (output, *following) = made.build.finish([output, *(after[name] for name in names)])
    spikes = made.spikes if any(op.opcode == "heaviside" for op in ops) else ()
    surrogates = {surrogate_of(spike.function, spike.others) for spike in spikes}
    if len(surrogates) > 1:
        raise UserError("a neuron in the model's own code has several surrogates")
    program = NeuronProgram(
        "imported_neuron",
        tuple(map(NeuronState, names, states.values())),
        tuple(made.learnables.values()),
        ops,
        output,
        tuple(following),
        next(iter(surrogates), None),
    )
    places = {learnt.parameter: place for place, learnt in made.learnables.items()}
    return StepwiseNeuron(source, len(outputs), program, places)


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
        opcode, args = self.trace.operation(value)
        if not opcode:
            raise UserError(f"a neuron reads the value `{value.name}` in addition to its input")
        build, row = self.build, OPCODES[opcode]
        operands = [
            build.condition(self.value(item)) if place in row.conditions else self.number(item)
            for place, item in enumerate(args)
        ]
        if opcode == "where":
            return build.select(*operands)
        if row.gives == "condition":
            return (build.logic if row.conditions else build.compare)(opcode, *operands)
        if (spike := self.trace.spike(value)) is not None:
            self.spikes.append(spike)
        return build.emit(opcode, *operands)

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


def _written(value: float) -> float:
    """Return the likely exact value of a float32: a short number, or -log(tau - 1) of one."""
    short = float(str(np.float32(value)))
    if abs(short) < 50:
        tau = float(f"{1 + math.exp(-short):.5g}")
        if tau > 1 and np.float32(-math.log(tau - 1)) == np.float32(value):
            return -math.log(tau - 1) + 0.0
    return short
