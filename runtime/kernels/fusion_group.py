"""Fusion groups in operations of torch: a sum of terms, with or without norms, and a neuron.

Fusion groups with the same neuron, terms and T share one kernel for all batch sizes and maps.
Forward and backward pass are derived from the neuron's equations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from typing import NamedTuple

import torch
from torch import Tensor

from danetc.runtime.kernels.compiled import CompiledFunction, shared
from danetc.runtime.kernels.neuron import NeuronKernel, kernel, spread, to_accumulate_dtype


class Term(NamedTuple):
    """An input of a fusion group: True if a norm is applied to it, and True if all steps share its value."""

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
    - ``backward(grad_s, *inputs, *scales, *shifts, *params)`` returns, for each term, the gradient
      of the sum: [T, N, C, L] or, for a static term, summed over time [N, C, L]. Then it returns
      the gradients of the parameters per element [N, C, L], summed over time only. A parameter per
      step is passed as T tensors.
    - ``sums(grad_s, *inputs, *scales, *shifts, *params, *means, *inverses)`` returns [rows, C]: gradients of the
      parameters, and of bias and weight of each norm.
    - ``inputs(grad_s, *inputs, *scales, *shifts, *params, *means, *inverses, *biases, *weights,
      *shares)`` returns the gradients of the inputs. ``biases`` and ``weights`` are results of
      ``sums``, which does not write the gradient of the sum. A share is 1 / M for statistics of a
      batch of M values, else 0.
    """

    forward: Callable[..., Sequence[Tensor]]
    backward: Callable[..., Sequence[Tensor]]
    sums: Callable[..., Sequence[Tensor]]
    inputs: Callable[..., Sequence[Tensor]]


@lru_cache(maxsize=512)
@shared
def fusion_kernel(
    program: str, terms: tuple[Term, ...], steps: int, added: bool = False
) -> CompiledGroup:
    """Return the kernel of a fusion group; ``program`` is the text of its neuron."""
    group = FusionKernel(kernel(program), terms, steps, added)
    varying = tuple(not term.static for term in terms)
    return CompiledGroup(
        group.compiled(group.forward, "forward", varying),
        group.compiled(group.backward, "backward", (True, *varying)),
        group.compiled(group.sums, "sums of the backward pass", (True, *varying)),
        group.compiled(group.input_gradients, "gradients of inputs", (True, *varying)),
    )


@dataclass(frozen=True)
class FusionKernel:
    """A neuron and the sum of terms before it, for T steps. If ``added``, the first term is added to the spikes."""

    neuron: NeuronKernel
    terms: tuple[Term, ...]
    steps: int
    added: bool = False

    def compiled(
        self, run: Callable[..., Sequence[Tensor]], what: str, varying: tuple[bool, ...]
    ) -> CompiledFunction:
        program, form = self.neuron.program, (self.terms, self.steps, self.added)
        terms = " + ".join(map(str, self.terms[self.added :]))
        name = f"{program.name} after {terms}, T = {self.steps}, {what}"
        text = f"{self.neuron.source}\n{program.text()}\n{form}, {what}"
        return CompiledFunction(run, name, varying, text)

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
        shared = _of_terms(grad, grads, self.terms)
        # no sum here: Inductor would fuse its operands into the reduction and write each of them
        return (*[shared[term.static] for term in self.terms], *parts)

    def sums(self, grad: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        if values[-1].dim() < 2:  # channels last
            grad = grad.transpose(-1, -2)
            values = tuple(
                x.transpose(-1, -2) if x.dim() > 1 else x.view(-1, 1) if x.dim() else x
                for x in values
            )
        grads, parts = self._gradients(grad, values)
        rows = [spread(part, grads[0]) for part in parts]  # scheduled parameters have scalars
        for _, own, centred, (_, inverse) in self._norms(grads, values, 2):
            products = [g * x for g, x in zip(own, centred, strict=True)]
            rows += [reduce(torch.add, own), reduce(torch.add, products) * inverse]
        # sum each image first: Inductor keeps operands in the kernel if their order is the same
        return (torch.stack([row.sum(2) for row in rows]).sum(1),)

    def input_gradients(self, grad: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
        grads, _ = self._gradients(grad, values)
        shared = _of_terms(grad, grads, [term for term in self.terms if not term.normed])
        results = [shared.get(term.static, grad) for term in self.terms]  # replaced below for norms
        for place, own, centred, columns in self._norms(grads, values, 5):
            scale, inverse, bias, weight, share = columns
            shift, slope = bias * share, weight * share * inverse
            dx = [
                ((g - shift - x * slope) * scale).to(grad.dtype)
                for g, x in zip(own, centred, strict=True)
            ]
            results[place] = dx[0] if self.terms[place].static else torch.stack(dx)
        return tuple(results)

    def _norms(
        self, grads: Sequence[Tensor], values: Sequence[Tensor], count: int
    ) -> Iterator[tuple[int, Sequence[Tensor], list[Tensor], list[Tensor]]]:
        """Yield, for each norm, the index of its term, the gradients of its output and its centred inputs (for each
        step, or once if static), and its scale with its ``count`` - 1 last columns, which follow the mean."""
        places = [place for place, term in enumerate(self.terms) if term.normed]
        columns = values[len(values) - count * len(places) :]
        for norm, place in enumerate(places):
            mean, *others = columns[norm :: len(places)]
            static, x = self.terms[place].static, values[place]
            steps = map(to_accumulate_dtype, (x,) if static else x.unbind(0))
            centred, scale = [each - mean for each in steps], values[len(self.terms) + norm]
            yield place, [_summed(grads)] if static else grads, centred, [scale, *others]

    def _gradients(self, grad: Tensor, values: Sequence[Tensor]) -> tuple[list[Tensor], ...]:
        """Return the gradient of the sum of terms at each step, and of the parameters per element."""
        inputs, params = self._inputs(values)
        neuron = self.neuron
        history = [neuron.initial_states(inputs[0])]
        for x, now in zip(inputs[:-1], params, strict=False):
            history.append(list(neuron.step(x, *history[-1], *now)[1:]))
        count = len(history[0])
        grad_states: Sequence[Tensor] = [torch.zeros_like(state) for state in history[0]]
        grads: list[Tensor] = []
        sums: list[list[Tensor]] = [[] for _ in neuron.program.learnables]  # last step first
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

    def _inputs(self, values: Sequence[Tensor]) -> tuple[list[Tensor], list[list[Tensor]]]:
        """Return the input of the neuron, summed from the left, and its learnables, for each step."""
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
        rest = iter(values[count + 2 * norms :])  # the parameters, and arguments after them
        params = [
            [next(rest) for _ in range(self.steps)] if item.per_step else [next(rest)] * self.steps
            for item in self.neuron.program.learnables
        ]
        return inputs, [list(now) for now in zip(*params, strict=True)] or [[]] * self.steps


def _summed(grads: Sequence[Tensor]) -> Tensor:
    return reduce(torch.add, reversed(grads))


def _of_terms(grad: Tensor, grads: list[Tensor], terms: Sequence[Term]) -> dict[bool, Tensor]:
    """Return the gradient of a term by whether it is static, for the cases that occur in ``terms``."""
    every = {False: lambda: torch.stack([g.to(grad.dtype) for g in grads])}
    every[True] = lambda: _summed(grads).to(grad.dtype)
    return {static: every[static]() for static in {term.static for term in terms}}


def output_dtype(inputs: Sequence[Tensor]) -> torch.dtype:
    """Return the dtype of a group's output."""
    return reduce(torch.promote_types, [x.dtype for x in inputs])
