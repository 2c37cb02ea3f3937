"""Numerical checks of Propositions 1, 3 and 4: autograd and forward passes against the formulas.

The models are single stages of a network at one time step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from danetc.dsl.neuron.program import NeuronProgram
from danetc.runtime.kernels.neuron import differentiable_step, kernel
from danetc.runtime.model.signature import outputs_of

GRADIENT_TOLERANCE = 1e-9
"""Largest relative difference of a gradient from its formula, in float64."""

VARIANCE_TOLERANCE = 0.15
"""Largest relative difference of a variance from its formula.

The formula assumes independent terms. With random weights, their covariances amount to a few per cent over 64
channels.
"""


@dataclass(frozen=True, slots=True)
class GradientMean:
    """Mean of dO^{n-1}/dO^0 over all positions, or over those where block 0 spikes or is silent. ``chain`` is the mean for
    the same blocks in sequence."""

    where: Literal["everywhere", "where block 0 spikes", "where block 0 is silent"]
    gradient: float
    chain: float

    @property
    def less_than_chain(self) -> bool:
        return self.gradient < self.chain * (1 - GRADIENT_TOLERANCE)


@dataclass(frozen=True, slots=True)
class GradientCheck:
    """Comparison of the gradients between outputs of blocks with their formula.

    ``error`` is the largest relative difference over all positions and ``pairs`` of blocks. ``least`` and ``most`` are
    those of dO^{n-1}/dO^0, ``places`` its means. ``ratio`` is the least ratio of a gradient to the derivative g of its
    last neuron, the lower bound of Proposition 4; ``bounds`` are the least and largest g of the last block.
    """

    pairs: int
    error: float
    least: float
    most: float
    places: tuple[GradientMean, ...]
    ratio: float
    bounds: tuple[float, float]

    @property
    def holds(self) -> bool:
        return self.error <= GRADIENT_TOLERANCE

    @property
    def bounded(self) -> bool:
        """True if no gradient is below that of the last neuron."""
        return self.ratio >= 1 - GRADIENT_TOLERANCE


def first_step(program: NeuronProgram, x: Tensor) -> Tensor:
    """Return the output of an untrained neuron at its first time step, in operations that torch differentiates."""
    text = program.text()
    layer = kernel(text)
    params = [torch.full((1,) * item.per_step, item.raw).to(x) for item in program.learnables]
    return differentiable_step(text)(x, *layer.initial_states(x), *layer.at(params, 0))[0]


def slope(program: NeuronProgram, x: Tensor) -> Tensor:
    """Return the derivative of a neuron's output by its input at the first time step, per element."""
    x = x.detach().requires_grad_()
    output = first_step(program, x)
    (grad,) = torch.autograd.grad(output.sum(), x, allow_unused=True)
    return torch.zeros_like(x) if grad is None else grad


def check_gradients(
    model: nn.Module, x: Tensor, programs: Sequence[NeuronProgram | None], *, dense: bool
) -> GradientCheck:
    """Compare autograd with the formula of Proposition 1 or, for ``dense`` blocks, 4.

    ``model`` takes the output O^0 of block 0, ``x`` [1, N, C, H, W], and returns for each later block the input of its
    interblock neuron, if it has one (``programs`` has its program, or None), and its output. Branches are 0, so that the
    Jacobian is diagonal; multiplying it by a random vector shows any other entry.
    """
    x = x.detach().requires_grad_()
    given = iter(outputs_of(model(x)))
    outputs, slopes = [x], [torch.ones_like(x)]
    for program in programs:
        slopes.append(torch.ones_like(x) if program is None else slope(program, next(given)))
        outputs.append(next(given))
    generator = torch.Generator().manual_seed(0)
    vector = torch.rand(x.shape, generator=generator, dtype=x.dtype) + 0.5
    last = len(outputs) - 1
    error, ratio = 0.0, float("inf")
    pairs = [(0, m) for m in range(1, last)] + [(first, last) for first in range(last)]
    whole = torch.ones_like(x)
    for first, m in pairs:
        (grad,) = torch.autograd.grad(outputs[m], outputs[first], vector, retain_graph=True)
        grad = grad / vector
        error = max(error, _error(grad, _formula(slopes[first + 1 : m + 1], dense)))
        ratio = min(ratio, _least_ratio(grad, slopes[m]))
        if (first, m) == (0, last):
            whole = grad
    return GradientCheck(
        len(pairs),
        error,
        float(whole.min()),
        float(whole.max()),
        _places(x.detach(), whole, _chain(x.detach(), programs)),
        ratio,
        (float(slopes[last].min()), float(slopes[last].max())),
    )


