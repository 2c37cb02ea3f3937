"""Kernels of regions, compiled by Inductor: C++ on a CPU, Triton on a GPU.

A region is a sum of terms, each a value or a value under a norm, and the neuron behind it. Regions
with the same neuron, terms and T share one kernel, whatever their batch and size; Inductor keeps
compiled kernels on disk. Forward and backward come from the neuron's equations alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
import torch._dynamo
import torch._inductor.exc
from danetc.runtime.kernel import kernel
from torch import Tensor

Run = Callable[..., tuple[Tensor, ...]]

COMPILER_ERRORS = (
    torch._dynamo.exc.TorchDynamoException,
    torch._dynamo.exc.FailOnRecompileLimitHit,
    torch._inductor.exc.InductorError,
)
COMPILE = True
"""Whether kernels are compiled; without it the same functions run operation by operation."""


@dataclass(frozen=True, slots=True)
class Term:
    """An input of a region: under a norm or not, and whether it is the same at all steps."""

    normed: bool
    static: bool


@dataclass(frozen=True, slots=True)
class RegionKernel:
    """Forward and backward of a region.

    Inputs are [T, N, C, L] or, where static, [N, C, L]; scales and shifts of norms are [C, 1].

    ``forward(*inputs, *scales, *shifts, *params)`` gives ``(s [T, N, C, L],)``.
    ``backward(grad_s, *inputs, *scales, *shifts, *params)`` gives the gradient of the sum at each
    step [T, N, C, L] (if a term varies), its sum over time [N, C, L] (if a term is static), and
    those of the parameters.
    """

    forward: Run
    backward: Run


@lru_cache(maxsize=512)
def region_kernel(program: str, terms: tuple[Term, ...], steps: int) -> RegionKernel:
    """The kernel of a region; ``program`` is the text of its neuron."""
    neuron = kernel(program)
    normed = [i for i, term in enumerate(terms) if term.normed]
    count, norms = len(terms), len(normed)
    varies = any(not term.static for term in terms)
    static = any(term.static for term in terms)

    def wide(x: Tensor) -> Tensor:
        return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x

    def currents(values: Sequence[Tensor]) -> list[Tensor]:
        """The neuron's input at each step, summed from the left as the spec has it."""
        inputs = values[:count]
        scales = values[count : count + norms]
        shifts = values[count + norms : count + 2 * norms]
        result = []
        fixed: dict[int, Tensor] = {}
        for t in range(steps):
            parts = []
            for i, term in enumerate(terms):
                if i in fixed:
                    parts.append(fixed[i])
                    continue
                part = wide(inputs[i] if term.static else inputs[i][t])
                if term.normed:
                    j = normed.index(i)
                    part = part * scales[j] + shifts[j]
                if term.static:
                    fixed[i] = part
                parts.append(part)
            total = parts[0]
            for part in parts[1:]:
                total = total + part
            result.append(total)
        return result

    def forward(*values: Tensor) -> tuple[Tensor, ...]:
        params = values[count + 2 * norms :]
        inputs = currents(values)
        states = neuron.initial_states(inputs[0])
        spikes = []
        for x in inputs:
            s, *states = neuron.step(x, *states, *params)
            spikes.append(s.to(values[0].dtype))
        return (torch.stack(spikes),)

    def backward(grad: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        params = values[count + 2 * norms :]
        inputs = currents(values)
        history = [neuron.initial_states(inputs[0])]
        for x in inputs[:-1]:
            history.append(list(neuron.step(x, *history[-1], *params)[1:]))
        grad_states: Sequence[Tensor] = [torch.zeros_like(state) for state in history[0]]
        grads: list[Tensor] = []
        sums: list[Tensor] = []
        for t in range(steps - 1, -1, -1):
            given = wide(grad[t])
            result = neuron.step_vjp(inputs[t], *history[t], *params, given, *grad_states)
            grads.append(result[0])
            grad_states = result[1 : 1 + len(history[0])]
            parts = result[1 + len(history[0]) :]
            sums = [a + b for a, b in zip(sums, parts, strict=True)] if sums else list(parts)
        results = []
        dtype = grad.dtype
        if varies:
            results.append(torch.stack([g.to(dtype) for g in reversed(grads)]))
        if static:
            total = grads[0]
            for part in grads[1:]:
                total = total + part
            results.append(total.to(dtype))
        return (*results, *sums)

    name = neuron.program.name
    return RegionKernel(
        _compiled(forward, f"{name}, forward"), _compiled(backward, f"{name}, backward")
    )


def _compiled(function: Run, name: str) -> Run:
    """The function compiled at its first call; as it is, with a notice, if that fails."""
    # The compiler counts recompilations by code object, and all regions share this module's: each
    # kernel gets a copy of its own.
    function.__code__ = function.__code__.replace(co_name=name)
    fast: Run | None = torch.compile(function, dynamic=True, fullgraph=True) if COMPILE else None

    def run(*args: Any) -> tuple[Tensor, ...]:
        nonlocal fast
        if fast is None:
            return function(*args)
        try:
            return fast(*args)
        except COMPILER_ERRORS as error:
            warnings.warn(
                f"the kernel of {name} could not be compiled and runs uncompiled: "
                f"{str(error).splitlines()[0]}",
                RuntimeWarning,
                stacklevel=2,
            )
            fast = None
            return function(*args)

    return run
