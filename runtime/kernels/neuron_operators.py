"""Torch operators of neurons in a built model: opaque, with their own backward pass.

``composed_operators`` explains ``rank`` and ``steps``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from danetc.runtime.kernels.composed_operators import is_static
from danetc.runtime.kernels.neuron import Step, differentiable_step, kernel, to_accumulate_dtype
from danetc.runtime.kernels.torch_internals import is_backward_transformed


def _time(x: Tensor, steps: int, rank: int) -> int | None:
    """Return ``steps`` for a static value and None for a sequence; raise an error for other inputs."""
    if not x.dtype.is_floating_point:
        raise TypeError(f"a neuron takes floating-point input, not {x.dtype}")
    static = is_static(x, rank)
    if (steps if static else x.shape[0]) < 1:
        raise ValueError("a neuron takes one time step at least")
    return steps if static else None


def is_timeless(x: Tensor, rank: int, program: str) -> bool:
    """True if a layer of neurons returns [N, ...]: its input is static, and it has no states."""
    return is_static(x, rank) and not kernel(program).program.varies


def inputs_over_time(x: Tensor, steps: int, rank: int, program: str) -> list[Tensor]:
    """Return the input [N, ...] of a layer of neurons at each time step; a single one if nothing varies."""
    if is_timeless(x, rank, program):
        return [x]
    return [x] * steps if is_static(x, rank) else list(x.unbind(0))


@torch.library.custom_op("danetc::neuron", mutates_args=())
def neuron(x: Tensor, params: list[Tensor], steps: int, rank: int, program: str) -> Tensor:
    """Run all time steps of a layer of neurons: [N, ...] or [T, N, ...] to [T, N, ...].

    ``program`` is the text of a NeuronProgram, ``params`` its learnables (scalars or one per channel, with T in front if
    each step has its own). Several inputs are stacked in the last dimension of ``x``, which ``rank`` counts. Each call starts
    from the initial states; [N, ...] gives [N, ...] if nothing varies. Raises ValueError for a wrong shape.
    """
    repeats = _time(x, steps, rank)
    if is_timeless(x, rank, program):
        return kernel(program).forward(x, params, 1).squeeze(0)
    return kernel(program).forward(x, params, repeats)


@neuron.register_fake
def _(x: Tensor, params: list[Tensor], steps: int, rank: int, program: str) -> Tensor:
    repeats = _time(x, steps, rank)
    single = repeats is None or is_timeless(x, rank, program)
    shape = kernel(program).first(x).shape
    return x.new_empty(shape if single else (repeats, *shape))


def written_out(
    x: Tensor,
    params: Sequence[Tensor],
    steps: int,
    rank: int,
    program: str,
    step: Step | None = None,
) -> Tensor:
    """Return the result of ``neuron`` in operations of torch. Gradients need another ``step``, with the surrogate."""
    layer = kernel(program)
    step = layer.step if step is None else step
    _time(x, steps, rank)
    inputs = inputs_over_time(x, steps, rank, program)
    layer.check(params, len(inputs))
    states = layer.initial_states(to_accumulate_dtype(inputs[0]))
    outputs = []
    for t, x_t in enumerate(inputs):
        s, *states = step(to_accumulate_dtype(x_t), *states, *layer.at(params, t))
        outputs.append(s.to(x.dtype))
    return outputs[0] if is_timeless(x, rank, program) else torch.stack(outputs)


def differentiable(
    x: Tensor, params: Sequence[Tensor], steps: int, rank: int, program: str
) -> Tensor:
    """Return the result of ``neuron``, with derivatives of any mode and order."""
    return written_out(x, params, steps, rank, program, differentiable_step(program))


def differentiable_gradients(
    run: Callable[..., Sequence[Tensor]], inputs: Sequence[Tensor], grads: Sequence[Tensor]
) -> list[Tensor | None]:
    """Return the gradients of the ``inputs`` of a function, differentiable again."""
    with torch.enable_grad():
        inputs = [x.view_as(x) for x in inputs]  # one input may have been computed from another
        wanted = [x for x in inputs if x.requires_grad]
        pairs = [(y, g) for y, g in zip(run(*inputs), grads, strict=True) if y.requires_grad]
        if not pairs:
            return [None] * len(inputs)
        outputs, own = zip(*pairs, strict=True)
        found = iter(
            torch.autograd.grad(outputs, wanted, own, create_graph=True, allow_unused=True)
        )
    return [next(found) if x.requires_grad else None for x in inputs]


@torch.library.custom_op("danetc::neuron_backward", mutates_args=())
def neuron_backward(
    grad: Tensor, x: Tensor, params: list[Tensor], steps: int, rank: int, program: str
) -> list[Tensor]:
    """Return the gradients of x and of each of ``params``; those of a static input are summed over the steps."""
    repeats = _time(x, steps, rank)
    if is_timeless(x, rank, program):
        return kernel(program).backward(grad.unsqueeze(0), x, params, 1)
    return kernel(program).backward(grad, x, params, repeats)


@neuron_backward.register_fake
def _(
    grad: Tensor, x: Tensor, params: list[Tensor], steps: int, rank: int, program: str
) -> list[Tensor]:
    return [torch.empty_like(x), *(torch.empty_like(param) for param in params)]


def _save_neuron(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, params, ctx.steps, ctx.rank, ctx.program = inputs
    ctx.save_for_backward(x, *params)


def _neuron_gradient(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    x, *params = ctx.saved_tensors
    if is_backward_transformed(grad):

        def run(x: Tensor, *params: Tensor) -> list[Tensor]:
            return [differentiable(x, params, ctx.steps, ctx.rank, ctx.program)]

        dx, *found = differentiable_gradients(run, (x, *params), [grad])
        return dx, found, None, None, None
    grads = torch.ops.danetc.neuron_backward(grad, x, params, ctx.steps, ctx.rank, ctx.program)
    return grads[0], grads[1:], None, None, None


neuron.register_autograd(_neuron_gradient, setup_context=_save_neuron)


@torch.library.custom_op("danetc::neuron_step", mutates_args=())
def neuron_step(
    x: Tensor, states: list[Tensor], params: list[Tensor], program: str
) -> list[Tensor]:
    """Run one time step of ``x`` [N, ...] with the states and ``params`` of that step; return [s, *next states].

    An empty list of states stands for the initial ones. States are at least float32.
    """
    return one_step(x, states, params, program)


def differentiable_one_step(
    x: Tensor, states: Sequence[Tensor], params: Sequence[Tensor], program: str
) -> list[Tensor]:
    """Return the result of ``neuron_step``, with derivatives of any mode and order."""
    before = _started(x, states, program)
    s, *after = differentiable_step(program)(to_accumulate_dtype(x), *before, *params)
    return [s.to(x.dtype), *after]


def one_step(
    x: Tensor, states: Sequence[Tensor], params: Sequence[Tensor], program: str
) -> list[Tensor]:
    """Return the result of ``neuron_step`` without gradients or tracing, at a lower cost."""
    before = _started(x, states, program)
    s, *after = kernel(program).step(to_accumulate_dtype(x), *before, *params)
    return separate([s.to(x.dtype), *after], [x, *states, *params])


@neuron_step.register_fake
def _(x: Tensor, states: list[Tensor], params: list[Tensor], program: str) -> list[Tensor]:
    count = len(kernel(program).program.states)
    like = kernel(program).first(x).contiguous()
    return [
        torch.empty_like(like),
        *(torch.empty_like(to_accumulate_dtype(like)) for _ in range(count)),
    ]


@torch.library.custom_op("danetc::neuron_step_backward", mutates_args=())
def neuron_step_backward(
    grads: list[Tensor], x: Tensor, states: list[Tensor], params: list[Tensor], program: str
) -> list[Tensor]:
    """Return the gradients of x, each state and each parameter, given those of the step's results."""
    step = kernel(program)
    before = _started(x, states, program)
    grad_s, *grad_states = grads
    first, *rest = step.step_vjp(
        to_accumulate_dtype(x), *before, *params, to_accumulate_dtype(grad_s), *grad_states
    )
    results = [first.to(x.dtype), *(rest if states else rest[len(before) :])]
    return separate(results, [x, *states, *params, *grads])


