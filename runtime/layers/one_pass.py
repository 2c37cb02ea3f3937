"""Fusion groups with one way through memory, by the libraries of ``kernels.native_group``.

For float32 on a CPU, with channels before the pixels or behind them. What they give differs from what Inductor's kernels
give by rounding alone: statistics are summed in another order, in double precision as there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from danetc.dsl.kinds import Kind
from danetc.runtime.kernels import native_group, upcoming
from danetc.runtime.kernels.bit_packing import SavedTensor
from danetc.runtime.kernels.fusion_group import Term
from danetc.runtime.kernels.native_group import NativeGroup
from danetc.runtime.layers.statistics import Norm
from danetc.runtime.layers.tape import Note, tape


RUNNING, BATCH, SYNC = "running", "batch", "batches of all processes"
"""Where a norm's statistics come from."""

_MODES = {RUNNING: native_group.RUNNING, BATCH: native_group.BATCH}
_PLAIN = (Tensor, nn.Parameter)
_LANES = 16
"""Channels that are read together where they come last."""


@dataclass(frozen=True, slots=True)
class Pass:
    """What calls have in common: the library, T, what is known of each input, and where statistics come
    from. With channels ``last`` in memory, or before the pixels."""

    group: NativeGroup
    terms: tuple[Term, ...]
    steps: int
    kinds: tuple[Kind, ...]
    modes: tuple[str, ...]
    repeats: tuple[int, ...]
    """Of each norm: how many equal steps each of its values stands for."""
    last: bool
    timeless: bool


@lru_cache(maxsize=1024)
def pass_of(
    program: str,
    terms: tuple[Term, ...],
    steps: int,
    kinds: tuple[Kind, ...],
    modes: tuple[str, ...],
    repeats: tuple[int, ...],
    last: bool,
    timeless: bool,
) -> Pass | None:
    """None where there is no library for it."""
    group = None if SYNC in modes else native_group.native_group(program, terms, steps, last)
    if group is None:
        return None
    return Pass(group, terms, steps, kinds, modes, repeats, last, timeless)


def are_plain(tensors: Iterable[Tensor]) -> bool:
    """Whether these are float32 on a CPU, or of a call that is looked through."""
    notes = upcoming.notes
    types = _PLAIN if notes is None else (*_PLAIN, notes.fake)
    return all([x.dtype is torch.float32 and type(x) in types and x.is_cpu for x in tensors])


def common_layout(values: Sequence[Tensor]) -> bool | None:
    """Whether channels come last in all of [..., C, H, W]; None where libraries do not take them."""
    if all([x.is_contiguous() for x in values]):
        return False
    if not all([is_dense_last(x) for x in values]):
        return None
    return True if values[0].shape[-3] >= _LANES * torch.get_num_threads() else None


def is_dense_last(x: Tensor) -> bool:
    """Whether x lies in memory as [..., H, W, C], without gaps."""
    return x.dim() > 3 and _order_last(x.shape, x.stride())


@lru_cache(maxsize=1024)
def _order_last(shape: torch.Size, strides: tuple[int, ...]) -> bool:
    like = torch.empty_strided(shape, strides, device="meta")
    return like.movedim(-3, -1).is_contiguous()


def _laid_out(x: Tensor, last: bool) -> Tensor:
    if not last:
        return x.contiguous()
    return x if is_dense_last(x) else x.movedim(-3, -1).contiguous().movedim(-1, -3)


def _empty(shape: torch.Size, like: Tensor, last: bool) -> Tensor:
    if not last:
        return like.new_empty(shape)
    *lead, channels, height, width = shape
    return like.new_empty(*lead, height, width, channels).movedim(-1, -3)


