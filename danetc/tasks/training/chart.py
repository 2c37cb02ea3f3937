"""A curve as a few lines of text. (plotext would draw it too; it is a compiled library by now.)"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

BARS = " ▁▂▃▄▅▆▇█"
DECADES = 4
"""How many powers of ten a logarithmic axis shows below the largest value."""


def chart(
    values: Sequence[float], *, width: int = 64, height: int = 6, log: bool = False
) -> list[str]:
    """Lines of a bar chart of values that are not negative, as wide as there are values.

    Of more values than ``width`` each column shows the mean of its own. The axis is labelled with
    the largest value, and with the smallest that it shows: 0, or on a logarithmic axis a power of
    ten below.
    """
    columns = _columns(values, min(width, len(values)))
    top = max(columns)
    if top <= 0:
        log = False
    floor = _floor(columns, top) if log else 0.0
    heights = [_height(value, floor, top, log) * height for value in columns]
    labels = [""] * height
    labels[0], labels[-1] = f"{top:.3g}", f"{floor:.3g}"
    margin = max(map(len, labels))
    lines = []
    for row in range(height):
        under = height - 1 - row
        cells = (BARS[round(8 * min(1.0, max(0.0, each - under)))] for each in heights)
        lines.append(f"{labels[row]:>{margin}} ┤{''.join(cells)}".rstrip())
    return lines


def _columns(values: Sequence[float], width: int) -> list[float]:
    edges = [len(values) * column // width for column in range(width + 1)]
    parts = (values[low:high] for low, high in pairwise(edges))
    return [sum(part) / len(part) for part in parts]


def _floor(columns: Sequence[float], top: float) -> float:
    """A power of ten below all that is shown, and no more than DECADES below the top."""
    least = min((value for value in columns if value > 0), default=top)
    lowest = math.ceil(math.log10(least)) - 1
    return 10.0 ** max(lowest, math.ceil(math.log10(top)) - 1 - DECADES)


def _height(value: float, floor: float, top: float, log: bool) -> float:
    """From 0 to 1."""
    if top <= 0:
        return 0.0
    if not log:
        return value / top
    return max(0.0, math.log(max(value, floor) / floor) / math.log(top / floor))
