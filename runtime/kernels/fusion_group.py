"""The arithmetic of a fusion group: a sum of terms, each a value or a value under a norm, and a neuron.

Fusion groups with the same neuron, terms and T share one kernel, whatever their batch and size. Forward
and backward come from the neuron's equations alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import torch
from torch import Tensor

from danetc.runtime.kernels.compiled import CompiledFunction
from danetc.runtime.kernels.neuron import NeuronKernel, kernel, total, wide


@dataclass(frozen=True, slots=True)
class Term:
    """An input of a fusion group: under a norm or not, and whether it is the same at all steps."""

    normed: bool
    static: bool

    def __str__(self) -> str:
        return f"{'static ' if self.static else ''}{'norm' if self.normed else 'value'}"


@dataclass(frozen=True, slots=True)
class CompiledGroup:
    """Forward and backward of a fusion group.

    Inputs are [T, N, C, L] or, where static, [N, C, L]; scales and shifts of norms are [C, 1].
    Or channels come last, [T, N, L, C], and scales and shifts are [C].

    ``forward(*inputs, *scales, *shifts, *params)`` gives ``(s [T, N, C, L],)``.
    ``backward(grad_s, *inputs, *scales, *shifts, *params)`` gives the gradient of the sum at each
    step [T, N, C, L] (if a term varies), its sum over time [N, C, L] (if a term is static), and
    those of the parameters. A parameter that each step has comes as T, one behind the other. Half
    precision is computed in float32.
    """

    forward: Callable[..., Sequence[Tensor]]
    backward: Callable[..., Sequence[Tensor]]


@lru_cache(maxsize=512)
def fusion_kernel(program: str, terms: tuple[Term, ...], steps: int) -> CompiledGroup:
    """The kernel of a fusion group; ``program`` is the text of its neuron."""
    group = FusionKernel(kernel(program), terms, steps)
    name = f"{group.neuron.program.name} behind {' + '.join(map(str, terms))}, T = {steps}"
    varying = tuple(not term.static for term in terms)
    text = f"{group.text}, "

    def kernel_of(
        pass_: str, run: Callable[..., Sequence[Tensor]], *more: bool
    ) -> CompiledFunction:
        recipe = partial(_kernel_of, program, terms, steps, pass_)
        return CompiledFunction(
            run, f"{name}, {pass_}", (*more, *varying), text + pass_, recipe=recipe
        )

    return CompiledGroup(
        kernel_of("forward", group.forward), kernel_of("backward", group.backward, True)
    )


def _kernel_of(program: str, terms: tuple[Term, ...], steps: int, pass_: str) -> CompiledFunction:
    found = getattr(fusion_kernel(program, terms, steps), pass_)
    assert isinstance(found, CompiledFunction)
    return found


@dataclass(frozen=True)
class FusionKernel:
    """A neuron behind a sum of terms, for T steps, in operations of torch."""

    neuron: NeuronKernel
    terms: tuple[Term, ...]
    steps: int

    @property
    def text(self) -> str:
        """What it computes, whole."""
        return f"{self.neuron.source}\n{self.neuron.program.text()}\n{self.terms}, {self.steps}"

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        inputs, params = self.currents(values)
        dtype = output_dtype(values[: len(self.terms)])
        states = self.neuron.initial_states(inputs[0])
        spikes = []
        for x, now in zip(inputs, params, strict=True):
            s, *states = self.neuron.step(x, *states, *now)
            spikes.append(s.to(dtype))
        return (torch.stack(spikes),)

    def backward(self, grad: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        inputs, params = self.currents(values)
        neuron = self.neuron
        history = [neuron.initial_states(inputs[0])]
        for x, now in zip(inputs[:-1], params, strict=False):
            history.append(list(neuron.step(x, *history[-1], *now)[1:]))
        count = len(history[0])
        grad_states: Sequence[Tensor] = [torch.zeros_like(state) for state in history[0]]
        grads: list[Tensor] = []
        sums: list[list[Tensor]] = [[] for _ in neuron.program.learnables]  # the last step first
        outputs = grad.unbind(0)
        for t in range(self.steps - 1, -1, -1):
            result = neuron.step_vjp_apart(
                inputs[t], *history[t], *params[t], wide(outputs[t]), *grad_states
            )
            grads.append(result[0])
            grad_states, parts = result[1 : 1 + count], result[1 + count :]
            for item, part, known in zip(neuron.program.learnables, parts, sums, strict=True):
                if item.per_step or not known:
                    known.append(part)
                else:
                    known[0] = known[0] + part
        results = []
        if any(not term.static for term in self.terms):
            results.append(torch.stack([g.to(grad.dtype) for g in reversed(grads)]))
        if any(term.static for term in self.terms):
            results.append(_sum(grads).to(grad.dtype))
        for place, known in enumerate(sums):
            # Summed over the steps first, so that all of a parameter's gradient is one reduction.
            results += [total(part, params[t][place]) for t, part in enumerate(reversed(known))]
        return tuple(results)

    def currents(self, values: Sequence[Tensor]) -> tuple[list[Tensor], list[list[Tensor]]]:
        """The neuron's input at each step, summed from the left as the spec has it; its params there.

        A varying value may come as a tuple of its steps.
        """
        count, norms = len(self.terms), sum(term.normed for term in self.terms)
        inputs, affine = values[:count], values[count : count + 2 * norms]
        factors = iter(zip(affine[:norms], affine[norms:], strict=True))
        columns = []
        for x, term in zip(inputs, self.terms, strict=True):
            steps = (x,) if term.static else x if isinstance(x, tuple) else x.unbind(0)
            parts = [wide(part) for part in steps]
            if term.normed:
                scale, shift = next(factors)
                parts = [part * scale + shift for part in parts]
            columns.append(parts * self.steps if term.static else parts)
        inputs_at = [_sum(parts) for parts in zip(*columns, strict=True)]
        return inputs_at, self._params(values[count + 2 * norms :])

    def _params(self, values: Sequence[Tensor]) -> list[list[Tensor]]:
        """The learnables of each step, of all: those that each step has come one by one."""
        rest = iter(values)
        columns = [
            [next(rest) for _ in range(self.steps)] if item.per_step else [next(rest)] * self.steps
            for item in self.neuron.program.learnables
        ]
        return [list(now) for now in zip(*columns, strict=True)] or [[]] * self.steps


def _sum(parts: Sequence[Tensor]) -> Tensor:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def output_dtype(inputs: Sequence[Tensor]) -> torch.dtype:
    """The type of what a group gives."""
    dtype = inputs[0].dtype
    for x in inputs[1:]:
        dtype = torch.promote_types(dtype, x.dtype)
    return dtype


@lru_cache(maxsize=512)
def step_kernel(program: str, terms: tuple[Term, ...], added: bool) -> CompiledFunction:
    """The kernel of one time step of a fusion group: takes its inputs [N, C, L] and states, then scales,
    shifts and parameters; gives the output and the states for the next step. If ``added``, the first
    term is added to the spikes.
    """
    group = FusionKernel(kernel(program), terms[added:], 1)
    count = len(terms)
    behind = count + len(group.neuron.program.states)

    def forward(*values: Tensor) -> tuple[Tensor, ...]:
        inputs, states = values[:count], values[count:behind]
        (current,), (params,) = group.currents((*inputs[added:], *values[behind:]))
        s, *after = group.neuron.step(current, *states, *params)
        s = s.to(output_dtype(inputs[added:]))
        return (inputs[0] + s if added else s, *after)

    name = f"{group.neuron.program.name} behind {' + '.join(map(str, terms[added:]))}, a step"
    text = f"{group.text}, {terms}, one step, added {added}"
    recipe = partial(step_kernel, program, terms, added)
    return CompiledFunction(forward, name, (False,) * behind, text, recipe=recipe)
