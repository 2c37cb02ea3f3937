"""Tables of older runs and of published results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import mean

from results.data import (
    MISSING,
    SEW_LOGS,
    Cell,
    older_accuracies,
    shown,
)
from results.findings import OLDER, ORIGIN, SEW, at, runs
from results.tables import SHAPES, table


def literature(cells: Sequence[Cell]) -> str:
    """Return Origin's accuracy over depth, and its ratio to SEW's at the same depth."""
    rows = [
        [f"SEW's authors, ImageNet, {depth}", *map(str, both), f"{both[0] / both[1]:.2f}"]
        for depth, both in SEW_LOGS.items()
    ]
    for depth in (*SHAPES, 20, 56, 110):
        both = [[each.accuracy for each in runs(cells, name, depth)] for name in (ORIGIN, SEW)]
        share = f"{mean(both[0]) / mean(both[1]):.2f}" if all(both) else MISSING
        rows.append([f"ours, {at(depth)}", *map(shown, both), share])
    return table(["accuracy, %", "Origin", "SEW", "share"], rows)


def older_depth(cells: Sequence[Cell]) -> str:
    first, second = older_accuracies("accuracy.json"), older_accuracies("training.json")
    rows = []
    for found, more in ((first, ""), (second, ", second set")):
        for name, network in OLDER.items():
            if (network, 20) in found:
                rows.append(
                    [name + more, *(shown(list(found[network, d].values())) for d in (20, 56, 110))]
                )
    return table(["", "depth 20", "depth 56", "depth 110"], rows)


OLDER_TABLES: dict[str, Callable[[Sequence[Cell]], str]] = {
    "literature": literature,
    "older depth": older_depth,
}
"""Tables by their name in results/README.md."""
