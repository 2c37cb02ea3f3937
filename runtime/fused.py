"""Neurons of the fused backend, each with the sum and the norms before it as one kernel.

A region ``norm -> spike``, ``norm + shortcut -> spike`` or ``a + b -> spike`` is one layer. Its
forward pass takes the batch statistics and then runs one compiled kernel over the elements; for
the backward pass it keeps the inputs of its norms, and its whole-numbered inputs as bits, and
recomputes normalised values, membrane potentials and slopes from them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from danetc.runtime.moments import moments
from danetc.runtime.neuron import Neuron
from danetc.runtime.norm import StaticBatchNorm2d
from danetc.runtime.ops import is_timeless
from danetc.runtime.packing import Kept
from danetc.runtime.recompute import Note, Output, tape
from danetc.runtime.region import RegionKernel, Term, region_kernel
from danetc.runtime.sync import global_statistics, input_gradient, is_synchronised
from torch import Tensor, fx, nn

Norm = nn.BatchNorm2d | nn.BatchNorm1d

RUNNING, BATCH, SYNC = "running", "batch", "batches of all processes"
"""Where a norm's statistics come from."""


def _mode(norm: Norm) -> str:
    if not norm.training:
        return RUNNING
    return SYNC if is_synchronised(norm) else BATCH


@dataclass(frozen=True, slots=True)
class _Call:
    """What one call of a region is, its tensors apart.

    ``modes`` says of each norm where its statistics come from, ``last`` that channels come last in
    memory, ``timeless`` that the output does not vary either, ``known`` is the output where a first
    run has noted it.
    """

    kernel: RegionKernel
    terms: tuple[Term, ...]
    steps: int
    bits: tuple[int, ...]
    modes: tuple[str, ...]
    last: bool
    timeless: bool
    known: Output | None

    def split(self, tensors: Sequence[Tensor]) -> _Tensors:
        count, norms = len(self.terms), len(self.modes)
        ends = [count + norms * place for place in range(5)]
        parts = [tensors[a:b] for a, b in zip([0, *ends], [*ends, None], strict=True)]
        return _Tensors(*parts)


@dataclass(frozen=True, slots=True)
class _Tensors:
    inputs: Sequence[Tensor]
    weights: Sequence[Tensor]
    biases: Sequence[Tensor]
    means: Sequence[Tensor]
    inverses: Sequence[Tensor]
    params: Sequence[Tensor]

    def arguments(self, call: _Call, inputs: Sequence[Tensor]) -> list[Tensor]:
        """What the kernel takes; norms as x * scale + shift, as torch computes them on a CPU."""
        scales = [i * w for i, w in zip(self.inverses, self.weights, strict=True)]
        shifts = [b - m * a for b, m, a in zip(self.biases, self.means, scales, strict=True)]
        affine = [*scales, *shifts]
        if not call.last:
            affine = [value.unsqueeze(1) for value in affine]
        flat = [flat_view(x, term, call.last) for x, term in zip(inputs, call.terms, strict=True)]
        return [*flat, *affine, *self.params]


def _run(call: _Call, tensors: Sequence[Tensor]) -> Tensor:
    """The output of a region, [T, N, ...]."""
    parts = call.split(tensors)
    inputs = parts.inputs
    shape = next(
        (x.shape for x, term in zip(inputs, call.terms, strict=True) if not term.static),
        inputs[0].shape if call.timeless else (call.steps, *inputs[0].shape),
    )
    if call.known is not None:
        return call.known.restore(inputs[0], shape).view(shape)
    (out,) = call.kernel.forward(*parts.arguments(call, inputs))
    if call.last:
        return out.view(*shape[:-3], *shape[-2:], shape[-3]).movedim(-1, -3)
    return out.view(shape)


