"""Neurons of the fused backend, each with the sum and the norms before it as one layer.

A fusion group ``norm -> spike``, ``norm + shortcut -> spike`` or ``a + b -> spike`` is one layer. In
float32 on a CPU a library does all of it (``one_pass``). Elsewhere its forward pass takes the batch
statistics and then runs one kernel of Inductor's over the elements. For the backward pass it keeps the
inputs of its norms, and its whole-numbered inputs as bits, and recomputes normalised values, membrane
potentials and slopes from them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any

import torch
from torch import Tensor, fx, nn

from danetc.dsl.kinds import ANALOG, Kind
from danetc.dsl.neuron.reading import read_program
from danetc.runtime.kernels import compiled, native, upcoming
from danetc.runtime.kernels.bit_packing import SavedTensor
from danetc.runtime.kernels.fusion_group import CompiledGroup, Term, fusion_kernel, step_kernel
from danetc.runtime.kernels.native_group import Wanted, group_form, native_group
from danetc.runtime.kernels.neuron import kernel, wide
from danetc.runtime.kernels.neuron_operators import apart, is_timeless
from danetc.runtime.kernels.torch_internals import is_fake, is_known, is_traced
from danetc.runtime.layers.first_order import refuse_second_order
from danetc.runtime.layers.joined import (
    SideBySide,
    Value,
    distinct,
    is_plain,
    parts_of,
    whole,
)
from danetc.runtime.layers.layouts import columns, flat_view, is_last, step_layout, unflat
from danetc.runtime.layers.neuron import Neuron
from danetc.runtime.layers.norm import StaticBatchNorm2d
from danetc.runtime.layers.one_pass import (
    OnePass,
    OnePassFunction,
    Parts,
    PassPlan,
    common_layout,
)
from danetc.runtime.layers.registered import Registration
from danetc.runtime.layers.statistics import (
    BATCH,
    SYNC,
    Affine,
    Norm,
    affine,
    is_standard,
    maps,
    mode_of,
    norm_backward,
    unmapped,
)
from danetc.runtime.layers.sync import input_gradient
from danetc.runtime.layers.tape import BY_OPERATION, Note, Output, tape
from danetc.runtime.model.stepping import is_later_step


@dataclass(frozen=True, slots=True)
class _Plan:
    """What calls of a fusion group have in common.

    ``modes`` says of each norm where its statistics come from, ``last`` that channels come last in
    memory, ``timeless`` that the output does not vary either.
    """

    kernel: CompiledGroup
    terms: tuple[Term, ...]
    steps: int
    kinds: tuple[Kind, ...]
    modes: tuple[str, ...]
    last: bool
    timeless: bool


@lru_cache(maxsize=1024)
def _plan(
    make: Callable[[str, tuple[Term, ...], int], CompiledGroup],
    program: str,
    normed: tuple[bool, ...],
    static: tuple[bool, ...],
    steps: int,
    kinds: tuple[Kind, ...],
    modes: tuple[str, ...],
    last: bool,
    timeless: bool,
) -> _Plan:
    terms = tuple(map(Term, normed, static))
    return _Plan(make(program, terms, steps), terms, steps, kinds, modes, last, timeless)


class _Call:
    """One call of a fusion group by kernels: its inputs as ``flat_view`` has them, what its norms do to them, and
    the output where a first run has noted it."""

    __slots__ = ("affines", "flats", "known", "plan")

    def __init__(
        self,
        plan: _Plan,
        flats: Sequence[Tensor],
        affines: Sequence[Affine],
        known: Output | None,
    ) -> None:
        self.plan, self.flats, self.affines, self.known = plan, flats, affines, known

    def run(self, inputs: Sequence[Tensor], params: Sequence[Tensor]) -> Tensor:
        """The output, [T, N, ...]."""
        plan, x = self.plan, inputs[0]
        shape: Sequence[int]
        if all(term.static for term in plan.terms):
            shape = x.shape if plan.timeless else (plan.steps, *x.shape)
        else:
            places = [place for place, term in enumerate(plan.terms) if not term.static]
            shape = inputs[places[0]].shape
        if self.known is not None:
            return self.known.restore(x, shape).view(shape)
        scales, shifts = columns(self.affines, plan.last)
        (out,) = plan.kernel.forward(*self.flats, *scales, *shifts, *params)
        if plan.last:
            return out.view(*shape[:-3], *shape[-2:], shape[-3]).movedim(-1, -3)
        return out.view(shape)


class _FusionGroup(torch.autograd.Function):
    """A fusion group with its backward pass. Takes inputs, weights and biases of norms, parameters."""

    @staticmethod
    def forward(ctx: Any, call: _Call, *tensors: Tensor) -> Tensor:
        plan = call.plan
        count, norms = len(plan.terms), len(plan.modes)
        inputs, params = tensors[:count], tensors[count + 2 * norms :]
        out = call.run(inputs, params)
        ctx.plan = plan
        ctx.kept = [SavedTensor(x, kind) for x, kind in zip(inputs, plan.kinds, strict=True)]
        # A segment that is to run again keeps its own inputs, not what those were joined of.
        whole = tape() is not None
        kept: list[Tensor] = []
        for each, x in zip(ctx.kept, inputs, strict=True):
            kept += [each.save(x)] if whole else each.split(x)
        for known in call.affines:
            kept += known
        ctx.save_for_backward(*kept, *tensors[count : count + norms], *params)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_order(grads[0])
        plan: _Plan = ctx.plan
        saved, place, inputs, affines = ctx.saved_tensors, 0, [], []
        for kept in ctx.kept:
            inputs.append(kept.join(saved[place : place + kept.count]))
            place += kept.count
        for _ in plan.modes:
            affines.append(Affine(*saved[place : place + 4]))
            place += 4
        weights, params = saved[place : place + len(affines)], saved[place + len(affines) :]
        flats = [flat_view(x, t, plan.last) for x, t in zip(inputs, plan.terms, strict=True)]
        grad = flat_view(grads[0], Term(False, plan.timeless), plan.last)
        if plan.timeless:
            grad = grad.unsqueeze(0)
        scales, shifts = columns(affines, plan.last)
        results = list(plan.kernel.backward(grad, *flats, *scales, *shifts, *params))
        varying = None if all(term.static for term in plan.terms) else results.pop(0)
        static = results.pop(0) if any(term.static for term in plan.terms) else None
        grad_inputs, grad_weights, grad_biases = [], [], []
        norm = 0
        for x, flat, term in zip(inputs, flats, plan.terms, strict=False):
            source = static if term.static else varying
            assert source is not None
            if source.dtype != x.dtype:
                source = source.to(x.dtype)
            if term.normed:
                source, dw, db = _norm_backward(
                    source, flat, weights[norm], affines[norm], plan.modes[norm], plan.last
                )
                grad_weights.append(dw)
                grad_biases.append(db)
                norm += 1
            grad_inputs.append(unflat(source, x, plan.last))
        return (None, *grad_inputs, *grad_weights, *grad_biases, *results)


def _norm_backward(
    grad: Tensor, x: Tensor, weight: Tensor, known: Affine, mode: str, last: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of a norm's input, weight and bias, of inputs as ``flat_view`` has them."""
    grad, x = (value.view(-1, *value.shape[-2:]) for value in (grad, x))
    if mode != SYNC:
        return norm_backward(grad, x, weight, known, mode == BATCH, last)
    dx, dw, db = input_gradient(maps(grad, last), maps(x, last), weight, known.mean, known.inverse)
    return unmapped(dx, last), dw, db


