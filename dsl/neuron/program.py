"""Programs: the equations of neurons in single-assignment form, and their text."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from enum import Enum
from typing import Any, TypeVar, final

from danetc.dsl.first_weights import Draw, RandomStart
from danetc.dsl.neuron.opcodes import NO_GRADIENT, OPCODES, Operand, compute
from danetc.dsl.neuron.parameters import Parameters, closure, constant_text, names_of, plain
from danetc.dsl.neuron.ssa import Instruction, computed_from
from danetc.dsl.record import record

INPUT = "x"
SURROGATE = "surrogate."  # prefix of scheduled parameters of a surrogate
NEXT = "_next"  # suffix of the next value of a state


class Wired(Enum):
    """Marks a parameter that is a value of the network: an input besides ``x``."""

    INPUT = "an input"


@record
class NeuronState:
    """A state and its value before the first time step."""

    name: str
    init: float


@record
class Learn:
    """The value of ``learn(init, above = ..., below = ..., per = ...)``, strictly within bounds.

    There is one number for a layer, or one for each channel or neuron; ``per_step`` has a number for
    each time step as well. ``scheduled(init)`` is one for a layer that a recipe changes: not
    ``trained``.
    """

    init: float | RandomStart
    above: float | None = None
    below: float | None = None
    per: str = "layer"
    per_step: bool = False
    trained: bool = True

    @property
    def start(self) -> float:
        """Initial value, or the mean of its distribution."""
        return self.init.mean if isinstance(self.init, RandomStart) else self.init

    @property
    def fault(self) -> tuple[str, str] | None:
        """The reason why no such numbers exist, and advice; None if they do."""
        low = -math.inf if self.above is None else self.above
        high = math.inf if self.below is None else self.below
        shown, inside = f"{self.start:g}", low < self.start < high
        hint = "the initial value must lie strictly between the bounds"
        if isinstance(self.init, RandomStart):
            shown = str(self.init)
            hint = "the mean must lie strictly between the bounds, which truncate the distribution"
            if self.init.fault is not None:
                hint = "write `uniform(low, high)` or `normal(mean, std)`"
                return f"`{shown}` is not a distribution: {self.init.fault}", hint
            if self.init.name == "uniform":
                inside = low < self.init.first and self.init.second < high
                hint = "the initial values must lie strictly between the bounds"
        if inside:
            return None
        ends = [f"above {low:g}"] * (self.above is not None)
        ends += [f"below {high:g}"] * (self.below is not None)
        message = f"the initial value of `learn` is {shown}, which is not "
        return message + (" and ".join(ends) or "a number"), hint

    @property
    def raw(self) -> float:
        """First value of the stored number, which is not bounded; for random ones that of the mean."""
        above, below, start = self.above, self.below, self.start
        if above is not None and below is not None:
            return math.log(start - above) - math.log(below - start) + 0.0
        if above is not None:
            return _softplus_inverse(start - above)
        return _softplus_inverse(below - start) if below is not None else start + 0.0


@record
class Learnable:
    """A number that a layer stores: a scalar, or one ``per`` channel or neuron, and one for each time
    step with ``per_step``. ``raw`` is its first stored value, or that of the mean of ``random``.

    Without bounds the value is ``raw``. With bounds the program computes it by ``within``.

    A ``scheduled`` learnable is not trained. It is a buffer that a recipe may change under that name
    (``neuron.tau``, ``surrogate.alpha``); only the derivative reads those of the surrogate.
    """

    name: str
    raw: float
    above: float | None = None
    below: float | None = None
    per: str = "layer"
    per_step: bool = False
    scheduled: str = ""
    random: RandomStart | None = None

    @property
    def is_scalar(self) -> bool:
        """True if a time step has one number for the whole layer."""
        return self.per == "layer"

    def shape(self, sample: tuple[int, ...], steps: int) -> tuple[int, ...]:
        """Shape of the stored tensor in a layer for samples of a shape."""
        ones = (1,) * (len(sample) - 1)
        size = {"layer": (), "channel": (*sample[:1], *ones), "neuron": sample}[self.per]
        return (steps, *size) if self.per_step else size

    @property
    def start(self) -> float:
        """First value."""
        return float(within(compute, self.raw, self.above, self.below))

    @property
    def parameter(self) -> str:
        """Name of the stored tensor, and of its operand."""
        return self.name if self.above is None and self.below is None else f"{self.name}_raw"


@final
@record
class SurrogateProgram:
    """The derivative of heaviside as a function of its argument ``x``.

    ``ops`` read the ``scheduled`` learnables by name; the neuron has them too. Constants know the
    ``parameters`` of which they are made (``ParameterValue``).
    """

    name: str
    ops: tuple[Instruction, ...]
    derivative: Operand
    parameters: Parameters = ()
    scheduled: tuple[Learnable, ...] = ()


@final
@record
class NeuronProgram:
    """One time step of a neuron.

    ``ops`` read ``x`` (the input), states (of the step before) and learnables by name. ``output`` is
    the value of the neuron; ``next_states`` are in the order of ``states``. Constants know the
    ``parameters`` of which they are made (``ParameterValue``). With further ``inputs``, a layer takes
    all of them in a last dimension, ``x`` first. The last of them are random numbers: ``draws``.
    """

    name: str
    states: tuple[NeuronState, ...]
    learnables: tuple[Learnable, ...]
    ops: tuple[Instruction, ...]
    output: Operand
    next_states: tuple[Operand, ...]
    surrogate: SurrogateProgram | None
    parameters: Parameters = ()
    inputs: tuple[str, ...] = ()
    draws: tuple[Draw, ...] = ()

    @property
    def takes(self) -> tuple[str, ...]:
        """All inputs, ``x`` first."""
        return (INPUT, *self.inputs)

    @property
    def drawn(self) -> Mapping[str, Draw]:
        """The inputs that are random numbers, and their distributions."""
        return dict(zip(self.inputs[len(self.inputs) - len(self.draws) :], self.draws, strict=True))

    @property
    def per_step(self) -> bool:
        """True if it has learnables for each time step and so runs for one T only."""
        return any(item.per_step for item in self.learnables)

    @property
    def varies(self) -> bool:
        """True if the output may vary over time for a constant input."""
        return bool(self.states) or self.per_step

    @property
    def membrane(self) -> Operand | None:
        """Argument of the first heaviside: the membrane potential minus the threshold."""
        return next((op.args[0] for op in self.ops if op.opcode == "heaviside"), None)

    @property
    def has_step(self) -> bool:
        """True if the program contains ``heaviside`` or ``round``."""
        return any(OPCODES[op.opcode].step for op in self.ops)

    @property
    def is_neuron(self) -> bool:
        """True if the program has states or a step function; False for an activation function."""
        return bool(self.states) or self.has_step

    def scalars(self, *, constant: bool = False) -> frozenset[str]:
        """Values that are numbers of the layer or of a channel: computed from learnables only.

        With ``constant``, those that are the same at all time steps.
        """
        known = (item for item in self.learnables if not (constant and item.per_step))
        found = {item.parameter for item in known}
        return frozenset(found).union(op.name for op in computed_from(self.ops, found))

    def reaching(self, *, gradients: bool) -> frozenset[Operand]:
        """Values on which the output depends over time, through any path or with ``gradients``."""
        ops = {op.name: op for op in self.ops}
        after = dict(zip((s.name for s in self.states), self.next_states, strict=True))
        found: set[Operand] = set()
        waiting: list[Operand] = [self.output]
        while waiting:
            value = waiting.pop()
            if value in found or isinstance(value, float):
                continue
            found.add(value)
            if value in after:
                waiting.append(after[value])
            elif value in ops:
                op, info = ops[value], OPCODES[ops[value].opcode]
                if not gradients:
                    waiting.extend(op.args)
                elif info.derivative != NO_GRADIENT:
                    waiting.extend(a for i, a in enumerate(op.args) if i not in info.conditions)
        return frozenset(found)

    def text(self) -> str:
        """Return the canonical text, in one line; ``reading.read_program`` is the inverse."""
        parts = [f"neuron {self.name}", *_parameter_texts(self.parameters)]
        laws = {name: f" {draw.text}" for name, draw in self.drawn.items()}
        parts += [f"input {name}{laws.get(name, '')}" for name in self.inputs]
        parts += [f"state {state.name} = {constant_text(state.init)}" for state in self.states]
        for item in self.learnables:
            if item.scheduled:
                parts.append(f"hold {item.name} = {item.raw!r} by {item.scheduled}")
                continue
            text = f"learn {item.name} = {constant_text(item.raw)}"
            text += "" if item.random is None else f" from {item.random.text}"
            text += "" if item.above is None else f" above {item.above!r}"
            text += "" if item.below is None else f" below {item.below!r}"
            text += "" if item.is_scalar else f" per {item.per}"
            parts.append(text + " per step" * item.per_step)
        parts += map(_op_text, self.ops)
        steps = zip(self.states, self.next_states, strict=True)
        parts += [f"next {state.name} = {_operand_text(after)}" for state, after in steps]
        parts.append(f"out {_operand_text(self.output)}")
        if self.surrogate is not None:
            parts.append(f"surrogate {self.surrogate.name}")
            parts += _parameter_texts(self.surrogate.parameters)
            parts += map(_op_text, self.surrogate.ops)
            parts.append(f"dy {_operand_text(self.surrogate.derivative)}")
        return "; ".join(parts)


def constants_of(program: NeuronProgram | SurrogateProgram) -> list[float]:
    """Return all constants of a program."""
    found: list[Operand] = [arg for op in program.ops for arg in op.args]
    if isinstance(program, SurrogateProgram):
        found.append(program.derivative)
    else:
        found += [*program.next_states, *(state.init for state in program.states)]
        found += [item.raw for item in program.learnables]
    return [value for value in found if isinstance(value, float)]


def parameters_of(program: NeuronProgram | SurrogateProgram) -> set[str]:
    """Return the parameters of which constants are made."""
    return set().union(*map(names_of, constants_of(program)))


def called_with(program: NeuronProgram | SurrogateProgram, name: str = "") -> str:
    """Return the call of a program: ``IF(v_threshold=1, v_rest=0, detach_reset=false)``."""
    given = ", ".join(
        f"{key}={str(value).lower() if isinstance(value, bool) else format(value, '.6g')}"
        for key, value in program.parameters
    )
    return f"{name or program.name}({given})" if given else name or program.name


Program = TypeVar("Program", NeuronProgram, SurrogateProgram)


def drop_origins(program: Program, fixed: Iterable[str]) -> Program:
    """Remove the origins of constants that are made of ``fixed`` parameters."""
    all_fixed = closure(fixed, constants_of(program))
    ops = tuple(
        replace(op, args=tuple(plain(arg, all_fixed) for arg in op.args)) for op in program.ops
    )
    if isinstance(program, SurrogateProgram):
        return replace(program, ops=ops, derivative=plain(program.derivative, all_fixed))
    return replace(
        program,
        ops=ops,
        next_states=tuple(plain(after, all_fixed) for after in program.next_states),
        states=tuple(replace(s, init=plain(s.init, all_fixed)) for s in program.states),
        learnables=tuple(replace(p, raw=plain(p.raw, all_fixed)) for p in program.learnables),
    )


def _parameter_texts(parameters: Parameters) -> Iterator[str]:
    for name, value in parameters:
        yield f"param {name} = {str(value).lower() if isinstance(value, bool) else repr(value)}"


def _operand_text(value: Operand) -> str:
    return constant_text(value) if isinstance(value, float) else value


def _op_text(op: Instruction) -> str:
    return f"{op.name} = {op.opcode} {' '.join(map(_operand_text, op.args))}"


def unique(name: str, taken: Iterable[str]) -> str:
    """Append ``_`` to ``name`` until it is not ``taken``."""
    names = set(taken)
    while name in names:
        name += "_"
    return name


def within(emit: Callable[..., Any], raw: Operand, above: float | None, below: float | None) -> Any:
    """Return the value of a stored number with bounds, from operations that ``emit`` returns."""
    if above is not None and below is not None:
        return emit("add", above, emit("mul", below - above, emit("sigmoid", raw)))
    if above is not None:
        return emit("add", above, emit("softplus", raw))
    return raw if below is None else emit("sub", below, emit("softplus", raw))


def _softplus_inverse(y: float) -> float:
    """The z with log(1 + exp(z)) = y, for y > 0."""
    return y + math.log(-math.expm1(-y)) + 0.0  # -0.0 becomes 0.0
