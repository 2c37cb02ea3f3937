"""Observers of forward passes: one class for each measure without a backward pass.

They add up values of all batches; ``result`` returns the measure. Operations are in their own file.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from math import exp, inf, log
from typing import Literal

import torch
from torch import Tensor

from danetc.dsl.kinds import SPIKE
from danetc.runtime.layers.neuron import Neuron
from danetc.runtime.measure.distribution import Distribution, Gathered, reach_of
from danetc.runtime.measure.layout import Layout, NeuronLayer
from danetc.runtime.measure.membrane import Instant, Membrane, NoMembrane, instrument
from danetc.runtime.measure.observe import LayerObserver

# -- firing rates (Figs. 3 and 9) ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LayerRate:
    """Firing rate of a layer: mean spikes over time, batch and neurons, and at each time step.

    ``active`` is the share of outputs other than 0, ``silent`` the share of neurons that fired at no
    step of any image. A neuron whose outputs are other integers than 0 and 1 gives as many spikes
    at once as its output has units, whatever the sign, so that a rate may exceed 1.
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
    """Rates of layers, their mean over the layers of the main path, and over all neurons."""

    layers: tuple[LayerRate, ...]
    mean_of_layers: float
    mean_of_neurons: float
    skipped: tuple[str, ...]


class FiringRate(LayerObserver):
    """Gathers firing rates. For sequences of different lengths, each step has its own count."""

    def __init__(self, layout: Layout) -> None:
        counted = [layer for layer in layout.neurons if layer.fires and layer.kind.is_integer]
        self._layers = {layer.name: layer for layer in counted}
        self._skipped = tuple(
            f"{layer.name}: "
            + (
                "its neurons give real numbers"
                if layer.fires
                else "an activation function, whose neurons do not fire"
            )
            for layer in layout.neurons
            if layer.name not in self._layers
        )
        self._spikes: dict[str, Tensor] = {}  # [T], by layer
        self._count: dict[str, Tensor] = {}
        self._fired: dict[str, Tensor] = {}  # [C, ...]: True if a neuron ever did
        self._active: dict[str, int] = defaultdict(int)

    def neuron(self, layer: NeuronLayer, neuron: Neuron, x: Tensor, out: Tensor) -> None:
        name = layer.name
        if name not in self._layers:
            return
        spikes = out.unsqueeze(0) if out.dim() == neuron.rank + 1 else out
        if layer.kind != SPIKE:
            spikes = spikes.abs() / layer.kind.unit
        sums = spikes.flatten(1).sum(1, dtype=torch.float64).cpu()
        active = spikes.ne(0)
        self._active[name] += int(active.sum())
        self._spikes[name] = _added(self._spikes.get(name), sums)
        counts = torch.full_like(sums, spikes[0].numel())
        self._count[name] = _added(self._count.get(name), counts)
        fired = active.flatten(0, 1).any(0)
        self._fired[name] = fired | self._fired.get(name, fired)

    def result(self) -> FiringRates:
        layers = []
        for name, layer in self._layers.items():
            sums, counts, fired = self._spikes[name], self._count[name], self._fired[name]
            layers.append(
                LayerRate(
                    name,
                    layer.main,
                    layer.interblock,
                    str(layer.kind),
                    fired.numel(),
                    float(sums.sum() / counts.sum()),
                    self._active[name] / float(counts.sum()),
                    tuple((sums / counts).tolist()),
                    1 - float(fired.double().mean()),
                )
            )
        main = [layer.rate for layer in layers if layer.main]
        spikes, places = (
            sum(float(each.sum()) for each in found.values())
            for found in (self._spikes, self._count)
        )
        return FiringRates(
            tuple(layers),
            sum(main) / len(main) if main else 0.0,
            spikes / places if places else 0.0,
            self._skipped,
        )


def _added(a: Tensor | None, b: Tensor) -> Tensor:
    """Return the sum of two vectors, of which one may be longer."""
    if a is None:
        return b
    short, long = sorted((a, b), key=len)
    result = long.clone()
    result[: len(short)] += short
    return result


# -- gradient stability (Sec. V-E, Tables IV and V, Figs. 8 and 10) --------------------------------

