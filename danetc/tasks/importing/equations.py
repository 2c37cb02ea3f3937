"""Operators as the equations of a neuron: the other way round of ``compiler.emit.onnx.neuron``.

Operators have their names in ONNX, also those of a model in Python (``python_neurons``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from danetc.compiler.analysis.equivalence.programs import learnt_in_order, program_form
from danetc.compiler.importing.neurons import Unwritten, describe_neuron
from danetc.dsl.neuron.opcodes import OPCODES, Operand
from danetc.dsl.neuron.program import INPUT, Learnable, NeuronProgram, NeuronState, SurrogateProgram
from danetc.dsl.neuron.ssa import ProgramBuilder
from danetc.dsl.neuron.strength_reduction import cheaper
from danetc.errors import UserError
from danetc.tasks.importing.known_neurons import SURROGATE, default_surrogate, program
from danetc.tasks.importing.polynomials import RULES, NoForm, polynomial_form

Array: TypeAlias = "np.ndarray[Any, Any]"

NUMBERS: Mapping[str, str] = {
    "Detach": "detach",  # of Python alone, as the next
    "Heaviside": "heaviside",
    **{
        row.onnx[0]: name
        for name, row in OPCODES.items()
        if row.onnx is not None and len(row.onnx) == 1 and row.gives == "number"
        and not row.conditions and name not in {"detach", "cast"}
    },
}  # fmt: skip
"""Operators that are one function of numbers, and which."""
COMPARISONS: Mapping[str, str] = {
    row.onnx[0]: name
    for name, row in OPCODES.items()
    if row.onnx is not None and len(row.onnx) == 1 and row.gives == "condition" and not row.conditions
}  # fmt: skip
LOGIC: Mapping[str, str] = {"And": "and", "Or": "or", "Not": "not"}
PASSED_ON = frozenset({"Identity", "Expand"})
POINTWISE = frozenset({*NUMBERS, *COMPARISONS, *LOGIC, *PASSED_ON, "Cast", "Where"})
"""Operators that compute each number by itself: what equations of neurons are made of."""
_LEARNT = frozenset({"Sigmoid", "Softplus", "Exp", "Tanh"})
"""Functions whose operand is learnt where it is a number that is stored: of a constant one would be
written as its value."""


def operands(node: Any) -> tuple[str, ...]:
    """What an operator computes with: of a value that is spread over a shape, not that shape."""
    return tuple(node.input)[: 1 if node.op_type in PASSED_ON else None]


def is_condition(node: Any) -> bool:
    """Whether an operator gives true or false."""
    return node.op_type in COMPARISONS or node.op_type in LOGIC


@dataclass(frozen=True)
class Operator:
    """An operator of something else than a file of ONNX, whose own are alike."""

    op_type: str
    input: tuple[str, ...]
    output: tuple[str, ...]
    name: str = ""
    attribute: tuple[Any, ...] = ()


class Operators:
    """The operators of a graph by what they give, those that read a value, and stored numbers.

    ``learnt`` are stored numbers that are known to be. Numbers that are not ``exact`` were rounded to
    float32.
    """

    def __init__(
        self,
        nodes: Iterable[Any],
        stored: Mapping[str, Array],
        learnt: Collection[str] = (),
        *,
        exact: bool = False,
    ) -> None:
        self.nodes = [*nodes]
        self.stored = dict(stored)
        self.learnt = learnt
        self.exact = exact
        self.makers = {name: node for node in self.nodes for name in node.output}
        self.users: dict[str, list[Any]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.input):
                self.users.setdefault(name, []).append(node)

    def behind(self, names: Iterable[str]) -> Operators:
        """The operators that values are made by, in their order."""
        wanted = set(names)
        kept = []
        for node in reversed(self.nodes):
            if wanted.intersection(node.output):
                kept.append(node)
                wanted |= {*node.input, *_read_inside(node)}
        return Operators(kept[::-1], self.stored)

    def equal(self, a: str, b: str) -> bool:
        """Whether two names are of the same stored numbers."""
        mine, other = self.stored.get(a), self.stored.get(b)
        if mine is None or other is None:
            return False
        return mine.shape == other.shape and bool((mine == other).all())

    def whole_number(self, name: str) -> int | None:
        """A stored whole number."""
        array = self.stored.get(name)
        if array is None or array.size != 1 or array.dtype.kind != "i":
            return None
        return int(array.reshape(-1)[0])

    def scalar(self, name: str) -> float | None:
        """A stored number, also one that is spread over a shape."""
        maker = self.makers.get(name)
        if maker is not None and maker.op_type in PASSED_ON:
            return self.scalar(maker.input[0])
        array = self.stored.get(name)
        if array is None or array.size != 1 or name in self.learnt:
            return None
        value = float(array.reshape(-1)[0])
        return value if self.exact else written(value)


def _read_inside(node: Any) -> Iterator[str]:
    """What the graphs within an operator read, their own values among it."""
    for item in node.attribute:
        for inner in item.g.node:
            yield from inner.input
            yield from _read_inside(inner)


@dataclass(frozen=True)
class NeuronPart:
    """A neuron as a part of a graph: the values that it takes and gives, its equations, its numbers,
    whether it is one of std, and the values that it is made of. ``learnt`` are the names of stored
    numbers by those of what is learnt."""

    source: str
    given: str
    program: NeuronProgram
    weights: Mapping[str, Tensor]
    standard: bool
    members: frozenset[str]
    learnt: Mapping[str, str] = field(default_factory=dict)


_SHARES: tuple[tuple[Callable[[float], float], Callable[[float], float]], ...] = (
    (lambda tau: 1 / tau, lambda value: 1 / value),
    (lambda tau: 1 - 1 / tau, lambda value: 1 / (1 - value)),
)
"""What equations make of a time constant, and how it is found again."""


def written(value: float) -> float:
    """A float32 as the number that equations have: 0.1, 1 / 3 or 1 - 1 / 3, and no rounding of it."""
    single = np.float32(value)
    short = float(str(single))
    if len(repr(short)) <= 6 or not math.isfinite(short):
        return short
    for share, constant in _SHARES if short < 0.5 else reversed(_SHARES):
        tau = float(f"{constant(short):.5g}")
        if tau and np.float32(share(tau)) == single:
            return share(tau)
    return short


def _learnt(value: float) -> float:
    """A learnt float32 as it would be started: -log(tau - 1) of a short tau, or a short number."""
    short = float(str(np.float32(value)))
    if abs(short) < 50:
        tau = float(f"{1 + math.exp(-short):.5g}")
        if tau > 1 and np.float32(-math.log(tau - 1)) == np.float32(value):
            return -math.log(tau - 1) + 0.0
    return short


class NotPointwise(UserError):
    """An operator that is no part of a neuron's equations."""


