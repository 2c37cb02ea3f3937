"""Histograms of several layers on one axis, for a picture with a column a layer."""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections.abc import Sequence

from danetc.runtime.measure.distribution import Distribution, Histogram

ROWS = 120


def densities(
    found: Sequence[Distribution], rows: int = ROWS
) -> tuple[float, float, list[list[float]]]:
    """The common range, and for each of its ``rows`` (from below) the layers' densities, each
    relative to the highest of its layer.

    The range holds three deviations around the mean of each layer, as far as its values reach.
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
    """The share of values up to ``value``, linear within a bin."""
    if value <= histogram.low:
        return histogram.below if value == histogram.low else 0.0
    edges = histogram.edges()
    place = min(bisect_right(edges, value) - 1, len(histogram.shares))
    whole = histogram.below + sum(histogram.shares[:place])
    if place == len(histogram.shares):
        return whole
    part = (value - edges[place]) / (edges[place + 1] - edges[place])
    return whole + part * histogram.shares[place]