@neuron_step_backward.register_fake
def _(
    grads: list[Tensor], x: Tensor, states: list[Tensor], params: list[Tensor], program: str
) -> list[Tensor]:
    return [torch.empty_like(value) for value in (x, *states, *params)]


def _started(x: Tensor, states: Sequence[Tensor], program: str) -> Sequence[Tensor]:
    if states:
        expected = len(kernel(program).program.states)
        if len(states) != expected:
            raise ValueError(f"the neuron has {expected} states, not {len(states)}")
        return states
    return kernel(program).initial_states(to_accumulate_dtype(x))


def separate(results: Sequence[Tensor], others: Sequence[Tensor]) -> list[Tensor]:
    """Copy results that share memory with each other or with ``others``, which operators must not return."""
    seen = {other.untyped_storage()._cdata for other in others}
    found = []
    for result in results:
        if result.untyped_storage()._cdata in seen or not result.is_contiguous():
            result = result.clone(memory_format=torch.contiguous_format)
        seen.add(result.untyped_storage()._cdata)
        found.append(result)
    return found


def _save_step(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    x, states, params, ctx.program = inputs
    ctx.state_count = len(states)
    ctx.save_for_backward(x, *states, *params)


def _step_gradient(ctx: Any, grads: Sequence[Tensor | None]) -> tuple[Any, ...]:
    x, *rest = ctx.saved_tensors
    count = ctx.state_count
    states, params = rest[:count], rest[count:]
    like = kernel(ctx.program).first(x).contiguous()
    given = [
        torch.zeros_like(to_accumulate_dtype(like) if place else like) if grad is None else grad
        for place, grad in enumerate(grads)
    ]
    if any(map(is_backward_transformed, given)):

        def run(x: Tensor, *rest: Tensor) -> list[Tensor]:
            return differentiable_one_step(x, rest[:count], rest[count:], ctx.program)

        results = differentiable_gradients(run, (x, *rest), given)
    else:
        results = torch.ops.danetc.neuron_step_backward(given, x, states, params, ctx.program)
    return results[0], results[1 : 1 + count], results[1 + count :], None


neuron_step.register_autograd(_step_gradient, setup_context=_save_step)
