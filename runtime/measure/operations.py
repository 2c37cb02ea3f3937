"""Operations per image by measured rates, and their energy.

Counted are convolutions, linear layers and the products of attention. Norms and biases are left out (a norm folds into the
convolution before it), as are the neurons' own updates, additions of branches and memory traffic.
At borders a padded input counts like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from danetc.dsl.kinds import Kind
from danetc.runtime.measure.energy import EnergyModel
from danetc.runtime.measure.layout import Layout, ProductLayer, WeightLayer
from danetc.runtime.measure.observe import LayerObserver


@dataclass(frozen=True, slots=True)
class LayerOperations:
    """One image at all time steps.

    ``dense`` are the multiply-accumulates if no input were left out; ``active`` is the share of
    inputs that are not 0 (of a product of two values, of pairs of which neither is), ``mean`` the mean input, ``units`` that of its absolute value in the unit
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
        self._products: dict[str, list[_Pairs]] = {}

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

    def products(self, layer: ProductLayer, pairs: Sequence[tuple[Tensor, Tensor]]) -> None:
        found = [_Pairs.of(a, b, kinds) for (a, b), kinds in zip(pairs, layer.kinds, strict=True)]
        known = self._products.get(layer.name)
        if known is not None:
            found = [one + other for one, other in zip(known, found, strict=True)]
        self._products[layer.name] = found

    def result(self) -> MeasuredOperations:
        layers = (
            *map(self._layer, self._layout.weights),
            *map(self._product, self._layout.products),
        )
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

    def _product(self, layer: ProductLayer) -> LayerOperations:
        found = self._products[layer.name]
        dense = sum(each.dense for each in found)
        additions = macs = 0.0
        for each, kinds in zip(found, layer.kinds, strict=True):
            if any(kind.needs_additions_alone for kind in kinds):
                additions += each.active
            elif not any(kind.is_integer for kind in kinds):
                macs += each.dense
            elif self._model.counts == "macs":
                macs += each.active
            else:
                additions += each.units
        words = " and ".join(f"{a} by {b}" for a, b in layer.kinds)
        active, units, mean = (
            sum(getattr(each, name) for each in found) / dense
            for name in ("active", "units", "sum")
        )
        images = self._images
        return LayerOperations(
            layer.name,
            words,
            dense / images,
            active,
            mean,
            units,
            additions / images,
            macs / images,
        )


@dataclass(frozen=True, slots=True)
class _Pairs:
    """Pairs of numbers that are multiplied: all, those of which neither is 0, the sum of the
    products, and of the whole-numbered factor's units where the other is not 0."""

    dense: float
    active: float
    sum: float
    units: float

    @staticmethod
    def of(a: Tensor, b: Tensor, kinds: tuple[Kind, Kind]) -> _Pairs:
        """Of a product of [..., n, m] and [..., m, p]."""
        a, b = a.double(), b.double()

        def total(a: Tensor, b: Tensor) -> float:
            return float((a.sum(-2) * b.sum(-1)).sum())

        other = [x.ne(0).double() for x in (a, b)]
        units = 0.0
        if kinds[0].is_integer:
            units = total(a.abs() / kinds[0].unit, other[1])
        elif kinds[1].is_integer:
            units = total(other[0], b.abs() / kinds[1].unit)
        ones = total(torch.ones_like(a), torch.ones_like(b))
        return _Pairs(ones, total(*other), total(a, b), units)

    def __add__(self, other: _Pairs) -> _Pairs:
        return _Pairs(
            self.dense + other.dense,
            self.active + other.active,
            self.sum + other.sum,
            self.units + other.units,
        )
