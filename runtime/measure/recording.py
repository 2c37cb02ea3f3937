"""Recordings of neurons: their spikes, membrane potentials and currents at each time step."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from danetc.runtime.layers.neuron import Neuron
from danetc.runtime.measure.layout import Layout
from danetc.runtime.measure.membrane import Membrane, instrument
from danetc.runtime.measure.observe import MeasureError, observed
from danetc.runtime.measure.run import undisturbed
from danetc.runtime.model.built import Model


@dataclass(frozen=True, slots=True, eq=False)
class LayerRecording:
    """Values of a layer of neurons at each time step, [T, N, ...], on the CPU.

    ``spikes`` is its output and ``current`` its (first) input, after the norms and the sum before the
    neuron. ``potential`` is the membrane potential before the reset, and ``threshold`` what it is
    compared with; both are None for a neuron without a single membrane potential.
    """

    spikes: Tensor
    current: Tensor
    potential: Tensor | None = None
    threshold: Tensor | None = None


def record(
    model: Model,
    layout: Layout,
    images: Tensor,
    layers: Collection[str],
    stream: bool = False,
    statistics: str = "running",
    seed: int = 0,
) -> dict[str, LayerRecording]:
    """Record ``layers`` of neurons, by name, in a forward pass of ``images`` [N, ...] or [T, N, ...],
    or step by step in a ``stream``.

    ``statistics`` and ``seed`` are as in ``measure``. Works on every backend and leaves the model
    unchanged. Raises MeasureError for images that the model does not take.
    """
    rank = len(model.signature.input)
    calls: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in layers}
    # Layers that share a module take turns, so hooks are set on all of them.
    hooks = [
        (each.name, partial(_record_call, calls.get(each.name, []))) for each in layout.neurons
    ]
    with undisturbed(model, statistics) as device, torch.no_grad(), observed(model, hooks):
        torch.manual_seed(seed)
        x = images.to(device)
        try:
            if stream:
                states: Any = None
                for frame in x if x.dim() == rank + 2 else [x] * model.signature.steps:
                    _, states = model.stream(frame, states)
            else:
                model(x)
        except (ValueError, TypeError) as error:  # the model does not take these images
            raise MeasureError(str(error)) from error
        return {name: _recording(model, name, found) for name, found in calls.items()}


def _record_call(
    calls: list[tuple[Tensor, Tensor]], neuron: Neuron, args: tuple[Tensor, ...], out: Tensor
) -> None:
    """Hook that appends the input and the output of a call, repeated over time if static."""
    out = over_steps(out, neuron.steps, neuron.rank)
    current = over_steps(neuron._total(args), len(out), neuron.input_rank)
    calls.append((current.clone(), out.detach().clone()))


def over_steps(x: Tensor, steps: int, rank: int) -> Tensor:
    """Return a value [T, N, ...], repeated over time if it is static; a sample has ``rank`` dimensions."""
    return x.expand(steps, *x.shape) if x.dim() == rank + 1 else x


def _recording(model: Model, name: str, calls: list[tuple[Tensor, Tensor]]) -> LayerRecording:
    """Join the calls of a layer: one for all steps, or one for each. Its program runs again for potentials."""
    neuron = model.get_submodule(name)
    assert isinstance(neuron, Neuron)
    current, spikes = (torch.cat(values) for values in zip(*calls, strict=True))
    own = instrument(neuron.program)
    found = spikes.cpu(), own.kernel.first(current).cpu()
    if not isinstance(own.membrane, Membrane):
        return LayerRecording(*found)
    instants = [(each.potential, each.threshold) for each in own.instants(neuron, current)]
    return LayerRecording(*found, *(torch.stack(x).cpu() for x in zip(*instants, strict=True)))
