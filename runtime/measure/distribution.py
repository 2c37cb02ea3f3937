"""Distributions of many tensors: moments in float64, and a histogram with fixed edges."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor

BINS = 96


@dataclass(frozen=True, slots=True)
class Histogram:
    """Shares of values in equal bins from ``low`` to ``high``, ``below`` and ``above`` them."""

    low: float
    high: float
    shares: tuple[float, ...]
    below: float
    above: float

    def edges(self) -> list[float]:
        """Return the bounds of the bins, one more than there are bins."""
        width = (self.high - self.low) / len(self.shares)
        return [self.low + width * place for place in range(len(self.shares) + 1)]

    def distance_to_normal(self, deviation: float) -> float:
        """Return the largest difference to the distribution function of N(0, deviation^2), taken at
        the edges."""
        edges = torch.tensor(self.edges(), dtype=torch.float64)
        normal = torch.special.ndtr(edges / deviation)
        reached = torch.tensor([self.below, *self.shares], dtype=torch.float64).cumsum(0)
        return float((normal - reached).abs().max())


@dataclass(frozen=True, slots=True)
class Distribution:
    """Moments, range and share of zeros of values; ``std`` is divided by their count."""

    count: int
    mean: float
    std: float
    skewness: float
    excess_kurtosis: float
    least: float
    most: float
    zeros: float
    histogram: Histogram | None


class Gathered:
    """A distribution that grows by tensors. ``reach`` is half the width of its histogram around 0;
    None is for no histogram.

    Powers are summed around the mean of the first tensor, so that they do not cancel.
    """

    def __init__(self, reach: float | None = None, bins: int = BINS) -> None:
        self.reach = reach
        self.bins = bins
        self.count = 0
        self._zeros = 0
        self._beyond = [0, 0]
        self._counts: Tensor | None = None
        self._origin: Tensor | None = None
        self._powers: Tensor | None = None
        self._least = float("inf")
        self._most = -float("inf")

    def add(self, values: Tensor) -> None:
        """Add the values of a tensor. Raises ValueError if one is not finite."""
        x = values.detach().flatten()
        least, most = x.aminmax()
        if not bool(torch.isfinite(least) & torch.isfinite(most)):
            raise ValueError("there are values that are not finite (nan or infinite)")
        self._least = min(self._least, float(least))
        self._most = max(self._most, float(most))
        self._zeros += int((x == 0).sum())
        self.count += x.numel()
        wide = x.double()
        if self._origin is None or self._powers is None:
            self._origin = wide.mean()
            self._powers = torch.zeros(4, dtype=torch.float64, device=x.device)
        power = centred = wide - self._origin
        for order in range(4):
            self._powers[order] += power.sum()
            if order < 3:
                power = power * centred
        if self.reach is not None:
            found = torch.histc(x.float(), self.bins, -self.reach, self.reach).long()
            self._counts = found if self._counts is None else self._counts + found
            self._beyond[0] += int((x.float() < -self.reach).sum())
            self._beyond[1] += int((x.float() > self.reach).sum())

    def result(self) -> Distribution:
        """Return the distribution. Raises ValueError if there are no values."""
        if self._powers is None or self._origin is None:
            raise ValueError("a distribution of no values")
        m1, m2, m3, m4 = (self._powers / self.count).tolist()
        variance = max(m2 - m1**2, 0.0)
        third = m3 - 3 * m1 * m2 + 2 * m1**3
        fourth = m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4
        flat = variance < 1e-24
        histogram = None
        if self.reach is not None and self._counts is not None:
            shares = (self._counts.double() / self.count).tolist()
            below, above = (beyond / self.count for beyond in self._beyond)
            histogram = Histogram(-self.reach, self.reach, tuple(shares), below, above)
        return Distribution(
            self.count,
            float(self._origin) + m1,
            sqrt(variance),
            0.0 if flat else third / variance**1.5,
            0.0 if flat else fourth / variance**2 - 3,
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


def densities(
    found: Sequence[Distribution], rows: int = 120
) -> tuple[float, float, list[list[float]]]:
    """Return a range common to several layers and, for each of its ``rows`` from below, their
    densities relative to the highest of each.

    The range includes three deviations around the mean of each layer, clipped to its values.
    """
    low = min(max(each.mean - 3 * each.std, each.least) for each in found)
    high = max(min(each.mean + 3 * each.std, each.most) for each in found)
    if low == high:
        low, high = low - 0.5, high + 0.5
    edges = [low + (high - low) * row / rows for row in range(rows + 1)]
    columns = []
    for each in found:
        assert each.histogram is not None
        reached = [cumulative(each.histogram, edge) for edge in edges]
        shares = [b - a for a, b in itertools.pairwise(reached)]
        most = max(shares)
        columns.append([share / most if most > 0 else 0.0 for share in shares])
    return low, high, [list(row) for row in zip(*columns, strict=True)]


def cumulative(histogram: Histogram, value: float) -> float:
    """Return the share of values up to ``value``, linear within a bin."""
    if value <= histogram.low:
        return histogram.below if value == histogram.low else 0.0
    edges = histogram.edges()
    place = min(bisect_right(edges, value) - 1, len(histogram.shares))
    whole = histogram.below + sum(histogram.shares[:place])
    if place == len(histogram.shares):
        return whole
    part = (value - edges[place]) / (edges[place + 1] - edges[place])
    return whole + part * histogram.shares[place]
