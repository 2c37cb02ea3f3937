"""Measures of forward passes: sums over all batches for each layer, and their results."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import exp, inf, log

import torch
from torch import Tensor

from danetc.dsl.kinds import SPIKE
from danetc.runtime.kernels.neuron import kernel
from danetc.runtime.layers.neuron import Neuron
from danetc.runtime.measure.distribution import Distribution, Gathered, reach_of
from danetc.runtime.measure.layout import NeuronLayer, StageLayout
from danetc.runtime.measure.membrane import Membrane, instrument

_OF_MEMBRANES = frozenset({"gradient-stability", "potential", "input"})
"""Measures for which the steps of a layer are computed again."""


class NeuronSums:
    """Sums over the time steps of a layer of neurons, for the measures that are ``wanted``."""

    def __init__(self, layer: NeuronLayer, neuron: Neuron, wanted: Collection[str]) -> None:
        self.layer, self.wanted = layer, wanted
        self.membrane = instrument(neuron.program).membrane
        self.counts_spikes = "firing-rate" in wanted and layer.fires and layer.kind.is_integer
        self.spikes = self.count = torch.zeros(1, dtype=torch.float64)  # then [T]
        self.fired: Tensor | None = None  # [C, ...]: True if a neuron ever did
        self.active = 0
        self.neurons = 0  # of all images
        self.learnt = {name: float(value.mean()) for name, value in neuron.values().items()}
        self.slopes = self.thresholds = 0.0
        self.firing = self.potentials_seen = 0
        self.potentials: Gathered | None = None
        self.inputs: Gathered | None = None

    def see(self, neuron: Neuron, args: tuple[Tensor, ...], out: Tensor) -> None:
        """Hook of the layer."""
        timeless = out.dim() == neuron.rank + 1  # one output stands for all steps
        frames = out.detach().unsqueeze(0) if timeless else out.detach()
        if self.counts_spikes:
            active = frames.ne(0)
            spikes = frames if self.layer.kind == SPIKE else frames.abs() / self.layer.kind.unit
            total = spikes.flatten(1).sum(1, dtype=torch.float64).cpu()
            self.spikes = self.spikes + total
            self.count = self.count + torch.full_like(total, frames[0].numel())
            self.active += int(active.sum())
            fired = active.flatten(0, 1).any(0)
            self.fired = fired if self.fired is None else self.fired | fired
        x = kernel(neuron.program).first(args[0])
        known = self.membrane.threshold if isinstance(self.membrane, Membrane) else None
        threshold = known if isinstance(known, float) else None
        if "input" in self.wanted:
            self.inputs = self.inputs or Gathered(reach_of(x, threshold))
            self.inputs.add(x)
        if isinstance(self.membrane, str) or _OF_MEMBRANES.isdisjoint(self.wanted):
            return
        if "potential" in self.wanted:
            self.potentials = self.potentials or Gathered(reach_of(x, threshold, len(frames)))
        self.neurons += frames[0].numel()
        repeats = neuron.steps if timeless else 1
        for instant in instrument(neuron.program).instants(neuron, args[0]):
            firing = instant.argument.ge(0).sum().double()
            sums = instant.slope.double().sum(), instant.threshold.double().sum(), firing
            slope, threshold, firing = torch.stack(sums).tolist()  # copied to the host at once
            self.slopes += slope * repeats
            self.thresholds += threshold
            self.firing += int(firing)
            self.potentials_seen += instant.threshold.numel()
            if self.potentials is not None:
                self.potentials.add(instant.potential)


def _without_membrane(layers: Sequence[NeuronSums]) -> tuple[str, ...]:
    """Return the names of the layers without a membrane potential, each with the reason."""
    return tuple(
        f"{each.layer.name}: {each.membrane}" for each in layers if isinstance(each.membrane, str)
    )


# -- firing rates (Figs. 3 and 9) ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LayerRate:
    """Firing rate of a layer: mean spikes over time, batch and neurons, and at each time step.

    ``active`` is the share of outputs other than 0, ``silent`` the share of neurons that fired at no
    step of any image. A neuron whose outputs are other integers than 0 and 1 gives as many spikes
    at once as its output has units, whatever the sign, so that a rate may exceed 1. ``learnt`` has the
    learnt values within their bounds, as means over channels and time steps.
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
    learnt: dict[str, float]

    @property
    def values(self) -> str | None:
        """``learnt`` as text; None without any."""
        return ", ".join(f"{name} {value:.3g}" for name, value in self.learnt.items()) or None


@dataclass(frozen=True, slots=True)
class FiringRates:
    """Rates of layers, and their mean over the layers of the main path."""

    layers: tuple[LayerRate, ...]
    mean_of_layers: float
    skipped: tuple[str, ...]


