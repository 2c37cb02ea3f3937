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


def _is_for_others() -> bool:
    """Whether torch is exporting the model for who has no danetc and needs no gradients."""
    if not torch.compiler.is_compiling():
        return False
    inference = torch.compiler.is_exporting() and not torch.is_grad_enabled()
    return inference or torch.onnx.is_in_onnx_export()


class Neuron(nn.Module):
    """A layer of neurons with the equations of ``program``, the text of a NeuronProgram.

    Takes [N, ...] (the same input at each of ``steps`` time steps) or [T, N, ...] and gives
    [T, N, ...]; a neuron without states gives what it takes. ``rank`` is the number of dimensions
    of one sample; several inputs lie side by side in one more, which the output has not
    (``input_rank``). Exported by torch.onnx, or by torch.export where gradients are off, it is of torch's
    own operations. Its learnables are scalar parameters under their names (``NAME_raw`` where they
    have bounds), or have one number for each channel of a sample's ``size``; where each time step
    has its own, T stands in front. What is scheduled is a buffer; ``scheduled`` has its name by that
    of the schedule. No state outlives a call.
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
        """Have the numbers of another layer of the same program, and none of its own."""
        for name, parameter in first.named_parameters(recurse=False):
            self.register_parameter(name, parameter)
        for name in self.scheduled.values():
            del self._buffers[name]  # two would part when they are converted
        self.scheduled = {}
        self._first = (first,)  # in a tuple: it is no module of this one

    def params(self) -> list[Tensor]:
        """The learnables in the order of the program."""
        held = {} if not self._first else {**self._parameters, **self._buffers}
        # (A parametrization or pruning makes an attribute of what was a parameter.)
        owners = [self._first[0] if self._first and n not in held else self for n in self._names]
        return [getattr(owner, name) for owner, name in zip(owners, self._names, strict=True)]

    def forward(self, x: Tensor) -> Tensor:
        run: Callable[..., Tensor] = torch.ops.danetc.neuron
        if is_transformed():
            run = differentiable
        elif _is_for_others():
            run = written_out
        out: Tensor = run(x, self.params(), self.steps, self.input_rank, self.program)
        return out

    def current(self, *inputs: Tensor) -> Tensor:
        """What drives the neuron at one time step, [N, ...], of what the layer takes: its input.

        A layer that stands for a sum and the neuron behind it gives the sum.
        """
        (x,) = inputs
        return x

    def step(
        self, x: Tensor, states: Sequence[Tensor] | None, now: int = 0
    ) -> tuple[Tensor, list[Tensor]]:
        """One time step of [N, ...]: the output, and the states to hand to the next step.

        ``states`` of None are those before the first step; ``now`` is which step it is, from 0,
        where each has learnables of its own.
        """
        params, before = kernel(self.program).at(self.params(), now), list(states or [])
        run: Callable[..., list[Tensor]] = torch.ops.danetc.neuron_step
        if is_transformed():
            run = differentiable_one_step
        elif (
            type(x) is Tensor and not torch.is_grad_enabled() and not torch.compiler.is_compiling()
        ):
            run = one_step
        out = run(x, before, params, self.program)
        return out[0], out[1:]

    def advance(self, inputs: Sequence[Tensor], before: Any) -> tuple[Tensor, Any]:
        """One time step of what the layer takes, each [N, ...]: its output, and what the next step
        takes in: the states, with the number of steps so far where learnables depend on it.
        """
        return self._advance_by(self.current(*inputs), before)

    def _advance_by(self, x: Tensor, before: Any) -> tuple[Tensor, Any]:
        """The same of what drives the neuron."""
        if not self._per_step:
            return self.step(x, before)
        now, states = before or (0, None)
        y, after = self.step(x, states, now)
        return y, (now + 1, after)

    def extra_repr(self) -> str:
        return f"{read_program(self.program).name}, steps={self.steps}"
