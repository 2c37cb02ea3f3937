"""Distributions of many tensors: moments in float64, and a histogram with fixed edges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Histogram:
    """Shares of values in equal bins from ``low`` to ``high``, ``below`` and ``above`` them."""

    low: float
    high: float
    shares: tuple[float, ...]
    below: float
    above: float

    def edges(self) -> np.ndarray:
        """Return the bounds of the bins, one more than there are bins."""
        return np.linspace(self.low, self.high, len(self.shares) + 1)

    def reached(self) -> np.ndarray:
        """Return the share of values up to each edge."""
        return np.cumsum([self.below, *self.shares])

    def distance_to_normal(self, deviation: float) -> float:
        """Return the largest difference to the distribution function of N(0, deviation^2), taken at
        the edges."""
        normal = torch.special.ndtr(torch.from_numpy(self.edges()) / deviation)
        return float(np.abs(normal.numpy() - self.reached()).max())


@dataclass(frozen=True, slots=True)
class Distribution:
    """Moments, range and share of zeros of values; ``std`` is divided by their count."""

    count: int
    mean: float
    std: float
    least: float
    most: float
    zeros: float
    histogram: Histogram | None


class Gathered:
    """A distribution that grows by tensors. ``reach`` is half the width of its histogram around 0;
    None is for no histogram.

    Powers are summed around the mean of the first tensor, so that they do not cancel.
    """

    def __init__(self, reach: float | None = None, bins: int = 96) -> None:
        self.reach = reach
        self.count = self._zeros = 0
        self._counts = torch.zeros(bins + 2, dtype=torch.int64)  # below, in each bin, above
        self._origin: float | None = None
        self._sum = self._squares = 0.0
        self._least, self._most = float("inf"), -float("inf")

    def add(self, values: Tensor) -> None:
        """Add the values of a tensor. Raises ValueError if one is not finite."""
        x = values.detach().flatten()
        wide = x.double()
        if self._origin is None:
            self._origin = float(wide.mean())
        centred = wide - self._origin
        found = (*x.aminmax(), (x == 0).sum(), centred.sum(), centred.square().sum())
        # copied to the host at once
        least, most, zeros, total, squares = torch.stack([y.double() for y in found]).tolist()
        if not np.isfinite((least, most)).all():
            raise ValueError("there are values that are not finite (nan or infinite)")
        self._least, self._most = min(self._least, least), max(self._most, most)
        self._zeros += int(zeros)
        self.count += x.numel()
        self._sum += total
        self._squares += squares
        if self.reach is not None:
            x = x.float()
            inside = torch.histc(x, len(self._counts) - 2, -self.reach, self.reach)
            below, above = ((side > self.reach).sum().view(1) for side in (-x, x))
            self._counts = self._counts.to(x.device) + torch.cat([below, inside.long(), above])

    def result(self) -> Distribution:
        """Return the distribution. Raises ValueError if there are no values."""
        if self._origin is None:
            raise ValueError("a distribution of no values")
        mean = self._sum / self.count
        histogram = None
        if self.reach is not None:
            below, *shares, above = (self._counts.cpu().double() / self.count).tolist()
            histogram = Histogram(-self.reach, self.reach, tuple(shares), below, above)
        return Distribution(
            self.count,
            self._origin + mean,
            sqrt(max(self._squares / self.count - mean**2, 0.0)),
            self._least,
            self._most,
            self._zeros / self.count,
            histogram,
        )


def reach_of(x: Tensor, threshold: float | None, steps: int = 1) -> float:
    """Return half the width of a histogram for values driven by ``x``: five of its root mean squares,
    times sqrt(T) for a potential that adds up over time, or four thresholds if that is more."""
    typical = float(x.detach().double().square().mean().sqrt())
    return max(5 * typical * sqrt(steps), 4 * abs(threshold or 0.0)) or 1.0


def densities(found: Sequence[Distribution], rows: int = 120) -> tuple[float, float, np.ndarray]:
    """Return a range common to several layers and, for each of its ``rows`` from below, their
    densities relative to the highest of each.

    The range includes three deviations around the mean of each layer, clipped to its values.
    """
    low = min(max(each.mean - 3 * each.std, each.least) for each in found)
    high = max(min(each.mean + 3 * each.std, each.most) for each in found)
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, rows + 1)
    columns = []
    for each in found:
        assert each.histogram is not None
        known = each.histogram.edges(), each.histogram.reached()
        shares = np.diff(np.interp(edges, *known, left=0.0))
        columns.append(shares / (shares.max() or 1.0))
    return low, high, np.stack(columns, 1)
