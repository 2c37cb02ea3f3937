"""Kernels of neuron programs: generated Python functions of tensors, and the loops over time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from danetc.dsl.neuron.kernel_text import differentiable_source, kernel_source
from danetc.dsl.neuron.program import NeuronProgram
from danetc.dsl.neuron.reading import read_program

Step = Callable[..., tuple[Tensor, ...]]


def spread(value: Tensor, like: Tensor) -> Tensor:
    """Expand a number, or one per channel, to the shape and dtype of ``like``."""
    return value if value.dim() >= like.dim() else value.to(like.dtype).expand_as(like)


def total(grad: Tensor, scalar: Tensor) -> Tensor:
    """Sum the gradient of a number, or of one per channel, over all elements that it affected."""
    if not scalar.dim():
        return grad.sum(dtype=scalar.dtype)
    lead = grad.dim() - scalar.dim()
    places = [lead + place for place, extent in enumerate(scalar.shape) if extent == 1]
    sums = grad.sum([*range(lead), *places], dtype=scalar.dtype)
    return sums.reshape(scalar.shape)


HALF = (torch.float16, torch.bfloat16)


def to_accumulate_dtype(x: Tensor) -> Tensor:
    """Convert half precision to float32, in which membrane potentials accumulate.

    In bfloat16, adding a current of less than 1/256 of the potential would change nothing.
    """
    return x.float() if x.dtype in HALF else x


@dataclass(frozen=True, slots=True)
class NeuronKernel:
    """The compiled functions of one time step (see ``kernel_text.kernel_source``)."""

    program: NeuronProgram
    source: str
    step: Step
    step_vjp: Step
    step_vjp_per_element: Step
    """``step_vjp`` with the gradients of parameters per element, not yet summed (``total``)."""

    def first(self, x: Tensor) -> Tensor:
        """Return the input ``x`` of the equations, the first of a layer's inputs."""
        return x[..., 0] if self.program.inputs else x

    def initial_states(self, x: Tensor) -> list[Tensor]:
        """Return the states before the first step, each like the input [N, ...]."""
        like = self.first(x)
        return [torch.full_like(like, state.init) for state in self.program.states]

    def at(self, params: Sequence[Tensor], step: int) -> list[Tensor]:
        """Return the learnables of one time step. Raises ValueError after the last step that they have."""
        found = []
        for item, value in zip(self.program.learnables, params, strict=True):
            if item.per_step and step >= len(value):
                raise ValueError(
                    f"`{item.name}` of neuron {self.program.name} has numbers for {len(value)} "
                    "time steps, not for more"
                )
            found.append(value[step] if item.per_step else value)
        return found

    def check(self, params: Sequence[Tensor], steps: int) -> None:
        """Raise ValueError if parameters per step are for another number of steps."""
        for item, value in zip(self.program.learnables, params, strict=True):
            if item.per_step and len(value) != steps:
                raise ValueError(
                    f"`{item.name}` of neuron {self.program.name} has numbers for {len(value)} "
                    f"time steps and got {steps}: its network takes sequences of that length alone"
                )

    def forward(self, x: Tensor, params: Sequence[Tensor], steps: int | None) -> Tensor:
        """Return the output [T, N, ...] of all time steps; ``x`` is [T, N, ...], or [N, ...] if ``steps`` is given.

        Several inputs are stacked in a last dimension, which the output lacks. Half precision is computed in
        float32, here and in ``backward``.
        """
        inputs = x.unbind(0) if steps is None else [x] * steps
        self.check(params, len(inputs))
        states = self.initial_states(to_accumulate_dtype(inputs[0]))
        output = x.new_empty((len(inputs), *self.first(inputs[0]).shape))
        for t, (out_t, x_t) in enumerate(zip(output, inputs, strict=True)):
            s, *states = self.step(to_accumulate_dtype(x_t), *states, *self.at(params, t))
            out_t.copy_(s)
        return output

    def backward(
        self, grad: Tensor, x: Tensor, params: Sequence[Tensor], steps: int | None
    ) -> list[Tensor]:
        """Return the gradients of ``x`` and of each parameter, given that of the output [T, N, ...].

        Computes the states again, then backpropagates through time.
        """
        inputs = x.unbind(0) if steps is None else [x] * steps
        history = [self.initial_states(to_accumulate_dtype(inputs[0]))]
        for t, x_t in enumerate(inputs[:-1]):
            step = self.step(to_accumulate_dtype(x_t), *history[-1], *self.at(params, t))
            history.append(list(step[1:]))
        grad_states: Sequence[Tensor] = [torch.zeros_like(state) for state in history[0]]
        grad_params = [torch.zeros_like(param) for param in params]
        grad_x = torch.empty_like(x) if steps is None else torch.zeros_like(to_accumulate_dtype(x))
        for t in range(len(inputs) - 1, -1, -1):
            now = self.at(params, t)
            grads = self.step_vjp(
                to_accumulate_dtype(inputs[t]),
                *history.pop(),
                *now,
                to_accumulate_dtype(grad[t]),
                *grad_states,
            )
            if steps is None:
                grad_x[t].copy_(grads[0])
            else:
                grad_x.add_(grads[0])
            grad_states = grads[1 : 1 + len(grad_states)]
            parts = grads[1 + len(grad_states) :]
            for sum_, part in zip(self.at(grad_params, t), parts, strict=True):
                sum_.add_(part)
        return [grad_x.to(x.dtype), *grad_params]


@lru_cache(maxsize=256)
def kernel(program: str) -> NeuronKernel:
    """Return the kernel of a program's text. Its code is generated from our own templates."""
    parsed = read_program(program)
    source = kernel_source(parsed)
    code = compile(source, f"<kernel of {parsed.name}>", "exec")
    summed: dict[str, Any] = {"torch": torch, "spread": spread, "total": total}
    per_element: dict[str, Any] = {**summed, "total": lambda grad, parameter: grad}
    exec(code, summed)
    exec(code, per_element)
    step, vjp = summed["step"], summed["step_vjp"]
    return NeuronKernel(parsed, source, step, vjp, per_element["step_vjp"])


class _Spike(torch.autograd.Function):
    """Heaviside step with the surrogate derivative ``slope(x, *scheduled)`` in both modes."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, slope: Callable[..., Tensor], *scheduled: Tensor) -> Tensor:
        return (x >= 0.0).to(x.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctx.slope, *scheduled = inputs
        ctx.save_for_backward(x, *scheduled)
        ctx.save_for_forward(x, *scheduled)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        return grads[0] * ctx.slope(*saved), *[None] * len(saved)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        product: Tensor = tangents[0] * ctx.slope(*ctx.saved_tensors)
        return product


class _Nearest(torch.autograd.Function):
    """Rounding with the derivative 1."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return torch.round(x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0]

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        return tangents[0].view_as(tangents[0])  # type: ignore[no-any-return]


@lru_cache(maxsize=256)
def differentiable_step(program: str) -> Step:
    """Return ``NeuronKernel.step`` in operations that torch differentiates, in any mode and order."""
    parsed = read_program(program)
    namespace: dict[str, Any] = {
        "torch": torch, "spread": spread, "spike": _Spike.apply, "nearest": _Nearest.apply,
    }  # fmt: skip
    exec(compile(differentiable_source(parsed), f"<step of {parsed.name}>", "exec"), namespace)
    step: Step = namespace["step"]
    return step