@dataclass
class Equations:
    """Equations in the making. ``values`` are operands by the names of the values that they are."""

    graph: Operators
    states: tuple[str, ...]
    values: dict[str, Operand]
    learnables: dict[str, Learnable] = field(default_factory=dict)
    weights: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.build = ProgramBuilder((INPUT, *self.states))

    def number(self, name: str) -> Operand:
        """The operand that a value is. Raises UserError where it is none of a neuron."""
        if name not in self.values:
            if name in self.graph.stored:
                self.values[name] = self._stored(name)
            elif name in self.graph.makers:
                self.values[name] = self._operation(self.graph.makers[name])
            else:
                raise UserError(
                    f"{name}: a neuron's equations read it, and it is no value of theirs"
                )
        return self.values[name]

    def _stored(self, name: str) -> Operand:
        number = self.graph.scalar(name)
        return self._learnable(name) if number is None else number

    def _learnable(self, name: str) -> str:
        """A number of the layer, or one for each channel."""
        if name not in self.learnables:
            array = self.graph.stored[name]
            count = len(self.learnables)
            label = f"w{count + 1}" if count else "w"
            if array.size > 1 and (array.size != array.shape[0]):
                raise UserError(f"{name}: a neuron has one number for each of {array.shape}")
            start = float(array.reshape(-1)[0])
            per = "layer" if array.size == 1 else "channel"
            self.learnables[name] = Learnable(label, _learnt(start), per=per)
            self.weights[label] = torch.tensor(array)
            self.build.add_input(label, scalar=array.size == 1)
        return self.learnables[name].parameter

    def _operation(self, node: Any) -> Operand:
        kind, build = node.op_type, self.build
        if kind in PASSED_ON:
            return self.number(node.input[0])
        if kind == "Cast":
            spike = self._spike(node.input[0])
            if spike is not None:
                return spike
            if self._is_condition(node.input[0]):
                return build.number(self._condition(node.input[0]))
            return self.number(node.input[0])
        if kind == "Where":
            return self._selected(*node.input)
        if kind not in NUMBERS:
            raise NotPointwise(f"{node.name or kind}: {kind} is no part of a neuron's equations")
        args = [
            self._learnable(name)
            if kind in _LEARNT and name in self.graph.stored
            else self.number(name)
            for name in node.input
        ]
        return build.emit(NUMBERS[kind], *args)

    def _selected(self, condition: str, then: str, otherwise: str) -> Operand:
        """A value or 0 by whether it spikes is a product with the spike."""
        build, spike = self.build, self._spike(condition)
        a, b = self.number(then), self.number(otherwise)
        if spike is not None and a == 0.0:
            return build.emit("mul", b, build.emit("sub", 1.0, spike))
        if spike is not None and b == 0.0:
            return build.emit("mul", a, spike)
        return build.select(self._condition(condition), a, b)

    def _spike(self, name: str) -> Operand | None:
        """``heaviside(a - b)`` of a condition a >= b, and None of another one.

        Python says itself what is a spike; gradients do not go through its other comparisons.
        """
        node = self.graph.makers.get(name)
        if self.graph.exact or node is None or node.op_type != "GreaterOrEqual":
            return None
        a, b = map(self.number, node.input)
        return self.build.emit("heaviside", a if b == 0.0 else self.build.emit("sub", a, b))

    def _is_condition(self, name: str) -> bool:
        node = self.graph.makers.get(name)
        return node is not None and is_condition(node)

    def _condition(self, name: str) -> Operand | bool:
        if not self._is_condition(name):
            return self.build.condition(self.number(name))
        node = self.graph.makers[name]
        if node.op_type in LOGIC:
            return self.build.logic(LOGIC[node.op_type], *map(self._condition, node.input))
        return self.build.compare(COMPARISONS[node.op_type], *map(self.number, node.input))

    def neuron(
        self,
        starts: Mapping[str, float],
        output: Operand,
        after: Mapping[str, Operand],
        surrogate: SurrogateProgram | None = None,
    ) -> tuple[NeuronProgram, Mapping[str, Tensor], bool]:
        """The neuron, what it has learnt, and whether it is one of std; files say no surrogate."""
        names = [*starts]
        ops, (given, *following) = self.build.finish([output, *(after[name] for name in names)])
        fires = any(op.opcode == "heaviside" for op in ops)
        made = NeuronProgram(
            "imported_neuron",
            tuple(NeuronState(name, starts[name]) for name in names),
            tuple(self.learnables.values()),
            ops,
            given,
            tuple(following),
            (surrogate or default_surrogate()) if fires else None,
        )
        if self.graph.exact:  # std's has its numbers, and is found by them
            return made, self.weights, False
        return standard_or_own(made, self.weights)