def firing_rates(layers: Sequence[NeuronSums]) -> FiringRates:
    found, skipped = [], []
    for each in layers:
        layer = each.layer
        if each.fired is None:
            real = "its neurons give real numbers"
            other = "an activation function, whose neurons do not fire"
            skipped.append(f"{layer.name}: {real if layer.fires else other}")
            continue
        places = float(each.count.sum())
        found.append(
            LayerRate(
                layer.name, layer.main, layer.interblock, str(layer.kind), each.fired.numel(),
                float(each.spikes.sum()) / places, each.active / places,
                tuple((each.spikes / each.count).tolist()), 1 - float(each.fired.double().mean()),
                each.learnt,
            )
        )  # fmt: skip
    main = [layer.rate for layer in found if layer.main]
    return FiringRates(tuple(found), sum(main) / max(1, len(main)), tuple(skipped))


# -- gradient stability (Sec. V-E, Tables IV and V, Figs. 8 and 10) --------------------------------


@dataclass(frozen=True, slots=True)
class LayerStability:
    """Mean of dO/dV = surrogate'(V - V_th) of a layer over batch and neurons, summed over time.

    V is the membrane potential before the reset. The paper does not say whether it sums or averages
    over time; the sum is much closer to its tables.
    """

    layer: str
    main: bool
    interblock: bool
    stability: float


@dataclass(frozen=True, slots=True)
class GradientStability:
    """``overall`` is the product over the ``counted`` layers of the main path, and ``geometric_mean``
    is per layer, to compare networks of different depth. ``log10_overall`` stands for a product
    that is too small or too large for a number; it is None for a product of 0.
    """

    layers: tuple[LayerStability, ...]
    counted: int
    overall: float
    log10_overall: float | None
    geometric_mean: float
    skipped: tuple[str, ...]


def gradient_stability(layers: Sequence[NeuronSums]) -> GradientStability:
    found = tuple(
        LayerStability(
            each.layer.name, each.layer.main, each.layer.interblock, each.slopes / each.neurons
        )
        for each in layers
        if each.neurons
    )
    counted = [each.stability for each in found if each.main]
    exponent = sum(log(value) if value > 0 else -inf for value in counted)
    return GradientStability(
        found,
        len(counted),
        exp(exponent) if exponent < 700 else inf,
        None if exponent == -inf else exponent / log(10),
        exp(exponent / max(1, len(counted))),
        _without_membrane(layers),
    )


# -- membrane potentials before the reset, and inputs of neurons (Eq. 1) ---------------------------


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


def membrane_potentials(layers: Sequence[NeuronSums]) -> MembranePotentials:
    found = []
    for each in layers:
        if each.potentials is not None and isinstance(each.membrane, Membrane):
            seen = each.potentials_seen
            found.append(
                LayerPotential(
                    each.layer.name, each.layer.main, str(each.membrane.potential),
                    each.thresholds / seen, each.firing / seen, each.potentials.result(),
                )
            )  # fmt: skip
    return MembranePotentials(tuple(found), _without_membrane(layers))


@dataclass(frozen=True, slots=True)
class LayerInput:
    """Inputs X of a layer over time, batch and neurons. A static input counts once.

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


def neuron_inputs(layers: Sequence[NeuronSums]) -> NeuronInputs:
    found = []
    for each in layers:
        assert each.inputs is not None
        values = each.inputs.result()
        threshold = each.thresholds / each.potentials_seen if each.potentials_seen else None
        distance = None
        if threshold is not None and threshold > 0 and values.histogram is not None:
            distance = values.histogram.distance_to_normal(threshold)
        found.append(LayerInput(each.layer.name, each.layer.main, threshold, distance, values))
    return NeuronInputs(tuple(found))


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


class BlockOutputs:
    """Distribution of a block's output: that of a module, or the item ``index`` of it."""

    def __init__(self, index: int | None) -> None:
        self._index, self.values = index, Gathered()

    def see(self, module: object, args: object, out: Tensor) -> None:
        """Hook of the module."""
        self.values.add(out if self._index is None else out[self._index])


def propagated_values(
    stages: Sequence[StageLayout], outputs: Sequence[Sequence[BlockOutputs]]
) -> PropagatedValues:
    found = []
    for stage, own in zip(stages, outputs, strict=True):
        blocks = tuple(each.values.result() for each in own)
        least, most = min(each.least for each in blocks), max(each.most for each in blocks)
        found.append(
            StageOutputs(stage.name, stage.connection, stage.rule, stage.kind, least, most, blocks)
        )
    return PropagatedValues(tuple(found))