def _chain(x: Tensor, programs: Sequence[NeuronProgram | None]) -> Tensor:
    """The gradient over blocks in sequence that start as the identity."""
    gradient = torch.ones_like(x)
    for program in programs:
        if program is not None:
            gradient = gradient * slope(program, x)
            x = first_step(program, x)
    return gradient


def _places(x: Tensor, gradient: Tensor, chain: Tensor) -> tuple[GradientMean, ...]:
    """Means where block 0 is 0 and where it is not; over all positions if one of them is missing."""
    fires = x != 0
    masks: dict[Any, Tensor] = {"where block 0 spikes": fires, "where block 0 is silent": ~fires}
    if not all(bool(mask.any()) for mask in masks.values()):
        masks = {"everywhere": torch.ones_like(fires)}
    return tuple(
        GradientMean(where, float(gradient[mask].mean()), float(chain[mask].mean()))
        for where, mask in masks.items()
    )


def _formula(slopes: Sequence[Tensor], dense: bool) -> Tensor:
    """The product of g_{l+1} .. g_{l+k}; for dense blocks of g_{l+k} and 1 + g_i of the others."""
    result = slopes[-1]
    for g in slopes[:-1]:
        result = result * (1 + g if dense else g)
    return result


def _error(measured: Tensor, predicted: Tensor) -> float:
    """The largest relative difference; the largest entry where 0 is predicted."""
    gap = (measured - predicted).abs()
    relative = torch.where(predicted == 0, gap, gap / predicted.abs())
    return float(relative.max()) if bool(relative.isfinite().all()) else float("inf")


def _least_ratio(grad: Tensor, g: Tensor) -> float:
    some = g > 0
    return float((grad[some] / g[some]).min()) if bool(some.any()) else float("inf")


@dataclass(frozen=True, slots=True)
class VarianceCheck:
    """Variances of the inputs of blocks 1, 2, ...: measured and predicted."""

    measured: tuple[float, ...]
    predicted: tuple[float, ...]

    @property
    def error(self) -> float:
        """The largest relative difference."""
        return max(
            abs(m - p) / p if p else abs(m)
            for m, p in zip(self.measured, self.predicted, strict=True)
        )

    @property
    def holds(self) -> bool:
        return self.error <= VARIANCE_TOLERANCE


def check_variances(
    models: Sequence[Callable[[], nn.Module]],
    size: Sequence[int],
    squares: Sequence[float],
    entry: Sequence[float],
) -> VarianceCheck:
    """Compare variances at initialisation with Proposition 3.

    Each of ``models`` builds a stage with weights of another seed, which takes normal values of variance 1 of ``size``
    [1, N, C, H, W] and returns the inputs of blocks 1, 2, ... Variances are over N, H, W of each channel, averaged over
    channels and seeds. The prediction is ``squares`` + ``entry`` * the variance of the stage's input.
    """
    totals = [0.0] * len(squares)
    own = 0.0
    for seed, make in enumerate(models):
        model = make().train()
        x = torch.randn(*size, generator=torch.Generator().manual_seed(seed))
        with torch.no_grad():
            given = outputs_of(model(x))
        own += _variance(x)
        totals = [total + _variance(y) for total, y in zip(totals, given, strict=True)]
    count = len(models)
    predicted = tuple(s + e * own / count for s, e in zip(squares, entry, strict=True))
    return VarianceCheck(tuple(total / count for total in totals), predicted)


def _variance(x: Tensor) -> float:
    """The variance within a channel of [T, N, C, ...], averaged over channels."""
    return float(x.flatten(0, 1).transpose(0, 1).flatten(1).var(1, correction=0).mean())
