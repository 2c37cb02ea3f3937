"""Fusion groups with one way through memory, by the libraries of ``kernels.native_group``.

For float32 on a CPU, with channels before the pixels or behind them. What they give differs from what
Inductor's kernels give by rounding alone: statistics are summed in another order, in double precision as
there. A term may come in parts that lie side by side (``SideBySide``), and is never joined then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from danetc.dsl.kinds import Kind
from danetc.runtime.kernels import native_group
from danetc.runtime.kernels.bit_packing import SavedTensor
from danetc.runtime.kernels.fusion_group import Term
from danetc.runtime.kernels.native_group import NativeGroup, Wanted
from danetc.runtime.kernels.torch_internals import has_values, is_fake, is_known
from danetc.runtime.layers.first_order import refuse_second_order
from danetc.runtime.layers.joined import Operand, SummedGradient
from danetc.runtime.layers.layouts import laid_out, new_value
from danetc.runtime.layers.statistics import BATCH, RUNNING, Affine, Norm
from danetc.runtime.layers.tape import Note, tape

_MODES = {RUNNING: native_group.RUNNING, BATCH: native_group.BATCH}
LANES = 16
"""Channels that are read together where they come last: each thread needs so many."""

Parts = tuple[Operand, ...]
"""What a term is joined of, along the channels."""


def common_layout(parts: Sequence[Operand], channels: int) -> bool | None:
    """Whether channels come last in all of [..., C, H, W]; None where libraries do not take them."""
    if not parts[0].arrangement.shape.numel():
        return None
    if all(part.arrangement.is_first for part in parts):
        return False
    if not all(part.arrangement.is_last for part in parts):
        return None
    return True if channels >= LANES * torch.get_num_threads() else None


@dataclass(frozen=True, slots=True, eq=False)
class PassPlan:
    """What calls have in common.

    ``counts`` says of how many parts each term is joined, ``repeats`` of each norm how many equal steps each
    of its values stands for, ``last`` that channels come last in memory; ``shape`` is that of the output,
    and ``sizes`` are as libraries take them.
    """

    group: NativeGroup
    wanted: Wanted
    counts: tuple[int, ...]
    kinds: tuple[Kind, ...]
    modes: tuple[str, ...]
    repeats: tuple[int, ...]
    last: bool
    shape: torch.Size
    sizes: tuple[int, ...]
    learns: tuple[bool, ...]
    """Of each part, whether a norm takes statistics of it."""
    is_single: bool
    """Whether a norm would take them of one value."""

    @property
    def terms(self) -> tuple[Term, ...]:
        return self.wanted.terms

    @property
    def channels(self) -> int:
        return self.sizes[1]

    @staticmethod
    def of(
        group: NativeGroup,
        wanted: Wanted,
        terms: Sequence[Parts],
        steps: int,
        kinds: tuple[Kind, ...],
        modes: tuple[str, ...],
        repeats: tuple[int, ...],
        last: bool,
        timeless: bool,
    ) -> PassPlan:
        """Raises RuntimeError, as torch does, where terms differ in more than T: libraries read what they are
        told is there."""
        forms = wanted.terms
        widths, rests, lengths = _checked(terms, forms)
        counts = tuple(len(parts) for parts in terms)
        channels = sum(widths[: counts[0]])
        (images, *size) = rests
        lead = (*lengths, images) if lengths else (images,) if timeless else (steps, images)
        shape = torch.Size((*lead, channels, *size))
        length = torch.Size(size).numel()
        learns, is_single, norm = [], False, 0
        for form, count in zip(forms, counts, strict=True):
            takes = form.normed and modes[norm] == BATCH
            if takes:
                times = repeats[norm] if form.static else steps
                is_single |= images * length * times == 1
            norm += form.normed
            learns += [takes] * count
        threads = torch.get_num_threads()
        if not (modes or group.per_channel or last) and len(widths) == len(terms):
            # Channels are pixels as others are.
            sizes = (1, images, channels * length, threads, *counts, *[images] * len(widths))
        else:
            own = [_MODES[mode] for mode in modes]
            sizes = (images, channels, length, threads, *own, *counts, *widths)
        return PassPlan(
            group, wanted, counts, kinds, modes, repeats, last, shape, sizes, tuple(learns),
            is_single,
        )  # fmt: skip


def _checked(
    terms: Sequence[Parts], forms: Sequence[Term]
) -> tuple[list[int], tuple[int, ...], set[int]]:
    """Channels of all parts; N and what follows the channels; T, where there is one."""
    widths, rests, lengths, totals = [], set(), set(), set()
    for parts, form in zip(terms, forms, strict=True):
        lead = 1 if form.static else 2
        own = [part.arrangement.shape for part in parts]
        widths += [shape[lead] for shape in own]
        rests |= {(shape[lead - 1], *shape[lead + 1 :]) for shape in own}
        lengths |= {shape[0] for shape in own if not form.static}
        totals.add(sum(shape[lead] for shape in own))
    if len(rests) > 1 or len(lengths) > 1 or len(totals) > 1:
        sizes = ", ".join(str(list(part.arrangement.shape)) for parts in terms for part in parts)
        raise RuntimeError(f"the terms of a sum differ in size: {sizes}")
    return widths, rests.pop(), lengths


class OnePass:
    """One call, with a ``note`` of a first run, which has what norms do and perhaps the output.

    The ``table`` has of each norm mean, 1/sqrt(var + eps), scale and shift, [norms, 4, C].
    """

    __slots__ = ("norms", "note", "parts", "plan", "table")

    def __init__(
        self, plan: PassPlan, parts: Sequence[Operand], norms: Sequence[Norm], note: Note | None
    ) -> None:
        self.plan, self.parts, self.norms, self.note = plan, parts, norms, note
        channels = plan.channels
        for norm in norms:
            if norm.weight.shape[0] != channels:
                raise RuntimeError(f"a norm of {norm.weight.shape[0]} channels got {channels}")
        x = parts[0].tensor
        if note is None or not norms:
            self.table = x.new_empty(len(norms), 4, channels)
        else:
            self.table = torch.stack([torch.stack(known) for known in note.affines])

    @property
    def affines(self) -> list[Affine]:
        return [Affine(*rows.unbind(0)) for rows in self.table.unbind(0)]

    def run(self, inputs: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        """The output, of the parts of all terms; in training the running statistics move."""
        plan, note = self.plan, self.note
        if note is not None and note.output is not None:
            return note.output.restore(inputs[0], plan.shape).view(plan.shape)
        if plan.is_single and note is None:
            raise ValueError("training needs more than one value a channel, not 1")
        out = new_value(plan.shape, inputs[0], plan.last)
        statistics, shares = self._shared_statistics()
        numbers: list[float] = []
        for norm, repeats in zip(self.norms, plan.repeats, strict=True):
            numbers += norm.momentum or 0.0, norm.eps, repeats
        sizes = [*plan.sizes, *shares]
        if note is not None:
            sizes[4 : 4 + len(self.norms)] = [native_group.GIVEN] * len(self.norms)
        if not has_values(out):
            tensors = [out, *inputs, *statistics]
            for norm, row in zip(self.norms, self.table.unbind(0), strict=True):
                tensors += norm.weight, norm.bias, norm.running_mean, norm.running_var
                tensors += row, norm.num_batches_tracked
            read = [*inputs, *params, *[p for norm in self.norms for p in norm.parameters()]]
            _through_torch(plan, [*tensors, *params], read, sizes, numbers)
            return out
        addresses = [out.data_ptr(), *[x.data_ptr() for x in inputs]]
        addresses += [0 if x is None else x.data_ptr() for x in statistics]
        table, row_size = self.table.data_ptr(), 4 * 4 * plan.channels
        for place, norm in enumerate(self.norms):
            buffers = norm.running_mean, norm.running_var, norm.num_batches_tracked
            mean, var, batches = [0 if x is None else x.data_ptr() for x in buffers]
            addresses += norm.weight.data_ptr(), norm.bias.data_ptr(), mean, var
            addresses += table + place * row_size, batches
        addresses += [p.data_ptr() for p in params]
        plan.group.forward(addresses, sizes, numbers)
        return out

    def _shared_statistics(self) -> tuple[list[Tensor | None], list[int]]:
        """The statistics of parts that several read, and whether they are known."""
        found: list[Tensor | None] = []
        shares = []
        plan = self.plan
        widths = plan.sizes[-len(self.parts) :]
        for part, width, learns in zip(self.parts, widths, plan.learns, strict=True):
            if not (learns and part.sum is not None and self.note is None):
                found.append(None)
                shares.append(native_group.ALONE)
                continue
            known = part.statistics
            if known is None:
                part.statistics = known = part.tensor.new_empty(2, width)
                shares.append(native_group.NOTED)
            else:
                shares.append(native_group.KNOWN)
            found.append(known)
        return found, shares


def _through_torch(
    plan: PassPlan,
    tensors: Sequence[Tensor | None],
    read: Sequence[Tensor],
    sizes: Sequence[int],
    numbers: Sequence[float] | None = None,
) -> None:
    """Call the library as an operator, which modes of torch see and fake tensors have no effect in.

    It takes the addresses of ``tensors``, of which ``read`` are not written to. Without ``numbers`` it is the
    backward pass.
    """
    known = {id(x): x for x in tensors if x is not None}
    for x in read:
        known.pop(id(x), None)
    written = list(known.values())
    places = {id(x): place for place, x in enumerate([*written, *read])}
    wanted = plan.wanted
    forms = [flag for term in wanted.terms for flag in (term.normed, term.static)]
    torch.ops.danetc.fusion_group(
        written, read, [-1 if x is None else places[id(x)] for x in tensors], [*sizes], numbers,
        wanted.program, forms, wanted.steps, wanted.last,
    )  # fmt: skip


def _run_library(
    written: list[Tensor],
    read: list[Tensor],
    places: list[int],
    sizes: list[int],
    numbers: list[float] | None,
    program: str,
    forms: list[bool],
    steps: int,
    last: bool,
) -> None:
    terms = tuple(map(Term, forms[::2], forms[1::2]))
    group = native_group.native_group(Wanted(program, terms, steps, last))
    if group is None:
        raise RuntimeError("the library of this layer is not there any more")
    known = [x.data_ptr() for x in (*written, *read)]
    addresses = [0 if place < 0 else known[place] for place in places]
    if numbers is None:
        group.backward(addresses, sizes)
    else:
        group.forward(addresses, sizes, numbers)


_OPERATOR = "danetc::fusion_group"
torch.library.define(
    _OPERATOR,
    "(Tensor(a!)[] written, Tensor[] read, int[] places, int[] sizes, float[]? numbers, str program, "
    "bool[] forms, int steps, bool last) -> ()",
)
torch.library.impl(_OPERATOR, "CPU", _run_library)
torch.library.register_fake(_OPERATOR, lambda *_: None)


class OnePassFunction(torch.autograd.Function):
    """Takes the call, the parts of its terms, weights and biases of norms, and learnables."""

    @staticmethod
    def forward(ctx: Any, call: OnePass, *tensors: Tensor) -> Tensor:
        ctx.plan = plan = call.plan
        count = len(call.parts)
        inputs, params = tensors[:count], tensors[count + 2 * len(call.norms) :]
        out = call.run(inputs, params)
        ctx.sums = [part.sum for part in call.parts]
        for total in ctx.sums:
            if total is not None:
                total.readers += 1
        # A segment that is to run again keeps its own inputs, not what those were joined of.
        whole = tape() is not None
        kept: list[Tensor] = []
        ctx.kept = []
        place = 0
        for kind, parts in zip(plan.kinds, plan.counts, strict=True):
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
        refuse_second_order(grads[0])
        plan: PassPlan = ctx.plan
        saved, place, last = ctx.saved_tensors, 0, plan.last
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
        grad = laid_out(grads[0].resolve_neg(), last)
        if (is_known(grad) and is_fake(grad) != is_fake(inputs[0])) or not is_known(grad):
            raise RuntimeError(
                f"the gradient of this layer is a {type(grad).__name__}, its values are none: build the "
                "model with backend='eager'"
            )
        found, of_norms, of_params = _gradients(plan, grad, inputs, ctx.sums, table, params)
        results = [
            (row if p.dim() else row.sum()).view(p.shape)
            for p, row in zip(params, of_params, strict=True)
        ]
        return None, *found, *of_norms, *results


def _gradients(
    plan: PassPlan,
    grad: Tensor,
    inputs: Sequence[Tensor],
    sums: Sequence[SummedGradient | None],
    table: Tensor,
    params: Sequence[Tensor],
) -> tuple[list[Tensor | None], list[Tensor], Sequence[Tensor]]:
    """Those of all parts, of the weights and then the biases of norms, and of the learnables, summed over
    all but the channels. None of a part whose gradient others have begun."""
    channels, norms = plan.channels, len(plan.modes)
    terms = [
        term for term, count in zip(plan.terms, plan.counts, strict=True) for _ in range(count)
    ]
    written: list[Tensor] = []
    adds: list[int] = []
    of_sums: dict[bool, Tensor] = {}  # without a norm, of what varies and of what does not
    for x, total, term in zip(inputs, sums, terms, strict=True):
        adds.append(total is not None and not total.begin(x))
        if total is not None:
            assert total.value is not None
            written.append(total.value)
        elif term.normed or len(terms) > len(plan.terms):
            written.append(torch.empty_like(x))
        else:
            if term.static not in of_sums:
                of_sums[term.static] = torch.empty_like(x)
            written.append(of_sums[term.static])
    of_norms = [grad.new_empty(channels) for _ in range(2 * norms)]
    of_params = [grad.new_empty(channels) for _ in params]
    if not has_values(grad):
        tensors: list[Tensor | None] = [grad, *inputs, *written]
        rows = table.unbind(0)
        for place in range(norms):
            tensors += rows[place], of_norms[place], of_norms[norms + place]
        read = [grad, *inputs, *rows, *params]
        _through_torch(plan, [*tensors, *params, *of_params], read, [*plan.sizes, *adds])
    else:
        addresses = [x.data_ptr() for x in (grad, *inputs, *written)]
        known, row = table.data_ptr(), 4 * 4 * channels
        for place in range(norms):
            addresses.append(known + place * row)
            addresses += of_norms[place].data_ptr(), of_norms[norms + place].data_ptr()
        addresses += [x.data_ptr() for x in (*params, *of_params)]
        plan.group.backward(addresses, [*plan.sizes, *adds])
    for total in sums:
        if total is not None:
            total.end()
    found = [None if add else x for x, add in zip(written, adds, strict=True)]
    return found, of_norms, of_params
