"""A model that fires as another program of its network does: whether both compute the same, spike by spike.

A spike that stands at its threshold falls as each program rounds, and what follows of it is no difference
of the programs. So each layer of neurons of the model computes its own output, and then gives that of the
other: what reaches the next layer is the same for both, and each layer, and the outputs, can be compared
for themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from danetc.compiler.emit.names import dotted
from danetc.compiler.ir.graph import Graph
from danetc.runtime.layers.loop import Loop
from danetc.runtime.layers.neuron import Neuron
from danetc.runtime.model.stepping import is_step_under_way
from danetc.tasks.flips import changes

Room = Callable[[Tensor, int], Tensor]
"""How much of what a layer takes rounding may be, by that and its axis of samples."""


@dataclass(frozen=True, slots=True)
class LayerFiring:
    """A layer of neurons in which some samples fire otherwise: its path, and [N] of each whether it
    does, and whether some of its neurons do so where rounding does not decide."""

    path: str
    otherwise: Tensor
    wrong: Tensor


class Follower:
    """A layer of neurons that gives what that of another program does; what it computes is noted."""

    def __init__(self, layer: Neuron, path: str, spikes: Tensor) -> None:
        self.layer, self.path, self.spikes = layer, path, spikes
        self._step: Callable[..., tuple[Tensor, Any]] = layer.advance
        self._took: list[Tensor] = []
        self._gave: list[Tensor] = []
        self._whole = False

    def called(self, layer: nn.Module, given: tuple[Tensor, ...], y: Tensor) -> Tensor:
        """The hook of a layer that computes all steps at once. (A stream calls it too, after ``advance``.)"""
        if is_step_under_way():
            return y
        self._took, self._gave, self._whole = [given[0]], [y], True
        return self.spikes.reshape(y.shape).to(y)

    def advance(self, inputs: Sequence[Tensor], before: Any) -> tuple[Tensor, Any]:
        """The same of one step; its states are those of its own spikes."""
        y, after = self._step(inputs, before)
        spikes = self.spikes.reshape(-1, *y.shape)
        theirs = spikes[len(self._gave)]
        self._took.append(inputs[0])
        self._gave.append(y)
        return theirs.to(y), after

    def firing(self, within: float, room: Room) -> LayerFiring:
        """How what it gave compares with what it computed.

        Args:
            within: how far what is no whole number may be from that of the other.
            room: how much of its input rounding may be.
        """
        join = torch.cat if self._whole else torch.stack
        x, own = join(self._took), join(self._gave)
        theirs = self.spikes.reshape(own.shape).to(own)
        axis = own.dim() - self.layer.rank - 1
        close = within * (1 + theirs.abs().max()) if (theirs != theirs.round()).any() else 0.0
        differ = ~((own - theirs).abs() <= close)
        if axis:  # what a neuron gives after its first difference comes of that
            differ &= differ.cumsum(0) == 1
        others = [place for place in range(own.dim()) if place != axis]
        otherwise = differ.sum(others) > 0
        wrong = torch.zeros_like(otherwise)
        samples = otherwise.nonzero().flatten()
        if len(samples):
            of_input = x.dim() - self.layer.input_rank - 1
            x = x.index_select(of_input, samples)
            theirs, differ = (y.index_select(axis, samples) for y in (theirs, differ))
            for change in changes(x, room(x, of_input)):
                differ &= ~((self.layer(x + change) - theirs).abs() <= close)
                if not differ.any():
                    break
            wrong[samples] = differ.sum(others) > 0
        return LayerFiring(self.path, otherwise, wrong)


def followers(
    graph: Graph, model: nn.Module, spikes: Mapping[str, Tensor]
) -> list[Follower] | None:
    """The layers of neurons of a model, each with what another program's gives, by the paths of their
    nodes; None where that does not say so of all, or where two nodes are one layer."""
    nodes = [node for node in graph.nodes.values() if node.op == "neuron"]
    names = {dotted(*node.scope, node.name): node.path for node in nodes}
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, Neuron)}
    if names.keys() != layers.keys() or not spikes.keys() >= {*names.values()}:
        return None
    return [Follower(layers[name], path, spikes[path]) for name, path in names.items()]


@contextmanager
def following(model: nn.Module, layers: Sequence[Follower]) -> Iterator[None]:
    """Within, the model fires as the other program does."""
    loops = (module for module in model.modules() if isinstance(module, Loop))
    inside = {layer for loop in loops for layer in loop.step.modules()}
    with ExitStack() as stack:
        for item in layers:
            item.layer.__dict__["advance"] = item.advance
            stack.callback(item.layer.__dict__.pop, "advance")
            if item.layer not in inside:
                handle = item.layer.register_forward_hook(item.called)
                stack.callback(handle.remove)
        yield