# -- the layer -------------------------------------------------------------------------------------


class FusedNeuron(Neuron):
    """A neuron with the sum and the norms before it.

    Its inputs are the terms of the sum, from the left; ``norms`` has for each of them the norm it
    goes through, or None. The norms are registered elsewhere in the model, where the spec has them;
    ``_bind`` says where, and each call uses what is registered there at that moment. ``kinds`` says what is known of each input, which may be kept in bits,
    ``output_kind`` the same of the output. What is joined of others may come in parts
    (``SideBySide``). Run again by ``recompute``, it gives the output that it noted and takes no
    statistics anew.

    Norms, sum and neuron are called one by one where torch.compile, torch.export or fx trace the
    model (the compiler fuses them itself, and a trace has all parameters), and where one of them is
    not as it was built (``_is_standard``): replaced, parametrized, with hooks, or with tensors that
    kernels do not take.
    """

    def __init__(
        self,
        program: str,
        steps: int,
        rank: int,
        norms: Sequence[Norm | None],
        kinds: Sequence[Kind],
        output_kind: Kind = ANALOG,
        size: Sequence[int] = (),
    ) -> None:
        super().__init__(program, steps, rank, *size)
        self._make: Callable[[str, tuple[Term, ...], int], CompiledGroup] = fusion_kernel
        parsed = read_program(program)
        self._shapes = [torch.Size(item.shape(tuple(size), steps)) for item in parsed.learnables]
        self._built = tuple(norms)
        self._places: tuple[Registration | None, ...] = ()
        self._normed = tuple(norm is not None for norm in norms)
        self._step_terms = tuple(Term(normed, True) for normed in self._normed)
        self._added = False
        self._kinds = tuple(kinds)
        self._output_kind = output_kind
        self._passes: dict[tuple[Any, ...], PassPlan | None] = {}
        self._streamed: tuple[Any, ...] | None = None

    def _bind(self, places: Sequence[Registration | None]) -> None:
        """Look the norms of the sum's terms up where they are registered, in each call."""
        self._places = (*[None] * self._added, *places)

    @property
    def _norms(self) -> tuple[Any, ...]:
        """For each term the module it goes through at this moment, or None."""
        if not self._places:
            return self._built
        return tuple(
            [
                norm if place is None or norm is None else place.now(norm)
                for norm, place in zip(self._built, self._places, strict=True)
            ]
        )

    @property
    def _is_group(self) -> bool:
        """Whether there is more than the neuron in it."""
        return self._added or len(self._normed) > 1 or self._normed[0]

    def replace_norms(self, new: Callable[[nn.Module], Any]) -> None:
        """Use ``new(norm)`` in place of each norm, wherever that is registered."""
        self._built = tuple(norm if norm is None else new(norm) for norm in self._norms)
        self._places, self._passes = (), {}

    def forward(self, *values: Value, is_driven: bool = False) -> Tensor:
        if is_driven:
            return super().forward(*[whole(x) for x in values])
        # (Lists, since a generator for each layer takes longer than what it asks.)
        if is_traced() or any([isinstance(x, fx.Proxy) for x in values]):  # noqa: C419
            return self._by_operation(values)
        modules = self._norms
        notes = tape()
        note = notes.read() if notes is not None and notes.replaying else None
        # (A second run goes as the first one went: hooks may be gone by then.)
        if note is BY_OPERATION or (note is None and not self._is_standard(modules, values)):
            if notes is not None and note is None:
                notes.write(BY_OPERATION)
            return self._by_operation(values)
        norms = [norm for norm in modules if norm is not None]
        weights = [*[norm.weight for norm in norms], *[norm.bias for norm in norms]]
        params = self.flat_params(False)
        terms = distinct([parts_of(x) for x in values])
        plan = self._pass(terms, weights + params)
        call: OnePass | _Call
        function: type[torch.autograd.Function]
        if plan is not None:
            parts = [part for parts in terms for part in parts]
            inputs = [part.tensor for part in parts]
            call, function = OnePass(plan, parts, norms, note), OnePassFunction
        else:
            inputs = [whole(x) for x in values]
            call, function = self._call(inputs, note), _FusionGroup
            params = self.flat_params(call.plan.last)
        tensors = [*inputs, *weights, *params]
        if torch.is_grad_enabled() and any([x.requires_grad for x in tensors]):  # noqa: C419
            out: Tensor = function.apply(call, *tensors)
        else:
            out = call.run(inputs, params)
        if notes is not None and note is None:
            notes.write(Note(call.affines, Output.of(out, self._output_kind)))
        return out

    def _is_standard(self, norms: Sequence[nn.Module | None], values: Sequence[Value]) -> bool:
        """Whether kernels compute what the ``norms`` and this neuron do to ``values``.

        It is the one condition for compiled and native code: without it every module is called.
        """
        for built, norm, value in zip(self._built, norms, values, strict=True):
            parts = [p.original for p in value.parts] if isinstance(value, SideBySide) else [value]
            x = parts[0]
            if not (x.is_cpu or x.is_cuda):
                return False
            if not all([is_known(each) and not each.is_neg() for each in parts]):  # noqa: C419
                return False
            if built is not None and not is_standard(norm, type(built), x):
                return False
            if self._per_step and len(x.shape) == self.rank + 2 and len(x) != self.steps:
                return False
        return not self._shapes or all(
            is_known(p) and p.shape == shape and p.device == x.device and p.is_contiguous()
            for p, shape in zip(self.params(), self._shapes, strict=True)
        )

    def _by_operation(self, values: Sequence[Value]) -> Tensor:
        """The output, with norms, sum and neuron one by one."""
        inputs = [whole(x) for x in values]
        out = super().forward(self._sum(inputs))
        return inputs[0] + out if self._added else out

    def _pass(self, terms: Sequence[Parts], others: Sequence[Tensor]) -> PassPlan | None:
        """Of what is done in one pass; None where kernels do it."""
        if not (compiled.COMPILE and native.LIBRARIES) or self._make is not fusion_kernel:
            return None
        parts = [part for parts in terms for part in parts]
        if not (all([part.is_plain for part in parts]) and all([is_plain(x) for x in others])):  # noqa: C419
            return None
        counts = tuple([len(each) for each in terms])
        arrangements = tuple([part.arrangement for part in parts])
        modes = self._modes()
        key = counts, arrangements, modes, torch.get_num_threads(), is_fake(parts[0].tensor)
        if key not in self._passes:
            self._passes[key] = self._found(terms, modes)
        return self._passes[key]

    def _found(self, terms: Sequence[Parts], modes: tuple[str, ...]) -> PassPlan | None:
        channels = sum(part.arrangement.shape[-self.rank] for part in terms[0])
        last = common_layout([part for parts in terms for part in parts], channels)
        are_mixed = any(len({len(part.arrangement.shape) for part in parts}) > 1 for parts in terms)
        if last is None or are_mixed or SYNC in modes:
            return None
        static, steps, timeless = self._form([parts[0].original for parts in terms])
        wanted = Wanted(self.program, tuple(map(Term, self._normed, static)), steps, last)
        if is_fake(terms[0][0].tensor):
            group = group_form(wanted)
        else:
            call = upcoming.call_under_way()
            layers = [] if call is None else list(call.model.modules())
            others = [x._likely(steps, last) for x in layers if isinstance(x, FusedNeuron)]
            group = native_group(wanted, others)
        if group is None:
            return None
        repeats = [
            norm.steps if same and isinstance(norm, StaticBatchNorm2d) else 1
            for norm, same in zip(self._norms, static, strict=True)
            if norm is not None
        ]
        return PassPlan.of(
            group, wanted, terms, steps, self._kinds, modes, tuple(repeats), last, timeless
        )

    def _likely(self, steps: int, last: bool) -> Wanted:
        """The library that this layer is going to want, as far as its norms say."""
        static = [isinstance(norm, StaticBatchNorm2d) for norm in self._norms]
        return Wanted(self.program, tuple(map(Term, self._normed, static)), steps, last)

    def _call(self, inputs: Sequence[Tensor], note: Note | None) -> _Call:
        plan = self._planned(inputs)
        flats = [flat_view(x, t, plan.last) for x, t in zip(inputs, plan.terms, strict=True)]
        if note is not None:
            return _Call(plan, flats, note.affines, note.output)
        return _Call(plan, flats, self._affines(self._norms, flats, plan.terms, plan.last), None)

    def __getstate__(self) -> dict[str, Any]:
        """Without libraries, which stay in this process."""
        return {**self.__dict__, "_passes": {}, "_streamed": None}

    def _form(self, inputs: Sequence[Tensor]) -> tuple[tuple[bool, ...], int, bool]:
        """Which inputs are static, for how many steps it runs, and whether the output does not vary."""
        static = tuple([x.dim() == self.rank + 1 for x in inputs])
        lengths = {x.shape[0] for x, same in zip(inputs, static, strict=True) if not same}
        timeless = not lengths and is_timeless(inputs[0], self.rank, self.program)
        return static, lengths.pop() if lengths else 1 if timeless else self.steps, timeless

    def _modes(self) -> tuple[str, ...]:
        return tuple([mode_of(norm) for norm in self._norms if norm is not None])

    def _planned(self, inputs: Sequence[Tensor]) -> _Plan:
        """What this call has in common with others."""
        static, steps, timeless = self._form(inputs)
        return _plan(
            self._make,
            self.program,
            self._normed,
            static,
            steps,
            self._kinds,
            self._modes(),
            any(is_last(x) for x in inputs),
            timeless,
        )

    def flat_params(self, last: bool, now: int | None = None) -> list[Tensor]:
        """The learnables as kernels take them: scalars, and of each channel [C, 1] or [C]; those
        that each time step has one by one, or those of the step ``now``."""
        each: Iterable[Tensor]
        if now is None:
            items = zip(read_program(self.program).learnables, self.params(), strict=True)
            each = chain.from_iterable(p.unbind(0) if item.per_step else (p,) for item, p in items)
        else:
            each = kernel(self.program).at(self.params(), now)
        return [p if not p.dim() else p.view(-1) if last else p.view(-1, 1) for p in each]

    def _affines(
        self,
        norms: Sequence[Any],
        flats: Sequence[Tensor],
        terms: Sequence[Term],
        last: bool,
    ) -> list[Affine]:
        """What each norm does to its input; in training the running statistics move."""
        return [
            affine(norm, x.view(-1, *x.shape[-2:]), term.static, last)
            for x, norm, term in zip(flats, norms, terms, strict=True)
            if norm is not None
        ]

    def advance(self, values: Sequence[Value], before: Any) -> tuple[Tensor, Any]:
        """As ``Neuron.advance``; in one kernel where no gradients are wanted."""
        inputs = [whole(x) for x in values]
        norms = None
        if not (torch.is_grad_enabled() or is_traced()):
            # (Later steps of a stream use the norms of its first, as they use its layers.)
            if not is_later_step() or self._streamed is None:
                now = self._norms
                self._streamed = now if self._is_standard(now, inputs) else None
            norms = self._streamed
        if norms is None:
            out, after = super().advance(inputs, before)
            return inputs[0] + out if self._added else out, after
        step_number, states = (before or (0, None)) if self._per_step else (0, before)
        last, shape = any(is_last(x) for x in inputs), inputs[0].shape
        terms, layout = self._step_terms, step_layout(shape, last)
        flats = [layout.flat_view(x) for x in inputs]
        scales, shifts = columns(self._affines(norms, flats, terms, last), last)
        step = step_kernel(self.program, terms, self._added)
        if states is None:
            known = kernel(self.program).initial_states(wide(flats[self._added]))
        else:
            known = [layout.flat_view(state) for state in states]
        params = self.flat_params(last, step_number)
        results = apart(step(*flats, *known, *scales, *shifts, *params), flats)
        out, *states = [value.as_strided(shape, layout.strides) for value in results]
        return out, (step_number + 1, states) if self._per_step else states

    def current(self, *inputs: Tensor) -> Tensor:
        return self._sum([x.unsqueeze(0) for x in inputs]).squeeze(0)

    def _drive(self, *values: Value) -> Tensor:
        """What drives the neuron, for another module in its place."""
        return self._sum([whole(x) for x in values])

    def _sum(self, inputs: Sequence[Tensor]) -> Tensor:
        """What drives the neuron, operation by operation."""
        return self._driven(inputs, self._norms)

    def _driven(self, inputs: Sequence[Tensor], norms: Sequence[nn.Module | None]) -> Tensor:
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
