"""Loops over time: layers that depend on their own earlier output run step by step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from danetc.runtime.kernels.torch_internals import is_traced
from danetc.runtime.layers.leaf import Leaf
from danetc.runtime.layers.registered import Registration
from danetc.runtime.model.built import ScopeModule

Memory = Mapping[str, Any]
"""State of a loop between two steps, by name in its scope: the states of neurons, and for each recurrent value those of
the last steps, the latest last."""


@dataclass(frozen=True, slots=True)
class LoopState:
    """A value that later steps read: its name, its delay in steps, and the shape of a sample."""

    name: str
    steps: int
    shape: tuple[int, ...]


class Loop(Leaf):
    """Runs ``step`` for each time step and stacks its outputs: [T, N, ...].

    Inputs are [T, N, ...] or, if static, [N, ...], with ``ranks`` dimensions per sample; without a sequence there are
    ``steps`` steps. ``step`` takes the inputs of one step [N, ...], the recurrent values and the ``states`` of its
    layers, and returns ``outputs`` values, the next recurrent values and the states. The input ``sampled`` has a value
    for each sample. Its modules are registered elsewhere in the model.

    Gradients flow through all steps, but not through recurrent values while ``detached`` is set. Forward hooks of layers with states see all steps together.
    """

    def __init__(
        self,
        step: ScopeModule,
        ranks: Sequence[int],
        carried: Sequence[LoopState],
        states: Sequence[str],
        outputs: int,
        steps: int,
        sampled: int = 0,
    ) -> None:
        super().__init__()
        self.__dict__["step"] = step
        self.ranks = tuple(ranks)
        self.carried = tuple(carried)
        self.states = tuple(states)
        self.outputs = outputs
        self.steps = steps
        self.sampled = sampled
        self.detached = False
        self._places: tuple[tuple[str, Registration], ...] = ()

    step: ScopeModule

    def forward(self, *inputs: Tensor) -> Any:
        return self._with_hooks(self.over_time, inputs)

    def stream(self, frames: Sequence[Tensor], before: Memory) -> tuple[Sequence[Tensor], Memory]:
        """As ``advance``, with hooks of the layers."""
        found: tuple[Sequence[Tensor], Memory] = self._with_hooks(self.advance, frames, before)
        return found

    def _with_hooks(self, run: Callable[..., Any], *values: Any) -> Any:
        """Return ``run(*values, step)`` for a step of the layers that are registered now, and run their hooks."""
        for name, place in self._places:
            layer = self.step.get_submodule(name)
            now = place.now(layer)
            if now is not layer and now is not None:
                self.step.set_submodule(name, now)
        watched = [name for name in self.states if self.step.get_submodule(name)._forward_hooks]
        if not watched or torch.compiler.is_compiling():
            return run(*values, self.step)
        recorder = _Recorder(self.step, watched)
        result = run(*values, recorder.run)
        recorder.show()
        return result

    def over_time(self, inputs: Sequence[Tensor], step: Callable[..., Sequence[Any]]) -> Any:
        """Run all time steps by ``step``, which computes the same as ``self.step``."""
        frames = [
            x.unbind(0) if x.dim() == rank + 2 else x
            for x, rank in zip(inputs, self.ranks, strict=True)
        ]
        lengths = [len(each) for each in frames if isinstance(each, tuple)]
        memory: Memory = {}
        given: list[Sequence[Tensor]] = []
        for t in range(min(lengths, default=self.steps)):
            now = [each[t] if isinstance(each, tuple) else each for each in frames]
            values, memory = self.advance(now, memory, step)
            given.append(values)
        results = [torch.stack(values) for values in zip(*given, strict=True)]
        # Values that no step reads get gradients of 0, as those that a delay drops.
        unread = [memory[item.name][-1] for item in self.carried if item.steps >= len(given)]
        if unread and torch.is_grad_enabled() and not is_traced():
            results[0] = _Beside.apply(results[0], *unread)
        return results[0] if len(results) == 1 else tuple(results)

    def advance(
        self, frames: Sequence[Tensor], before: Memory, step: Callable[..., Sequence[Any]]
    ) -> tuple[Sequence[Tensor], Memory]:
        """Return the outputs of one time step of frames [N, ...], and the next state."""
        kept = [before.get(item.name, ()) for item in self.carried]
        carried = [
            (values[0].detach() if self.detached else values[0])
            if len(values) == item.steps
            else frames[self.sampled].new_zeros((frames[self.sampled].shape[0], *item.shape))
            for item, values in zip(self.carried, kept, strict=True)
        ]
        states = [before.get(name) for name in self.states]
        results = step(*frames, *carried, *states)
        count = self.outputs + len(self.carried)
        after: dict[str, Any] = dict(zip(self.states, results[count:], strict=True))
        for item, values, new in zip(
            self.carried, kept, results[self.outputs : count], strict=True
        ):
            after[item.name] = (*values, new)[-item.steps :]
        return results[: self.outputs], after

    @property
    def memory(self) -> tuple[str, ...]:
        """Names in the state."""
        return (*self.states, *(item.name for item in self.carried))

    def bind(self, scope: nn.Module, names: Sequence[str]) -> None:
        """Look the layers of the step up in ``scope``, under the same names, in each call."""
        self._places = tuple((name, Registration(scope, name)) for name in names)

    def extra_repr(self) -> str:
        return f"{', '.join(item.name for item in self.carried)}, steps={self.steps}"


class _Beside(torch.autograd.Function):
    """Returns ``x``; the other values get gradients of 0."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *others: Tensor) -> Tensor:
        ctx.shapes = [(other.shape, other.dtype) for other in others]
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        return grads[0], *(grads[0].new_zeros(shape, dtype=dtype) for shape, dtype in ctx.shapes)


class _Recorder(fx.Interpreter):
    """Runs steps and records the inputs and outputs of some layers for their hooks."""

    def __init__(self, step: ScopeModule, names: Sequence[str]) -> None:
        super().__init__(step)
        self.layers = {step.get_submodule(name): ([], []) for name in names}  # type: ignore[var-annotated]

    def call_method(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = super().call_method(target, args, kwargs)
        if target == "advance" and args[0] in self.layers:
            took, gave = self.layers[args[0]]
            took.append(args[1])
            gave.append(result[0])
        return result

    def show(self) -> None:
        for layer, (took, gave) in self.layers.items():
            if not gave:
                continue
            inputs = tuple(torch.stack(values) for values in zip(*took, strict=True))
            output = torch.stack(gave)
            for hook in layer._forward_hooks.values():
                hook(layer, inputs, output)
