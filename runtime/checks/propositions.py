"""Numerical checks of Propositions 1, 3 and 4: gradients and firing rates of single stages."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any, Literal

import torch
from torch import Tensor, nn

from danetc.dsl.neuron.program import NeuronProgram
from danetc.runtime.kernels.neuron import differentiable_step, kernel
from danetc.runtime.model.signature import outputs_of

TOLERANCE = 1e-9
"""Largest difference of a gradient from its formula in float64, relative to the sum of the absolute terms."""

WARM_UP = 2
"""Number of batches whose mean statistics norms use while firing rates are measured."""

CERTAIN = 4.0
"""Standard errors over channels by which a firing rate must differ from another."""


@dataclass(frozen=True, slots=True)
class GradientMean:
    """Means of dR/dO^0 over all positions, or over those where block 0 spikes or is silent.

    ``bound`` is the part of the shortest paths, and ``chain`` the gradient of the same blocks in sequence."""

    where: Literal["everywhere", "where block 0 spikes", "where block 0 is silent"]
    gradient: float
    bound: float
    chain: float


@dataclass(frozen=True, slots=True)
class GradientCheck:
    """Gradients of a stage's result R by the outputs O^0, O^1, ... of its blocks, and their formula.

    ``error`` is the largest difference from the formula, relative to the sum of its absolute terms. ``places`` are means
    of dR/dO^0. ``least`` and ``most`` are those of the derivatives of each block's neuron, and ``damps`` is True if one
    of them is below 1 in magnitude. ``bounded`` is True if no gradient is below the part of the shortest paths.
    """

    error: float
    places: tuple[GradientMean, ...]
    least: tuple[float, ...]
    most: tuple[float, ...]
    damps: bool
    bounded: bool

    @property
    def agrees(self) -> bool:
        """True if autograd agrees with the formula."""
        return self.error <= TOLERANCE


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
    model: nn.Module,
    x: Tensor,
    programs: Sequence[NeuronProgram | None],
    terms: Sequence[Mapping[int, float]],
    fewest: Sequence[float],
) -> GradientCheck:
    """Compare autograd with the sum over paths of products of derivatives (Eqs. 3 and 12).

    ``model`` takes the output O^0 of block 0, ``x`` [1, N, C, H, W], and returns for each later block the input of its
    interblock neuron, if it has one (``programs`` has its program, or None), and its output; and the stage's result.
    ``terms`` are the factors of outputs in what blocks 1, 2, ... and the result add up, and ``fewest`` the numbers of
    blocks on the shortest path from each block to the result. Branches are 0, so that Jacobians are diagonal;
    multiplying them by a random vector shows any other entry.
    """
    x = x.detach().requires_grad_()
    given = iter(outputs_of(model(x)))
    outputs, slopes = [x], [torch.ones_like(x)]
    for program in programs:
        slopes.append(torch.ones_like(x) if program is None else slope(program, next(given)))
        outputs.append(next(given))
    generator = torch.Generator().manual_seed(0)
    vector = torch.rand(x.shape, generator=generator, dtype=x.dtype) + 0.5
    found = torch.autograd.grad(next(given), outputs, vector, materialize_grads=True)
    gradients, sizes, bounds = list(outputs), list(outputs), list(outputs)
    error, bounded = 0.0, True
    for j in reversed(range(len(outputs))):
        own = torch.full_like(x, terms[-1].get(j, 0.0))
        later = [(i, each[j] * slopes[i]) for i, each in enumerate(terms[:-1], 1) if j in each]
        shortest = [(i, factor) for i, factor in later if fewest[j] == fewest[i] + 1]
        gradients[j] = sum((factor * gradients[i] for i, factor in later), own)
        sizes[j] = sum((factor.abs() * sizes[i] for i, factor in later), own.abs())
        bounds[j] = sum((factor * bounds[i] for i, factor in shortest), own)
        gap = (found[j] / vector - gradients[j]).abs()
        relative = torch.where(sizes[j] == 0, gap, gap / sizes[j])
        error = max(error, float(relative.nan_to_num(float("inf")).max()))
        bounded &= bool((found[j] / vector >= bounds[j] - TOLERANCE * sizes[j]).all())
    whole = found[0] / vector
    return GradientCheck(
        error,
        _places(x.detach(), whole, bounds[0], _chain(x.detach(), programs)),
        tuple(float(each.min()) for each in slopes[1:]),
        tuple(float(each.max()) for each in slopes[1:]),
        any(bool((each.abs() < 1 - TOLERANCE).any()) for each in slopes[1:]),
        bounded,
    )


def _chain(x: Tensor, programs: Sequence[NeuronProgram | None]) -> Tensor:
    """The gradient over blocks in sequence that start as the identity."""
    gradient = torch.ones_like(x)
    for program in filter(None, programs):
        gradient = gradient * slope(program, x)
        x = first_step(program, x)
    return gradient


def _places(x: Tensor, *gradients: Tensor) -> tuple[GradientMean, ...]:
    """Means where block 0 is 0 and where it is not; over all positions if one of them is missing."""
    fires = x != 0
    masks: dict[Any, Tensor] = {"where block 0 spikes": fires, "where block 0 is silent": ~fires}
    if not all(bool(mask.any()) for mask in masks.values()):
        masks = {"everywhere": torch.ones_like(fires)}
    return tuple(
        GradientMean(where, *(float(each[mask].mean()) for each in gradients))
        for where, mask in masks.items()
    )


@dataclass(frozen=True, slots=True)
class RateCheck:
    """Firing rates of the first neurons of blocks 1, 2, ..., and the variances of their inputs.

    ``rises`` is True if the last rate is above the first and False if it is not, both by more than ``CERTAIN`` standard
    errors or to the bit; otherwise None. ``falls`` has the blocks whose rate is below that of the block before.
    ``entry`` is the variance of the stage's input.
    """

    rates: tuple[float, ...]
    variances: tuple[float, ...]
    entry: float
    rises: bool | None
    falls: tuple[int, ...]


def check_rates(
    models: Iterable[nn.Module], fewest: int, inputs: Callable[[], Tensor]
) -> RateCheck:
    """Measure the firing rates of Proposition 3 at initialisation, after warming up the norms.

    Each of ``models`` is a stage with weights of another seed, which takes what ``inputs`` returns, [T, N, C, ...], and
    returns for blocks 1, 2, ... the input and the output of their first neuron. At least ``fewest`` of them are run, and
    more until the last rate differs from the first. A rate is the share of outputs other than 0. Rates are compared
    for each channel.
    """
    rows: list[list[Tensor]] = []
    for model in models:
        norms: list[Any] = [each for each in model.modules() if hasattr(each, "momentum")]
        with torch.no_grad():
            for batch in range(WARM_UP):
                for norm in norms:
                    norm.momentum = 1 / (batch + 1)
                model.train()(inputs())
            x = inputs()
            outputs = (x, *outputs_of(model.eval()(x)))
        values = [y.flatten(0, 1).transpose(0, 1).flatten(1).double() for y in outputs]  # [C, M]
        rows.append([y.var(1, correction=0) for y in (values[0], *values[1::2])])
        rows[-1] += [(y != 0).double().mean(1) for y in values[2::2]]
        columns = [torch.cat(each) for each in zip(*rows, strict=True)]
        blocks = len(columns) // 2
        rates = columns[blocks + 1 :]
        least, most = _surely(rates[-1] - rates[0]), -_surely(rates[0] - rates[-1])
        rises = True if least > 0 else False if most <= 0 else None
        if len(rows) >= fewest and rises is not None:
            break
    entry, *variances = (float(each.mean()) for each in columns[: blocks + 1])
    return RateCheck(
        tuple(float(each.mean()) for each in rates),
        tuple(variances),
        entry,
        rises,
        tuple(i for i in range(2, blocks + 1) if _surely(rates[i - 2] - rates[i - 1]) > 0),
    )


def _surely(difference: Tensor) -> float:
    """Return the mean over channels less ``CERTAIN`` standard errors."""
    error = float(difference.std(correction=0)) / sqrt(len(difference))
    return float(difference.mean()) - CERTAIN * error
