"""Symbolic reverse-mode differentiation of neuron programs.

Every rule is torch's own, also where a function has a kink: relu's slope at 0 is 0, that of
``max(v, c)`` at ``v == c`` is 1, two equal operands of ``max`` take half each, abs has 0 at 0.
Two functions are steps, whose slope teaches nothing: heaviside has that of a surrogate, and round
has slope 1 (a straight-through estimator).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from danetc.dsl.neuron.opcodes import ALL_OPCODES, NO_GRADIENT, Operand
from danetc.dsl.neuron.program import INPUT, NeuronProgram, SurrogateProgram
from danetc.dsl.neuron.ssa import Instruction, ProgramBuilder, needed
from danetc.dsl.record import record

GRAD_OUTPUT = "%grad"  # no name of a spec holds a %
_GRADIENT_OPS = 20  # operations of a backward pass for each of the forward pass, at most


@record
class Backward:
    """The vector-Jacobian product of one step.

    It reads what the step reads, ``GRAD_OUTPUT``, and one gradient for each next state
    (``grad_next_states``, their names); ``ops`` hold the forward operations that it needs. The
    gradients of learnables that are no scalars are those of each element, not yet summed.
    """

    grad_next_states: tuple[str, ...]
    ops: tuple[Instruction, ...]
    grad_input: Operand
    grad_states: tuple[Operand, ...]
    grad_learnables: tuple[Operand, ...]
    grad_inputs: tuple[Operand, ...] = ()
    """Those of the inputs besides ``x``."""


def differentiate(program: NeuronProgram) -> Backward:
    """The backward pass of one step of ``program``.

    Raises ValueError where heaviside is used and no surrogate is given.
    """
    if program.membrane is not None and program.surrogate is None:
        raise ValueError(f"neuron {program.name} uses heaviside and has no surrogate")
    states = [state.name for state in program.states]
    learnables = [item.parameter for item in program.learnables]
    incoming = tuple(f"%grad_{name}" for name in states)
    inputs = (*program.takes, *states, *learnables, GRAD_OUTPUT, *incoming)
    scalars = [item.parameter for item in program.learnables if item.is_scalar]
    builder = ProgramBuilder(inputs, scalars, max_ops=_GRADIENT_OPS * (len(program.ops) + 1))
    value = _replay(builder, program.ops, {name: name for name in inputs})
    seeds: list[tuple[Operand, Operand]] = [(_look(value, program.output), GRAD_OUTPUT)]
    for after, grad in zip(program.next_states, incoming, strict=True):
        seeds.append((_look(value, after), grad))
    wanted: list[str] = [INPUT, *states, *learnables, *program.inputs]
    grads = _reverse(builder, seeds, wanted)
    constant = {item.parameter for item in program.learnables if item.scheduled}
    grads = [0.0 if name in constant else grad for name, grad in zip(wanted, grads, strict=True)]
    ops = needed(builder.ops, grads)
    ends = 1 + len(states), 1 + len(states) + len(learnables)
    of_states, of_learnables = grads[1 : ends[0]], grads[ends[0] : ends[1]]
    of_inputs = grads[ends[1] :]
    return Backward(
        incoming, ops, grads[0], tuple(of_states), tuple(of_learnables), tuple(of_inputs)
    )


def derive_surrogate(name: str, builder: ProgramBuilder, y: Operand) -> SurrogateProgram:
    """The surrogate whose smooth stand-in ``y`` is given, made of the operations of ``builder``.

    ``1 / (1 + exp(-z))`` is taken as ``sigmoid(z)``: its own derivative overflows to inf / inf in
    half precision where sigmoid's does not.
    """
    numbers = [name for name in builder.inputs if name != INPUT]
    stable = ProgramBuilder(builder.inputs, numbers)
    same: dict[Operand, Operand] = {name: name for name in builder.inputs}
    value = _replay(stable, needed(builder.ops, [y]), same, recognise_sigmoid=True)
    (derivative,) = _reverse(stable, [(_look(value, y), 1.0)], [INPUT])
    stable.label(derivative, "slope")
    ops, (result,) = stable.finish([derivative])
    builder.fixed |= stable.fixed
    return SurrogateProgram(name, ops, result)


def _look(values: Mapping[Operand, Operand], operand: Operand) -> Operand:
    return operand if isinstance(operand, float) else values[operand]


def _replay(
    builder: ProgramBuilder,
    ops: Sequence[Instruction],
    values: Mapping[Operand, Operand],
    recognise_sigmoid: bool = False,
) -> dict[Operand, Operand]:
    """Emit operations again, in another builder; where each of their values went."""
    known: dict[Operand, Operand] = dict(values)
    for op in ops:
        args = [_look(known, arg) for arg in op.args]
        logit = _sigmoid_of(builder, op.opcode, args) if recognise_sigmoid else None
        if logit is not None:
            known[op.name] = builder.emit("sigmoid", logit)
        else:
            known[op.name] = builder.again(op.opcode, args)
    return known


def _sigmoid_of(builder: ProgramBuilder, opcode: str, args: Sequence[Operand]) -> Operand | None:
    """``z`` where the operation reads ``1 / (1 + exp(-z))`` or ``exp(z) / (1 + exp(z))``."""

    def op(value: Operand) -> Instruction | None:
        return builder.by_name.get(value) if isinstance(value, str) else None

    if opcode != "div" or (below := op(args[1])) is None or below.opcode != "add":
        return None
    if 1.0 not in below.args:
        return None
    builder.fix(*args, *below.args)
    power = op(below.args[1] if below.args[0] == 1.0 else below.args[0])
    if power is None or power.opcode != "exp":
        return None
    if args[0] == 1.0:
        return _negated(builder, power.args[0])
    return power.args[0] if args[0] == power.name else None


def _negated(builder: ProgramBuilder, value: Operand) -> Operand:
    """``-value``, where ``-c * v`` gives ``c * v``: exact, and shorter."""
    op = builder.by_name.get(value) if isinstance(value, str) else None
    if op is not None and op.opcode == "mul":
        left, right = op.args
        for factor, other in ((left, right), (right, left)):
            if isinstance(factor, float):
                return builder.emit("mul", builder.emit("neg", factor), other)
            inner = builder.by_name.get(factor)
            if inner is not None and inner.opcode == "neg":
                return builder.emit("mul", inner.args[0], other)
    return builder.emit("neg", value)


def _reverse(
    builder: ProgramBuilder, seeds: Sequence[tuple[Operand, Operand]], wanted: Sequence[str]
) -> list[Operand]:
    """Gradients of the seeded values with respect to the wanted names (0.0 where there is none)."""
    forward = list(builder.ops)
    grads: dict[Operand, Operand] = {}

    def add(target: Operand, grad: Operand) -> None:
        if isinstance(target, float) or grad == 0.0:
            builder.fix(grad)
            return
        if builder.is_scalar(target) and not builder.is_scalar(grad):
            grad = builder.emit("total", grad, target)
        grads[target] = builder.emit("add", grads[target], grad) if target in grads else grad

    for value, grad in seeds:
        add(value, grad)
    for op in reversed(forward):
        if op.name in grads:
            for target, grad in _pull(builder, op, grads[op.name]):
                add(target, grad)
    return [grads.get(name, 0.0) for name in wanted]


def _pull(builder: ProgramBuilder, op: Instruction, grad: Operand) -> list[tuple[Operand, Operand]]:
    """The gradient of an operation's operands, given that of its value."""
    pull = ALL_OPCODES[op.opcode].derivative
    if pull == NO_GRADIENT:
        return []
    return list(zip(op.args, pull(builder, grad, op.name, op.args), strict=True))
