"""A neuron's first time step, operation by operation, with torch's autograd: the reference for kernels and predictions.

The derivative of heaviside comes from the program; that of other step functions is 1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor

from danetc.dsl.neuron.opcodes import OPCODES
from danetc.dsl.neuron.program import INPUT, NeuronProgram, SurrogateProgram
from danetc.dsl.neuron.ssa import Instruction


class _Heaviside(torch.autograd.Function):
    """Heaviside step with a surrogate derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, surrogate: SurrogateProgram) -> Tensor:
        ctx.save_for_backward(x)
        ctx.surrogate = surrogate
        return (x >= 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        surrogate: SurrogateProgram = ctx.surrogate
        held = {k: torch.full_like(x, start) for k, start in surrogate.starts.items()}
        values = _run(surrogate.ops, {INPUT: x, **held}, x, None)
        slope = values.get(surrogate.derivative, surrogate.derivative)
        return grads[0] * slope, None


class _StraightThrough(torch.autograd.Function):
    """A step function with the derivative 1."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, step: Callable[..., Tensor]) -> Tensor:
        return step(x, like=x)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, None]:
        return grads[0], None


@cache
def _expression(text: str) -> Callable[..., Tensor]:
    """Compile the torch expression of an opcode as a function of its operands and ``like``."""
    names = [f"a{i}" for i in range(3) if f"{{{i}}}" in text]
    body = text.format(*names, like="like")
    function: Callable[..., Tensor] = eval(
        f"lambda {', '.join([*names, 'like'])}: {body}", {"torch": torch}
    )
    return function


def first_step(program: NeuronProgram, x: Tensor) -> Tensor:
    """Return the output of an untrained neuron at its first time step. Several inputs are stacked in a last dimension.

    Learnables are rounded to float32, in which models store them.
    """
    inputs = dict(zip(program.takes, x.unbind(-1) if program.inputs else (x,), strict=True))
    x = inputs[INPUT]
    start = {state.name: torch.full_like(x, state.init) for state in program.states}
    for item in program.learnables:
        start[item.parameter] = torch.tensor(item.raw, dtype=torch.float32).to(x).expand_as(x)
    values = _run(program.ops, {**inputs, **start}, x, program.surrogate)
    return values[str(program.output)]


def slope(program: NeuronProgram, x: Tensor) -> Tensor:
    """Return the derivative of a neuron's output by its input at the first time step, per element."""
    x = x.detach().requires_grad_()
    output = first_step(program, x)
    (grad,) = torch.autograd.grad(output.sum(), x, allow_unused=True)
    return torch.zeros_like(x) if grad is None else grad


def _run(
    ops: Sequence[Instruction],
    inputs: Mapping[str, Tensor],
    like: Tensor,
    surrogate: SurrogateProgram | None,
) -> dict[Any, Tensor]:
    values: dict[Any, Tensor] = dict(inputs)
    for op in ops:
        info = OPCODES[op.opcode]
        clamped = info.with_constants is not None and info.with_constants[0] == (1,)
        if clamped and isinstance(op.args[1], float):
            # the whole gradient passes where they are equal
            assert info.with_constants is not None
            step = _expression(info.with_constants[1])
            values[op.name] = step(values[op.args[0]], op.args[1], like=like)
            continue
        args = [torch.full_like(like, a) if isinstance(a, float) else values[a] for a in op.args]
        if op.opcode == "heaviside":
            assert surrogate is not None
            values[op.name] = _Heaviside.apply(args[0], surrogate)
        elif info.step:
            values[op.name] = _StraightThrough.apply(args[0], _expression(info.text))
        else:
            values[op.name] = _expression(info.text)(*args, like=like)
    return values