class _Region(torch.autograd.Function):
    """A region with its backward pass."""

    @staticmethod
    def forward(ctx: Any, call: _Call, *tensors: Tensor) -> Tensor:
        out = _run(call, tensors)
        inputs = tensors[: len(call.terms)]
        ctx.call = call
        ctx.kept = [Kept(x, bits) for x, bits in zip(inputs, call.bits, strict=True)]
        # A segment that is to run again keeps its own inputs, not what those were joined of.
        whole = tape() is not None
        packed: list[Tensor] = []
        for kept, x in zip(ctx.kept, inputs, strict=True):
            packed += [kept.keep(x)] if whole else kept.split(x)
        ctx.save_for_backward(*packed, *tensors[len(inputs) :])
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        call: _Call = ctx.call
        saved = iter(ctx.saved_tensors)
        inputs = [kept.join([*islice(saved, kept.count)]) for kept in ctx.kept]
        parts = call.split([*inputs, *saved])
        arguments = parts.arguments(call, inputs)
        grad = grads[0].unsqueeze(0) if call.timeless else grads[0]
        grad = flat_view(grad, Term(normed=False, static=False), call.last)
        results = list(call.kernel.backward(grad, *arguments))
        varying = None if all(term.static for term in call.terms) else results.pop(0)
        static = results.pop(0) if any(term.static for term in call.terms) else None
        grad_inputs, grad_weights, grad_biases = [], [], []
        norm = 0
        for x, flat, term in zip(inputs, arguments, call.terms, strict=False):
            source = static if term.static else varying
            assert source is not None
            source = source.to(x.dtype)
            if term.normed:
                mean, inverse = parts.means[norm], parts.inverses[norm]
                dx, dw, db = _norm_backward(
                    _maps(source, call.last), _maps(flat, call.last), parts.weights[norm], mean,
                    inverse, call.modes[norm],
                )  # fmt: skip
                source = _unmapped(dx, flat, call.last)
                grad_weights.append(dw)
                grad_biases.append(db)
                norm += 1
            grad_inputs.append(_unflat(source, x, call.last))
        none = [None] * (2 * norm)
        return (None, *grad_inputs, *grad_weights, *grad_biases, *none, *results)


