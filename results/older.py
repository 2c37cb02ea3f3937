"""Tables of older runs and of published results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import mean
from typing import Any

from results.data import (
    HERE,
    MISSING,
    SEW_LOGS,
    Cell,
    older_accuracies,
    older_measured,
    pick,
    read,
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


def older_measures(cells: Sequence[Cell]) -> str:
    """Return the measures from measures.csv for two or more seeds; at depth 56 also single networks."""
    kept = older_measured()
    one = {each["network"]: each for each in read(HERE / "depth" / "measures_56.json")["measured"]}
    rows = []
    for name, network in OLDER.items():
        rates, layers = [], []
        for depth in (20, 56, 110):
            own = [each for each in kept if (each.network, each.depth) == (network, depth)]
            if own or depth != 56:
                rates.append(shown([each.firing_rate or 0 for each in own], 3))
                layers.append(shown([each.stability or 0 for each in own], 3))
            else:
                found = one[network]
                rates.append(shown([found["firing_rate"]["mean_of_layers"]], 3))
                layers.append(shown([found["gradient_stability"]["geometric_mean"]], 3))
        rows.append([name, *rates, *layers])
    head = [
        "T = 1",
        *(f"firing rate, depth {d}" for d in (20, 56, 110)),
        *(f"dO/dV a layer, {d}" for d in (20, 56, 110)),
    ]
    return table(head, rows)


def two_phases(cells: Sequence[Cell]) -> str:
    """Return the table as printed by `danetc compare`; its runs were not kept."""
    record: Any = read(HERE / "two_phase" / "printed.json")
    rows = [[each["network"], *each["cells"]] for each in record["rows"]]
    return table(record["head"], rows)


OLDER_TABLES: dict[str, Callable[[Sequence[Cell]], str]] = {
    "literature": literature,
    "older depth": older_depth,
    "older measures": older_measures,
    "two phases": two_phases,
}
"""Tables by their name in results/README.md."""
