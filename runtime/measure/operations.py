"""Operations per image by measured rates, and their energy.

Counted are convolutions and linear layers. Norms and biases are left out (a norm folds into the
convolution before it), as are the neurons' own updates, additions of branches and memory traffic.
At borders a padded input counts like any other.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from torch import Tensor

from danetc.runtime.measure.energy import EnergyModel
from danetc.runtime.measure.layout import Layout, WeightLayer
from danetc.runtime.measure.observe import LayerObserver


@dataclass(frozen=True, slots=True)
class LayerOperations:
    """One image at all time steps.

    ``dense`` are the multiply-accumulates if no input were left out; ``active`` is the share of
    inputs that are not 0, ``mean`` the mean input, ``units`` that of its absolute value in the unit
    of its kind (0 for analog values). Spikes, of either sign, make ``active * dense`` additions,
    analog values ``dense`` multiply-accumulates, other whole numbers what the energy model says.
    """

    layer: str
    kind: str
    dense: float
    active: float
    mean: float
    units: float
    additions: float
    macs: float


@dataclass(frozen=True, slots=True)
class MeasuredOperations:
    """Of one image. ``energy`` in joules; ``dense_energy`` if all ``dense_macs`` were computed."""

    layers: tuple[LayerOperations, ...]
    additions: float
    macs: float
    dense_macs: float
    model: EnergyModel
    energy: float
    dense_energy: float

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


class OperationCount(LayerObserver):
    """Gathers what weights read, and how often: what does not vary in time is computed once."""

    def __init__(self, layout: Layout, model: EnergyModel) -> None:
        self._layout = layout
        self._model = model
        self._images = 0
        self._active: dict[str, int] = {}
        self._sums: dict[str, float] = {}
        self._sizes: dict[str, float] = {}
        self._inputs: dict[str, int] = {}
        self._macs: dict[str, int] = {}

    def batch(self, images: int) -> None:
        self._images += images

    def weights(self, layer: WeightLayer, x: Tensor, macs: int) -> None:
        name = layer.name
        self._active[name] = self._active.get(name, 0) + int(x.ne(0).sum())
        self._sums[name] = self._sums.get(name, 0.0) + float(x.double().sum())
        if layer.kind.is_integer:
            size = float(x.double().abs().sum()) / layer.kind.unit
            self._sizes[name] = self._sizes.get(name, 0.0) + size
        self._inputs[name] = self._inputs.get(name, 0) + x.numel()
        self._macs[name] = self._macs.get(name, 0) + macs

    def result(self) -> MeasuredOperations:
        layers = tuple(map(self._layer, self._layout.weights))
        additions = sum(layer.additions for layer in layers)
        macs = sum(layer.macs for layer in layers)
        dense = sum(layer.dense for layer in layers)
        model = self._model
        return MeasuredOperations(
            layers,
            additions,
            macs,
            dense,
            model,
            model.joules(additions, macs),
            model.joules(0, dense),
        )

    def _layer(self, layer: WeightLayer) -> LayerOperations:
        count = self._inputs[layer.name]
        active, mean = self._active[layer.name] / count, self._sums[layer.name] / count
        units = self._sizes.get(layer.name, 0.0) / count
        dense = self._macs[layer.name] / self._images
        additions = macs = 0.0
        if layer.kind.needs_additions_alone:
            additions = active * dense
        elif not layer.kind.is_integer:
            macs = dense
        elif self._model.counts == "macs":
            macs = active * dense
        else:
            additions = units * dense
        return LayerOperations(
            layer.name, str(layer.kind), dense, active, mean, units, additions, macs
        )
