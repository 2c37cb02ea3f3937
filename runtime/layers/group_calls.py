"""Calls of fusion groups: by C++ libraries on a CPU (``NativePlan``), else by kernels (``KernelPlan``).

Libraries and kernels return the same results up to rounding. A term may be a lazy concatenation; libraries read its
slices.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from danetc.dsl.kinds import Kind
from danetc.runtime.kernels import native_group
from danetc.runtime.kernels.bit_packing import SavedTensor
from danetc.runtime.kernels.compiled import is_compiled
from danetc.runtime.kernels.fusion_group import CompiledGroup, Term
from danetc.runtime.kernels.native_group import GroupKey, NativeGroup
from danetc.runtime.kernels.neuron import total
from danetc.runtime.kernels.torch_internals import has_values, is_fake, is_known
from danetc.runtime.layers import statistics
from danetc.runtime.layers.concatenation import Slice
from danetc.runtime.layers.layouts import flat_view, laid_out, new_value, unflat
from danetc.runtime.layers.leaf import refuse_second_order
from danetc.runtime.layers.statistics import BATCH, RUNNING, Norm, affine

_MODES = {RUNNING: native_group.RUNNING, BATCH: native_group.BATCH}

Slices = tuple[Slice, ...]
"""The slices of a term, along the channels."""
Gradients = tuple[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]]
"""Those of all inputs, of the weights and then the biases of norms, and of the learnables."""


class GroupFunction(torch.autograd.Function):
    """A fusion group with its backward pass.

    Takes the plan, the norms, the slices of all terms, weights and biases of norms, and learnables. Saves the
    inputs, packed where they are whole-numbered, and computes normalised values, potentials and slopes from them
    again.
    """

    @staticmethod
    def forward(
        ctx: Any, plan: NativePlan | KernelPlan, norms: Sequence[Norm], *tensors: Tensor
    ) -> Tensor:
        ctx.plan = plan
        count = len(plan.kinds)
        inputs, params = tensors[:count], tensors[count + 2 * len(norms) :]
        out, known = plan.forward(inputs, norms, params)
        ctx.saved = [k and SavedTensor(x, k) for x, k in zip(inputs, plan.kinds, strict=True)]
        pairs = zip(ctx.saved, inputs, strict=True)
        saved = [part for each, x in pairs for part in (each.split(x) if each else (x,))]
        ctx.known = len(known)
        ctx.save_for_backward(*saved, *known, *params)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_order(grads[0])
        tensors = iter(ctx.saved_tensors)
        inputs = [s.join([*islice(tensors, s.count)]) if s else next(tensors) for s in ctx.saved]
        known, params = [*islice(tensors, ctx.known)], [*tensors]
        dx, of_norms, of_params = ctx.plan.gradients(grads[0], inputs, known, params)
        results = [
            (dp if p.dim() or not dp.dim() else dp.sum()).view(p.shape)
            for p, dp in zip(params, of_params, strict=True)
        ]
        return None, None, *dx, *of_norms, *results


# -- by kernels ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class KernelPlan:
    """What calls of a group by a kernel have in common.

    ``modes`` are the sources of the norms' statistics, ``last`` says that channels come last in memory,
    ``timeless`` that the output does not vary.
    """

    kernel: CompiledGroup
    terms: tuple[Term, ...]
    steps: int
    kinds: tuple[Kind, ...]
    modes: tuple[str, ...]
    last: bool
    timeless: bool

    def forward(
        self, inputs: Sequence[Tensor], norms: Sequence[Norm], params: Sequence[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the output and what the backward pass needs to know of the norms; in training their running
        statistics are updated."""
        flats = [flat_view(x, t, self.last) for x, t in zip(inputs, self.terms, strict=True)]
        normed = [(x, t) for x, t in zip(flats, self.terms, strict=True) if t.normed]
        affines = [
            affine(norm, x, term.static, self.last)
            for norm, (x, term) in zip(norms, normed, strict=True)
        ]
        shape: Sequence[int] = max(inputs, key=Tensor.dim).shape
        if not self.timeless and all(term.static for term in self.terms):
            shape = (self.steps, *shape)
        scales, shifts = [each.scale for each in affines], [each.shift for each in affines]
        (out,) = self.kernel.forward(*flats, *self._flat([*scales, *shifts, *params]))
        known = [x for norm, each in zip(norms, affines, strict=True) for x in (norm.weight, *each)]
        return unflat(out, shape, self.last), known

    def _flat(self, params: Sequence[Tensor]) -> list[Tensor]:
        """Arguments as kernels take them: scalars and, per channel, [C, 1] or [C]."""
        return [p if not p.dim() else p.view(-1) if self.last else p.view(-1, 1) for p in params]

    def gradients(
        self,
        grad: Tensor,
        inputs: Sequence[Tensor],
        known: Sequence[Tensor],
        params: Sequence[Tensor],
    ) -> Gradients:
        weights, means, inverses, scales, shifts = (known[place::5] for place in range(5))
        flats = [flat_view(x, t, self.last) for x, t in zip(inputs, self.terms, strict=True)]
        grad = flat_view(grad, Term(False, self.timeless), self.last)
        if self.timeless:
            grad = grad.unsqueeze(0)
        columns = self._flat([*scales, *shifts, *params])
        normed = [place for place, term in enumerate(self.terms) if term.normed]
        of_weights, of_biases = [], []
        if normed and is_compiled(grad):
            values = [statistics.chunked(x) if self.last else x for x in (grad, *flats)]
            columns += self._flat([*means, *inverses])
            (sums,) = self.kernel.sums(*values, *columns)
            of_params, pairs = [*sums[: len(params)]], sums[len(params) :].unflatten(0, (-1, 2))
            of_biases, of_weights = pairs.to(weights[0].dtype).unbind(1)
            counts = [flats[place].numel() // pairs.shape[2] for place in normed]
            totals = zip(*map(statistics.total_of, pairs, self.modes, counts), strict=True)
            columns += self._flat([each for column in totals for each in column])
            sources = list(self.kernel.inputs(*values, *columns))
        else:
            results = list(self.kernel.backward(grad, *flats, *columns))
            sources, parts = results[: len(flats)], results[len(flats) :]
            of_params = [*map(total, parts, self._flat(params))]
            norms = zip(normed, weights, means, inverses, self.modes, strict=True)
            for place, weight, mean, inverse, mode in norms:
                sources[place], dw, db = statistics.norm_backward(
                    sources[place], flats[place], weight, mean, inverse, mode, self.last
                )
                of_weights.append(dw)
                of_biases.append(db)
        found = zip(inputs, sources, strict=True)
        dx = [unflat(source.to(x.dtype), x.shape, self.last) for x, source in found]
        return dx, [*of_weights, *of_biases], of_params


# -- by libraries ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class NativePlan:
    """What all calls of a group in a library share.

    ``forms`` are the terms of all slices, and ``kinds`` their kinds, None in a concatenation; ``repeats`` is, for
    each norm, the number of equal steps that its values represent; ``shape`` is the shape of the output, and
    ``sizes`` are the library's arguments.
    """

    group: NativeGroup
    key: GroupKey
    forms: tuple[Term, ...]
    kinds: tuple[Kind | None, ...]
    repeats: tuple[int, ...]
    shape: torch.Size
    sizes: tuple[int, ...]

    @property
    def channels(self) -> int:
        return self.sizes[1]

    @staticmethod
    def of(
        group: NativeGroup,
        key: GroupKey,
        terms: Sequence[Slices],
        kinds: tuple[Kind, ...],
        modes: Sequence[str],
        repeats: tuple[int, ...],
        timeless: bool,
    ) -> NativePlan:
        """Raises RuntimeError, as torch does, if the terms differ in size, which libraries do not check, and ValueError
        if a norm takes statistics of a single value."""
        widths, rests, lengths = _checked(terms, key.terms)
        counts = [len(slices) for slices in terms]
        of_slices = [
            (form, kind if count == 1 else None)
            for form, kind, count in zip(key.terms, kinds, counts, strict=True)
            for _ in range(count)
        ]
        forms, kinds = zip(*of_slices, strict=True)
        channels = sum(widths[: counts[0]])
        images, *size = rests
        lead = (*lengths, images) if lengths else (images,) if timeless else (key.steps, images)
        shape = torch.Size((*lead, channels, *size))
        length = torch.Size(size).numel()
        normed = zip((form for form in key.terms if form.normed), modes, repeats, strict=True)
        if any(
            mode == BATCH and images * length * (times if form.static else key.steps) == 1
            for form, mode, times in normed
        ):
            raise ValueError("training needs more than one value per channel, not 1")
        threads = torch.get_num_threads()
        if not (modes or group.per_channel or key.channels_last) and len(widths) == len(terms):
            # The result does not depend on the channel: pass channels as pixels, and images as channels.
            sizes = (1, images, channels * length, threads, *counts, *[images] * len(widths))
        else:
            own = [_MODES[mode] for mode in modes]
            sizes = (images, channels, length, threads, *own, *counts, *widths)
        return NativePlan(group, key, forms, kinds, repeats, shape, sizes)

    def forward(
        self,
        inputs: Sequence[Tensor],
        norms: Sequence[Norm],
        params: Sequence[Tensor],
        owned: int | None = None,
        carried: Sequence[Tensor | None] = (),
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the output, written over the input ``owned`` if it has its size, and mean, 1/sqrt(var + eps),
        scale and shift of each norm, [4, C]; in training the running statistics are updated. ``carried`` are
        the states before the step, or None, and after it."""
        for norm in norms:
            if norm.weight.shape[0] != self.channels:
                raise RuntimeError(f"a norm of {norm.weight.shape[0]} channels got {self.channels}")
        tables = [inputs[0].new_empty(4, self.channels, dtype=torch.float32) for _ in norms]
        out = None if owned is None else inputs[owned]
        if out is None or out.shape != self.shape or not has_values(out):
            out = new_value(self.shape, inputs[0], self.key.channels_last)
        numbers: list[float] = []
        tensors: list[Tensor | None] = [out, *inputs]
        for norm, repeats, table in zip(norms, self.repeats, tables, strict=True):
            numbers += norm.momentum or 0.0, norm.eps, repeats
            tensors += norm.weight, norm.bias, norm.running_mean, norm.running_var
            tensors += table, norm.num_batches_tracked
        _launch(
            self,
            [*tensors, *params, *carried],
            lambda: [*inputs, *params, *[p for norm in norms for p in norm.parameters()]],
            numbers,
        )
        return out, tables

    def gradients(
        self,
        grad: Tensor,
        inputs: Sequence[Tensor],
        known: Sequence[Tensor],
        params: Sequence[Tensor],
    ) -> Gradients:
        """Gradients of learnables are summed over all but the channels."""
        last = self.key.channels_last
        grad = laid_out(grad.resolve_neg(), last)
        # A concatenation that was saved as its slices has its channels before the pixels.
        inputs = [laid_out(x, last) for x in inputs]
        if not is_known(grad) or is_fake(grad) != is_fake(inputs[0]):
            raise RuntimeError(
                f"the gradient of this layer is a {type(grad).__name__}, its values are none: build the "
                "model with backend='eager'"
            )
        numbers_of = partial(grad.new_empty, self.channels, dtype=torch.float32)
        is_split = len(inputs) > len(self.key.terms)  # else terms without a norm share gradients
        keys = [n if is_split or term.normed else term for n, term in enumerate(self.forms)]
        made = {key: torch.empty_like(x) for key, x in dict(zip(keys, inputs, strict=True)).items()}
        written = [made[key] for key in keys]
        of_weights, of_biases, of_params = [
            [numbers_of() for _ in each] for each in (known, known, params)
        ]
        of_norms = [x for each in zip(known, of_weights, of_biases, strict=True) for x in each]
        read = [grad, *inputs, *known, *params]
        _launch(self, [grad, *inputs, *written, *of_norms, *params, *of_params], lambda: read)
        return written, [*of_weights, *of_biases], of_params


def _checked(
    terms: Sequence[Slices], forms: Sequence[Term]
) -> tuple[list[int], tuple[int, ...], set[int]]:
    """Return the channels of all slices, N with the sizes after the channels, and T if a term varies."""
    widths, rests, lengths, totals = [], set(), set(), set()
    for slices, form in zip(terms, forms, strict=True):
        lead = 1 if form.static else 2
        own = [each.layout.shape for each in slices]
        widths += [shape[lead] for shape in own]
        rests |= {(shape[lead - 1], *shape[lead + 1 :]) for shape in own}
        lengths |= {shape[0] for shape in own if not form.static}
        totals.add(sum(shape[lead] for shape in own))
    if len(rests) > 1 or len(lengths) > 1 or len(totals) > 1:
        sizes = ", ".join(str(list(each.layout.shape)) for slices in terms for each in slices)
        raise RuntimeError(f"the terms of a sum differ in size: {sizes}")
    return widths, rests.pop(), lengths


def _launch(
    plan: NativePlan,
    tensors: Sequence[Tensor | None],
    read_only: Callable[[], Sequence[Tensor]],
    *numbers: Sequence[float],
) -> None:
    """Call the library with the addresses of ``tensors``; without ``numbers`` it is the backward pass."""
    first = tensors[0]
    assert first is not None
    if has_values(first):
        addresses = [0 if x is None else x.data_ptr() for x in tensors]
        run = plan.group.forward if numbers else plan.group.backward
        run(addresses, plan.sizes, *numbers)
        return
    # Dispatch modes see an operator, which does nothing for fake tensors.
    written, read = {id(x): x for x in tensors if x is not None}, [*read_only()]
    for x in read:
        written.pop(id(x), None)
    places = {id(x): place for place, x in enumerate([*written.values(), *read])}
    torch.ops.danetc.fusion_group(
        [*written.values()], read, [-1 if x is None else places[id(x)] for x in tensors],
        plan.sizes, numbers[0] if numbers else None, str(plan.key),
    )  # fmt: skip


def _run_library(
    written: list[Tensor],
    read: list[Tensor],
    places: list[int],
    sizes: list[int],
    numbers: list[float] | None,
    key: str,
) -> None:
    group = native_group.native_group(GroupKey.parse(key))
    if group is None:
        raise RuntimeError("the library of this layer can no longer be compiled")
    tensors = [*written, *read]
    addresses = [0 if place < 0 else tensors[place].data_ptr() for place in places]
    run = group.backward if numbers is None else group.forward
    run(addresses, sizes, *(() if numbers is None else (numbers,)))


_OPERATOR = "danetc::fusion_group"
torch.library.define(
    _OPERATOR,
    "(Tensor(a!)[] written, Tensor[] read, int[] places, int[] sizes, float[]? numbers, str key) -> ()",
)
torch.library.impl(_OPERATOR, "CPU", _run_library)
torch.library.register_fake(_OPERATOR, lambda *_: None)
