"""Neurons of the fused backend, each with the sum and the norms before it as one layer.

A fusion group ``norm -> spike``, ``norm + shortcut -> spike`` or ``a + b -> spike`` is one layer. On a CPU, a C++
library computes all of it in one pass over memory; on a GPU, one kernel follows the batch statistics
(``group_calls``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from danetc.dsl.kinds import ANALOG, Kind
from danetc.dsl.neuron.reading import read_program
from danetc.runtime.kernels import compiled, prefetch
from danetc.runtime.kernels.fusion_group import Term, fusion_kernel
from danetc.runtime.kernels.native_group import GroupKey, group_form, native_group
from danetc.runtime.kernels.neuron import kernel
from danetc.runtime.kernels.neuron_operators import is_timeless
from danetc.runtime.kernels.torch_internals import hooking, is_fake, is_known, is_traced, notice
from danetc.runtime.layers.concatenation import LazyConcatenation, Value, slices_of, whole
from danetc.runtime.layers.group_calls import GroupFunction, KernelPlan, NativePlan, Slices
from danetc.runtime.layers.layouts import is_last, laid_out, new_value
from danetc.runtime.layers.neuron import Neuron
from danetc.runtime.layers.norm import StaticBatchNorm2d
from danetc.runtime.layers.registered import Registration
from danetc.runtime.layers.statistics import SYNC, Norm, is_standard, mode_of, repeats_of
from danetc.runtime.model.stepping import is_later_step


class FusedNeuron(Neuron):
    """A neuron with the sum and the norms before it.

    Its inputs are the terms of the sum, from the left; ``norms`` has the norm of each term, or None. The norms are
    registered elsewhere in the model; ``_bind`` says where, and each call uses the modules registered there at
    that moment. ``kinds`` describes the inputs, which may be packed for backward. An input may be a lazy
    concatenation.

    In a folded model, if ``added``, one more first input is added to the spikes; the output is written over the
    term ``owned``, if any, which no other layer reads.

    Norms, sum and neuron run one by one if torch.compile, torch.export or fx trace the model (the compiler fuses
    them itself, and a trace has all parameters), and if one of them is not as it was built (``_is_standard``).
    """

    def __init__(
        self,
        program: str,
        steps: int,
        rank: int,
        norms: Sequence[Norm | None],
        kinds: Sequence[Kind] = (),
        size: Sequence[int] = (),
        owned: int | None = None,
        added: bool = False,
    ) -> None:
        super().__init__(program, steps, rank, *size)
        learnables = read_program(program).learnables
        self._per_pixel = rank > 1 and any(item.per == "neuron" for item in learnables)
        self._shapes = [torch.Size(item.shape(tuple(size), steps)) for item in learnables]
        self._built: tuple[Any, ...] = (*[None] * added, *norms)
        self._places: tuple[Registration | None, ...] = (None,) * len(self._built)
        self._normed = tuple(norm is not None for norm in self._built)
        self._kinds = tuple(kinds) or (ANALOG,) * len(self._built)
        self._owned = None if owned is None else owned + added
        self._added = added
        self._plans: dict[tuple[Any, ...], NativePlan | None] = {}
        self._streamed: tuple[Any, ...] | None = None

    def _bind(self, places: Sequence[Registration | None]) -> None:
        """Look the norms of the sum's terms up where they are registered, in each call."""
        self._places = (*[None] * self._added, *places)

    @property
    def _norms(self) -> tuple[Any, ...]:
        """The norm of each term at this moment, or None."""
        places = zip(self._built, self._places, strict=True)
        return tuple([norm if place is None else place.now(norm) for norm, place in places])

    @property
    def _is_group(self) -> bool:
        """True if the layer is more than a neuron."""
        return self._added or len(self._normed) > 1 or self._normed[0]

    register_forward_hook = hooking(Neuron.register_forward_hook)
    register_forward_pre_hook = hooking(Neuron.register_forward_pre_hook)

    def replace_norms(self, new: Callable[[nn.Module], Any]) -> None:
        """Use ``new(norm)`` in place of each norm, wherever that is registered."""
        self._built = tuple(norm if norm is None else new(norm) for norm in self._norms)
        self._places, self._plans = (None,) * len(self._built), {}

    def __getstate__(self) -> dict[str, Any]:
        """The state without libraries, which belong to this process."""
        return {**self.__dict__, "_plans": {}, "_streamed": None}

    # -- a call ------------------------------------------------------------------------------------

    def forward(self, *values: Value) -> Tensor:
        if is_traced(*values):
            return self._by_operation(values)
        norms = self._norms
        if not self._is_standard(norms, values):
            return self._by_operation(values)
        present = [norm for norm in norms if norm is not None]
        weights = [*[norm.weight for norm in present], *[norm.bias for norm in present]]
        params = self._flat_learnables()
        native = self._native_plan(values, present, [*weights, *params])
        if native is None:
            inputs: Sequence[Tensor] = [whole(x) for x in values]
            terms, steps, timeless = self._form(inputs)
            group = fusion_kernel(self.program, terms, steps, self._added)
            modes, last = tuple(map(mode_of, present)), any(is_last(x) for x in inputs)
            plan: KernelPlan | NativePlan = KernelPlan(
                group, terms, steps, self._kinds, modes, last, timeless
            )
        else:
            plan, inputs = native
        tensors = [*inputs, *weights, *params]
        if torch.is_grad_enabled() and any([x.requires_grad for x in tensors]):  # noqa: C419
            out: Tensor = GroupFunction.apply(plan, present, *tensors)
            return out
        if isinstance(plan, KernelPlan):
            return plan.forward(inputs, present, params)[0]
        return plan.forward(inputs, present, params, self._owned)[0]

    def _is_standard(self, norms: Sequence[nn.Module | None], values: Sequence[Value]) -> bool:
        """True if fused code computes what the ``norms`` and this neuron do to ``values``.

        It is the only condition for compiled and native code, which have learnables of layers and
        channels, but none of pixels.
        """
        if self._per_pixel:
            return False
        for built, norm, value in zip(self._built, norms, values, strict=True):
            if isinstance(value, LazyConcatenation):
                slices = [each.tensor for each in value.slices]
            else:
                slices = [value]
            x = slices[0]
            if not (x.is_cpu or x.is_cuda):
                return False
            if not all([is_known(each) and not each.is_neg() for each in slices]):  # noqa: C419
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
        out = super().forward(self._total(inputs))
        return inputs[0] + out if self._added else out

    def _flat_learnables(self) -> list[Tensor]:
        """The learnables, with those of each time step one by one."""
        if not self._per_step:
            return self.params()
        learnables = read_program(self.program).learnables
        found: list[Tensor] = []
        for item, p in zip(learnables, self.params(), strict=True):
            found += p.unbind(0) if item.per_step else (p,)
        return found

    def _form(self, inputs: Sequence[Tensor]) -> tuple[tuple[Term, ...], int, bool]:
        """The terms, T, and whether the output does not vary."""
        static = [x.dim() == self.rank + 1 for x in inputs]
        lengths = {len(x) for x, same in zip(inputs, static, strict=True) if not same}
        timeless = not lengths and is_timeless(inputs[0], self.rank, self.program)
        steps = lengths.pop() if lengths else 1 if timeless else self.steps
        return tuple(map(Term, self._normed, static)), steps, timeless

    def _native_plan(
        self,
        values: Sequence[Value],
        norms: Sequence[Norm],
        others: Sequence[Tensor],
        is_step: bool = False,
    ) -> tuple[NativePlan, Sequence[Tensor]] | None:
        """The plan of a call by a library, and the slices of all terms; None if a kernel has to run it. A single step
        carries states."""
        terms = [slices_of(x) for x in values]
        slices = [each for term in terms for each in term]
        x = slices[0].tensor
        if not compiled.COMPILE or not x.is_cpu or "cpu" in compiled.DEVICES:
            return None
        modes = tuple([mode_of(norm) for norm in norms])
        layouts = tuple([tuple([(each.layout, each.dtype) for each in term]) for term in terms])
        key = layouts, modes, torch.get_num_threads(), is_fake(x), is_step
        known = self._plans.get(key)
        if known is not None and all([p.dtype is torch.float32 for p in others]):  # noqa: C419
            return known, [each.tensor for each in slices]
        if known is None and key in self._plans:
            return None
        dtypes = {each.dtype for each in slices}
        if None in dtypes or SYNC in modes or any(p.dtype is not torch.float32 for p in others):
            notice(
                "on a CPU, fused layers run operation by operation unless their inputs are float32 or "
                "bfloat16, their parameters float32, and their norms those of one process"
            )
            return None
        last = slices[0].layout.is_last
        same = all(each.layout.is_last if last else each.layout.is_first for each in slices)
        ranks = [{len(each.layout.shape) for each in term} for term in terms]
        if len(dtypes) > 1 or not same or any(len(each) > 1 for each in ranks):
            dtype = torch.bfloat16 if dtypes == {torch.bfloat16} else torch.float32
            plain = [laid_out(whole(x).to(dtype), last) for x in values]
            return self._native_plan(plain, norms, others, is_step)
        self._plans[key] = self._plan(terms, norms, last, is_step)
        return self._native_plan(values, norms, others, is_step)

    def _plan(
        self, terms: Sequence[Slices], norms: Sequence[Norm], last: bool, is_step: bool
    ) -> NativePlan | None:
        first = terms[0][0].tensor
        if not first.numel():
            return None
        if is_step:
            forms, steps, timeless = tuple(Term(n, True) for n in self._normed), 1, True
        else:
            forms, steps, timeless = self._form([term[0].tensor for term in terms])
        half = terms[0][0].dtype is torch.bfloat16
        key = GroupKey(self.program, forms, steps, last, half, self._added, is_step)
        if is_fake(first):
            group = group_form(key)
        else:
            call = prefetch.call_under_way()
            layers = [] if call is None else list(call.model.modules())
            group = native_group(
                key, [x._likely(key) for x in layers if isinstance(x, FusedNeuron)]
            )
        if group is None:
            return None
        static = [term.static for term in forms if term.normed]
        repeats = tuple(map(repeats_of, norms, static))
        modes = [mode_of(norm) for norm in norms]
        return NativePlan.of(group, key, terms, self._kinds, modes, repeats, timeless)

    def _likely(self, key: GroupKey) -> GroupKey:
        """The library that this layer will need where another one needs ``key``, as far as its norms tell."""
        static = [key.carries or isinstance(norm, StaticBatchNorm2d) for norm in self._norms]
        terms = tuple(map(Term, self._normed, static))
        return key._replace(program=self.program, terms=terms, added=self._added)

    # -- a step of a stream ------------------------------------------------------------------------

    def advance(self, inputs: Sequence[Tensor], before: Any) -> tuple[Tensor, Any]:
        """As ``Neuron.advance``; in one pass by a library if no gradients are needed."""
        norms = native = None
        if not (torch.is_grad_enabled() or is_traced()):
            # (Later steps of a stream use the norms of its first, as they use its layers.)
            if not is_later_step() or self._streamed is None:
                now = self._norms
                self._streamed = now if self._is_standard(now, inputs) else None
            norms = self._streamed
        number, states = (before or (0, None)) if self._per_step else (0, before)
        if norms is not None:
            params = kernel(self.program).at(self.params(), number)
            present = [norm for norm in norms if norm is not None]
            native = self._native_plan(inputs, present, params, is_step=True)
        if native is None:
            total = self._total([x.unsqueeze(0) for x in inputs]).squeeze(0)
            out, after = super().advance([total], before)
            return inputs[0] + out if self._added else out, after
        plan, inputs = native
        shape, last = plan.shape, plan.key.channels_last
        count = len(kernel(self.program).program.states)
        known = [laid_out(state, last) for state in states] if states else [None] * count
        if any(x is not None and (x.shape, x.dtype) != (shape, torch.float32) for x in known):
            raise RuntimeError(f"the states of a stream are not those of frames {list(shape)}")
        after = [new_value(shape, inputs[0], last, torch.float32) for _ in range(count)]
        out, _ = plan.forward(inputs, present, params, self._owned, [*known, *after])
        return out, (number + 1, after) if self._per_step else after

    # -- operation by operation --------------------------------------------------------------------

    def _total(self, inputs: Sequence[Value]) -> Tensor:
        terms = []
        for x, norm in zip(
            map(whole, inputs[self._added :]), self._norms[self._added :], strict=True
        ):
            if norm is None or isinstance(norm, StaticBatchNorm2d):
                terms.append(x if norm is None else norm(x))
            else:
                flat = x.flatten(0, -self.rank - 1)
                terms.append(norm(flat).unflatten(0, x.shape[: -self.rank]))
        total: Tensor = sum(terms[1:], terms[0])
        return total
