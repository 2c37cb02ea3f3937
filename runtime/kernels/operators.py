"""The torch operators of a built model, namespace ``danetc``.

``rank`` is the number of dimensions of one sample: 3 for [C, H, W], 1 for [C]. A tensor of
``rank + 1`` dimensions is static, [N, ...]: the same at each of ``steps`` time steps. One of
``rank + 2`` is a sequence, [T, N, ...]. An operator looks at the dimensions itself, so that a graph
holds one call whatever its input is.

``neuron`` and its like are opaque with a backward pass of their own; the others are composed of
torch's operators and differentiated by them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from danetc.runtime.kernels.neuron import kernel, wide


def is_static(x: Tensor, rank: int) -> bool:
    """Whether ``x`` is [N, ...] rather than [T, N, ...]. Raises ValueError if it is neither."""
    if x.dim() not in (rank + 1, rank + 2):
        raise ValueError(
            f"a value of {rank} dimensions a sample comes as [N, ...] or [T, N, ...], "
            f"not with {x.dim()} dimensions: {list(x.shape)}"
        )
    return x.dim() == rank + 1


def _time(x: Tensor, steps: int, rank: int) -> int | None:
    """``steps`` for a static value, None for a sequence; both checked."""
    if not x.dtype.is_floating_point:
        raise TypeError(f"a neuron takes floating-point input, not {x.dtype}")
    static = is_static(x, rank)
    if (steps if static else x.shape[0]) < 1:
        raise ValueError("a neuron takes one time step at least")
    return steps if static else None


def is_timeless(x: Tensor, rank: int, program: str) -> bool:
    """Whether a layer of neurons gives [N, ...]: the same at each step, as its input is."""
    return is_static(x, rank) and not kernel(program).program.varies


def inputs_over_time(x: Tensor, steps: int, rank: int, program: str) -> list[Tensor]:
    """What a layer of neurons takes at each time step, [N, ...]; one alone where nothing varies."""
    if is_timeless(x, rank, program):
        return [x]
    return [x] * steps if is_static(x, rank) else list(x.unbind(0))


@torch.library.custom_op("danetc::neuron", mutates_args=())
def neuron(x: Tensor, params: list[Tensor], steps: int, rank: int, program: str) -> Tensor:
    """All time steps of a layer of neurons: [N, ...] or [T, N, ...] to [T, N, ...].

    ``program`` is the text of a NeuronProgram, ``params`` its learnables (numbers, or one for each channel;
    with T in front where each step has its own). Where it has
    several inputs ``x`` has them side by side in its last dimension, which ``rank`` counts too. States start
    anew with every call; [N, ...] gives [N, ...] where nothing varies. Raises ValueError for a wrong shape.
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


def written_out(x: Tensor, params: list[Tensor], steps: int, rank: int, program: str) -> Tensor:
    """What ``neuron`` computes, of torch's own operators, which know no surrogate: without gradients."""
    step = kernel(program)
    _time(x, steps, rank)
    inputs = inputs_over_time(x, steps, rank, program)
    states = step.initial_states(wide(inputs[0]))
    outputs = []
    for t, x_t in enumerate(inputs):
        s, *states = step.step(wide(x_t), *states, *step.at(params, t))
        outputs.append(s.to(x.dtype))
    return outputs[0] if is_timeless(x, rank, program) else torch.stack(outputs)


@torch.library.custom_op("danetc::neuron_backward", mutates_args=())
def neuron_backward(
    grad: Tensor, x: Tensor, params: list[Tensor], steps: int, rank: int, program: str
) -> list[Tensor]:
    """Gradients of x and of each of ``params``; ``grad`` is the output's.

    For a static input the gradients of all steps are added up.
    """
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
    grads = torch.ops.danetc.neuron_backward(grad, x, params, ctx.steps, ctx.rank, ctx.program)
    return grads[0], grads[1:], None, None, None


neuron.register_autograd(_neuron_gradient, setup_context=_save_neuron)


@torch.library.custom_op("danetc::neuron_step", mutates_args=())
def neuron_step(
    x: Tensor, states: list[Tensor], params: list[Tensor], program: str
) -> list[Tensor]:
    """One time step: ``x``, each state [N, ...], and ``params`` of that step, to
    [s, *states for the next step].

    An empty list of states stands for their initial values. States are float32 at least, whatever
    the dtype of ``x``.
    """
    return one_step(x, states, params, program)


