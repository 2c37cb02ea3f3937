"""Layers of the fused backend: they compute what the plain ones do and keep far less of it.

A region ``norm -> spike``, ``norm + shortcut -> spike`` or ``a + b -> spike`` is one layer. Its
forward pass takes the batch statistics and then runs one compiled kernel over the elements; for
the backward pass it keeps the inputs of its norms, and its whole-numbered inputs as bits, and
recomputes normalised values, membrane potentials and slopes from them. Convolutions and poolings
of spikes and counts keep their input in as many bits as it needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from danetc.runtime.compiled import Term, region_kernel
from danetc.runtime.leaf import Leaf
from danetc.runtime.neuron import Neuron
from danetc.runtime.norm import StaticBatchNorm2d
from danetc.runtime.packing import Kept
from danetc.runtime.recompute import Note, Output, tape
from torch import Tensor, nn
from torch.nn import functional as F

Norm = nn.BatchNorm2d | nn.BatchNorm1d


def statistics(norm: Norm, x: Tensor, static: bool) -> tuple[Tensor, Tensor]:
    """Mean and 1/sqrt(var + eps) per channel that a norm applies to x [M, C, L].

    In training those of the batch, and the running ones move; a static input counts T times.
    """
    assert norm.running_mean is not None
    assert norm.running_var is not None
    if not norm.training:
        return norm.running_mean, torch.rsqrt(norm.running_var + norm.eps)
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked.add_(1)
    momentum = 0.1 if norm.momentum is None else norm.momentum
    count = x.numel() // x.shape[1]
    whole = count * norm.steps if static and isinstance(norm, StaticBatchNorm2d) else count
    if whole == 1:
        raise ValueError(f"training needs more than one value a channel, not {list(x.shape)}")
    mean, var = torch.ops.aten.batch_norm_update_stats(x, None, None, momentum)
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), momentum)
    unbiased = var.to(norm.running_var.dtype) * (whole / (whole - 1))
    norm.running_var.lerp_(unbiased, momentum)
    return mean, torch.rsqrt(var + norm.eps)


class _Region(torch.autograd.Function):
    """Sum of terms and neuron.

    ``spec`` is (program, terms, steps, bits per input, training, the output where it is known).
    """

    @staticmethod
    def forward(ctx: Any, spec: Any, *tensors: Tensor) -> Tensor:
        program, terms, steps, bits, _, known = spec
        count = len(terms)
        norms = sum(term.normed for term in terms)
        inputs, weights, biases, means, inverses, params = _split(
            tensors, (count, norms, norms, norms, norms)
        )
        varying = next((x.shape for x, t in zip(inputs, terms, strict=True) if not t.static), None)
        shape = varying if varying is not None else (steps, *inputs[0].shape)
        if known is None:
            scales, shifts = _affine(weights, biases, means, inverses)
            flat = [_flat(x, term) for x, term in zip(inputs, terms, strict=True)]
            (out,) = region_kernel(program, terms, steps).forward(*flat, *scales, *shifts, *params)
        else:
            out = known.restore(inputs[0], shape)
        ctx.spec = spec[:-1]
        kept = [Kept(x, b) for x, b in zip(inputs, bits, strict=True)]
        ctx.kept = kept
        packed = [k.keep(x) for k, x in zip(kept, inputs, strict=True)]
        ctx.save_for_backward(*packed, *weights, *biases, *means, *inverses, *params)
        return out.view(shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        program, terms, steps, _, training = ctx.spec
        count = len(terms)
        norms = sum(term.normed for term in terms)
        packed, weights, biases, means, inverses, params = _split(
            ctx.saved_tensors, (count, norms, norms, norms, norms)
        )
        inputs = [k.restore(p) for k, p in zip(ctx.kept, packed, strict=True)]
        scales, shifts = _affine(weights, biases, means, inverses)
        flat = [_flat(x, term) for x, term in zip(inputs, terms, strict=True)]
        grad = grads[0].contiguous().view(steps, *flat[0].shape[-3:])
        results = list(
            region_kernel(program, terms, steps).backward(grad, *flat, *scales, *shifts, *params)
        )
        varying = results.pop(0) if any(not term.static for term in terms) else None
        static = results.pop(0) if any(term.static for term in terms) else None
        grad_inputs: list[Tensor | None] = []
        grad_weights: list[Tensor] = []
        grad_biases: list[Tensor] = []
        for x, term in zip(flat, terms, strict=True):
            source = static if term.static else varying
            assert source is not None
            source = source.view(-1, *source.shape[-2:])
            if term.normed:
                j = len(grad_weights)
                dx, dw, db = torch.ops.aten.native_batch_norm_backward(
                    source, x.reshape(source.shape), weights[j], means[j], _variance(inverses[j]),
                    means[j], inverses[j], training, 0.0, [True, True, True],
                )  # fmt: skip
                grad_weights.append(dw)
                grad_biases.append(db)
                source = dx
            grad_inputs.append(source)
        shaped = [
            g.view(k.shape) for g, k in zip(grad_inputs, ctx.kept, strict=True) if g is not None
        ]
        none = [None] * norms
        return (None, *shaped, *grad_weights, *grad_biases, *none, *none, *results)


def _variance(inverse: Tensor) -> Tensor:
    """The variance (with eps in it) that an inverse deviation stands for."""
    return inverse.reciprocal().square()


def _split(tensors: Sequence[Tensor], sizes: tuple[int, ...]) -> list[list[Tensor]]:
    parts: list[list[Tensor]] = []
    start = 0
    for size in sizes:
        parts.append(list(tensors[start : start + size]))
        start += size
    return [*parts, list(tensors[start:])]


def _affine(
    weights: list[Tensor], biases: list[Tensor], means: list[Tensor], inverses: list[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """A norm as x * scale + shift, in the order in which torch computes it on a CPU."""
    scales = [i * w for i, w in zip(inverses, weights, strict=True)]
    shifts = [b - m * a for b, m, a in zip(biases, means, scales, strict=True)]
    return [a.unsqueeze(1) for a in scales], [b.unsqueeze(1) for b in shifts]


def _flat(x: Tensor, term: Term) -> Tensor:
    """[N, C, L] for a static input, [T, N, C, L] for one that varies; L = 1 for vectors."""
    lead = 2 if term.static else 3
    return x.reshape(*x.shape[:lead], -1)


class FusedNeuron(Leaf, Neuron):
    """A neuron with the sum and the norms before it.

    Its inputs are the terms of the sum, from the left; ``norms`` has for each of them the norm it
    goes through, or None. The norms stand elsewhere in the model, where the spec has them, and are
    not registered again here. ``bits`` says in how many bits each input can be kept (0: as it is),
    ``output_bits`` the same of the output. Run again by ``recompute``, it gives the output that it
    noted and takes no statistics anew.
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

    def forward(self, *inputs: Tensor) -> Tensor:
        static = tuple(x.dim() == self.rank + 1 for x in inputs)
        steps = self.steps if all(static) else next(
            x.shape[0] for x, same in zip(inputs, static, strict=True) if not same
        )  # fmt: skip
        terms = tuple(
            Term(norm is not None, same) for norm, same in zip(self._norms, static, strict=True)
        )
        norms = [norm for norm in self._norms if norm is not None]
        notes = tape()
        if notes is not None and notes.replaying:
            note = notes.read()
            means, inverses, known = note.means, note.inverses, note.output
        else:
            means, inverses = self._statistics(inputs, static)
            known = None
        training = any(norm.training for norm in norms)
        spec = (self.program, terms, steps, self._bits, training, known)
        weights = [norm.weight for norm in norms]
        biases = [norm.bias for norm in norms]
        out: Tensor = _Region.apply(
            spec, *inputs, *weights, *biases, *means, *inverses, *self.params()
        )
        if notes is not None and not notes.replaying:
            notes.write(Note(means, inverses, Output.of(out, self._output_bits)))
        return out

    def _statistics(
        self, inputs: Sequence[Tensor], static: Sequence[bool]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Mean and inverse deviation for each norm; in training the running ones move."""
        means, inverses = [], []
        for x, norm, same in zip(inputs, self._norms, static, strict=True):
            if norm is not None:
                flat = x.detach().reshape(-1, *x.shape[-self.rank :])
                mean, inverse = statistics(norm, flat.flatten(2) if self.rank > 1 else flat, same)
                means.append(mean)
                inverses.append(inverse)
        return means, inverses


class _Conv(torch.autograd.Function):
    """A convolution that keeps its input in bits."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, options: Any) -> Tensor:
        bits, stride, padding, dilation, groups = options
        ctx.options = options
        ctx.kept = Kept(x, bits)
        ctx.has_bias = bias is not None
        ctx.save_for_backward(ctx.kept.keep(x) if weight.requires_grad else x[:0], weight)
        return F.conv2d(x, weight, bias, stride, padding, dilation, groups)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        _, stride, padding, dilation, groups = ctx.options
        packed, weight = ctx.saved_tensors
        needs = list(ctx.needs_input_grad[:3])
        x = ctx.kept.restore(packed) if needs[1] else weight.new_empty(1).expand(ctx.kept.shape)
        dx, dw, db = torch.ops.aten.convolution_backward(
            grads[0], x, weight, [weight.shape[0]] if ctx.has_bias else None,
            list(stride), list(padding), list(dilation), False, [0, 0], groups, needs,
        )  # fmt: skip
        return dx, dw, db, None


class PackedConv2d(Leaf, nn.Conv2d):
    """A convolution of spikes or counts: for its weights' gradient it keeps ``bits`` a value."""

    def __init__(self, *args: Any, bits: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.bits = bits

    def forward(self, x: Tensor) -> Tensor:
        options = (self.bits, self.stride, self.padding, self.dilation, self.groups)
        out: Tensor = _Conv.apply(x, self.weight, self.bias, options)
        return out


class _MaxPool(torch.autograd.Function):
    """Max pooling that keeps its input in bits and finds the places of the maxima again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, options: Any) -> Tensor:
        bits, kernel, stride, padding = options
        ctx.options = options
        ctx.kept = Kept(x, bits)
        ctx.save_for_backward(ctx.kept.keep(x))
        return F.max_pool2d(x, kernel, stride, padding)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        _, kernel, stride, padding = ctx.options
        x = ctx.kept.restore(*ctx.saved_tensors)
        _, places = F.max_pool2d(x, kernel, stride, padding, return_indices=True)
        sizes = ([size] * 2 for size in (kernel, stride, padding))
        dx = torch.ops.aten.max_pool2d_with_indices_backward(
            grads[0], x, *sizes, [1, 1], False, places
        )
        return dx, None


class PackedMaxPool2d(Leaf, nn.MaxPool2d):
    """Max pooling of spikes or counts: in place of int64 places it keeps ``bits`` a value."""

    def __init__(self, *args: Any, bits: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.bits = bits

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = _MaxPool.apply(x, (self.bits, self.kernel_size, self.stride, self.padding))
        return out
