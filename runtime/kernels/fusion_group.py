"""The arithmetic of a fusion group in operations of torch: a sum of terms, with or without norms, and a neuron.

Fusion groups with the same neuron, terms and T share one kernel, whatever their batch and size. Forward and
backward pass follow from the neuron's equations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from typing import Any, NamedTuple

import torch
from torch import Tensor

from danetc.runtime.kernels.compiled import REDUCTION, CompiledFunction
from danetc.runtime.kernels.neuron import NeuronKernel, kernel, spread, to_accumulate_dtype


class Term(NamedTuple):
    """An input of a fusion group: whether it goes through a norm, and whether it is the same at all steps."""

    normed: bool
    static: bool

    def __str__(self) -> str:
        return f"{'static ' if self.static else ''}{'norm' if self.normed else 'value'}"


@dataclass(frozen=True, slots=True)
class CompiledGroup:
    """Forward and backward pass of a fusion group.

    Inputs are [T, N, C, L] or, if static, [N, C, L]; scales and shifts of norms are [C, 1]. With channels last
    they are [T, N, L, C], [N, L, C] and [C]. Half precision is computed in float32.

    - ``forward(*inputs, *scales, *shifts, *params)`` returns ``(s [T, N, C, L],)``.
    - ``backward(grad_s, *inputs, *scales, *shifts, *params)`` returns the gradient of the sum of terms at each
      step [T, N, C, L] (if a term varies), its sum over time [N, C, L] (if a term is static), and those of the
      parameters per element [N, C, L], summed over time alone. A parameter per step is passed as T tensors.
    - ``sums(grad_s, *inputs, *scales, *shifts, *means, *inverses, *params)`` returns, [rows, C], for each norm
      the gradients of its bias and its weight, and then those of the parameters.
    - ``inputs(grad_s, *inputs, *scales, *shifts, *means, *inverses, *biases, *weights, *shares, *params)`` returns
      what ``backward`` does for terms without a norm, and then the gradient of each input with a norm. ``biases``
      and ``weights`` are from ``sums``; a share is 1 / M for statistics of a batch of M values, else 0.

    Both of the last compute the potentials, which takes one reading of the inputs more, but no gradient of the
    sum is written and read.
    """

    forward: Callable[..., Sequence[Tensor]]
    backward: Callable[..., Sequence[Tensor]]
    sums: Callable[..., Sequence[Tensor]]
    inputs: Callable[..., Sequence[Tensor]]


@lru_cache(maxsize=512)
def fusion_kernel(
    program: str, terms: tuple[Term, ...], steps: int, added: bool = False
) -> CompiledGroup:
    """Return the kernel of a fusion group; ``program`` is the text of its neuron."""
    group = FusionKernel(kernel(program), terms, steps, added)
    varying = tuple(not term.static for term in terms)
    return CompiledGroup(
        group.compiled(group.forward, "forward", varying),
        group.compiled(group.backward, "backward", (True, *varying)),
        group.compiled(group.sums, "sums of the backward pass", (True, *varying), REDUCTION),
        group.compiled(group.input_gradients, "gradients of inputs", (True, *varying)),
    )


@dataclass(frozen=True)
class FusionKernel:
    """A neuron and the sum of terms before it, for T steps; if ``added``, the first term is added to the spikes
    instead."""

    neuron: NeuronKernel
    terms: tuple[Term, ...]
    steps: int
    added: bool = False

    def compiled(
        self,
        run: Callable[..., Sequence[Tensor]],
        what: str,
        varying: tuple[bool, ...],
        settings: Mapping[str, Any] | None = None,
    ) -> CompiledFunction:
        program, form = self.neuron.program, (self.terms, self.steps, self.added)
        terms = " + ".join(map(str, self.terms[self.added :]))
        name = f"{program.name} after {terms}, T = {self.steps}, {what}"
        text = f"{self.neuron.source}\n{program.text()}\n{form}, {what}"
        return CompiledFunction(run, name, varying, text, settings)

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        inputs, params = self._inputs(values)
        dtype = output_dtype(values[self.added : len(self.terms)])
        states = self.neuron.initial_states(inputs[0])
        spikes = []
        for x, now in zip(inputs, params, strict=True):
            s, *states = self.neuron.step(x, *states, *now)
            spikes.append(s.to(dtype))
        out = torch.stack(spikes)
        return (values[0] + out if self.added else out,)

    def backward(self, grad: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        grads, parts = self._gradients(grad, values)
        # Inductor would fuse the operands of a further sum into the reduction, and write each of them.
        return tuple(self._of_terms(grad, grads, self.terms) + parts)

    def sums(self, grad: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        if values[len(self.terms)].dim() < 2:  # channels last
            grad = grad.transpose(-1, -2)
            values = tuple(
                x.transpose(-1, -2) if x.dim() > 1 else x.view(-1, 1) if x.dim() else x
                for x in values
            )
        values, columns = self._split(values, 2)
        grads, parts = self._gradients(grad, values)
        parts = [spread(part, grads[0]) for part in parts]  # numbers for those that are scheduled
        rows = []
        for _, _, own, normed in self._norms(grads, values, columns):
            products = [g * x for g, x in zip(own, normed, strict=True)]
            rows += [reduce(torch.add, own), reduce(torch.add, products)]
        # First the sum of each image: its operands stay in the kernel, as they have the same order.
        return (torch.stack([row.sum(2) for row in (*rows, *parts)]).sum(1),)

    def input_gradients(self, grad: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        values, columns = self._split(values, 5)
        grads, _ = self._gradients(grad, values)
        results = self._of_terms(grad, grads, [term for term in self.terms if not term.normed])
        for term, (scale, bias, weight, share), own, normed in self._norms(grads, values, columns):
            dx = [
                ((g - bias * share - x * (weight * share)) * scale).to(grad.dtype)
                for g, x in zip(own, normed, strict=True)
            ]
            results.append(dx[0] if term.static else torch.stack(dx))
        return tuple(results)

    def _split(
        self, values: tuple[Tensor, ...], count: int
    ) -> tuple[tuple[Tensor, ...], list[tuple[Tensor, ...]]]:
        """``values`` as ``_inputs`` takes them, without further arguments of norms; and scale, the mean and the
        further ``count`` of each norm."""
        norms = sum(term.normed for term in self.terms)
        start = len(self.terms) + 2 * norms
        end = start + count * norms
        scales = values[len(self.terms) : len(self.terms) + norms]
        more = [values[place : place + norms] for place in range(start, end, norms)]
        return (*values[:start], *values[end:]), [*zip(scales, *more, strict=True)]

    def _norms(
        self,
        grads: Sequence[Tensor],
        values: Sequence[Tensor],
        columns: Sequence[tuple[Tensor, ...]],
    ) -> Iterator[tuple[Term, tuple[Tensor, ...], Sequence[Tensor], list[Tensor]]]:
        """For each norm its term, its columns without mean and inverse, and gradients and inputs of its output
        before scale and shift, at each step or, if static, at one."""
        normed = [(x, term) for x, term in zip(values, self.terms, strict=False) if term.normed]
        for (x, term), (scale, mean, inverse, *rest) in zip(normed, columns, strict=True):
            steps = (x,) if term.static else x.unbind(0)
            yield (
                term,
                (scale, *rest),
                [_summed(grads)] if term.static else grads,
                [(to_accumulate_dtype(each) - mean) * inverse for each in steps],
            )

    def _gradients(
        self, grad: Tensor, values: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """The gradient of the sum of terms at each step, and those of the parameters per element."""
        inputs, params = self._inputs(values)
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
            result = neuron.step_vjp_per_element(
                inputs[t], *history[t], *params[t], to_accumulate_dtype(outputs[t]), *grad_states
            )
            grads.append(result[0])
            grad_states, parts = result[1 : 1 + count], result[1 + count :]
            for item, part, known in zip(neuron.program.learnables, parts, sums, strict=True):
                if item.per_step or not known:
                    known.append(part)
                else:
                    known[0] = known[0] + part
        return grads[::-1], [part for known in sums for part in reversed(known)]

    def _of_terms(
        self, grad: Tensor, grads: Sequence[Tensor], terms: Sequence[Term]
    ) -> list[Tensor]:
        """The gradient of varying terms, if there are any, and that of static ones."""
        results = []
        if any(not term.static for term in terms):
            results.append(torch.stack([g.to(grad.dtype) for g in grads]))
        if any(term.static for term in terms):
            results.append(_summed(grads).to(grad.dtype))
        return results

    def _inputs(self, values: Sequence[Tensor]) -> tuple[list[Tensor], list[list[Tensor]]]:
        """The neuron's input at each step, summed from the left, and its learnables there."""
        count, norms = len(self.terms), sum(term.normed for term in self.terms)
        affine = values[count : count + 2 * norms]
        factors = iter(zip(affine[:norms], affine[norms:], strict=True))
        columns = []
        for x, term in zip(values[self.added : count], self.terms[self.added :], strict=True):
            parts = [to_accumulate_dtype(part) for part in ((x,) if term.static else x.unbind(0))]
            if term.normed:
                scale, shift = next(factors)
                parts = [part * scale + shift for part in parts]
            columns.append(parts * self.steps if term.static else parts)
        inputs = [reduce(torch.add, parts) for parts in zip(*columns, strict=True)]
        rest = iter(values[count + 2 * norms :])
        params = [
            [next(rest) for _ in range(self.steps)] if item.per_step else [next(rest)] * self.steps
            for item in self.neuron.program.learnables
        ]
        return inputs, [list(now) for now in zip(*params, strict=True)] or [[]] * self.steps


def _summed(grads: Sequence[Tensor]) -> Tensor:
    return reduce(torch.add, reversed(grads))


def output_dtype(inputs: Sequence[Tensor]) -> torch.dtype:
    """Return the dtype of a group's output."""
    return reduce(torch.promote_types, [x.dtype for x in inputs])