def one_step(
    x: Tensor, states: Sequence[Tensor], params: Sequence[Tensor], program: str
) -> list[Tensor]:
    """``neuron_step``, where no gradient is wanted and nothing traces: a call costs less."""
    before = _started(x, states, program)
    s, *after = kernel(program).step(wide(x), *before, *params)
    return apart([s.to(x.dtype), *after], [x, *states, *params])


@neuron_step.register_fake
def _(x: Tensor, states: list[Tensor], params: list[Tensor], program: str) -> list[Tensor]:
    count = len(kernel(program).program.states)
    like = kernel(program).first(x).contiguous()
    return [torch.empty_like(like), *(torch.empty_like(wide(like)) for _ in range(count))]


@torch.library.custom_op("danetc::neuron_step_backward", mutates_args=())
def neuron_step_backward(
    grads: list[Tensor], x: Tensor, states: list[Tensor], params: list[Tensor], program: str
) -> list[Tensor]:
    """Gradients of x, each state and each parameter; ``grads`` are those of the step's results."""
    step = kernel(program)
    before = _started(x, states, program)
    grad_s, *grad_states = grads
    first, *rest = step.step_vjp(wide(x), *before, *params, wide(grad_s), *grad_states)
    results = [first.to(x.dtype), *(rest if states else rest[len(before) :])]
    return apart(results, [x, *states, *params, *grads])


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
    return kernel(program).initial_states(wide(x))


def apart(results: Sequence[Tensor], others: Sequence[Tensor]) -> list[Tensor]:
    """The results, copied where they share memory: operators hand out tensors of their own."""
    seen = {other.untyped_storage().data_ptr() for other in others}
    apart = []
    for result in results:
        if result.untyped_storage().data_ptr() in seen or not result.is_contiguous():
            result = result.clone(memory_format=torch.contiguous_format)
        seen.add(result.untyped_storage().data_ptr())
        apart.append(result)
    return apart


def _save_step(ctx: Any, inputs: tuple[Any, ...], output: list[Tensor]) -> None:
    x, states, params, ctx.program = inputs
    ctx.state_count = len(states)
    ctx.save_for_backward(x, *states, *params)


def _step_gradient(ctx: Any, grads: Sequence[Tensor | None]) -> tuple[Any, ...]:
    x, *rest = ctx.saved_tensors
    states, params = rest[: ctx.state_count], rest[ctx.state_count :]
    like = kernel(ctx.program).first(x).contiguous()
    given = [
        torch.zeros_like(wide(like) if place else like) if grad is None else grad
        for place, grad in enumerate(grads)
    ]
    results = torch.ops.danetc.neuron_step_backward(given, x, states, params, ctx.program)
    return results[0], results[1 : 1 + len(states)], results[1 + len(states) :], None


neuron_step.register_autograd(_step_gradient, setup_context=_save_step)


def mean_over_time(x: Tensor, rank: int) -> Tensor:
    """[T, N, ...] averaged over T; what is static stays as it is."""
    return x if is_static(x, rank) else x.mean(0)


def sum_over_time(x: Tensor, rank: int) -> Tensor:
    """[T, N, ...] summed over T. Raises ValueError for what is static."""
    return _steps(x, rank).sum(0)


def max_over_time(x: Tensor, rank: int) -> Tensor:
    """The greatest of the steps of [T, N, ...]; what is static stays as it is."""
    return x if is_static(x, rank) else x.amax(0)


def _steps(x: Tensor, rank: int) -> Tensor:
    if is_static(x, rank):
        raise ValueError(f"a sequence [T, N, ...] is needed, not {list(x.shape)}")
    return x


def aligned(xs: Sequence[Tensor], rank: int) -> list[Tensor]:
    """Values of one batch in one form: where one is [T, N, ...], each [N, ...] is it at each step."""
    longest = max(xs, key=Tensor.dim)
    lead = longest.shape[: longest.dim() - rank]
    return [x if x.dim() == longest.dim() else x.expand(*lead, *x.shape[-rank:]) for x in xs]


def beside(xs: list[Tensor], rank: int) -> Tensor:
    """Values that join, [T, N, ...] or [N, ...], side by side in a new last dimension."""
    return torch.stack(torch.broadcast_tensors(*aligned(xs, rank)), -1)


