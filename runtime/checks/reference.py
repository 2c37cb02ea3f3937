"""A neuron's first time step, operation by operation, with torch's own autograd.

Slow and plain: what compiled kernels and predictions are checked against. Only the steps are not
torch's: the derivative of heaviside is read from the program, that of round is 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from danetc.dsl.neuron.program import INPUT, NeuronProgram, SurrogateProgram
from danetc.dsl.neuron.ssa import Op


class _Heaviside(torch.autograd.Function):
    """1 from 0 on; backward, what the surrogate says."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, surrogate: SurrogateProgram) -> Tensor:
        ctx.save_for_backward(x)
        ctx.surrogate = surrogate
        return (x >= 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        surrogate: SurrogateProgram = ctx.surrogate
        values = _run(surrogate.ops, {INPUT: x}, x, None)
        slope = values.get(surrogate.derivative, surrogate.derivative)
        return grads[0] * slope, None


class _Round(torch.autograd.Function):
    """The nearest whole number, halves to even; backward, as if it were the identity."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.round(x)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0]


_OPS: Mapping[str, Callable[..., Tensor]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "neg": torch.neg,
    "exp": torch.exp,
    "log": torch.log,
    "sqrt": torch.sqrt,
    "abs": torch.abs,
    "sign": torch.sign,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "softplus": torch.nn.functional.softplus,
    "relu": torch.relu,
    "round": _Round.apply,
    "max": torch.maximum,
    "min": torch.minimum,
    "detach": torch.detach,
    "lt": torch.lt,
    "le": torch.le,
    "gt": torch.gt,
    "ge": torch.ge,
    "eq": torch.eq,
    "ne": torch.ne,
    "and": torch.logical_and,
    "or": torch.logical_or,
    "not": torch.logical_not,
    "where": torch.where,
}
_CLAMPS: Mapping[str, Callable[[Tensor, float], Tensor]] = {
    "max": lambda x, bound: torch.clamp(x, min=bound),
    "min": lambda x, bound: torch.clamp(x, max=bound),
}
"""Of a value and a constant: where they are equal, all of a gradient passes."""


def first_step(program: NeuronProgram, x: Tensor) -> Tensor:
    """The output of a neuron at its first time step, before any training. Any shape.

    Learnables are kept in float32, so they start from what their values are there.
    """
    start = {state.name: torch.full_like(x, state.init) for state in program.states}
    for item in program.learnables:
        start[item.parameter] = torch.tensor(item.raw, dtype=torch.float32).to(x).expand_as(x)
    values = _run(program.ops, {INPUT: x, **start}, x, program.surrogate)
    return values[str(program.output)]


def slope(program: NeuronProgram, x: Tensor) -> Tensor:
    """The derivative of a neuron's output by its input at the first time step, for each entry."""
    x = x.detach().requires_grad_()
    output = first_step(program, x)
    (grad,) = torch.autograd.grad(output.sum(), x, allow_unused=True)
    return torch.zeros_like(x) if grad is None else grad


def _run(
    ops: Sequence[Op],
    inputs: Mapping[str, Tensor],
    like: Tensor,
    surrogate: SurrogateProgram | None,
) -> dict[Any, Tensor]:
    values: dict[Any, Tensor] = dict(inputs)
    for op in ops:
        if op.opcode in _CLAMPS and isinstance(op.args[1], float):
            values[op.name] = _CLAMPS[op.opcode](values[op.args[0]], op.args[1])
            continue
        args = [torch.full_like(like, a) if isinstance(a, float) else values[a] for a in op.args]
        if op.opcode == "heaviside":
            assert surrogate is not None
            values[op.name] = _Heaviside.apply(args[0], surrogate)
        elif op.opcode in ("number", "cast"):
            values[op.name] = args[0].to(like.dtype)
        else:
            values[op.name] = _OPS[op.opcode](*args)
    return values
