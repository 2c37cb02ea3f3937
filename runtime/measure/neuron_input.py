"""The distribution of each neuron's input X (Eq. 1).

Sec. IV-A: with tdBN and BAA it is about N(0, V_th^2) at initialisation, with batch statistics.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from torch import Tensor

from danetc.runtime.layers.neuron import Neuron
from danetc.runtime.measure.distribution import Distribution, Gathered, reach_of
from danetc.runtime.measure.layout import Layout, NeuronLayer
from danetc.runtime.measure.membrane import Instant, Membrane, instrument
from danetc.runtime.measure.observe import LayerObserver


@dataclass(frozen=True, slots=True)
class LayerInput:
    """Of a layer over time, batch and neurons.

    ``threshold`` is V_th (the mean one where it varies), ``distance`` the largest difference
    between the distribution function and that of N(0, V_th^2); both None where a neuron has no
    single membrane potential or no threshold above 0.
    """

    layer: str
    main: bool
    threshold: float | None
    distance: float | None
    distribution: Distribution


@dataclass(frozen=True, slots=True)
class NeuronInputs:
    layers: tuple[LayerInput, ...]

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


class Input(LayerObserver):
    """Gathers the inputs of neurons. A static input counts once, which changes no share."""

    instants = True

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._values: dict[str, Gathered] = {}
        self._thresholds: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def neuron(self, layer: NeuronLayer, neuron: Neuron, x: Tensor, out: Tensor) -> None:
        if layer.name not in self._values:
            membrane = instrument(neuron.program).membrane
            known = membrane.threshold if isinstance(membrane, Membrane) else None
            reach = reach_of(x, known if isinstance(known, float) else None)
            self._values[layer.name] = Gathered(reach)
        self._values[layer.name].add(x)

    def instant(self, layer: NeuronLayer, instant: Instant, repeats: int) -> None:
        if instant.threshold is None:
            return
        name = layer.name
        total = float(instant.threshold.double().sum())
        self._thresholds[name] = self._thresholds.get(name, 0.0) + total
        self._counts[name] = self._counts.get(name, 0) + instant.threshold.numel()

    def result(self) -> NeuronInputs:
        layers = []
        for layer in self._layout.neurons:
            found = self._values[layer.name].result()
            count = self._counts.get(layer.name)
            threshold = self._thresholds[layer.name] / count if count else None
            distance = None
            if threshold is not None and threshold > 0 and found.histogram is not None:
                distance = found.histogram.distance_to_normal(threshold)
            layers.append(LayerInput(layer.name, layer.main, threshold, distance, found))
        return NeuronInputs(tuple(layers))
