"""Membrane potentials before the reset: their distribution in each layer of neurons."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from torch import Tensor

from danetc.runtime.layers.neuron import Neuron
from danetc.runtime.measure.distribution import Distribution, Gathered, reach_of
from danetc.runtime.measure.layout import Layout, NeuronLayer
from danetc.runtime.measure.membrane import Instant, NoMembrane, instrument
from danetc.runtime.measure.observe import LayerObserver


@dataclass(frozen=True, slots=True)
class LayerPotential:
    """Of a layer over time, batch and neurons. ``variable`` is its name in the neuron's program.

    ``threshold`` is the mean one, where it varies; ``firing`` is the share of potentials at the
    threshold or above.
    """

    layer: str
    main: bool
    variable: str
    threshold: float
    firing: float
    distribution: Distribution


@dataclass(frozen=True, slots=True)
class MembranePotentials:
    layers: tuple[LayerPotential, ...]
    skipped: tuple[str, ...]

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


@dataclass(slots=True)
class _Layer:
    values: Gathered
    variable: str
    firing: int = 0
    thresholds: float = 0.0


class Potential(LayerObserver):
    """Gathers membrane potentials. What a program calls them, and which has none: ``membrane``."""

    instants = True

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._layers: dict[str, _Layer] = {}
        self._reasons: dict[str, str] = {}

    def neuron(self, layer: NeuronLayer, neuron: Neuron, x: Tensor, out: Tensor) -> None:
        membrane = instrument(neuron.program).membrane
        if isinstance(membrane, NoMembrane):
            self._reasons[layer.name] = membrane.reason
        elif layer.name not in self._layers:
            steps = 1 if out.dim() == neuron.rank + 1 else len(out)
            threshold = membrane.threshold if isinstance(membrane.threshold, float) else None
            reach = reach_of(x, threshold, steps)
            self._layers[layer.name] = _Layer(Gathered(reach), str(membrane.potential))

    def instant(self, layer: NeuronLayer, instant: Instant, repeats: int) -> None:
        if instant.potential is None or instant.threshold is None or instant.argument is None:
            return
        kept = self._layers[layer.name]
        kept.values.add(instant.potential)
        kept.firing += int(instant.argument.ge(0).sum())
        kept.thresholds += float(instant.threshold.double().sum())

    def result(self) -> MembranePotentials:
        layers = []
        for layer in self._layout.neurons:
            kept = self._layers.get(layer.name)
            if kept is None:
                continue
            found = kept.values.result()
            layers.append(
                LayerPotential(
                    layer.name,
                    layer.main,
                    kept.variable,
                    kept.thresholds / found.count,
                    kept.firing / found.count,
                    found,
                )
            )
        skipped = tuple(f"{name}: {reason}" for name, reason in self._reasons.items())
        return MembranePotentials(tuple(layers), skipped)