def concat(xs: list[Tensor], dim: int) -> Tensor:
    """Channels side by side, ``dim`` < 0; static values beside ones that vary."""
    return torch.cat(aligned(xs, -dim), dim)


def per_step(x: Tensor, steps: int, rank: int) -> Tensor:
    """[N, ...] repeated to [steps, N, ...]; a sequence stays as it is."""
    return x.unsqueeze(0).expand(steps, *x.shape) if is_static(x, rank) else x


def batch_norm_static(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor,
    running_var: Tensor,
    num_batches_tracked: Tensor,
    training: bool,
    momentum: float,
    eps: float,
    steps: int,
    rank: int,
) -> Tensor:
    """Batch normalisation over T and N together of a value that may be static.

    A static [N, C, ...] stands for the same value at ``steps`` time steps: mean and variance are
    its own, and the running variance is unbiased by the count T*N*H*W, so that buffers are those
    of [T, N, C, ...] with equal steps.
    """
    static = is_static(x, rank)
    flat = x if static else x.flatten(0, 1)
    count, whole = flat.numel() // flat.shape[1], flat.numel() // flat.shape[1]
    if static:
        whole *= steps
    variance = running_var
    if training:
        if whole == 1:
            raise ValueError(f"training needs more than one value a channel, not {list(x.shape)}")
        num_batches_tracked.add_(1)
        if whole != count:
            variance = torch.zeros_like(running_var)
    y = _batch_norm(flat, weight, bias, running_mean, variance, training, momentum, eps)
    if training and whole != count:
        running_var.mul_(1 - momentum)
        if count > 1:  # a single value has the variance 0, and no unbiased one
            running_var.add_(variance, alpha=(count - 1) / count * whole / (whole - 1))
    return y.reshape(x.shape)


def batch_norm_steps(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    running_mean: Tensor,
    running_var: Tensor,
    num_batches_tracked: Tensor,
    training: bool,
    momentum: float,
    eps: float,
    rank: int,
) -> Tensor:
    """Batch normalisation with weights and statistics of its own at each step, all [T, C].

    Takes [T, N, C, ...], or [N, C, ...] as the same at each step; gives [T, N, C, ...].
    """
    steps = weight.shape[0]
    x = _check_steps(per_step(x, steps, rank), steps)
    flat = x.transpose(0, 1).flatten(1, 2)  # time among the channels: [N, T*C, ...]
    if training:
        if flat.numel() == flat.shape[1]:
            raise ValueError(f"training needs more than one value a channel, not {list(x.shape)}")
        num_batches_tracked.add_(1)
    w, mean, variance = (v.view(-1) for v in (weight, running_mean, running_var))
    b = None if bias is None else bias.view(-1)
    y = _batch_norm(flat, w, b, mean, variance, training, momentum, eps)
    return y.reshape(x.shape[1], steps, *x.shape[2:]).transpose(0, 1)


def batch_norm_stepwise(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor,
    running_var: Tensor,
    num_batches_tracked: Tensor,
    training: bool,
    momentum: float,
    eps: float,
    steps: int,
    rank: int,
) -> Tensor:
    """Batch normalisation with the statistics of each step by itself, all weights and buffers [C].

    The running statistics move at each step. A static [N, C, ...] stands for ``steps`` equal ones.
    """
    if is_static(x, rank):
        share = momentum if steps == 1 else 1 - (1 - momentum) ** steps
        frames, moves = [x], steps
    else:
        frames, share, moves = list(x.unbind(0)), momentum, x.shape[0]
    if training:
        if frames[0].numel() == frames[0].shape[1]:
            raise ValueError(f"training needs more than one value a channel, not {list(x.shape)}")
        num_batches_tracked.add_(moves)
    elif len(frames) > 1:
        frames = [x.flatten(0, 1)]
    normed = [
        _batch_norm(each, weight, bias, running_mean, running_var, training, share, eps)
        for each in frames
    ]
    if is_static(x, rank):
        return normed[0]
    return torch.stack(normed) if training else normed[0].view(x.shape)


def scale_steps(x: Tensor, scale: Tensor, rank: int) -> Tensor:
    """Each step times its own factor, ``scale`` [T]: [N, ...] or [T, N, ...] to [T, N, ...]."""
    if not is_static(x, rank):
        _check_steps(x, scale.shape[0])
    return x * scale.view(-1, *[1] * (rank + 1))


