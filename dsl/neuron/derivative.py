"""Symbolic reverse-mode differentiation of neuron programs.

Derivatives are those of torch, also at kinks: that of relu is 0 at 0, that of ``max(v, c)`` is 1 at
``v == c``, two equal operands of ``max`` take half each, and that of abs is 0 at 0. Heaviside has
the derivative of a surrogate, and round has 1 (a straight-through estimator).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from danetc.dsl.neuron.opcodes import ALL_OPCODES, NO_GRADIENT, Operand
from danetc.dsl.neuron.program import INPUT, NeuronProgram, SurrogateProgram
from danetc.dsl.neuron.ssa import Instruction, ProgramBuilder, fold, needed
from danetc.dsl.record import record

GRAD_OUTPUT = "%grad"  # no name of a spec contains %
_GRADIENT_OPS = 20  # maximum number of backward operations for each forward operation


@record
class Backward:
    """The vector-Jacobian product of one step.

    It reads the inputs of the step, ``GRAD_OUTPUT``, and one gradient for each next state, whose
    names are ``grad_next_states``. ``ops`` include the forward operations that it needs. Gradients
    of learnables that are not scalars are those of each element, not summed. ``grad_inputs`` are
    those of the inputs besides ``x``.
    """

    grad_next_states: tuple[str, ...]
    ops: tuple[Instruction, ...]
    grad_input: Operand
    grad_states: tuple[Operand, ...]
    grad_learnables: tuple[Operand, ...]
    grad_inputs: tuple[Operand, ...] = ()


def differentiate(program: NeuronProgram) -> Backward:
    """Return the backward pass of one step.

    Raises ValueError for a program with heaviside and without a surrogate.
    """
    if program.membrane is not None and program.surrogate is None:
        raise ValueError(f"neuron {program.name} uses heaviside and has no surrogate")
    states = [state.name for state in program.states]
    learnables = [item.parameter for item in program.learnables]
    incoming = tuple(f"%grad_{name}" for name in states)
    inputs = (*program.takes, *states, *learnables, GRAD_OUTPUT, *incoming)
    scalars = [item.parameter for item in program.learnables if item.is_scalar]
    builder = ProgramBuilder(inputs, scalars, max_ops=_GRADIENT_OPS * (len(program.ops) + 1))
    roots = _replay(builder, program.ops, [program.output, *program.next_states])
    wanted = [INPUT, *states, *learnables, *program.inputs]
    found = _reverse(builder, zip(roots, (GRAD_OUTPUT, *incoming), strict=True), wanted)
    constant = {item.parameter for item in program.learnables if item.scheduled}
    grads = dict(zip(wanted, found, strict=True)) | dict.fromkeys(constant, 0.0)
    by_group = (tuple(map(grads.__getitem__, it)) for it in (states, learnables, program.inputs))
    return Backward(incoming, needed(builder.ops, grads.values()), grads[INPUT], *by_group)


def derive_surrogate(name: str, builder: ProgramBuilder, y: Operand) -> SurrogateProgram:
    """Return the surrogate whose smooth step is ``y``, a value of ``builder``.

    ``1 / (1 + exp(-z))`` is taken as ``sigmoid(z)``: its derivative as written overflows to
    inf / inf in half precision.
    """
    numbers = [name for name in builder.inputs if name != INPUT]
    stable = ProgramBuilder(builder.inputs, numbers)
    (value,) = _replay(stable, needed(builder.ops, [y]), [y], recognise_sigmoid=True)
    (derivative,) = _reverse(stable, [(value, 1.0)], [INPUT])
    stable.label(derivative, "slope")
    ops, (result,) = stable.finish([derivative])
    builder.fixed |= stable.fixed
    return SurrogateProgram(name, ops, result)


def _replay(
    builder: ProgramBuilder,
    ops: Sequence[Instruction],
    roots: Sequence[Operand],
    recognise_sigmoid: bool = False,
) -> list[Operand]:
    """Emit operations in another builder, and return the roots in it."""

    def apply(op: Instruction, args: list[Operand]) -> Operand:
        logit = _sigmoid_of(builder, op.opcode, args) if recognise_sigmoid else None
        if logit is None:
            return builder.append(op.opcode, tuple(args))
        return builder.emit("sigmoid", logit)

    inputs: dict[str, Operand] = {name: name for name in builder.inputs}
    known = fold(ops, inputs, apply, lambda value: value)
    return [root if isinstance(root, float) else known[root] for root in roots]


def _sigmoid_of(builder: ProgramBuilder, opcode: str, args: Sequence[Operand]) -> Operand | None:
    """``z`` if the operation is ``1 / (1 + exp(-z))`` or ``exp(z) / (1 + exp(z))``."""
    below = builder.by_name.get(str(args[-1]))
    if opcode != "div" or below is None or below.opcode != "add" or 1.0 not in below.args:
        return None
    builder.fix(*args, *below.args)
    power = builder.by_name.get(str(below.args[below.args[0] == 1.0]))
    if power is None or power.opcode != "exp":
        return None
    if args[0] == 1.0:
        return builder.emit("neg", power.args[0])
    return power.args[0] if args[0] == power.name else None


def _reverse(
    builder: ProgramBuilder, seeds: Iterable[tuple[Operand, Operand]], wanted: Sequence[str]
) -> list[Operand]:
    """Gradients of the seeded values with respect to the wanted names."""
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
        pull = ALL_OPCODES[op.opcode].derivative
        if op.name in grads and pull != NO_GRADIENT:
            pulled = pull(builder, grads[op.name], op.name, op.args)
            for target, grad in zip(op.args, pulled, strict=True):
                add(target, grad)
    return [grads.get(name, 0.0) for name in wanted]
