"""Operations per image by measured rates, and their energy.

They are those of convolutions, linear layers and the products of attention, without norms and biases
(a norm folds into the convolution before it), updates of neurons, additions of branches and memory
traffic. Padding counts as input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from danetc.dsl.kinds import Kind
from danetc.runtime.measure.layout import Layout, ProductLayer, WeightLayer
from danetc.runtime.measure.observe import LayerObserver


@dataclass(frozen=True, slots=True)
class EnergyModel:
    """Picojoules of an addition and of a multiply-accumulate, in float32.

    ``counts`` is the cost of an integer input other than 0 and 1 (a sum of spikes): ``macs`` is one
    multiply-accumulate for each weight it meets, ``additions`` one addition for each of its spikes.
    """

    name: str
    addition: float
    mac: float
    counts: Literal["macs", "additions"] = "macs"

    def __post_init__(self) -> None:
        if not (self.addition >= 0 and self.mac >= 0):
            raise ValueError("the energy of an operation is not negative")

    def joules(self, additions: float, macs: float) -> float:
        """Return the energy of some operations."""
        return 1e-12 * (additions * self.addition + macs * self.mac)


HOROWITZ_45NM = EnergyModel("45 nm (Horowitz, ISSCC 2014)", 0.9, 4.6)
"""float32 in 45 nm CMOS at 0.9 V: 0.9 pJ an addition, 4.6 pJ a multiply-accumulate."""


@dataclass(frozen=True, slots=True)
class LayerOperations:
    """Operations of a layer for one image at all time steps.

    ``dense`` are the multiply-accumulates of all inputs, zeros included. ``active`` is the share of
    inputs other than 0 (of a product of two values, of pairs without a 0), ``mean`` the mean input
    and ``units`` the mean absolute value in units of its kind (0 for analog values). Spikes cost
    ``active * dense`` additions, analog values ``dense`` multiply-accumulates, and other integers
    as the energy model says.
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
    """Operations of a network for one image, and their energy in joules. ``dense_energy`` is that of
    ``dense_macs``."""

    layers: tuple[LayerOperations, ...]
    additions: float
    macs: float
    dense_macs: float
    model: EnergyModel
    energy: float
    dense_energy: float


class OperationCount(LayerObserver):
    """Gathers the operands of weights and products; what does not vary in time is computed once."""

    def __init__(self, layout: Layout, model: EnergyModel) -> None:
        self._layout = layout
        self._model = model
        self._images = 0
        self._tallies: dict[str, list[_Tally]] = {}

    def batch(self, images: int) -> None:
        self._images += images

    def weights(self, layer: WeightLayer, x: Tensor, macs: int) -> None:
        each, values = macs / x.numel(), x.double()
        units = float(values.abs().sum()) / layer.kind.unit if layer.kind.is_integer else 0.0
        active = int(x.ne(0).sum())
        self._add(layer.name, [(macs, active * each, float(values.sum()) * each, units * each)])

    def products(self, layer: ProductLayer, pairs: Sequence[tuple[Tensor, Tensor]]) -> None:
        found = [_multiplied(a, b, kinds) for (a, b), kinds in zip(pairs, layer.kinds, strict=True)]
        self._add(layer.name, found)

    def _add(self, name: str, found: list[_Tally]) -> None:
        known = self._tallies.get(name, [_NOTHING] * len(found))
        self._tallies[name] = [
            (a[0] + b[0], a[1] + b[1], a[2] + b[2], a[3] + b[3])
            for a, b in zip(known, found, strict=True)
        ]

    def result(self) -> MeasuredOperations:
        layers = (
            *(self._layer(each.name, [(each.kind,)]) for each in self._layout.weights),
            *(self._layer(each.name, each.kinds) for each in self._layout.products),
        )
        additions = sum(layer.additions for layer in layers)
        macs = sum(layer.macs for layer in layers)
        dense = sum(layer.dense for layer in layers)
        model = self._model
        energies = model.joules(additions, macs), model.joules(0, dense)
        return MeasuredOperations(layers, additions, macs, dense, model, *energies)

    def _layer(self, name: str, kinds: Sequence[tuple[Kind, ...]]) -> LayerOperations:
        tallies, images = self._tallies[name], self._images
        additions = macs = 0.0
        for (dense, active, _, units), each in zip(tallies, kinds, strict=True):
            if any(kind.needs_additions_alone for kind in each):
                additions += active
            elif not any(kind.is_integer for kind in each):
                macs += dense
            elif self._model.counts == "macs":
                macs += active
            else:
                additions += units
        words = " and ".join(" by ".join(map(str, each)) for each in kinds)
        whole, *sums = (sum(column) for column in zip(*tallies, strict=True))
        active, mean, units = (total / whole for total in sums)
        return LayerOperations(
            name, words, whole / images, active, mean, units, additions / images, macs / images
        )


_Tally = tuple[float, float, float, float]
"""Multiplications, those of which no factor is 0, the sum of the products, and the integer factor's
units where the other is not 0."""
_NOTHING: _Tally = (0.0, 0.0, 0.0, 0.0)


def _multiplied(a: Tensor, b: Tensor, kinds: tuple[Kind, Kind]) -> _Tally:
    """Return the tally of a product of [..., n, m] and [..., m, p]."""
    a, b = a.double(), b.double()

    def total(a: Tensor, b: Tensor) -> float:
        return float((a.sum(-2) * b.sum(-1)).sum())

    other = [x.ne(0).double() for x in (a, b)]
    units = 0.0
    if kinds[0].is_integer:
        units = total(a.abs() / kinds[0].unit, other[1])
    elif kinds[1].is_integer:
        units = total(other[0], b.abs() / kinds[1].unit)
    dense = total(torch.ones_like(a), torch.ones_like(b))
    return dense, total(*other), total(a, b), units