class OnePass:
    """One call: sizes of its values, what its norms do to them where that is known, and the output where a
    first run has noted it.

    ``counts`` says of how many parts each term is joined. The ``table`` has of each norm mean,
    1/sqrt(var + eps), scale and shift, [norms, 4, C].
    """

    __slots__ = ("common", "counts", "known", "modes", "norms", "shape", "sizes", "table")

    def __init__(
        self,
        common: Pass,
        inputs: Sequence[tuple[Tensor, ...]],
        norms: Sequence[Norm],
        note: Note | None = None,
    ) -> None:
        self.common, self.norms = common, norms
        self.counts = [len(parts) for parts in inputs]
        place = next((i for i, term in enumerate(common.terms) if not term.static), None)
        x = inputs[place or 0][0]
        lead = 1 if place is None else 2
        images, length = x.shape[lead - 1], x.shape[lead + 1 :].numel()
        widths = [
            part.shape[1 if term.static else 2]
            for parts, term in zip(inputs, common.terms, strict=True)
            for part in parts
        ]
        channels = sum(widths[: self.counts[0]])
        steps = (common.steps,) if place is None and not common.timeless else ()
        self.shape = torch.Size((*steps, *x.shape[:lead], channels, *x.shape[lead + 1 :]))
        self.modes = [_MODES[mode] for mode in common.modes]
        self.known = None
        if note is None:
            self.table = x.new_empty(len(norms), 4, channels)
        else:
            rows = [torch.stack(known) for known in note.affines]
            self.table = torch.stack(rows) if rows else x.new_empty(0, 4, channels)
            self.known = note.output
        if not norms and not common.group.per_channel and len(widths) == len(inputs) and not common.last:
            images, channels, length = 1, images, channels * length
            widths = [channels] * len(widths)
        self.sizes = [images, channels, length, torch.get_num_threads()]
        self.sizes += [*self.modes, *self.counts, *widths]

    def run(
        self, inputs: Sequence[Tensor], params: Sequence[Tensor], is_known: bool
    ) -> Tensor:
        """The output; in training the running statistics move. Takes the parts of all terms."""
        if self.known is not None:
            return self.known.restore(inputs[0], self.shape).view(self.shape)
        out = _empty(self.shape, inputs[0], self.common.last)
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
            numbers += norm.momentum or 0.0, norm.eps, self.common.repeats[place]
            if norm.training and not is_known:
                self._check(place)
        addresses += [p.data_ptr() for p in params]
        sizes = self.sizes
        if is_known:
            sizes = [*sizes[:4], *[native_group.GIVEN] * len(self.modes), *sizes[4 + len(self.modes) :]]
        self.common.group.forward(addresses, sizes, numbers)
        return out

    def _check(self, place: int) -> None:
        """Raises ValueError where a batch has a single value a channel."""
        static = [term.static for term in self.common.terms if term.normed][place]
        repeats = self.common.repeats[place] if static else self.common.steps
        if self.sizes[0] * self.sizes[2] * repeats == 1:
            raise ValueError("training needs more than one value a channel, not 1")

    def let_go(self) -> None:
        """Of what the backward pass does not need, or keeps by itself."""
        self.norms, self.known = (), None
        del self.table

    def gradients(
        self, grad: Tensor, inputs: Sequence[Tensor], table: Tensor, params: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """Those of all parts, of weights and then biases of norms, and of the learnables, of which each is
        one row."""
        group = self.common.group
        found: list[Tensor] = []
        shared: dict[tuple[bool, int], Tensor] = {}
        rest = iter(inputs)
        for count, term in zip(self.counts, self.common.terms, strict=True):
            for part in range(count):
                x = next(rest)
                if term.normed or count > 1:
                    found.append(torch.empty_like(x))
                else:  # the sum's own
                    found.append(shared.setdefault((term.static, part), torch.empty_like(x)))
        channels = self.sizes[1]
        norms = len(self.modes)
        of_norms = [grad.new_empty(channels) for _ in range(2 * norms)]
        of_params = grad.new_empty(group.pointers, channels)
        if type(grad) is not Tensor:
            return found, of_norms, of_params
        addresses = [x.data_ptr() for x in (grad, *inputs, *found)]
        row, known, start = 4 * channels, table.data_ptr(), of_params.data_ptr()
        for place in range(norms):
            addresses.append(known + 4 * place * row)
            addresses += of_norms[place].data_ptr(), of_norms[norms + place].data_ptr()
        addresses += [p.data_ptr() for p in params]
        addresses += [start + place * row for place in range(len(params))]
        group.backward(addresses, self.sizes)
        return found, of_norms, of_params


class OnePassFunction(torch.autograd.Function):
    """Takes the call, the parts of its terms, weights and biases of norms, and learnables."""

    @staticmethod
    def forward(ctx: Any, call: OnePass, is_known: bool, *tensors: Tensor) -> Tensor:
        common = call.common
        count = sum(call.counts)
        inputs, params = tensors[:count], tensors[count + 2 * len(call.modes) :]
        out = call.run(inputs, params, is_known)
        ctx.call = call
        # A segment that is to run again keeps its own inputs, not what those were joined of.
        whole = tape() is not None
        kept: list[Tensor] = []
        ctx.kept = []
        place = 0
        for kind, n in zip(common.kinds, call.counts, strict=True):
            if n > 1:  # parts, which are kept as they are
                kept += inputs[place : place + n]
                ctx.kept += [None] * n
            else:
                each = SavedTensor(inputs[place], kind)
                kept += [each.save(inputs[place])] if whole else each.split(inputs[place])
                ctx.kept.append(each)
            place += n
        ctx.save_for_backward(*kept, call.table, *params)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        call: OnePass = ctx.call
        saved, place, last = ctx.saved_tensors, 0, call.common.last
        inputs: list[Tensor] = []
        for kept in ctx.kept:
            count = 1 if kept is None else kept.count
            if kept is None:
                inputs.append(saved[place])
            else:
                joined = kept.join(saved[place : place + count])
                # What is joined again has its channels before the pixels, whatever they were.
                inputs.append(_laid_out(joined, last) if count > 1 else joined)
            place += count
        table, params = saved[place], saved[place + 1 :]
        found, of_norms, of_params = call.gradients(_laid_out(grads[0], last), inputs, table, params)
        results = [
            (row if p.dim() else row.sum()).view(p.shape)
            for p, row in zip(params, of_params if params else (), strict=True)
        ]
        return None, None, *found, *of_norms, *results
