"""Spikes at their threshold: whether rounding explains that two programs of one network differ.

A membrane potential that stands at its threshold is above it for one program and below it for
another, by how each rounds; from there on the two compute with other spikes. A sample in which outputs
differ is traced to such a spike by having the model fire otherwise there and comparing again. Where the
spikes of both are known, ``following`` says more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from danetc.runtime.layers.loop import Loop
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


def changes(x: Tensor, room: Tensor | float) -> Iterator[Tensor]:
    """Changes of an input, by at most ``room``."""
    generator = torch.Generator().manual_seed(0)
    for part in (1.0, 0.25, 0.0625):
        drawn = (2 * torch.rand(x.shape, generator=generator).to(x) - 1 for _ in range(16))
        for change in (torch.ones_like(x), -torch.ones_like(x), *drawn):
            yield part * room * change


@dataclass(frozen=True, slots=True)
class Flip:
    """A change of a layer's input [..., 1, ...] of one sample, at one neuron, by so little that
    rounding may be it, and so that the neuron fires at other steps."""

    layer: str
    change: Tensor


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
        tried = [(*known, flip) for flip in _flips_behind(model, seen, known, room)]
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
    changes: dict[str, list[tuple[int, Tensor]]] = {}
    for place, flips in enumerate(copies):
        for flip in flips:
            changes.setdefault(flip.layer, []).append((place, flip.change))
    inside = {layer for loop in _loops(model) for layer in loop.step.modules()}
    with ExitStack() as stack:
        for name, parts in changes.items():
            layer = model.get_submodule(name)
            assert isinstance(layer, Neuron)
            stack.enter_context((_advancing if layer in inside else _taking)(layer, parts))
        with recorded(model) as seen, torch.no_grad():
            y = model(*(torch.cat([x] * len(copies), axis) for x, axis in inputs))
    return outputs_of(y), seen


def _loops(model: nn.Module) -> Iterator[Loop]:
    return (module for module in model.modules() if isinstance(module, Loop))


@contextmanager
def _taking(layer: Neuron, parts: Sequence[tuple[int, Tensor]]) -> Iterator[None]:
    """A layer takes what it is given and these changes, each of the copy in that place."""

    def hook(module: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        x = given[0].clone()
        axis = x.dim() - layer.input_rank - 1
        for place, change in parts:
            x.narrow(axis, place, 1).add_(change)
        return (x, *given[1:])

    handle = layer.register_forward_pre_hook(hook)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _advancing(layer: Neuron, parts: Sequence[tuple[int, Tensor]]) -> Iterator[None]:
    """The same of a layer that a loop takes from step to step."""
    plain = layer.advance
    now = 0

    def advance(inputs: Sequence[Tensor], before: Any) -> tuple[Tensor, Any]:
        nonlocal now
        x = inputs[0].clone()
        for place, change in parts:
            x.narrow(0, place, 1).add_(change[now])
        now += 1
        return plain((x, *inputs[1:]), before)

    layer.__dict__["advance"] = advance
    try:
        yield
    finally:
        del layer.__dict__["advance"]


def _flips_behind(
    model: nn.Module, seen: Mapping[str, LayerCall], known: Flips, room: float
) -> Iterator[Flip]:
    """The flips of spikes at their threshold in the layers from that of the last flip on, and in all
    of its loop, whose earlier layers read it a step later."""
    loops = [{*loop.step.modules()} for loop in _loops(model)]
    names = [*seen]
    first = 0
    if known:
        last = seen[known[-1].layer].layer
        along = next((loop for loop in loops if last in loop), {last})
        first = next(at for at, name in enumerate(names) if seen[name].layer in along)
    for name in names[first:]:
        call = seen[name]
        if not any(call.layer in loop for loop in loops):
            yield from _flips(name, call.layer, call.x, room)
            continue
        changed = sum((flip.change for flip in known if flip.layer == name), call.x)
        yield from _flips(name, call.layer, changed, room, looped=True)


def _flips(
    name: str, layer: Neuron, x: Tensor, room: float, *, looped: bool = False
) -> Iterator[Flip]:
    """Each neuron of a layer that fires at other steps for some change of its input by ``room``. In a
    loop, where what it takes later depends on its spikes: that fires first at another step."""
    own = layer(x)
    lead = own.dim() - layer.rank  # T and N, or N
    found: set[tuple[tuple[int, ...], object]] = set()
    for change in changes(x, room):
        given = layer(x + change)
        apart = (given != own).reshape(-1, *own.shape[lead:]).any(0)
        for place in map(tuple, apart.nonzero().tolist()):
            at = (..., *place)
            until = _first_step(given[at] != own[at]) + 1 if looped else len(x)
            key = place, until if looped else given[at].contiguous().numpy().tobytes()
            if key in found:
                continue
            found.add(key)
            changed = (*at, *[slice(None)] * (layer.input_rank - layer.rank))
            only = torch.zeros_like(x)
            only[changed] = change[changed]
            only[until:] = 0.0
            yield Flip(name, only)


def _first_step(differ: Tensor) -> int:
    """The first step of [T, ...] at which something differs."""
    return int(differ.flatten(1).any(1).nonzero()[0])
