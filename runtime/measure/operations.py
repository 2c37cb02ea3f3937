"""Operations per image by measured rates, and their energy.

Counted are convolutions, linear layers, transforms and the products of attention; not counted are norms
and biases (a norm folds into the convolution before it), updates of neurons, additions of branches and
memory traffic. Padding counts as input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from danetc.runtime.layers.axes import Transform
from danetc.runtime.layers.time import MaskedTimeLinear
from danetc.runtime.measure.layout import WeightLayer
from danetc.runtime.measure.observe import MeasureError

ADDITION, MAC = 0.9, 4.6
"""Picojoules of a float32 addition and multiply-accumulate in 45 nm CMOS (Horowitz, ISSCC 2014)."""


@dataclass(frozen=True, slots=True)
class LayerOperations:
    """Operations of a layer for one image at all time steps.

    ``dense`` is the number of multiply-accumulates of all inputs, zeros included. ``active`` is the
    share of inputs other than 0 (of a product of two values, of pairs without a 0) and ``mean`` the
    mean input. Spikes cost ``active * dense`` additions, other integers ``active * dense``
    multiply-accumulates, and analog values ``dense`` multiply-accumulates.
    """

    layer: str
    kind: str
    dense: float
    active: float
    mean: float
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
    energy: float
    dense_energy: float


class OperationCount:
    """Sums over the operands of a layer's products; what does not vary in time is computed once."""

    def __init__(self, layer: WeightLayer) -> None:
        self.layer = layer
        self._sums = torch.zeros(len(layer.kinds), 3, dtype=torch.float64)
        """For each product: multiplications, those without a factor of 0, and the sum of products."""

    def see(self, module: Any, args: tuple[Tensor, ...], out: Tensor) -> None:
        """Hook of the layer."""
        if len(self.layer.kinds[0]) == 1:
            x = args[0]
            macs = macs_of(module, x, out)
            each = macs / x.numel()
            sums = [[macs, each * int(x.ne(0).sum()), each * float(x.double().sum())]]
        else:
            sums = [_multiplied(a, b) for a, b in module.multiplied(*args[: module.factors])]
        self._sums += torch.tensor(sums, dtype=torch.float64)

    def result(self, images: int) -> LayerOperations:
        additions = macs = 0.0
        for (dense, active, _), own in zip(self._sums.tolist(), self.layer.kinds, strict=True):
            if any(kind.needs_only_additions for kind in own):
                additions += active
            else:
                macs += active if any(kind.is_integer for kind in own) else dense
        dense, active, mean = self._sums.sum(0).tolist()
        kinds = " and ".join(" by ".join(map(str, each)) for each in self.layer.kinds)
        return LayerOperations(
            self.layer.name, kinds, dense / images, active / dense, mean / dense,
            additions / images, macs / images,
        )  # fmt: skip


def operations_of(layers: Sequence[OperationCount], images: int) -> MeasuredOperations:
    found = tuple(layer.result(images) for layer in layers)
    additions, macs, dense = (
        sum(getattr(each, name) for each in found) for name in ("additions", "macs", "dense")
    )
    energy = 1e-12 * (additions * ADDITION + macs * MAC)
    return MeasuredOperations(found, additions, macs, dense, energy, 1e-12 * dense * MAC)


def _multiplied(a: Tensor, b: Tensor) -> list[float]:
    """Return the sums of a product of [..., n, m] and [..., m, p]."""

    def total(a: Tensor, b: Tensor) -> float:
        return float((a.sum(-2, dtype=torch.float64) * b.sum(-1, dtype=torch.float64)).sum())

    return [total(torch.ones_like(a), torch.ones_like(b)), total(a.ne(0), b.ne(0)), total(a, b)]


def macs_of(module: nn.Module, x: Tensor, out: Tensor) -> int:
    """Return the multiply-accumulates of a convolution, linear layer or transform that gave ``out`` of ``x``."""
    match module:
        case nn.Conv1d() | nn.Conv2d():
            return module.weight[0].numel() * out.numel()
        case nn.ConvTranspose2d():
            return module.weight[0].numel() * x.numel()
        case MaskedTimeLinear():
            return (module.window if module.hides else module.in_features) * out.numel()
        case nn.Linear():
            return module.in_features * out.numel()
        case Transform():
            return x.shape[module.dim] * out.numel()
    raise MeasureError(f"operations of a {type(module).__name__} are not known")
