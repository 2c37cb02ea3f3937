"""Recordings of neurons: their spikes, membrane potentials and currents at each time step."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from danetc.runtime.layers.neuron import Neuron
from danetc.runtime.measure.layout import Layout
from danetc.runtime.measure.membrane import Membrane, instrument
from danetc.runtime.measure.observe import MeasureError, module_of, observed
from danetc.runtime.measure.run import as_it_was, set_mode
from danetc.runtime.model.built import Model
from danetc.runtime.system.devices import arithmetic


@dataclass(frozen=True, slots=True, eq=False)
class LayerRecording:
    """Values of a layer of neurons at each time step, [T, N, ...], on the CPU.

    ``spikes`` is its output and ``current`` its (first) input, after the norms and the sum before the
    neuron. ``potential`` is the membrane potential before the reset, and ``threshold`` what it is
    compared with; both are None for a neuron without a single membrane potential.
    """

    spikes: Tensor
    current: Tensor
    potential: Tensor | None
    threshold: Tensor | None


class _Recorder:
    """Collects the calls of a layer: one of a whole sequence, or one for each step of a stream."""

    def __init__(self) -> None:
        self.currents: list[Tensor] = []
        self.spikes: list[Tensor] = []

    def see(self, neuron: Neuron, args: tuple[Any, ...], out: Tensor) -> None:
        """Hook of the layer. Values that do not vary are repeated over time."""
        current = neuron._total(args)
        if out.dim() == neuron.rank + 1:
            out = out.expand(neuron.steps, *out.shape)
        if current.dim() == neuron.input_rank + 1:
            current = current.expand(len(out), *current.shape)
        self.spikes.append(out.detach().clone())
        self.currents.append(current.clone())

    def result(self, neuron: Neuron) -> LayerRecording:
        """Return the recording. The program runs again for the potentials."""
        current, spikes = torch.cat(self.currents), torch.cat(self.spikes).cpu()
        own, membrane = instrument(neuron.program), None
        if isinstance(own.membrane, Membrane):
            instants = own.instants(neuron, current)
            pairs = zip(*((each.potential, each.threshold) for each in instants), strict=True)
            membrane = [torch.stack(values).cpu() for values in pairs]
        first = own.kernel.first(current).cpu()
        return LayerRecording(spikes, first, *(membrane or (None, None)))


@torch.no_grad()
def record(
    model: Model,
    layout: Layout,
    images: Tensor,
    layers: Collection[str],
    *,
    stream: bool = False,
    statistics: str = "running",
    seed: int = 0,
) -> dict[str, LayerRecording]:
    """Record ``layers``, names of neurons of the layout, in a forward pass of ``images`` [N, ...] or
    [T, N, ...]; or step by step in a ``stream``.

    ``statistics`` and ``seed`` are as in ``measure``. Works on every backend and leaves the model as it
    was. Raises MeasureError for images that the model does not take.
    """
    device = next((value.device for value in model.parameters()), torch.device("cpu"))
    x, rank = images.to(device), len(model.signature.input)
    recorders = {each.name: _Recorder() for each in layout.neurons}
    # Layers that share a module take turns, so each is watched; the others record nothing.
    hooks = [
        (name, each.see if name in layers else lambda *call: None)
        for name, each in recorders.items()
    ]
    with (
        as_it_was(model),
        torch.random.fork_rng([] if device.type == "cpu" else [device], device_type=device.type),
        arithmetic("float32", device),
        observed(model, hooks),
    ):
        set_mode(model, statistics)
        torch.manual_seed(seed)
        try:
            if stream:
                states: Any = None
                for frame in x if x.dim() == rank + 2 else [x] * model.signature.steps:
                    _, states = model.stream(frame, states)
            else:
                model(x)
        except MeasureError:
            raise
        except (ValueError, TypeError) as error:  # of a model that does not take them
            raise MeasureError(str(error)) from error
        found = {}
        for name in layers:
            neuron = module_of(model, name)
            assert isinstance(neuron, Neuron)
            found[name] = recorders[name].result(neuron)
        return found
