"""Fusion groups in float64, operation by operation, differentiated by autograd.

Independent of the runtime: equations are evaluated from their program, norms are ``F.batch_norm``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from danetc.dsl.neuron.opcodes import Operand
from danetc.dsl.neuron.program import NeuronProgram
from danetc.dsl.neuron.ssa import Instruction
from tests.surrogates import step

MOMENTUM, EPS = 0.1, 1e-5
OPERATIONS: Mapping[str, Callable[..., Tensor]] = {
    **{name: getattr(torch, name) for name in
       ("add", "sub", "mul", "div", "neg", "exp", "log", "sqrt", "abs", "sign", "sigmoid", "tanh",
        "sin", "cos", "erf", "relu", "lt", "le", "gt", "ge", "eq", "ne", "where")},
    "softplus": F.softplus, "max": torch.maximum, "min": torch.minimum,
    "round": lambda x: x + (x.round() - x).detach(), "detach": torch.Tensor.detach,
    "and": torch.logical_and, "or": torch.logical_or, "not": torch.logical_not,
    "number": torch.Tensor.double, "cast": torch.Tensor.double,
}  # fmt: skip


def fused(
    program: NeuronProgram, inputs: Sequence[Tensor], norms: Sequence[Any], params: Sequence[Tensor]
) -> Tensor:
    """Return the output [T, N, C, H, W] for terms of that shape, each with its batch norm or None."""
    terms = []
    for x, norm in zip(inputs, norms, strict=True):
        if norm is None:
            terms.append(x)
            continue
        stats = norm.running_mean, norm.running_var, norm.weight, norm.bias
        normed = F.batch_norm(x.flatten(0, 1), *stats, norm.training, MOMENTUM, EPS)
        terms.append(normed.view(x.shape))
    currents = reduce(torch.add, terms)
    state = {s.name: torch.full_like(currents[0], s.init) for s in program.states}
    outputs = []
    for t, x in enumerate(currents):
        values = {"x": x, **state}
        for item, p in zip(program.learnables, params, strict=True):
            values[item.parameter] = p[t] if item.per_step else p
        _evaluate(program.ops, values, program)
        outputs.append(_read(values, program.output).expand_as(x))
        after = zip(program.states, program.next_states, strict=True)
        state = {s.name: _read(values, value).expand_as(x) for s, value in after}
    return torch.stack(outputs)


def _read(values: Mapping[str, Tensor], operand: Operand) -> Tensor:
    if isinstance(operand, str):
        return values[operand]
    return torch.tensor(operand, dtype=torch.float64)


def _evaluate(
    ops: Sequence[Instruction], values: dict[str, Tensor], program: NeuronProgram
) -> None:
    """Compute each operation and add it to the ``values``."""
    for op in ops:
        args = [_read(values, each) for each in op.args]
        if op.opcode == "heaviside":
            values[op.name] = step(args[0], lambda v: _slope(v, values, program))
        else:
            values[op.name] = OPERATIONS[op.opcode](*args)


def _slope(x: Tensor, values: Mapping[str, Tensor], program: NeuronProgram) -> Tensor:
    surrogate = program.surrogate
    assert surrogate is not None
    held = {item.name: values[item.parameter].detach() for item in surrogate.scheduled}
    known = {"x": x, **held}
    _evaluate(surrogate.ops, known, program)
    return _read(known, surrogate.derivative).expand_as(x)