Time = Literal["sum", "mean"]
Layers = Literal["main", "all"]


@dataclass(frozen=True, slots=True)
class LayerStability:
    """Mean of dO/dV = surrogate'(V - V_th) of a layer over batch and neurons.

    V is the membrane potential before the reset. Values are summed or averaged over time. The paper
    states neither T nor which of both; the sum is much closer to its tables.
    """

    layer: str
    main: bool
    interblock: bool
    stability: float


@dataclass(frozen=True, slots=True)
class GradientStability:
    """``overall`` is the product over ``counted`` layers, those of ``over``, and ``geometric_mean``
    is per layer, to compare networks of different depth. ``log10_overall`` stands for a product
    that is too small or too large for a number; it is None for a product of 0.
    """

    time: str
    over: str
    layers: tuple[LayerStability, ...]
    counted: int
    overall: float
    log10_overall: float | None
    geometric_mean: float
    skipped: tuple[str, ...]


class Stability(LayerObserver):
    """Gathers gradient stability."""

    instants = True

    def __init__(self, layout: Layout, time: Time = "sum", over: Layers = "main") -> None:
        self._layout = layout
        self._time = time
        self._over = over
        self._slopes: dict[str, float] = defaultdict(float)
        self._neurons: dict[str, float] = defaultdict(float)  # of all images, at one time step
        self._steps: dict[str, float] = defaultdict(float)  # the same, at all time steps
        self._reasons: dict[str, str] = {}

    def neuron(self, layer: NeuronLayer, neuron: Neuron, x: Tensor, out: Tensor) -> None:
        membrane = instrument(neuron.program).membrane
        if isinstance(membrane, NoMembrane):
            self._reasons[layer.name] = membrane.reason
        else:
            frame = out if out.dim() == neuron.rank + 1 else out[0]
            self._neurons[layer.name] += frame.numel()

    def instant(self, layer: NeuronLayer, instant: Instant, repeats: int) -> None:
        if instant.slope is not None:
            self._slopes[layer.name] += float(instant.slope.double().sum()) * repeats
            self._steps[layer.name] += instant.slope.numel() * repeats

    def result(self) -> GradientStability:
        count = self._neurons if self._time == "sum" else self._steps
        layers = tuple(
            LayerStability(
                layer.name,
                layer.main,
                layer.interblock,
                self._slopes[layer.name] / count[layer.name],
            )
            for layer in self._layout.neurons
            if layer.name in self._slopes
        )
        counted = [each.stability for each in layers if each.main or self._over == "all"]
        exponent = sum(log(value) if value > 0 else -inf for value in counted)
        return GradientStability(
            self._time,
            self._over,
            layers,
            len(counted),
            exp(exponent) if exponent < 700 else inf,
            None if exponent == -inf else exponent / log(10),
            exp(exponent / len(counted)) if counted else 1.0,
            tuple(f"{name}: {reason}" for name, reason in self._reasons.items()),
        )


