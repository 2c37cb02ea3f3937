"""Spikes at their threshold: whether rounding explains that two programs of one network differ.

A membrane potential that stands at its threshold is above it for one program and below it for
another, by how each rounds; from there on the two compute with other spikes. A sample in which outputs
differ is traced to such a spike: by the spikes of both, where both are known, else by having the model
fire otherwise there and comparing again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from danetc.compiler.emit.names import dotted
from danetc.compiler.ir.graph import Graph, Node
from danetc.compiler.ir.loops import loop_of
from danetc.runtime.layers.neuron import Neuron
from danetc.runtime.model.signature import outputs_of

COPIES = 20
"""Samples that are run at once."""
MOST_RUNS, MOST_FLIPS = 400, 3
"""How often the model fires otherwise before a difference counts as unexplained, and in how many
places at once."""


@dataclass(frozen=True, slots=True)
class LayerCall:
    """What a layer of neurons took and gave."""

    layer: Neuron
    x: Tensor
    y: Tensor


@contextmanager
def recorded(model: nn.Module) -> Iterator[dict[str, LayerCall]]:
    """What each layer of neurons takes and gives, by its name, in the order in which they run."""
    seen: dict[str, LayerCall] = {}

    def note(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(layer: nn.Module, given: tuple[Tensor, ...], y: Tensor) -> None:
            assert isinstance(layer, Neuron)
            seen[name] = LayerCall(layer, given[0], y)

        return hook

    hooks = [
        layer.register_forward_hook(note(name))
        for name, layer in model.named_modules()
        if isinstance(layer, Neuron)
    ]
    try:
        yield seen
    finally:
        for handle in hooks:
            handle.remove()


def _changes(x: Tensor, room: float) -> Iterator[Tensor]:
    """Inputs that differ from one by at most ``room``."""
    generator = torch.Generator().manual_seed(0)
    for part in (1.0, 0.25, 0.0625):
        drawn = (2 * torch.rand(x.shape, generator=generator).to(x) - 1 for _ in range(16))
        for change in (torch.ones_like(x), -torch.ones_like(x), *drawn):
            yield x + part * room * change


def decided_by(layer: nn.Module, x: Tensor, room: float) -> Tensor:
    """Where what a layer gives is another one for some change of its input by at most ``room``."""
    own = layer(x)
    found = torch.zeros_like(own, dtype=torch.bool)
    for changed in _changes(x, room):
        found |= layer(changed) != own
    return found


# -- where the spikes of both are known ------------------------------------------------------------


def first_spikes_decided(
    graph: Graph,
    mine: Mapping[str, LayerCall],
    theirs: Mapping[str, Tensor],
    sample: int,
    room: Callable[[Tensor], float],
) -> bool:
    """Whether the first spikes of a sample that differ all stand at their threshold.

    ``theirs`` are what layers give by the paths of their nodes; ``room`` says of a layer's input how
    much of it rounding may be. Of a loop over time the first is that of the earliest step, since what
    comes later in the graph is read by what comes earlier, a step behind.
    """
    differing: list[tuple[Node, LayerCall, Tensor]] = []
    for node in graph.nodes.values():
        call = mine.get(dotted(*node.scope, node.name))
        if node.path in theirs and call is not None:
            differ = call.y != theirs[node.path].reshape(call.y.shape)
            differ = differ.select(differ.dim() - len(node.value.shape) - 1, sample)
            if differ.any():
                differing.append((node, call, differ))
    if not differing:
        return False
    node, call, differ = differing[0]
    if (loop := loop_of(graph).get(node.id)) is not None:
        inside = (item for item in differing if item[0].id in loop.members)
        node, call, differ = min(inside, key=lambda item: _first_step(item[2]))
    one = call.x.narrow(call.x.dim() - call.layer.input_rank - 1, sample, 1)
    axis = call.y.dim() - len(node.value.shape) - 1
    near = decided_by(call.layer, one, room(one)).select(axis, 0)
    if axis:  # the first step at which they differ: what follows comes of it
        t = _first_step(differ)
        differ, near = differ[t], near[t]
    return bool(near[differ].all())


def _first_step(differ: Tensor) -> int:
    """The first step of [T, ...] at which something differs."""
    return int(differ.flatten(1).any(1).nonzero()[0])


# -- where the model's are known alone -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Flip:
    """A layer's input [..., 1, ...] of one sample, changed at one neuron by so little that rounding
    may be it, and so that the neuron fires at other steps."""

    layer: str
    x: Tensor


Flips = tuple[Flip, ...]


def explained(
    model: nn.Module,
    inputs: Sequence[tuple[Tensor, int]],
    gap: Callable[[Sequence[Tensor]], Tensor],
    within: float,
    room: float,
) -> bool:
    """Whether a model gives a sample's other outputs when spikes at their threshold are flipped.

    Args:
        model: a model in evaluation mode that runs operation by operation.
        inputs: the sample's inputs, each with its axis of samples, which has one.
        gap: how far outputs of some copies of the sample are from those to be explained, [copies].
        within: the gap up to which they agree.
        room: how much of a neuron's input rounding may be.

    One spike is flipped at a time, then, behind those that come closest, another one that then stands at
    its threshold.
    """
    waiting: list[tuple[float, Flips]] = [(0.0, ())]
    runs = 0
    while waiting:
        waiting.sort(key=lambda item: item[0])
        _, known = waiting.pop(0)
        _, seen = _run(model, inputs, [known])
        tried = [(*known, flip) for flip in _flips_behind(seen, known, room)]
        for start in range(0, len(tried), COPIES):
            part = tried[start : start + COPIES]
            runs += len(part)
            if runs > MOST_RUNS:
                return False
            outputs, _ = _run(model, inputs, part)
            gaps = gap(outputs).tolist()
            if any(each <= within for each in gaps):
                return True
            if len(known) + 1 < MOST_FLIPS:
                waiting += zip(gaps, part, strict=True)
    return False


def _run(
    model: nn.Module, inputs: Sequence[tuple[Tensor, int]], copies: Sequence[Flips]
) -> tuple[Sequence[Tensor], dict[str, LayerCall]]:
    """The outputs of copies of a sample, each with its flips, and what layers took and gave."""

    def change(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], tuple[Tensor, ...]]:
        def hook(layer: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            assert isinstance(layer, Neuron)
            x = given[0].clone()
            axis = x.dim() - layer.input_rank - 1
            for place, flips in enumerate(copies):
                for flip in flips:
                    if flip.layer == name:
                        x.narrow(axis, place, 1).copy_(flip.x)
            return (x, *given[1:])

        return hook

    names = {flip.layer for flips in copies for flip in flips}
    handles = [model.get_submodule(name).register_forward_pre_hook(change(name)) for name in names]
    try:
        with recorded(model) as seen, torch.no_grad():
            y = model(*(torch.cat([x] * len(copies), axis) for x, axis in inputs))
    finally:
        for handle in handles:
            handle.remove()
    return outputs_of(y), seen


def _flips_behind(seen: Mapping[str, LayerCall], known: Flips, room: float) -> Iterator[Flip]:
    """The flips of spikes at their threshold in the layers from that of the last flip on."""
    names = [*seen]
    first = names.index(known[-1].layer) if known else 0
    for name in names[first:]:
        yield from _flips(name, seen[name], room)


def _flips(name: str, call: LayerCall, room: float) -> Iterator[Flip]:
    """Each neuron of a layer that fires at other steps for some change of its input by ``room``."""
    layer, x = call.layer, call.x
    own = layer(x)
    lead = own.dim() - layer.rank  # T and N, or N
    found: set[tuple[tuple[int, ...], bytes]] = set()
    for changed in _changes(x, room):
        given = layer(changed)
        apart = (given != own).reshape(-1, *own.shape[lead:]).any(0)
        for place in map(tuple, apart.nonzero().tolist()):
            train = given[(..., *place)].contiguous().numpy().tobytes()
            if (place, train) not in found:
                found.add((place, train))
                more = (slice(None),) * (layer.input_rank - layer.rank)
                at = (..., *place, *more)
                other = x.clone()
                other[at] = changed[at]
                yield Flip(name, other)
