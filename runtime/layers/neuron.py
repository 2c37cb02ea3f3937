"""The neuron layer of a built model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from danetc.dsl.neuron.kernel_text import parameter_names
from danetc.dsl.neuron.reading import read_program
from danetc.runtime.kernels.neuron import kernel
from danetc.runtime.kernels.neuron_operators import (  # registers torch.ops.danetc too
    differentiable,
    differentiable_one_step,
    one_step,
    written_out,
)
from danetc.runtime.kernels.torch_internals import is_transformed


def within(raw: Tensor, above: float | None, below: float | None) -> Tensor:
    """Return the value of a stored number, strictly within its bounds."""
    if above is not None and below is not None:
        return above + (below - above) * torch.sigmoid(raw)
    if above is not None:
        return above + nn.functional.softplus(raw)
    return raw if below is None else below - nn.functional.softplus(raw)


class Neuron(nn.Module):
    """A layer of neurons with the equations of ``program``, the text of a NeuronProgram.

    Takes [N, ...] (the same input at each of ``steps`` time steps) or [T, N, ...] and returns [T, N, ...]; without
    states, a static input gives a static output. ``rank`` is the number of dimensions of one sample; several inputs are
    stacked in a further one (``input_rank``), which the output lacks. torch.onnx, and torch.export without gradients,
    export it as operations of torch.

    Learnables are scalar parameters under their names (``NAME_raw`` if bounded), or of the ``size`` of a sample's
    channels; with T in front if each time step has its own. Scheduled ones are buffers; ``scheduled`` maps the names of
    schedules to theirs. No state outlives a call.
    """

    def __init__(self, program: str, steps: int, rank: int, *size: int) -> None:
        super().__init__()
        parsed = read_program(program)
        self.program = program
        self.steps = steps
        self.rank = rank
        self.input_rank = rank + bool(parsed.inputs)
        self._names = parameter_names(parsed)
        self._per_step = parsed.per_step
        self._first: tuple[Neuron, ...] = ()
        self.scheduled: dict[str, str] = {}
        for name, item in zip(self._names, parsed.learnables, strict=True):
            start = torch.full(item.shape(size, steps), item.raw)
            if item.scheduled:
                self.register_buffer(name, start)
                self.scheduled[item.scheduled] = name
            else:
                self.register_parameter(name, nn.Parameter(start))

    def share(self, first: Neuron) -> None:
        """Share the learnables of another layer of the same program."""
        for name, parameter in first.named_parameters(recurse=False):
            self.register_parameter(name, parameter)
        for name in self.scheduled.values():
            del self._buffers[name]  # a conversion would replace only one of the two
        self.scheduled = {}
        self._first = (first,)  # a tuple: not a submodule

    def params(self) -> list[Tensor]:
        """Return the learnables in the order of the program."""
        held = {} if not self._first else {**self._parameters, **self._buffers}
        # (Parametrizations and pruning replace a parameter by an attribute.)
        owners = [self._first[0] if self._first and n not in held else self for n in self._names]
        return [getattr(owner, name) for owner, name in zip(owners, self._names, strict=True)]

    @torch.no_grad()
    def values(self) -> dict[str, Tensor]:
        """Return the learnt and scheduled values by their names in the spec, within their bounds: a number,
        or one for each channel, with T in front if each time step has its own.
        """
        items = read_program(self.program).learnables
        pairs = zip(items, self.params(), strict=True)
        return {item.name: within(x, item.above, item.below).clone() for item, x in pairs}

    def forward(self, x: Tensor) -> Tensor:
        run: Callable[..., Tensor] = torch.ops.danetc.neuron
        if is_transformed():
            run = differentiable
        elif torch.compiler.is_compiling() and (
            (torch.compiler.is_exporting() and not torch.is_grad_enabled())
            or torch.onnx.is_in_onnx_export()
        ):  # for use without danetc and without gradients
            run = written_out
        out: Tensor = run(x, self.params(), self.steps, self.input_rank, self.program)
        return out

    def _total(self, inputs: Sequence[Any]) -> Tensor:
        """Return the neuron's input over time from those of a call; for a fused layer the sum of its terms, operation
        by operation."""
        x: Tensor = inputs[0]
        return x

    def advance(self, inputs: Sequence[Tensor], before: Any) -> tuple[Tensor, Any]:
        """Return the output of one time step of inputs [N, ...], and the state for the next: the neuron's states (None
        at the first step), with the number of steps so far if learnables depend on it."""
        (x,) = inputs
        now, states = (before or (0, None)) if self._per_step else (0, before)
        params = kernel(self.program).at(self.params(), now)
        run: Callable[..., list[Tensor]] = torch.ops.danetc.neuron_step
        if is_transformed():
            run = differentiable_one_step
        elif (
            type(x) is Tensor and not torch.is_grad_enabled() and not torch.compiler.is_compiling()
        ):
            run = one_step
        y, *after = run(x, list(states or []), params, self.program)
        return y, (now + 1, after) if self._per_step else after

    def extra_repr(self) -> str:
        return f"{read_program(self.program).name}, steps={self.steps}"
