"""The torch operators of a built model, namespace ``danetc``, that torch differentiates: those of time,
norms, joins and encoders. (Those of neurons are in ``neuron_operators``.)

``rank`` is the number of dimensions of one sample: 3 for [C, H, W], 1 for [C]. A tensor of
``rank + 1`` dimensions is static, [N, ...]: the same at each of ``steps`` time steps. One of
``rank + 2`` is a sequence, [T, N, ...]. An operator looks at the dimensions itself, so that a graph
holds one call whatever its input is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def is_static(x: Tensor, rank: int) -> bool:
    """Whether ``x`` is [N, ...] rather than [T, N, ...]. Raises ValueError if it is neither."""
    if x.dim() not in (rank + 1, rank + 2):
        raise ValueError(
            f"a value of {rank} dimensions a sample comes as [N, ...] or [T, N, ...], "
            f"not with {x.dim()} dimensions: {list(x.shape)}"
        )
    return x.dim() == rank + 1


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
    for _key in (
        "CompositeImplicitAutograd",
        "FuncTorchBatchedDecomposition",
    ):  # the latter for vmap
        torch.library.impl(f"danetc::{_function.__name__}", _key, _function)
