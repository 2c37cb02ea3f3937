"""Fusion groups with one way through memory, by the libraries of ``kernels.native_group``.

For float32 on a CPU, with channels before the pixels or behind them. What they give differs from what
Inductor's kernels give by rounding alone: statistics are summed in another order, in double precision as
there. A term may come in parts that lie side by side (``SideBySide``), and is never joined then.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from danetc.dsl.kinds import Kind
from danetc.runtime.kernels import native_group, upcoming
from danetc.runtime.kernels.bit_packing import SavedTensor
from danetc.runtime.kernels.fusion_group import Term
from danetc.runtime.kernels.native_group import NativeGroup
from danetc.runtime.layers.layouts import is_dense_last, laid_out, new_value
from danetc.runtime.layers.statistics import BATCH, RUNNING, Affine, Norm
from danetc.runtime.layers.tape import Note, tape

_MODES = {RUNNING: native_group.RUNNING, BATCH: native_group.BATCH}
_PLAIN = (Tensor, nn.Parameter)
LANES = 16
"""Channels that are read together where they come last: each thread needs so many."""

Parts = tuple[Tensor, ...]
"""What a term is joined of, along the channels."""


@dataclass(frozen=True, slots=True)
class PassPlan:
    """What calls have in common. ``repeats`` says of each norm how many equal steps each of its values
    stands for, ``last`` that channels come last in memory, ``timeless`` that the output does not vary."""

    group: NativeGroup
    terms: tuple[Term, ...]
    steps: int
    kinds: tuple[Kind, ...]
    modes: tuple[str, ...]
    repeats: tuple[int, ...]
    last: bool
    timeless: bool


def are_plain(tensors: Iterable[Tensor]) -> bool:
    """Whether these are float32 on a CPU, or of a call that is looked through."""
    notes = upcoming.notes
    types = _PLAIN if notes is None else (*_PLAIN, notes.fake)
    return all(x.dtype is torch.float32 and type(x) in types and x.is_cpu for x in tensors)


def common_layout(terms: Sequence[Parts]) -> bool | None:
    """Whether channels come last in all of [..., C, H, W]; None where libraries do not take them."""
    values = [x for parts in terms for x in parts]
    if not values[0].numel():
        return None
    if all(x.is_contiguous() for x in values):
        return False
    if not all(is_dense_last(x) for x in values):
        return None
    channels = sum(x.shape[-3] for x in terms[0])
    return True if channels >= LANES * torch.get_num_threads() else None


class CallForm(NamedTuple):
    """What a call is like: of how many parts each term is joined, and sizes as libraries take them."""

    common: PassPlan
    counts: tuple[int, ...]
    sizes: list[int]

    @property
    def channels(self) -> int:
        return self.sizes[1]

    @property
    def norms(self) -> int:
        return len(self.common.modes)


class OnePass:
    """One call, with a ``note`` of a first run, which has what norms do and perhaps the output.

    The ``table`` has of each norm mean, 1/sqrt(var + eps), scale and shift, [norms, 4, C].
    """

    __slots__ = ("form", "norms", "note", "shape", "table")

    def __init__(
        self, common: PassPlan, terms: Sequence[Parts], norms: Sequence[Norm], note: Note | None
    ) -> None:
        self.norms, self.note = norms, note
        place = next((i for i, term in enumerate(common.terms) if not term.static), None)
        x = terms[place or 0][0]
        lead = 1 if place is None else 2
        widths = [
            part.shape[1 if term.static else 2]
            for parts, term in zip(terms, common.terms, strict=True)
            for part in parts
        ]
        channels = sum(widths[: len(terms[0])])
        _check_sizes(terms, common.terms, channels, norms)
        steps = (common.steps,) if place is None and not common.timeless else ()
        self.shape = torch.Size((*steps, *x.shape[:lead], channels, *x.shape[lead + 1 :]))
        if note is None:
            self.table = x.new_empty(len(norms), 4, channels)
        else:
            rows = [torch.stack(known) for known in note.affines]
            self.table = torch.stack(rows) if rows else x.new_empty(0, 4, channels)
        images, length = x.shape[lead - 1], x.shape[lead + 1 :].numel()
        is_even = not (norms or common.group.per_channel or common.last)
        if is_even and len(widths) == len(terms):  # then channels are pixels as others are
            images, channels, length = 1, images, channels * length
            widths = [channels] * len(widths)
        counts = tuple([len(parts) for parts in terms])
        modes = [_MODES[mode] for mode in common.modes]
        sizes = [images, channels, length, torch.get_num_threads(), *modes, *counts, *widths]
        self.form = CallForm(common, counts, sizes)

    @property
    def affines(self) -> list[Affine]:
        return [Affine(*rows.unbind(0)) for rows in self.table.unbind(0)]

    def run(self, inputs: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        """The output, of the parts of all terms; in training the running statistics move."""
        if self.note is not None and self.note.output is not None:
            return self.note.output.restore(inputs[0], self.shape).view(self.shape)
        common, sizes = self.form.common, self.form.sizes
        out = new_value(self.shape, inputs[0], common.last)
        if type(out) is not Tensor:  # of a call that is looked through
            return out
        addresses = [out.data_ptr(), *[x.data_ptr() for x in inputs]]
        numbers: list[float] = []
        table, row = self.table.data_ptr(), 4 * self.table.stride(0)
        for place, norm in enumerate(self.norms):
            buffers = norm.running_mean, norm.running_var, norm.num_batches_tracked
            mean, var, batches = [0 if x is None else x.data_ptr() for x in buffers]
            addresses += norm.weight.data_ptr(), norm.bias.data_ptr(), mean, var
            addresses += table + place * row, batches
            numbers += norm.momentum or 0.0, norm.eps, common.repeats[place]
            if norm.training and self.note is None:
                self._check(place)
        addresses += [p.data_ptr() for p in params]
        if self.note is not None:
            given = [native_group.GIVEN] * len(self.norms)
            sizes = [*sizes[:4], *given, *sizes[4 + len(given) :]]
        common.group.forward(addresses, sizes, numbers)
        return out

    def _check(self, place: int) -> None:
        """Raises ValueError where a batch has a single value a channel."""
        common, (images, _, length, *_) = self.form.common, self.form.sizes
        static = [term.static for term in common.terms if term.normed][place]
        if images * length * (common.repeats[place] if static else common.steps) == 1:
            raise ValueError("training needs more than one value a channel, not 1")


def _check_sizes(
    terms: Sequence[Parts], forms: Sequence[Term], channels: int, norms: Sequence[Norm]
) -> None:
    """Raises RuntimeError, as torch does, where terms differ in more than T: libraries read what they are
    told is there."""
    if any(norm.weight.shape[0] != channels for norm in norms):
        raise RuntimeError(f"a norm of other channels got {channels}")
    if len(terms) == 1 == len(terms[0]):
        return
    found = {
        (
            part.shape[not form.static :][:1] + part.shape[2 + (not form.static) :],
            sum([x.shape[1 if form.static else 2] for x in parts]),
        )
        for parts, form in zip(terms, forms, strict=True)
        for part in parts
    }
    lengths = {
        part.shape[0]
        for parts, form in zip(terms, forms, strict=True)
        if not form.static
        for part in parts
    }
    if len(found) > 1 or len(lengths) > 1:
        sizes = ", ".join(str(list(part.shape)) for parts in terms for part in parts)
        raise RuntimeError(f"the terms of a sum differ in size: {sizes}")


class OnePassFunction(torch.autograd.Function):
    """Takes the call, the parts of its terms, weights and biases of norms, and learnables."""

    @staticmethod
    def forward(ctx: Any, call: OnePass, *tensors: Tensor) -> Tensor:
        ctx.form = form = call.form
        count = sum(form.counts)
        inputs, params = tensors[:count], tensors[count + 2 * form.norms :]
        out = call.run(inputs, params)
        # A segment that is to run again keeps its own inputs, not what those were joined of.
        whole = tape() is not None
        kept: list[Tensor] = []
        ctx.kept = []
        place = 0
        for kind, parts in zip(form.common.kinds, form.counts, strict=True):
            if parts > 1:  # they are kept as they are
                kept += inputs[place : place + parts]
                ctx.kept += [None] * parts
            else:
                each = SavedTensor(inputs[place], kind)
                kept += [each.save(inputs[place])] if whole else each.split(inputs[place])
                ctx.kept.append(each)
            place += parts
        ctx.save_for_backward(*kept, call.table, *params)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        form: CallForm = ctx.form
        saved, place, last = ctx.saved_tensors, 0, form.common.last
        inputs: list[Tensor] = []
        for kept in ctx.kept:
            count = 1 if kept is None else kept.count
            if kept is None:
                inputs.append(saved[place])
            else:
                x = kept.join(saved[place : place + count])
                # What is joined again has its channels before the pixels, whatever they were.
                inputs.append(laid_out(x, last) if count > 1 else x)
            place += count
        table, params = saved[place], saved[place + 1 :]
        found, of_norms, of_params = _gradients(
            form, laid_out(grads[0], last), inputs, table, params
        )
        results = [
            (row if p.dim() else row.sum()).view(p.shape)
            for p, row in zip(params, of_params, strict=True)
        ]
        return None, *found, *of_norms, *results


def _gradients(
    form: CallForm, grad: Tensor, inputs: Sequence[Tensor], table: Tensor, params: Sequence[Tensor]
) -> tuple[list[Tensor], list[Tensor], Sequence[Tensor]]:
    """Those of all parts, of the weights and then the biases of norms, and of the learnables, summed over
    all but the channels."""
    common, channels, norms = form.common, form.channels, form.norms
    found: list[Tensor] = []
    shared: dict[bool, Tensor] = {}  # of the sum itself
    rest = iter(inputs)
    for count, term in zip(form.counts, common.terms, strict=True):
        for x in [next(rest) for _ in range(count)]:
            if term.normed or count > 1:
                found.append(torch.empty_like(x))
            else:
                if term.static not in shared:
                    shared[term.static] = torch.empty_like(x)
                found.append(shared[term.static])
    of_norms = [grad.new_empty(channels) for _ in range(2 * norms)]
    of_params = [grad.new_empty(channels) for _ in params]
    if type(grad) is Tensor:  # else of a call that is looked through
        addresses = [x.data_ptr() for x in (grad, *inputs, *found)]
        known, row = table.data_ptr(), 4 * 4 * channels
        for place in range(norms):
            addresses.append(known + place * row)
            addresses += of_norms[place].data_ptr(), of_norms[norms + place].data_ptr()
        addresses += [x.data_ptr() for x in (*params, *of_params)]
        common.group.backward(addresses, form.sizes)
    return found, of_norms, of_params
