"""Firing rates: the mean of a layer's spikes over time, batch and neurons (Figs. 3 and 9).

A neuron that gives other whole numbers than 0 and 1 gives as many spikes at once as its output has
units, of the other sign where it is negative: 3 of integer LIF are three spikes, -1 of a ternary
neuron is one. A rate may thus be larger than 1; the share of outputs other than 0 may not.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from danetc.dsl.kinds import SPIKE
from danetc.runtime.layers.neuron import Neuron
from danetc.runtime.measure.layout import Layout, NeuronLayer
from danetc.runtime.measure.observe import LayerObserver


@dataclass(frozen=True, slots=True)
class LayerRate:
    """A layer's firing rate, that of each time step, and how many neurons it has.

    ``kind`` is what they give, ``active`` the share of their outputs that are not 0 (the rate, where
    those are 0 and 1). ``silent`` is the share of neurons that fired at no step of no image.
    """

    layer: str
    main: bool
    interblock: bool
    kind: str
    neurons: int
    rate: float
    active: float
    steps: tuple[float, ...]
    silent: float


@dataclass(frozen=True, slots=True)
class FiringRates:
    """``mean_of_layers`` weighs each layer of the main path alike, ``mean_of_neurons`` each neuron
    of the network (the mean number of spikes of a neuron and a time step)."""

    layers: tuple[LayerRate, ...]
    mean_of_layers: float
    mean_of_neurons: float
    skipped: tuple[str, ...]

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


class FiringRate(LayerObserver):
    """Gathers firing rates. Where sequences differ in length, a step counts those that have it."""

    def __init__(self, layout: Layout) -> None:
        self._layers = [layer for layer in layout.neurons if _is_counted(layer)]
        self._skipped = tuple(
            f"{layer.name}: {'its neurons give real numbers' if layer.fires else _ACTIVATION}"
            for layer in layout.neurons
            if not _is_counted(layer)
        )
        self._spikes: dict[str, Tensor] = {}  # [T], by layer
        self._count: dict[str, Tensor] = {}
        self._active: dict[str, int] = {}
        self._fired: dict[str, Tensor] = {}  # [C, ...]: whether a neuron ever did

    def neuron(self, layer: NeuronLayer, neuron: Neuron, x: Tensor, out: Tensor) -> None:
        if not _is_counted(layer):
            return
        spikes = out.unsqueeze(0) if out.dim() == neuron.rank + 1 else out
        if layer.kind != SPIKE:
            spikes = spikes.abs() / layer.kind.unit
        sums = spikes.flatten(1).sum(1, dtype=torch.float64).cpu()
        counts = torch.full_like(sums, spikes[0].numel())
        active = spikes.ne(0)
        fired = active.flatten(0, 1).any(0)
        name = layer.name
        self._active[name] = self._active.get(name, 0) + int(active.sum())
        if name not in self._spikes:
            self._spikes[name], self._count[name], self._fired[name] = sums, counts, fired
            return
        self._spikes[name] = _sum(self._spikes[name], sums)
        self._count[name] = _sum(self._count[name], counts)
        self._fired[name] |= fired

    def result(self) -> FiringRates:
        layers = []
        spikes = places = 0.0
        for layer in self._layers:
            sums, counts, fired = (
                kept[layer.name] for kept in (self._spikes, self._count, self._fired)
            )
            spikes += float(sums.sum())
            places += float(counts.sum())
            layers.append(
                LayerRate(
                    layer.name,
                    layer.main,
                    layer.interblock,
                    str(layer.kind),
                    fired.numel(),
                    float(sums.sum() / counts.sum()),
                    self._active[layer.name] / float(counts.sum()),
                    tuple((sums / counts).tolist()),
                    1 - float(fired.double().mean()),
                )
            )
        main = [layer.rate for layer in layers if layer.main]
        return FiringRates(
            tuple(layers),
            sum(main) / len(main) if main else 0.0,
            spikes / places if places else 0.0,
            self._skipped,
        )


_ACTIVATION = "an activation function, whose neurons do not fire"


def _is_counted(layer: NeuronLayer) -> bool:
    return layer.fires and layer.kind.is_integer


def _sum(a: Tensor, b: Tensor) -> Tensor:
    """The sum of vectors of which one may be longer."""
    if len(a) < len(b):
        a, b = b, a
    result = a.clone()
    result[: len(b)] += b
    return result