# -- neurons of std --------------------------------------------------------------------------------


def standard_or_own(
    own: NeuronProgram, weights: Mapping[str, Tensor]
) -> tuple[NeuronProgram, Mapping[str, Tensor], bool]:
    """The neuron of std that computes the same in float32 where there is one, with what it learns;
    else the program that is given. The last is whether it is one of std."""
    for form, ignored in (
        (single_form, frozenset[str]()),
        (_multiplied_form, frozenset(RULES)),
    ):
        try:
            found = describe_neuron(own, form, ignored)
        except Unwritten:
            break
        if found.declaration is None:
            made = program(found.name, dict(found.given), SURROGATE, {})
            names = zip(*(learnt_in_order(_single(item)) for item in (own, made)), strict=True)
            return made, {mine: weights[theirs] for theirs, mine in names}, True
    return own, weights, False


def _multiplied_form(given: NeuronProgram) -> str:
    """The form whatever the order of its arithmetic, where it is one of polynomials."""
    try:
        return polynomial_form(given)
    except NoForm:
        return single_form(given)


def single_form(given: NeuronProgram) -> str:
    """The form of what a file of ONNX says of a neuron: its operations as they are written there,
    numbers in float32."""
    return program_form(_single(given))


def _single(given: NeuronProgram) -> NeuronProgram:
    results = [given.output, *given.next_states]
    ops = cheaper(given.ops, results)

    def single(value: float) -> float:
        return float(np.float32(value))

    def rounded(value: Operand) -> Operand:
        return single(value) if isinstance(value, float) else value

    return replace(
        given,
        states=tuple(replace(item, init=single(item.init)) for item in given.states),
        learnables=tuple(replace(item, raw=single(item.raw)) for item in given.learnables),
        ops=tuple(replace(op, args=tuple(map(rounded, op.args))) for op in ops),
        output=rounded(given.output),
        next_states=tuple(map(rounded, given.next_states)),
        surrogate=None,
    )