def _norm_backward(
    grad: Tensor, x: Tensor, weight: Tensor, mean: Tensor, inverse: Tensor, mode: str
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of a norm's input, weight and bias."""
    if mode == SYNC:
        return input_gradient(grad, x, weight, mean, inverse)
    # With eps in it; statistics of the batch are not taken from there.
    variance = inverse if mode == BATCH else inverse.reciprocal().square()
    dx, dw, db = torch.ops.aten.native_batch_norm_backward(
        grad, x, weight, mean, variance, mean, inverse, mode == BATCH, 0.0, [True] * 3
    )
    return dx, dw, db


# -- layouts ---------------------------------------------------------------------------------------


def is_last(x: Tensor) -> bool:
    """Whether channels come last in memory: the strides of torch.channels_last, with T or not."""
    return x.dim() > 3 and x.stride(-3) == 1 and not x.is_contiguous()


def flat_view(x: Tensor, term: Term, last: bool) -> Tensor:
    """[N, C, L] for a static input, [T, N, C, L] for one that varies; L = 1 for vectors.

    With channels last [N, L, C] or [T, N, L, C]. Contiguous; a copy only where ``x`` is laid out
    otherwise.
    """
    lead = x.shape[: 1 if term.static else 2]
    channels = x.shape[len(lead)]
    if last:
        return x.movedim(len(lead), -1).reshape(*lead, -1, channels).contiguous()
    if x.is_contiguous():
        return x.view(*lead, channels, -1)  # the common case, and each call counts
    return x.reshape(*lead, channels, -1).contiguous()


def _unflat(flat: Tensor, like: Tensor, last: bool) -> Tensor:
    """The other way round: in the shape of ``like``."""
    if not last:
        return flat.view(like.shape)
    *lead, channels, height, width = like.shape
    return flat.view(*lead, height, width, channels).movedim(-1, len(lead))


def _maps(flat: Tensor, last: bool) -> Tensor:
    """[T * N, C, L, 1] of what ``flat_view`` gives, as the norms of torch take it."""
    if last:
        return flat.view(-1, *flat.shape[-2:], 1).transpose(1, 2)
    return flat.view(-1, *flat.shape[-2:], 1)


def _unmapped(maps: Tensor, flat: Tensor, last: bool) -> Tensor:
    return (maps.transpose(1, 2) if last else maps).contiguous().view(flat.shape)


# -- the layer -------------------------------------------------------------------------------------


class FusedNeuron(Neuron):
    """A neuron with the sum and the norms before it.

    Its inputs are the terms of the sum, from the left; ``norms`` has for each of them the norm it
    goes through, or None. The norms stand elsewhere in the model, where the spec has them, and are
    not registered again here. ``bits`` says in how many bits each input can be kept (0: as it is),
    ``output_bits`` the same of the output. Run again by ``recompute``, it gives the output that it
    noted and takes no statistics anew.

    Where torch.compile, torch.export or fx trace the model, norms, sum and neuron are called one by
    one: the compiler fuses them itself, and a trace has all parameters.
    """

    def __init__(
        self,
        program: str,
        steps: int,
        rank: int,
        norms: Sequence[Norm | None],
        bits: Sequence[int],
        output_bits: int = 0,
    ) -> None:
        super().__init__(program, steps, rank)
        self._norms = tuple(norms)
        self._bits = tuple(bits)
        self._output_bits = output_bits

    def replace_norms(self, new: Callable[[Norm], Norm]) -> None:
        """Go through ``new(norm)`` in place of each norm."""
        self._norms = tuple(norm if norm is None else new(norm) for norm in self._norms)

    def forward(self, *inputs: Tensor) -> Tensor:
        if torch.compiler.is_compiling() or any(isinstance(x, fx.Proxy) for x in inputs):
            return super().forward(self._sum(inputs))
        static = [x.dim() == self.rank + 1 for x in inputs]
        lengths = {x.shape[0] for x, same in zip(inputs, static, strict=True) if not same}
        timeless = not lengths and is_timeless(inputs[0], self.rank, self.program)
        steps = lengths.pop() if lengths else 1 if timeless else self.steps
        terms = tuple(
            Term(norm is not None, same) for norm, same in zip(self._norms, static, strict=True)
        )
        norms = [norm for norm in self._norms if norm is not None]
        notes = tape()
        known = None
        if notes is not None and notes.replaying:
            note = notes.read()
            means, inverses, known = note.means, note.inverses, note.output
        else:
            means, inverses = self._statistics(inputs, static)
        call = _Call(
            self._kernel(terms, steps),
            terms,
            steps,
            self._bits,
            tuple(map(_mode, norms)),
            any(is_last(x) for x in inputs),
            timeless,
            known,
        )
        weights = [norm.weight for norm in norms]
        biases = [norm.bias for norm in norms]
        tensors = [*inputs, *weights, *biases, *means, *inverses, *self.params()]
        wanted = torch.is_grad_enabled() and any(x.requires_grad for x in tensors)
        out: Tensor = _Region.apply(call, *tensors) if wanted else _run(call, tensors)
        if notes is not None and not notes.replaying:
            notes.write(Note(means, inverses, Output.of(out, self._output_bits)))
        return out

    def _kernel(self, terms: tuple[Term, ...], steps: int) -> RegionKernel:
        return region_kernel(self.program, terms, steps)

    def current(self, *inputs: Tensor) -> Tensor:
        return self._sum([x.unsqueeze(0) for x in inputs]).squeeze(0)

    def _sum(self, inputs: Sequence[Tensor]) -> Tensor:
        """What drives the neuron, operation by operation."""
        return self._driven(inputs, self._norms)

    def _driven(self, inputs: Sequence[Tensor], norms: Sequence[Norm | None]) -> Tensor:
        terms = []
        for x, norm in zip(inputs, norms, strict=True):
            if norm is None or isinstance(norm, StaticBatchNorm2d):
                terms.append(x if norm is None else norm(x))
            else:
                flat = x.flatten(0, -self.rank - 1)
                terms.append(norm(flat).unflatten(0, x.shape[: -self.rank]))
        total: Tensor = terms[0]
        for term in terms[1:]:
            total = total + term
        return total

    def _statistics(
        self, inputs: Sequence[Tensor], static: Sequence[bool]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Mean and inverse deviation for each norm; in training the running ones move."""
        means, inverses = [], []
        for x, norm, same in zip(inputs, self._norms, static, strict=True):
            if norm is not None:
                maps = x.detach().flatten(0, -self.rank - 1)
                mean, inverse = statistics(norm, maps, same)
                means.append(mean)
                inverses.append(inverse)
        return means, inverses


def statistics(norm: Norm, x: Tensor, static: bool) -> tuple[Tensor, Tensor]:
    """Mean and 1/sqrt(var + eps) per channel that a norm applies to x [M, C, ...].

    In training those of the batch, and the running ones move; a static input counts T times.
    """
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    assert norm.momentum is not None
    if not norm.training:
        return norm.running_mean, torch.rsqrt(norm.running_var + norm.eps)
    count = x.numel() // x.shape[1]
    whole = count * norm.steps if static and isinstance(norm, StaticBatchNorm2d) else count
    if whole == 1 and not is_synchronised(norm):
        raise ValueError(f"training needs more than one value a channel, not {list(x.shape)}")
    norm.num_batches_tracked.add_(1)
    if is_synchronised(norm):
        repeats = whole // count
        return global_statistics(
            x, norm.running_mean, norm.running_var, norm.momentum, norm.eps, repeats
        )
    known = moments(x)
    if known is not None:
        mean, var = known
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(var * (whole / (whole - 1)), norm.momentum)
        return mean, torch.rsqrt(var + norm.eps)
    moved = norm.running_var if whole == count else torch.zeros_like(norm.running_var)
    mean, var = torch.ops.aten.batch_norm_update_stats(x, norm.running_mean, moved, norm.momentum)
    if whole != count:
        norm.running_var.mul_(1 - norm.momentum)
        if count > 1:  # a single value has the variance 0, and no unbiased one
            unbias = (count - 1) / count * whole / (whole - 1)
            norm.running_var.add_(moved, alpha=unbias)
    return mean, torch.rsqrt(var + norm.eps)