# -- membrane potentials before the reset ----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LayerPotential:
    """Membrane potentials of a layer over time, batch and neurons.

    ``variable`` is their name in the neuron's program, ``threshold`` the mean threshold and
    ``firing`` the share of potentials at the threshold or above.
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


class Potential(LayerObserver):
    """Gathers membrane potentials."""

    instants = True

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._values: dict[str, Gathered] = {}
        self._variables: dict[str, str] = {}
        self._firing: dict[str, int] = defaultdict(int)
        self._thresholds: dict[str, float] = defaultdict(float)
        self._reasons: dict[str, str] = {}

    def neuron(self, layer: NeuronLayer, neuron: Neuron, x: Tensor, out: Tensor) -> None:
        membrane = instrument(neuron.program).membrane
        if isinstance(membrane, NoMembrane):
            self._reasons[layer.name] = membrane.reason
        elif layer.name not in self._values:
            steps = 1 if out.dim() == neuron.rank + 1 else len(out)
            threshold = membrane.threshold if isinstance(membrane.threshold, float) else None
            self._values[layer.name] = Gathered(reach_of(x, threshold, steps))
            self._variables[layer.name] = str(membrane.potential)

    def instant(self, layer: NeuronLayer, instant: Instant, repeats: int) -> None:
        if instant.potential is None or instant.threshold is None or instant.argument is None:
            return
        self._values[layer.name].add(instant.potential)
        self._firing[layer.name] += int(instant.argument.ge(0).sum())
        self._thresholds[layer.name] += float(instant.threshold.double().sum())

    def result(self) -> MembranePotentials:
        layers = []
        for layer in self._layout.neurons:
            if layer.name in self._values:
                found = self._values[layer.name].result()
                layers.append(
                    LayerPotential(
                        layer.name,
                        layer.main,
                        self._variables[layer.name],
                        self._thresholds[layer.name] / found.count,
                        self._firing[layer.name] / found.count,
                        found,
                    )
                )
        skipped = tuple(f"{name}: {reason}" for name, reason in self._reasons.items())
        return MembranePotentials(tuple(layers), skipped)


# -- inputs of neurons (Eq. 1) ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LayerInput:
    """Inputs X of a layer over time, batch and neurons.

    With tdBN and BAA they are about N(0, V_th^2) at initialisation, under batch statistics (Sec.
    IV-A): ``threshold`` is the mean V_th and ``distance`` the largest difference between the two
    distribution functions. Both are None for neurons without a single membrane potential or a
    threshold above 0.
    """

    layer: str
    main: bool
    threshold: float | None
    distance: float | None
    distribution: Distribution


@dataclass(frozen=True, slots=True)
class NeuronInputs:
    layers: tuple[LayerInput, ...]


class Input(LayerObserver):
    """Gathers the inputs of neurons. A static input counts once, which gives the same shares."""

    instants = True

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._values: dict[str, Gathered] = {}
        self._thresholds: dict[str, float] = defaultdict(float)
        self._counts: dict[str, int] = defaultdict(int)

    def neuron(self, layer: NeuronLayer, neuron: Neuron, x: Tensor, out: Tensor) -> None:
        if layer.name not in self._values:
            membrane = instrument(neuron.program).membrane
            known = membrane.threshold if isinstance(membrane, Membrane) else None
            reach = reach_of(x, known if isinstance(known, float) else None)
            self._values[layer.name] = Gathered(reach)
        self._values[layer.name].add(x)

    def instant(self, layer: NeuronLayer, instant: Instant, repeats: int) -> None:
        if instant.threshold is not None:
            self._thresholds[layer.name] += float(instant.threshold.double().sum())
            self._counts[layer.name] += instant.threshold.numel()

    def result(self) -> NeuronInputs:
        layers = []
        for layer in self._layout.neurons:
            found = self._values[layer.name].result()
            count = self._counts[layer.name]
            threshold = self._thresholds[layer.name] / count if count else None
            distance = None
            if threshold is not None and threshold > 0 and found.histogram is not None:
                distance = found.histogram.distance_to_normal(threshold)
            layers.append(LayerInput(layer.name, layer.main, threshold, distance, found))
        return NeuronInputs(tuple(layers))


# -- outputs of blocks (Table I) -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StageOutputs:
    """Outputs of a stage's blocks over time, batch and positions, and the range of all of them.

    ``kind`` is what the compiler knows of them: ``spike``, ``count(BOUND)`` or ``analog``.
    """

    stage: str
    connection: str
    rule: str
    kind: str
    least: float
    most: float
    blocks: tuple[Distribution, ...]


@dataclass(frozen=True, slots=True)
class PropagatedValues:
    stages: tuple[StageOutputs, ...]


class Values(LayerObserver):
    """Gathers the outputs of blocks."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._blocks = [[Gathered() for _ in stage.blocks] for stage in layout.stages]

    def block(self, stage: int, block: int, out: Tensor) -> None:
        self._blocks[stage][block].add(out)

    def result(self) -> PropagatedValues:
        stages = []
        for stage, gathered in zip(self._layout.stages, self._blocks, strict=True):
            blocks = tuple(each.result() for each in gathered)
            least, most = min(each.least for each in blocks), max(each.most for each in blocks)
            stages.append(
                StageOutputs(
                    stage.name, stage.connection, stage.rule, stage.kind, least, most, blocks
                )
            )
        return PropagatedValues(tuple(stages))
