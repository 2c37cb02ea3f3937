"""Tables of older runs and of published results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import mean

from results.data import (
    MISSING,
    SEW_LOGS,
    Cell,
    older_accuracies,
    pick,
    shown,
)
from results.tables import SHAPES, accuracies, table

OLDER = {
    "Origin": "origin_net",
    "DANet-C (Eq. 11)": "danet_c_net",
    "DANet-C, Listing 1": "listing1_net",
    "SEW": "sew_net",
    "PA-A (DANet-A)": "pa_a_net",
    "PA-B (DANet-B)": "pa_b_net",
}
"""Names of the networks of results/depth/depth.danet on the page."""


def literature(cells: Sequence[Cell]) -> str:
    """Return Origin's accuracy over depth, and its ratio to SEW's at the same depth."""
    rows = []
    for depth, (origin, sew) in SEW_LOGS.items():
        rows.append(
            [
                f"SEW's authors, ImageNet, {depth}",
                f"{origin:.1f}",
                f"{sew:.1f}",
                f"{origin / sew:.2f}",
            ]
        )
    for depth in SHAPES:
        own = pick(cells, connection="origin", depth=depth)
        other = pick(cells, connection="sew", depth=depth)
        share = (
            f"{mean(c.accuracy for c in own) / mean(c.accuracy for c in other):.2f}"
            if own and other
            else MISSING
        )
        rows.append([f"ours, ResNet-{depth}'s shape", accuracies(own), accuracies(other), share])
    found = older_accuracies("accuracy.json")
    for depth in (20, 56, 110):
        first, second = (list(found[name, depth].values()) for name in ("origin_net", "sew_net"))
        rows.append(
            [
                f"ours, depth {depth} (older)",
                shown(first),
                shown(second),
                f"{mean(first) / mean(second):.2f}",
            ]
        )
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
