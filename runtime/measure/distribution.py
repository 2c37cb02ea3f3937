"""Distributions gathered value by value: moments in float64, a histogram between fixed edges."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import sqrt

import torch
from torch import Tensor

BINS = 96


@dataclass(frozen=True, slots=True)
class Histogram:
    """Shares of all values in equal bins from ``low`` to ``high``, and of those beyond."""

    low: float
    high: float
    shares: tuple[float, ...]
    below: float
    above: float

    def edges(self) -> list[float]:
        """The bounds of the bins, one more than there are bins."""
        width = (self.high - self.low) / len(self.shares)
        return [self.low + width * place for place in range(len(self.shares) + 1)]

    def distance_to_normal(self, deviation: float) -> float:
        """The largest difference to the distribution function of N(0, deviation^2), at the edges."""
        edges = torch.tensor(self.edges(), dtype=torch.float64)
        normal = torch.special.ndtr(edges / deviation)
        reached = torch.tensor([self.below, *self.shares], dtype=torch.float64).cumsum(0)
        return float((normal - reached).abs().max())


@dataclass(frozen=True, slots=True)
class Distribution:
    """``std`` is that of the population (divided by the count). ``zeros`` is the share of zeros."""

    count: int
    mean: float
    std: float
    skewness: float
    excess_kurtosis: float
    least: float
    most: float
    zeros: float
    histogram: Histogram | None

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


class Gathered:
    """A distribution as it grows. ``reach`` is half the width of the histogram around 0; None: none.

    Powers are summed around the mean of the first values, so that they do not cancel.
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
        """Take all values of a tensor. Raises ValueError for what is not finite."""
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
        """What was gathered. Raises ValueError where that is nothing."""
        if self._powers is None or self._origin is None:
            raise ValueError("a distribution of no values")
        m1, m2, m3, m4 = (self._powers / self.count).tolist()
        variance = max(m2 - m1**2, 0.0)
        third = m3 - 3 * m1 * m2 + 2 * m1**3
        fourth = m4 - 4 * m1 * m3 + 6 * m1**2 * m2 - 3 * m1**4
        flat = variance < 1e-24
        return Distribution(
            self.count,
            float(self._origin) + m1,
            sqrt(variance),
            0.0 if flat else third / variance**1.5,
            0.0 if flat else fourth / variance**2 - 3,
            self._least,
            self._most,
            self._zeros / self.count,
            self._histogram(),
        )

    def _histogram(self) -> Histogram | None:
        if self.reach is None or self._counts is None:
            return None
        shares = (self._counts.double() / self.count).tolist()
        below, above = (beyond / self.count for beyond in self._beyond)
        return Histogram(-self.reach, self.reach, tuple(shares), below, above)


def reach_of(x: Tensor, threshold: float | None, steps: int = 1) -> float:
    """Half a histogram's width for values driven by ``x``: five of its root mean squares, or four
    thresholds if that is more; a potential that adds up over time goes sqrt(T) as far."""
    typical = float(x.detach().double().square().mean().sqrt())
    return max(5 * typical * sqrt(steps), 4 * abs(threshold or 0.0)) or 1.0
