"""Gradient stability: dO/dV = surrogate'(V - V_th) of each layer and of the network (Sec. V-E).

V is the membrane potential before the reset. A layer's value is the mean over batch and neurons,
summed or averaged over time; the network's is the product over its layers (Tables IV and V, Figs.
8 and 10). The paper states neither T nor how time enters: ``sum`` over time comes closest to its
tables by far, and the geometric mean per layer compares networks of different depth.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import exp, inf, isfinite, log
from typing import Literal

from torch import Tensor

from danetc.runtime.layers.neuron import Neuron
from danetc.runtime.measure.layout import Layout, NeuronLayer
from danetc.runtime.measure.membrane import Instant, NoMembrane, instrument
from danetc.runtime.measure.observe import LayerObserver

Time = Literal["sum", "mean"]
Layers = Literal["main", "all"]


@dataclass(frozen=True, slots=True)
class LayerStability:
    layer: str
    main: bool
    interblock: bool
    stability: float


@dataclass(frozen=True, slots=True)
class GradientStability:
    """``overall`` is the product over ``counted`` layers, those of ``over``; where that is too
    small or too large for a number, ``log10_overall`` is not (None for a product of 0). ``geometric_mean`` is per layer."""

    time: str
    over: str
    layers: tuple[LayerStability, ...]
    counted: int
    overall: float
    log10_overall: float | None
    geometric_mean: float
    skipped: tuple[str, ...]

    def as_dict(self) -> dict[str, object]:
        """JSON data: an ``overall`` too large for a number is null."""
        return {**asdict(self), "overall": self.overall if isfinite(self.overall) else None}


class Stability(LayerObserver):
    """Gathers gradient stability."""

    instants = True

    def __init__(self, layout: Layout, time: Time = "sum", over: Layers = "main") -> None:
        self._layout = layout
        self._time = time
        self._over = over
        self._slopes: dict[str, float] = {}
        self._neurons: dict[str, float] = {}  # of all images, at one time step
        self._steps: dict[str, float] = {}  # the same, at all time steps
        self._reasons: dict[str, str] = {}

    def neuron(self, layer: NeuronLayer, neuron: Neuron, x: Tensor, out: Tensor) -> None:
        membrane = instrument(neuron.program).membrane
        if isinstance(membrane, NoMembrane):
            self._reasons[layer.name] = membrane.reason
        else:
            frame = out if out.dim() == neuron.rank + 1 else out[0]
            self._neurons[layer.name] = self._neurons.get(layer.name, 0.0) + frame.numel()

    def instant(self, layer: NeuronLayer, instant: Instant, repeats: int) -> None:
        if instant.slope is None:
            return
        slopes = float(instant.slope.double().sum()) * repeats
        name = layer.name
        self._slopes[name] = self._slopes.get(name, 0.0) + slopes
        self._steps[name] = self._steps.get(name, 0.0) + instant.slope.numel() * repeats

    def result(self) -> GradientStability:
        layers = []
        for layer in self._layout.neurons:
            if layer.name in self._slopes:
                count = self._neurons if self._time == "sum" else self._steps
                value = self._slopes[layer.name] / count[layer.name]
                layers.append(LayerStability(layer.name, layer.main, layer.interblock, value))
        counted = [each.stability for each in layers if each.main or self._over == "all"]
        skipped = tuple(f"{name}: {reason}" for name, reason in self._reasons.items())
        exponent = sum(log(value) if value > 0 else -inf for value in counted)
        return GradientStability(
            self._time,
            self._over,
            tuple(layers),
            len(counted),
            exp(exponent) if exponent < 700 else inf,
            None if exponent == -inf else exponent / log(10),
            exp(exponent / len(counted)) if counted else 1.0,
            skipped,
        )
