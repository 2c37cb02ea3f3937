"""Differentiation on spike representation (DSR: Meng et al., CVPR 2022): gradients of firing rates.

A neuron ``v = leak * u + gain * x`` that gives ``height`` and subtracts ``reset`` when it fires has a mean output
close to ``min(max(slope * mean of x, 0), height)`` with ``slope = gain * height / reset``, if step t of T has the weight
leak^(T - t) in both means. The gradient of a layer is that of this function, which all steps of the input share
equally, as in the authors' code: no surrogate and no state take part.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from danetc.dsl.neuron.opcodes import OPCODES
from danetc.dsl.neuron.reading import read_program
from danetc.dsl.neuron.ssa import Instruction
from danetc.runtime.kernels.neuron import Step, differentiable_step
from danetc.runtime.layers.loop import Loop
from danetc.runtime.layers.neuron import Neuron
from danetc.runtime.layers.weight_layer import layers_of
from danetc.runtime.system.errors import TrainingError
from danetc.runtime.training.losses import values_of


@contextmanager
def represented(model: nn.Module, slope: float = 0.0) -> Iterator[None]:
    """Give all layers of neurons the gradients of their rates; with a ``slope`` in place of that of the equations.

    The context must include the backward pass if segments run again in it. Outputs do not change.
    """
    with ExitStack() as stack:
        for _, layer in layers_of(model):
            if isinstance(layer, Neuron) and read_program(layer.program).has_step:
                hook = partial(_learn_rate, slope=slope)
                stack.enter_context(layer.register_forward_hook(hook, prepend=True))
        yield


def check_represented(model: nn.Module) -> None:
    """Raise TrainingError if the rate of a layer does not follow from its equations."""
    for name, layer in layers_of(model):
        fault: str | None = None
        if isinstance(layer, Loop):
            fault = "it runs in a loop, in which an input is not known before the output"
        elif isinstance(layer, Neuron) and read_program(layer.program).has_step:
            fault = _fault(layer)
        if fault is not None:
            raise TrainingError(
                f"`gradient = representation` has no rate for `{name}`: {fault}; it is for neurons "
                "without loops that leak and subtract a constant, as IF and LIF with a soft reset do"
            )


def _learn_rate(layer: Neuron, inputs: Any, out: Tensor, slope: float) -> Tensor | None:
    """Forward hook of a layer: its output with the gradient of its rate."""
    if not torch.is_grad_enabled():
        return None
    x = values_of(layer, inputs, out, "current")
    leak, gain, height, reset = _constants(layer, x)
    ages = torch.arange(len(x) - 1, -1, -1, device=x.device).view(-1, *[1] * (x.dim() - 1))
    weights = leak.detach() ** ages
    weights = weights / weights.sum(0)
    factor = slope or gain * height / reset
    rate = factor * (weights * x).sum(0)
    bounded = torch.where(rate > height, height, torch.zeros_like(rate))
    learning = torch.where((rate > 0) & (rate < height), factor * x.mean(0), bounded)
    change = len(x) * weights * (learning - learning.detach())  # 0, with a gradient
    return out.detach() + change.to(out.dtype)


@lru_cache(maxsize=256)
def _forced(program: str, spike: float) -> Step:
    """Return the step of a program whose neurons always or never fire."""
    parsed = read_program(program)
    ops: list[Instruction] = []
    for op in parsed.ops:
        if op.opcode == "heaviside":  # 0 times its argument, which keeps the shape
            ops.append(replace(op, name="_forced", opcode="mul", args=(*op.args, 0.0)))
            op = replace(op, opcode="add", args=("_forced", spike))
        ops.append(op)
    return differentiable_step(replace(parsed, ops=tuple(ops)).text())


def _probe(layer: Neuron, like: Tensor, spike: float) -> tuple[Tensor, Tensor]:
    """Return output and next state for (input, state) = (0, 0), (1, 0), (0, 1) and (0.7, -1.3)."""
    shape = (4, *[1] * layer.rank)
    x = like.new_tensor([0.0, 1.0, 0.0, 0.7]).view(shape)
    u = like.new_tensor([0.0, 0.0, 1.0, -1.3]).view(shape)
    out, after = _forced(layer.program, spike)(x, u, *layer.params())
    return out, after


def _constants(layer: Neuron, like: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return leak, gain, height and reset in the type of ``like``: numbers, or one for each channel or neuron."""
    (_, silent), (output, fired) = _probe(layer, like, 0.0), _probe(layer, like, 1.0)
    return silent[2], silent[1], output[0], (silent - fired)[0]


def _fault(layer: Neuron) -> str | None:
    """Return the reason why a layer has no rate of the form above, or None."""
    program = read_program(layer.program)
    steps = [op for op in program.ops if OPCODES[op.opcode].step]
    if len(program.states) != 1 or program.inputs or program.per_step:
        return "it needs one state, one input, and the same numbers at all steps"
    if [op.opcode for op in steps] != ["heaviside"]:
        return "its output is not that of one heaviside"
    like = next(iter(layer.params()), torch.zeros(()))
    with torch.no_grad():
        (none, silent), (output, fired) = _probe(layer, like, 0.0), _probe(layer, like, 1.0)
        leak, gain, height, reset = _constants(layer, like)
        linear = silent[0].abs().max() < 1e-6 and torch.allclose(silent[3], 0.7 * gain - 1.3 * leak)
        if not linear or (leak < 0).any():
            return "its membrane is not a leak times the state plus a gain times the input"
        if not torch.allclose(silent - fired, reset) or (reset <= 0).any():
            return "what it subtracts when it fires is not a positive constant"
        if none.any() or not torch.allclose(output, height) or (height <= 0).any():
            return "its output is not a positive constant when it fires, and 0 when it does not"
    return None