def _check_steps(x: Tensor, steps: int) -> Tensor:
    if x.shape[0] != steps:
        raise ValueError(
            f"a norm with parameters for {steps} time steps got {x.shape[0]}: "
            "its network takes sequences of that length alone"
        )
    return x


def _batch_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    variance: Tensor,
    training: bool,
    momentum: float,
    eps: float,
) -> Tensor:
    cudnn = torch.backends.cudnn.enabled
    return torch.batch_norm(x, weight, bias, mean, variance, training, momentum, eps, cudnn)


def drop_path(x: Tensor, p: float, training: bool, rank: int) -> Tensor:
    """Stochastic depth: each sample is dropped with probability ``p``, at all its time steps.

    What stays is divided by 1 - p. Takes and gives [N, ...] or [T, N, ...].
    """
    static = is_static(x, rank)
    if not training or p == 0.0:
        return x
    samples = x.shape[0] if static else x.shape[1]
    keep = torch.rand((samples, *[1] * rank), dtype=x.dtype, device=x.device).ge(p)
    return x * (keep.to(x.dtype) / (1 - p))


def poisson(x: Tensor, steps: int, rank: int) -> Tensor:
    """Rate coding: at each step a spike with the probability ``x``, clamped to 0 .. 1."""
    rate = per_step(x, steps, rank).clamp(0.0, 1.0)
    return torch.rand_like(rate, memory_format=torch.contiguous_format).lt(rate).to(x.dtype)


def latency(x: Tensor, steps: int, rank: int, tau: float) -> Tensor:
    """Time-to-first-spike coding: one spike at step floor(tau * ln(1 / x)), none from ``steps`` on.

    What is not positive never spikes, what is 1 or above does at step 0. Of a sequence, [T, N, ...],
    each step is asked for itself: a frame that stays the same gives what [N, ...] gives.
    """
    length = steps if is_static(x, rank) else x.shape[0]
    when = torch.floor(-tau * torch.log(x.clamp(min=0.0, max=1.0)))  # -log(0) is inf: never
    step = torch.arange(length, device=x.device, dtype=x.dtype).view(length, *[1] * (rank + 1))
    return when.eq(step).to(x.dtype)


_COMPOSITES: dict[Callable[..., Tensor], str] = {
    mean_over_time: "(Tensor x, int rank) -> Tensor",
    sum_over_time: "(Tensor x, int rank) -> Tensor",
    max_over_time: "(Tensor x, int rank) -> Tensor",
    concat: "(Tensor[] xs, int dim) -> Tensor",
    beside: "(Tensor[] xs, int rank) -> Tensor",
    per_step: "(Tensor x, int steps, int rank) -> Tensor",
    batch_norm_static: (
        "(Tensor x, Tensor? weight, Tensor? bias, Tensor(a!) running_mean, "
        "Tensor(b!) running_var, Tensor(c!) num_batches_tracked, bool training, float momentum, "
        "float eps, int steps, int rank) -> Tensor"
    ),
    batch_norm_steps: (
        "(Tensor x, Tensor weight, Tensor? bias, Tensor(a!) running_mean, "
        "Tensor(b!) running_var, Tensor(c!) num_batches_tracked, bool training, float momentum, "
        "float eps, int rank) -> Tensor"
    ),
    batch_norm_stepwise: (
        "(Tensor x, Tensor? weight, Tensor? bias, Tensor(a!) running_mean, "
        "Tensor(b!) running_var, Tensor(c!) num_batches_tracked, bool training, float momentum, "
        "float eps, int steps, int rank) -> Tensor"
    ),
    scale_steps: "(Tensor x, Tensor scale, int rank) -> Tensor",
    drop_path: "(Tensor x, float p, bool training, int rank) -> Tensor",
    poisson: "(Tensor x, int steps, int rank) -> Tensor",
    latency: "(Tensor x, int steps, int rank, float tau) -> Tensor",
}
for _function, _schema in _COMPOSITES.items():
    torch.library.define(f"danetc::{_function.__name__}", _schema)
    torch.library.impl(f"danetc::{_function.__name__}", "CompositeImplicitAutograd", _function)
